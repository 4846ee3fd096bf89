package peers

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// account is all that a client can see of an account and must not change when
// another server takes the tree over.
type account struct {
	mailboxes  map[string]mailbox
	subscribed []string
}

type mailbox struct {
	validity uint32
	next     imap.UID
	messages map[imap.UID]string
}

// look reads a whole account without changing it.
func look(t *testing.T, c *imapclient.Client) account {
	t.Helper()
	a := lookAtMail(t, c, true)
	subs, err := c.List("", "*", &imap.ListOptions{SelectSubscribed: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subs {
		a.subscribed = append(a.subscribed, s.Mailbox)
	}
	slices.Sort(a.subscribed)
	return a
}

// lookAtMail reads all but the subscriptions.
func lookAtMail(t *testing.T, c *imapclient.Client, readOnly bool) account {
	t.Helper()
	a := account{mailboxes: map[string]mailbox{}}
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		sel, err := c.Select(l.Mailbox, &imap.SelectOptions{ReadOnly: readOnly}).Wait()
		if err != nil {
			t.Fatalf("%s: %v", l.Mailbox, err)
		}
		m := mailbox{sel.UIDValidity, sel.UIDNext, map[imap.UID]string{}}
		if m.next == 0 { // Courier tells it in STATUS only
			st, err := c.Status(l.Mailbox, &imap.StatusOptions{UIDNext: true}).Wait()
			if err != nil {
				t.Fatalf("%s: %v", l.Mailbox, err)
			}
			m.next = st.UIDNext
		}
		if sel.NumMessages > 0 {
			msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true}).Collect()
			if err != nil {
				t.Fatal(err)
			}
			for _, msg := range msgs {
				var flags []string
				for _, f := range msg.Flags {
					if f != `\Recent` {
						flags = append(flags, strings.ToLower(string(f)))
					}
				}
				slices.Sort(flags)
				m.messages[msg.UID] = fmt.Sprintf("%v %s %d %s", flags, msg.InternalDate.UTC(), msg.RFC822Size, msg.Envelope.MessageID)
			}
		}
		a.mailboxes[l.Mailbox] = m
	}
	return a
}

// compare fails where the second view of a tree differs from the first. The next
// UID may be higher, never lower.
func compare(t *testing.T, when string, before, after account) {
	t.Helper()
	if !slices.Equal(before.subscribed, after.subscribed) {
		t.Errorf("%s: subscriptions %v became %v", when, before.subscribed, after.subscribed)
	}
	for name, b := range before.mailboxes {
		a, ok := after.mailboxes[name]
		if !ok {
			t.Errorf("%s: %s is missing", when, name)
			continue
		}
		if a.validity != b.validity || a.next < b.next {
			t.Errorf("%s: %s: UIDVALIDITY %d, UIDNEXT %d became %d, %d", when, name, b.validity, b.next, a.validity, a.next)
		}
		if maps.Equal(a.messages, b.messages) {
			continue
		}
		for uid, m := range b.messages {
			if a.messages[uid] != m {
				t.Errorf("%s: %s UID %d: %q became %q", when, name, uid, m, a.messages[uid])
			}
		}
		for uid, m := range a.messages {
			if b.messages[uid] == "" {
				t.Errorf("%s: %s UID %d appeared: %q", when, name, uid, m)
			}
		}
	}
}

// A tree that Dovecot made moves to Roost and back: every UID, flag, keyword,
// date and subscription survives both ways, with what was changed in between.
func TestDovecotBeforeAndAfter(t *testing.T) {
	h := newHouse(t)
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	neighbour.Compat(t, "tree", "Dovecot, Maildir++", version("dovecot-imapd"), "moved in, changed, moved back, moved in again")
	run := 0
	dovecot := func() (*neighbour.Dovecot, *imapclient.Client) {
		t.Helper()
		run++
		d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
			Dir:      filepath.Join(h.dir, fmt.Sprintf("dovecot%d", run)),
			Home:     h.mail,
			Location: "maildir:" + h.mail + "/%d/%n/Maildir",
			Password: password,
		})
		started(t, err)
		c, err := imapclient.DialInsecure(d.Addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login("ann@example.org", password).Wait(); err != nil {
			t.Fatal(err, d.Log())
		}
		return d, c
	}
	change := func(c *imapclient.Client, from int) {
		t.Helper()
		box := fmt.Sprintf("Projekte/Größe %d", from)
		if err := c.Create(box, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Subscribe(box).Wait(); err != nil {
			t.Fatal(err)
		}
		for n := range 12 {
			flags := []imap.Flag{imap.FlagSeen}
			if n%3 == 0 {
				flags = append(flags, imap.FlagFlagged, imap.Flag(fmt.Sprintf("Key%d-%d", from, n)))
			}
			appendMessage(t, c, "INBOX", sample(from+n), flags...)
		}
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Move(imap.SeqSetNum(2, 3), box).Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Copy(imap.SeqSetNum(4), box).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Store(imap.SeqSetNum(5), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered, "$Forwarded"}}, nil).Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Store(imap.SeqSetNum(6), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Expunge().Close(); err != nil {
			t.Fatal(err)
		}
	}
	stop := func(d *neighbour.Dovecot, c *imapclient.Client) {
		c.Logout().Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}

	d, c := dovecot()
	change(c, 0)
	before := look(t, c)
	stop(d, c)

	r := h.serve(t)
	rc := login(t, r.Addr, "ann", nil)
	after := look(t, rc)
	compare(t, "Dovecot to Roost", before, after)
	change(rc, 20)
	before = look(t, rc)
	rc.Logout().Wait()
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	d, c = dovecot()
	compare(t, "Roost to Dovecot", before, look(t, c))
	change(c, 40)
	before = look(t, c)
	stop(d, c)
	for line := range strings.Lines(d.Log()) {
		if strings.Contains(line, "Error:") || strings.Contains(line, "Warning:") && !strings.Contains(line, "Killed with signal") {
			t.Errorf("Dovecot complains of the tree: %s", line)
		}
	}

	r2 := h.serve(t)
	compare(t, "Dovecot to Roost again", before, look(t, login(t, r2.Addr, "ann", nil)))
}
