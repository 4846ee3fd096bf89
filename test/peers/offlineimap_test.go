package peers

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/test/neighbour"
)

// offlineimap keeps a second tree in step: new mail, flags and deletions go both
// ways, a mailbox made on either side appears on the other, and a run with nothing to
// do transfers nothing.
func TestOfflineimap(t *testing.T) {
	prog := need(t, "offlineimap", "offlineimap3")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "offlineimap3", strings.TrimSpace(script(t, prog, "--version")), "two-way synchronisation: mail, flags, deletions, mailboxes; nothing moves twice")
	c := login(t, h.roost.Addr, "ann", nil)
	if err := c.Create("Listen/Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range 12 {
		appendMessage(t, c, "INBOX", sample(n), imap.FlagSeen)
		appendMessage(t, c, "Listen/Größe", sample(100+n))
	}

	g := h.guest(t)
	rc := g.write(".offlineimaprc", g.settings("offlineimap", r))
	sync := func() {
		t.Helper()
		r.next()
		g.content(g.run(prog, "-c", rc, "-o", "-u", "basic"))
	}
	near := func(mailbox string) string { return g.path("Mail", mailbox) }
	far := h.maildir("ann")
	inStep := func(when string) {
		t.Helper()
		same(t, when+": INBOX", letters(t, near("INBOX")), letters(t, far))
		same(t, when+": the text in INBOX", slices.Sorted(maps.Values(texts(t, near("INBOX")))), slices.Sorted(maps.Values(texts(t, far))))
		same(t, when+": Listen/Größe", letters(t, near("Listen.Gr&APYA3w-e")), letters(t, far+"/.Listen.Gr&APYA3w-e"))
	}

	sync()
	if n := len(r.said(`UID FETCH .*BODY`)); n == 0 {
		t.Fatal("the first run moved nothing that this test understands")
	}
	inStep("after the first run")
	if n := len(letters(t, near("INBOX"))); n != 12 {
		t.Errorf("%d messages came over, want 12", n)
	}
	sync()
	r.quiet("after the first run")

	// Near: one flagged, one gone, one new, a new mailbox. Far: the same.
	names, err := filepath.Glob(near("INBOX/cur/*"))
	if err != nil || len(names) != 12 {
		t.Fatal(names, err)
	}
	if err := os.Rename(names[0], names[0]+"F"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(names[1]); err != nil {
		t.Fatal(err)
	}
	g.write("Mail/INBOX/new/1700000000.1.near", strings.ReplaceAll(sample(50), "\r\n", "\n"))
	g.mkdir("Mail/Neu/cur", "Mail/Neu/new", "Mail/Neu/tmp")
	g.write("Mail/Neu/new/1700000000.2.near", strings.ReplaceAll(sample(51), "\r\n", "\n"))
	if err := c.Create("Far", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, c, "Far", sample(52), imap.FlagAnswered)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(12), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(11), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, c, "INBOX", sample(53))
	sync()
	inStep("after changes on both sides")
	inbox := letters(t, far)
	if len(inbox) != 12 {
		t.Errorf("%d messages, want 12 with two gone and two new: %q", len(inbox), inbox)
	}
	for _, want := range []string{"FS", "RS", "message 50 ", "message 53 "} {
		if !strings.Contains(strings.Join(inbox, "\n")+"\n", want+"\n") {
			t.Errorf("no message has %q: %q", want, inbox)
		}
	}
	same(t, "a mailbox made near", letters(t, far+"/.Neu"), []string{"message 51 "})
	same(t, "a mailbox made far", letters(t, near("Far")), []string{"message 52 R"})
	sync()
	r.quiet("after changes on both sides")
}
