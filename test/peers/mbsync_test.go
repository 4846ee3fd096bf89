package peers

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/test/neighbour"
)

const mbsyncrc = `
IMAPAccount far
Host localhost
Port %s
User ann@example.org
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Remove None
SyncState *
Sync All
`

// transfer is what mbsync sends when it moves something.
var transfer = regexp.MustCompile(`>>> \d+ (APPEND|UID STORE|UID COPY|UID MOVE|UID FETCH \d+ \(.*BODY)`)

// mbsync keeps a second tree in step, both ways, and a further run moves nothing.
func TestMbsync(t *testing.T) {
	mbsync := need(t, "mbsync", "isync")
	neighbour.Compat(t, "client", "mbsync (isync)", version("isync"), "two-way synchronisation: mail, flags, deletions; nothing moves twice")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	c := login(t, h.roost.Addr, "ann", nil)
	if err := c.Create("Listen/Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		appendMessage(t, c, "INBOX", sample(n), imap.FlagSeen)
		appendMessage(t, c, "Listen/Größe", sample(100+n))
	}

	g := h.guest(t)
	g.mkdir("Mail")
	rc, local := g.write(".mbsyncrc", g.settings("mbsyncrc", r)), g.path("Mail")
	sync := func() {
		t.Helper()
		r.next()
		g.content(g.run(mbsync, "-c", rc, "-V", "example"))
	}
	quiet := func(when string) {
		t.Helper()
		sync()
		r.quiet(when)
	}

	sync()
	if len(r.said(`UID FETCH .*BODY`)) == 0 {
		t.Fatal("the first run moved nothing that this test understands")
	}
	if n := len(files(t, filepath.Join(local, "INBOX"))); n != 20 {
		t.Fatalf("INBOX came over with %d of 20", n)
	}
	if n := len(files(t, filepath.Join(local, "Listen/Gr&APYA3w-e"))); n != 20 {
		t.Fatalf("Listen/Größe came over with %d of 20", n)
	}
	quiet("after the first run")

	// Near: a new message and one flagged. Far: one flagged, one gone, one new.
	if err := os.WriteFile(filepath.Join(local, "INBOX/new/1700000000.1.near"), []byte(strings.ReplaceAll(sample(50), "\r\n", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	first := files(t, filepath.Join(local, "INBOX"))[0]
	if err := os.Rename(filepath.Join(local, "INBOX/cur", first), filepath.Join(local, "INBOX/cur", first+"F")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(20), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(19), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, c, "INBOX", sample(51))
	sync()
	if asked := r.said(`(SEARCH|FETCH) .*TUID`); len(asked) > 0 {
		t.Errorf("mbsync was told no UID that it can use: %q", asked)
	}
	quiet("after changes on both sides")

	if err := c.Noop().Wait(); err != nil { // what mbsync did is told here
		t.Fatal(err)
	}
	msgs, err := c.Fetch(all, &imap.FetchOptions{Flags: true, Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	flagged, fromNear := 0, 0
	for _, m := range msgs {
		for _, f := range m.Flags {
			if f == imap.FlagFlagged {
				flagged++
			}
		}
		if m.Envelope.Subject == "message 50" {
			fromNear++
		}
	}
	if len(msgs) != 21 || flagged != 1 || fromNear != 1 {
		t.Errorf("%d messages, %d flagged, %d from the other side; want 21, 1, 1", len(msgs), flagged, fromNear)
	}
	if n := len(files(t, filepath.Join(local, "INBOX"))); n != 21 {
		t.Errorf("%d messages on the other side, want 21", n)
	}
}
