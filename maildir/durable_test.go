package maildir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/uidlist"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// lab is a Maildir in memory whose file calls can fail, and a store on it.
type lab struct {
	*testing.T
	mem *faultfs.Mem
	fs  *faultfs.FS
	now time.Time
	s   *Store
	a   store.Account

	roots []store.Root
	sep   byte
	log   logLines
}

// newLab makes mailboxes INBOX and Archive on an empty tree.
func newLab(t *testing.T, mem *faultfs.Mem) *lab {
	l := &lab{T: t, mem: mem, now: time.Unix(1795500000, 0)}
	l.fs = faultfs.New(mem)
	l.roots = []store.Root{{Mail: "/Maildir", Create: true, Folders: []store.Folder{{Name: "Archive", Create: true}}}}
	return l
}

func (l *lab) who() store.Identity {
	return store.Identity{User: "ann", Roots: l.roots, Separator: l.sep}
}

// open starts a store; the error is of the account.
func (l *lab) open(boot string) error {
	var err error
	l.s, err = New(Options{
		FS: l.fs, Clock: func() time.Time { return l.now }, Host: "test.example", PID: 7, Boot: boot, Watch: &watchtest.Fake{Polled: true}, Log: slog.New(slog.NewTextHandler(&l.log, nil)),
	})
	if err != nil {
		return err
	}
	l.s.settleAfter = time.Hour // no call comes by itself
	l.s.env.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	l.a, err = l.s.Account(context.Background(), l.who())
	return err
}

func (l *lab) close() {
	if l.a != nil {
		l.a.Close()
	}
	if l.s != nil {
		l.s.Close(context.Background())
	}
	l.a, l.s = nil, nil
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// add appends messages in one batch.
func (l *lab) add(n store.Name, flags []imap.Flag, texts ...string) (store.Copied, error) {
	b, err := l.a.Batch(context.Background(), n)
	if err != nil {
		return store.Copied{}, err
	}
	defer b.Close()
	for _, text := range texts {
		if err := b.Add(context.Background(), store.Meta{Flags: flags, Time: l.now}, strings.NewReader(text)); err != nil {
			return store.Copied{}, err
		}
	}
	return b.Commit(context.Background())
}

// replace puts a message in the place of another.
func (l *lab) replace(src store.Mailbox, uid imap.UID, to store.Name, text string) (store.Copied, error) {
	b, err := l.a.Batch(context.Background(), to)
	if err != nil {
		return store.Copied{}, err
	}
	defer b.Close()
	if err := b.Replace(src, uid); err != nil {
		return store.Copied{}, err
	}
	if err := b.Add(context.Background(), store.Meta{Time: l.now}, strings.NewReader(text)); err != nil {
		return store.Copied{}, err
	}
	return b.Commit(context.Background())
}

// uniques are the parts of transcripts that differ from run to run.
var uniques = regexp.MustCompile(`1795500000\.M(\d+)P7Q\d+\.test\.example`)

// transcript is what was called, with short names for files.
func (l *lab) transcript() string {
	short := map[string]string{}
	out := uniques.ReplaceAllStringFunc(l.fs.Transcript(), func(s string) string {
		if short[s] == "" {
			short[s] = string(rune('A' + len(short)))
		}
		return short[s]
	})
	l.fs.Reset()
	return out
}

// The order of calls is the promise: a sync that is lost shows here as a difference.
func TestTranscripts(t *testing.T) {
	l := newLab(t, faultfs.NewMem())
	l.must(l.open("boot"))
	defer l.close()
	first, err := l.a.Hold(t.Context(), store.Inbox, true, func() {})
	l.must(err)
	defer first.Close()
	second, err := l.a.Hold(t.Context(), "Archive", true, func() {})
	l.must(err)
	defer second.Close()
	_, err = l.add(store.Inbox, nil, "Subject: 1\n\n1\n") // what is done once
	l.must(err)
	l.must(first.Look(t.Context()))
	_, _, err = first.Advance(store.View{}, true)
	l.must(err)
	indexed(first)
	indexed(second)

	var got strings.Builder
	step := func(title string, do func() error) {
		l.must(first.Look(t.Context()))
		l.must(second.Look(t.Context()))
		l.fs.Reset()
		l.must(do())
		got.WriteString("# " + title + "\n" + l.transcript() + "\n")
	}
	step("append with flags", func() error {
		_, err := l.add(store.Inbox, []imap.Flag{imap.FlagSeen}, "Subject: 2\n\n2\n", "Subject: 3\n\n3\n")
		return err
	})
	step("three appends together", func() error {
		done, err := l.addEach(store.Inbox, numbered(3)...)
		for _, d := range done {
			err = errors.Join(err, d.Err)
		}
		return err
	})
	step("store", func() error {
		_, _, err := first.SetFlags(t.Context(), []imap.UID{2, 3}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		return err
	})
	step("copy", func() error {
		_, err := first.Copy(t.Context(), []imap.UID{2}, "Archive")
		return err
	})
	step("move", func() error {
		_, err := first.Move(t.Context(), []imap.UID{3}, "Archive")
		return err
	})
	step("expunge", func() error {
		_, _, err := first.Expunge(t.Context(), nil)
		return err
	})
	step("replace", func() error {
		_, err := l.replace(first, 1, store.Inbox, "Subject: 4\n\n4\n")
		return err
	})
	golden(t, filepath.Join("testdata", "transcripts.txt"), got.String())
}

// golden compares with a file, which is rewritten where ROOST_UPDATE is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if os.Getenv("ROOST_UPDATE") != "" {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (ROOST_UPDATE=1 rewrites it). Now:\n%s", name, got)
	}
}

