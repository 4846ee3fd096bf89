package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/cmd/roost/sample"
)

// checkTime is how long one look at the demo may take in all.
const checkTime = time.Minute

// idleRounds is how many deliveries the latency is measured with.
const idleRounds = 25

// look connects as a mail program would, compares what it is shown with what was
// laid out, and measures how fast deliveries are told.
func (d *demo) look(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	v := &viewer{demo: d, out: env.stdout, exists: make(chan uint32, 100)}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"STARTTLS", v.viaSTARTTLS},
		{"IMAPS", v.connect},
		{"wrong password", v.wrongPassword},
		{"LOGIN", v.login},
		{"LIST", v.list},
		{"mailboxes", v.mailboxes},
		{"FETCH", v.messages},
		{"SEARCH", v.search},
		{"changes", v.changes},
		{"IDLE", func() error { return v.idle(ctx) }},
		{"LOGOUT", func() error { return v.c.Logout().Wait() }},
	} {
		// The client has no contexts: closing it ends what it waits for.
		stop := context.AfterFunc(ctx, func() {
			if v.c != nil {
				v.c.Close()
			}
		})
		err := step.do()
		stop()
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
			}
			fmt.Fprintf(v.out, "FAIL %s: %v\n", step.name, err)
			return fmt.Errorf("the demo is not right: %s: %w", step.name, err)
		}
	}
	fmt.Fprintln(v.out, "all of it was right")
	return nil
}

// viewer is the client of the check.
type viewer struct {
	*demo
	out    io.Writer
	c      *imapclient.Client
	exists chan uint32 // each count of messages that came unasked
}

func (v *viewer) ok(format string, args ...any) error {
	_, err := fmt.Fprintf(v.out, "ok   "+format+"\n", args...)
	return err
}

func (v *viewer) options() *imapclient.Options {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(v.cert)
	opt := &imapclient.Options{
		TLSConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"imap"}},
		WordDecoder: &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(m *imapclient.UnilateralDataMailbox) {
				if m.NumMessages != nil {
					v.exists <- *m.NumMessages
				}
			},
		},
	}
	if v.verbose {
		opt.DebugWriter = v.out
	}
	return opt
}

func (v *viewer) viaSTARTTLS() error {
	c, err := imapclient.DialStartTLS(v.starttls, v.options())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(demoUser, v.password).Wait(); err != nil {
		return err
	}
	if err := c.Logout().Wait(); err != nil {
		return err
	}
	return v.ok("STARTTLS on %s, and a login behind it", v.starttls)
}

func (v *viewer) connect() (err error) {
	if v.c, err = imapclient.DialTLS(v.imaps, v.options()); err != nil {
		return err
	}
	if err := v.c.WaitGreeting(); err != nil {
		return err
	}
	return v.ok("IMAPS on %s, certificate verified", v.imaps)
}

func (v *viewer) wrongPassword() error {
	var refused *imap.Error
	err := v.c.Login(demoUser, v.password+"x").Wait()
	if !errors.As(err, &refused) || refused.Code != imap.ResponseCodeAuthenticationFailed {
		return fmt.Errorf("answered with %v, not with NO [AUTHENTICATIONFAILED]", err)
	}
	return v.ok("a wrong password is refused")
}

func (v *viewer) login() error {
	if err := v.c.Login(demoUser, v.password).Wait(); err != nil {
		return err
	}
	caps, err := v.c.Capability().Wait()
	if err != nil {
		return err
	}
	for _, want := range []imap.Cap{imap.CapIMAP4rev1, imap.CapIMAP4rev2, imap.CapIdle, imap.CapMove, imap.CapUIDPlus, imap.CapSpecialUse} {
		if !caps.Has(want) {
			return fmt.Errorf("the server does not offer %s", want)
		}
	}
	return v.ok("LOGIN; %d capabilities", len(caps))
}

// byMailbox gives the sample's messages by mailbox.
func (v *viewer) byMailbox() (names []string, of map[string][]sample.Message) {
	of = map[string][]sample.Message{}
	for _, m := range v.mail {
		if of[m.Mailbox] == nil {
			names = append(names, m.Mailbox)
		}
		of[m.Mailbox] = append(of[m.Mailbox], m)
	}
	return names, of
}