// history is what was shown to somebody: it must stay true whatever happens.
type history struct {
	promised  uint32 // UIDVALIDITY of Archive, told before anybody opened it
	validity  map[store.Name]uint32
	shown     map[store.Name]map[imap.UID]string // every UID that was ever told, with its text
	kept      map[store.Name]map[imap.UID]string // what was acknowledged as stored and not expunged since
	moving    map[string]bool                    // texts on their way between mailboxes
	going     map[string]bool                    // texts that are being expunged
	replacing []string                           // texts of which one at least must be there
	told      map[string]bool                    // texts whose UIDs were shown and not acknowledged: others' deliveries
}

func newHistory() *history {
	h := &history{validity: map[store.Name]uint32{}, shown: map[store.Name]map[imap.UID]string{}, kept: map[store.Name]map[imap.UID]string{}, moving: map[string]bool{}, going: map[string]bool{}, told: map[string]bool{}}
	for _, n := range []store.Name{store.Inbox, "Archive"} {
		h.shown[n], h.kept[n] = map[imap.UID]string{}, map[imap.UID]string{}
	}
	return h
}

func (h *history) tell(n store.Name, uid imap.UID, text string) {
	h.shown[n][uid], h.kept[n][uid] = text, text
}

// contents are the texts of a mailbox by UID.
func (l *lab) contents(n store.Name) (map[imap.UID]string, uint32, error) {
	box, err := l.a.Hold(context.Background(), n, false, nil)
	if err != nil {
		return nil, 0, err
	}
	defer box.Close()
	if err := box.Look(context.Background()); err != nil {
		return nil, 0, err
	}
	v, _, err := box.Advance(store.View{}, true)
	if err != nil {
		return nil, 0, err
	}
	out := map[imap.UID]string{}
	for _, uid := range v.UIDs.All(0) {
		m, err := box.Message(context.Background(), uid)
		if err != nil {
			return nil, 0, err
		}
		var b strings.Builder
		if _, err := m.WriteRange(&b, 0, 1<<20); err != nil {
			return nil, 0, err
		}
		m.Close()
		out[uid] = b.String()
	}
	return out, box.Info().UIDValidity, nil
}

// script is a session that does all there is to do. It stops at the first error, and
// keeps the history true to what was acknowledged until then.
func (l *lab) script(h *history) error {
	ctx := context.Background()
	inbox, err := l.a.Hold(ctx, store.Inbox, true, nil)
	if err != nil {
		return err
	}
	defer inbox.Close()
	h.validity[store.Inbox] = inbox.Info().UIDValidity
	st, err := l.a.Status(ctx, "Archive", false)
	if err != nil {
		return err
	}
	h.promised = st.UIDValidity
	text := func(s string) string { return "Subject: " + s + "\r\n\r\n" + s + "\r\n" }
	put := func(flags []imap.Flag, names ...string) error {
		var texts []string
		for _, s := range names {
			texts = append(texts, text(s))
		}
		c, err := l.add(store.Inbox, flags, texts...)
		for i, uid := range c.To {
			h.tell(store.Inbox, uid, texts[i])
		}
		return err
	}
	if err := put(nil, "one"); err != nil {
		return err
	}
	if err := put([]imap.Flag{imap.FlagSeen, "Work"}, "two", "three"); err != nil {
		return err
	}
	// An MTA delivers; its syncs are its own.
	d, err := l.mem.Root("/Maildir/new")
	if err != nil {
		return err
	}
	f, err := d.Create("1795500001.M1P1.mta", 0o600)
	if err != nil {
		return err
	}
	f.Write([]byte(text("four")))
	f.Sync()
	d.Sync()
	if err := inbox.Look(ctx); err != nil {
		return err
	}
	v, _, err := inbox.Advance(store.View{}, true)
	if err != nil {
		return err
	}
	if n := v.UIDs.Len(); n > 3 {
		h.tell(store.Inbox, v.UIDs.At(n-1), text("four"))
		h.told[text("four")] = true
	}
	c, err := inbox.Copy(ctx, []imap.UID{1, 2}, "Archive")
	if len(c.To) > 0 {
		h.validity["Archive"] = h.promised
	}
	for i, uid := range c.To {
		h.tell("Archive", uid, text([]string{"one", "two"}[i]))
	}
	if err != nil {
		return err
	}
	h.moving[text("three")], h.moving[text("one")] = true, true
	c, err = inbox.Move(ctx, []imap.UID{1, 3}, "Archive")
	for i, uid := range c.To {
		h.tell("Archive", uid, text([]string{"one", "three"}[i]))
		delete(h.kept[store.Inbox], c.From[i])
	}
	if err != nil {
		return err
	}
	clear(h.moving)
	// Of a message and the one that replaces it, one at least is there.
	c, err = l.add("Archive", nil, text("draft"))
	if err != nil {
		return err
	}
	h.tell("Archive", c.To[0], text("draft"))
	archive, err := l.a.Hold(ctx, "Archive", true, nil)
	if err != nil {
		return err
	}
	defer archive.Close()
	h.replacing = []string{text("draft"), text("sent")}
	h.going[text("draft")] = true
	draft := c.To[0]
	c, err = l.replace(archive, draft, store.Inbox, text("sent"))
	if err != nil {
		delete(h.going, text("draft")) // what was refused took nothing away
		return err
	}
	h.replacing = nil
	h.tell(store.Inbox, c.To[0], text("sent"))
	delete(h.kept["Archive"], draft)
	if _, _, err := inbox.SetFlags(ctx, []imap.UID{2, 4}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		return err
	}
	h.going[text("two")], h.going[text("four")] = true, true
	gone, _, err := inbox.Expunge(ctx, []imap.UID{2})
	for _, uid := range gone {
		delete(h.kept[store.Inbox], uid)
	}
	if err != nil {
		return err
	}
	if err := put(nil, "five"); err != nil {
		return err
	}
	together := []string{text("six"), text("seven"), text("eight")}
	done, err := l.addEach(store.Inbox, together...)
	for i, d := range done {
		if d.Err == nil {
			h.tell(store.Inbox, d.Copied.To[0], together[i])
		}
		err = errors.Join(err, d.Err)
	}
	return err
}

// check compares a tree that was opened again with the history. After a power cut
// lines that only announced a delivery may be lost.
func (l *lab) check(h *history, what string, power bool) {
	l.Helper()
	where := map[string][]string{}
	for n := range h.shown {
		have, validity, err := l.contents(n)
		if err != nil {
			l.Fatalf("%s: %s: %v", what, n, err)
		}
		if want := h.validity[n]; want != 0 && validity != want {
			l.Errorf("%s: %s: UIDVALIDITY %d, want %d", what, n, validity, want)
		}
		if n == "Archive" && validity < h.promised {
			l.Errorf("%s: %s: UIDVALIDITY %d, and %d was told of before", what, n, validity, h.promised)
		}
		for uid, text := range have {
			where[text] = append(where[text], string(n))
			if was, ok := h.shown[n][uid]; ok && was != text {
				l.Errorf("%s: %s: UID %d was %q and is %q", what, n, uid, was, text)
			}
		}
		for uid, text := range h.kept[n] {
			if power && h.told[text] && have[uid] == "" && slices.Contains(where[text], string(n)) {
				continue // its line was lost, and it has a UID that nobody saw
			}
			if have[uid] != text && !(h.moving[text] || h.going[text]) {
				l.Errorf("%s: %s: UID %d is %q, was acknowledged as %q", what, n, uid, have[uid], text)
			}
		}
	}
	for text := range h.moving {
		if len(where[text]) == 0 {
			l.Errorf("%s: %q is in neither mailbox", what, text)
		}
	}
	there := 0
	for _, text := range h.replacing {
		there += len(where[text])
	}
	if h.replacing != nil && there == 0 {
		l.Errorf("%s: neither of %q is there", what, h.replacing)
	}
	for n := range h.shown {
		c, err := l.add(n, nil, "Subject: last\n\nlast\n")
		if err != nil {
			l.Fatalf("%s: append to %s: %v", what, n, err)
		}
		if was, ok := h.shown[n][c.To[0]]; ok {
			l.Errorf("%s: %s: UID %d was given to %q, and again", what, n, c.To[0], was)
		}
	}
}