func (v *viewer) list() error {
	got, err := v.c.List("", "*", nil).Collect()
	if err != nil {
		return err
	}
	var have []string
	for _, l := range got {
		have = append(have, l.Mailbox)
	}
	names, _ := v.byMailbox()
	for _, name := range names {
		if !slices.Contains(have, name) {
			return fmt.Errorf("mailbox %q is not in LIST: %q", name, have)
		}
	}
	subscribed, err := v.c.List("", "*", &imap.ListOptions{SelectSubscribed: true}).Collect()
	if err != nil {
		return err
	}
	if len(subscribed) < len(names) {
		return fmt.Errorf("%d mailboxes are subscribed, %d were", len(subscribed), len(names))
	}
	return v.ok("LIST: %d names, among them %s", len(have), strings.Join(names[len(names)-3:], ", "))
}

func (v *viewer) mailboxes() error {
	names, of := v.byMailbox()
	total := 0
	for _, name := range names {
		data, err := v.c.Select(name, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			return fmt.Errorf("EXAMINE %q: %w", name, err)
		}
		if int(data.NumMessages) != len(of[name]) {
			return fmt.Errorf("%q has %d messages, %d were laid out", name, data.NumMessages, len(of[name]))
		}
		total += len(of[name])
	}
	return v.ok("%d mailboxes with %d messages", len(names), total)
}

// messages compares every message of INBOX with its file: subject, flags, date,
// size, and the bytes.
func (v *viewer) messages() error {
	_, of := v.byMailbox()
	data, err := v.c.Select("INBOX", nil).Wait()
	if err != nil {
		return err
	}
	var all imap.SeqSet
	all.AddRange(1, data.NumMessages)
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := v.c.Fetch(all, &imap.FetchOptions{
		UID: true, Flags: true, Envelope: true, InternalDate: true, RFC822Size: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{whole},
	}).Collect()
	if err != nil {
		return err
	}
	size, parts := 0, 0
	for _, want := range of["INBOX"] {
		crlf := bytes.ReplaceAll(want.Body, []byte("\n"), []byte("\r\n"))
		i := slices.IndexFunc(got, func(m *imapclient.FetchMessageBuffer) bool {
			return bytes.Equal(m.FindBodySection(whole), crlf)
		})
		if i < 0 {
			return fmt.Errorf("no message has the bytes of %q", want.Subject())
		}
		m := got[i]
		switch {
		case m.RFC822Size != int64(len(crlf)):
			return fmt.Errorf("%q: RFC822.SIZE is %d, the message has %d", want.Subject(), m.RFC822Size, len(crlf))
		case !m.InternalDate.Equal(want.Time):
			return fmt.Errorf("%q: INTERNALDATE is %v, the file is of %v", want.Subject(), m.InternalDate, want.Time)
		case m.Envelope == nil || m.BodyStructure == nil:
			return fmt.Errorf("%q: no ENVELOPE or no BODYSTRUCTURE", want.Subject())
		}
		if err := sameFlags(want, m.Flags); err != nil {
			return err
		}
		m.BodyStructure.Walk(func([]int, imap.BodyStructure) bool { parts++; return true })
		size += len(crlf)
	}
	return v.ok("FETCH: %d messages of INBOX, %d parts, %d bytes, each equal to its file", len(got), parts, size)
}

// sameFlags compares flags with the letters of the file name.
func sameFlags(want sample.Message, got []imap.Flag) error {
	letters := map[rune]imap.Flag{'D': imap.FlagDraft, 'F': imap.FlagFlagged, 'R': imap.FlagAnswered, 'S': imap.FlagSeen, 'T': imap.FlagDeleted}
	var flags []imap.Flag
	for _, c := range want.Flags {
		if f, ok := letters[c]; ok {
			flags = append(flags, f)
		}
	}
	for _, k := range want.Keywords {
		flags = append(flags, imap.Flag(k))
	}
	rest := slices.DeleteFunc(slices.Clone(got), func(f imap.Flag) bool { return f == `\Recent` })
	slices.Sort(flags)
	slices.Sort(rest)
	if !slices.EqualFunc(flags, rest, func(a, b imap.Flag) bool { return strings.EqualFold(string(a), string(b)) }) {
		return fmt.Errorf("%q has the flags %v, its file %v", want.Subject(), rest, flags)
	}
	return nil
}

func (v *viewer) search() error {
	for _, s := range []struct {
		what     string
		criteria imap.SearchCriteria
		want     int
	}{
		{"FROM juergen", imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "From", Value: "juergen@example.de"}}}, 2},
		{`SUBJECT "grüße aus köln"`, imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "grüße aus köln"}}}, 1},
		{"BODY décidé", imap.SearchCriteria{Body: []string{"décidé"}}, 1},
		{"FLAGGED", imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged}}, 3},
	} {
		data, err := v.c.UIDSearch(&s.criteria, nil).Wait()
		if err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		if n := len(data.AllUIDs()); n != s.want {
			return fmt.Errorf("%s finds %d, not %d", s.what, n, s.want)
		}
	}
	return v.ok("SEARCH: header, decoded subject, decoded text, flags")
}

// changes appends a message, flags, copies, moves and removes it.
func (v *viewer) changes() error {
	letter := bytes.ReplaceAll(sample.Letter(0, time.Now()), []byte("\n"), []byte("\r\n"))
	appending := v.c.Append("INBOX", int64(len(letter)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "demo"}})
	if _, err := appending.Write(letter); err != nil {
		return err
	}
	if err := appending.Close(); err != nil {
		return err
	}
	added, err := appending.Wait()
	if err != nil {
		return fmt.Errorf("APPEND: %w", err)
	}
	if added.UID == 0 {
		return errors.New("APPEND gave no UID")
	}
	uid := imap.UIDSetNum(added.UID)
	rows, err := v.c.Store(uid, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Collect()
	if err != nil || len(rows) != 1 || !slices.Contains(rows[0].Flags, imap.FlagFlagged) {
		return fmt.Errorf("STORE answered %v, %w", rows, err)
	}
	if err := v.c.Create("Demo", nil).Wait(); err != nil {
		return fmt.Errorf("CREATE: %w", err)
	}
	copied, err := v.c.Copy(uid, "Demo").Wait()
	if err != nil {
		return fmt.Errorf("COPY: %w", err)
	}
	moved, err := v.c.Move(uid, "Trash").Wait()
	if err != nil {
		return fmt.Errorf("MOVE: %w", err)
	}
	status, err := v.c.Status("Demo", &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil {
		return fmt.Errorf("STATUS: %w", err)
	}
	if status.NumMessages == nil || *status.NumMessages != 1 {
		return errors.New("the copy is not there")
	}
	if err := v.c.Delete("Demo").Wait(); err != nil {
		return fmt.Errorf("DELETE: %w", err)
	}
	return v.ok("APPEND as UID %d, STORE, COPY to UID %v, MOVE to UID %v", added.UID, copied.DestUIDs, moved.DestUIDs)
}

// idle delivers as an MTA does while the client idles, and measures the time from
// just before the rename to the client's knowledge.
func (v *viewer) idle(ctx context.Context) error {
	data, err := v.c.Select("INBOX", nil).Wait()
	if err != nil {
		return err
	}
	known := data.NumMessages
	idling, err := v.c.Idle()
	if err != nil {
		return err
	}
	for len(v.exists) > 0 { // what came before
		<-v.exists
	}
	var took []time.Duration
	for n := range idleRounds {
		at, err := sample.Deliver(v.maildir(), sample.Letter(n+1, time.Now()))
		if err != nil {
			return err
		}
		for known < data.NumMessages+uint32(n)+1 {
			select {
			case known = <-v.exists:
			case <-ctx.Done():
				return fmt.Errorf("delivery %d was not told", n+1)
			}
		}
		took = append(took, time.Since(at))
	}
	if err := idling.Close(); err != nil {
		return err
	}
	if err := idling.Wait(); err != nil {
		return err
	}
	last, err := v.c.Fetch(imap.SeqSetNum(known), &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("Message number %d", idleRounds); len(last) != 1 || last[0].Envelope.Subject != want {
		return fmt.Errorf("the newest message is not %q", want)
	}
	if left, err := os.ReadDir(v.maildir() + "/tmp"); err != nil || len(left) != 0 {
		return fmt.Errorf("tmp/ holds %d files, %w", len(left), err)
	}
	slices.Sort(took)
	return v.ok("IDLE: %d deliveries, each told; from rename to EXISTS median %v, slowest %v",
		len(took), took[len(took)/2].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond))
}