// A process that is killed at any call, or a machine that loses power there, keeps what
// was acknowledged, and no UID names other bytes.
func TestStoppedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		mem := faultfs.NewMem()
		mem.Now = func() time.Time { return time.Now().Add(-time.Hour) } // nothing is too young to be believed
		l := newLab(t, mem)
		h := newHistory()
		l.must(l.open("boot 1"))
		l.fs.Reset()
		l.fs.Stop(n)
		err := l.script(h)
		after := map[string]*faultfs.Mem{"killed": mem.Clone()}
		for seed := range uint64(2) {
			after[fmt.Sprintf("power cut %d", seed)] = mem.Crash(rand.New(rand.NewPCG(uint64(n), seed)))
		}
		l.close()
		for how, tree := range after {
			boot := "boot 2"
			if how == "killed" {
				boot = "boot 1"
			}
			tree.Now = mem.Now
			again := newLab(t, tree)
			again.now = again.now.Add(time.Second)
			again.must(again.open(boot))
			again.check(h, fmt.Sprintf("%s at call %d", how, n), how != "killed")
			again.close()
		}
		if err == nil {
			break
		}
		if t.Failed() {
			return
		}
	}
}

// A call that fails once, whichever it is, costs at most the command that met it.
func TestFailureAnywhere(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE} {
		for n := 1; ; n++ {
			mem := faultfs.NewMem()
			mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			l := newLab(t, mem)
			h := newHistory()
			l.must(l.open("boot"))
			l.fs.Reset()
			l.fs.Fail(n, errno)
			l.script(h)
			calls := l.fs.Calls()
			l.fs.Reset()
			l.check(h, fmt.Sprintf("%v at call %d", errno, n), false)
			l.close()
			if n > calls {
				break
			}
			if t.Failed() {
				return
			}
		}
	}
}

// REPLACE is all or none, whichever call fails: the old message or the new one, and
// what is answered is true.
func TestReplaceFailsWhole(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := 1; ; n++ {
			mem := faultfs.NewMem()
			mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			l := newLab(t, mem)
			l.must(l.open("boot"))
			_, err := l.add(store.Inbox, nil, "Subject: old\r\n\r\nold\r\n")
			l.must(err)
			_, err = l.add("Archive", nil, "Subject: first\r\n\r\nfirst\r\n") // so that it is open
			l.must(err)
			inbox, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
			l.must(err)
			l.fs.Reset()
			l.fs.Fail(n, errno)
			_, err = l.replace(inbox, 1, "Archive", "Subject: new\r\n\r\nnew\r\n")
			calls := l.fs.Calls()
			l.fs.Reset()
			old, _, cerr := l.contents(store.Inbox)
			l.must(cerr)
			all, _, cerr := l.contents("Archive")
			l.must(cerr)
			if len(old) != 1-(len(all)-1) || (err == nil) != (len(old) == 0) {
				t.Errorf("%v at call %d: answered %v, old %v, new %v", errno, n, err, old, all)
			}
			inbox.Close()
			l.close()
			if n > calls {
				break
			}
		}
	}
}

// The uidlist's lock could not be removed once: it does not stay until the next command,
// for others wait for it.
func TestLockThatStayedIsRemovedSoon(t *testing.T) {
	l := newLab(t, faultfs.NewMem())
	l.must(l.open("boot"))
	defer l.close()
	_, err := l.add(store.Inbox, nil, "Subject: 1\n\n1\n")
	l.must(err)
	tries := 0
	again := make(chan struct{})
	l.fs.FailWhere(func(_ int, call string) error {
		if call != "remove "+uidlist.LockName {
			return nil
		}
		if tries++; tries == 1 {
			return syscall.EIO
		}
		if tries == 2 {
			close(again)
		}
		return nil
	})
	_, err = l.add(store.Inbox, nil, "Subject: 2\n\n2\n")
	l.must(err)
	<-again
}
