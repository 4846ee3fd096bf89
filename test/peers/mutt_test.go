package peers

import (
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/test/neighbour"
)

// A day in a terminal: open over IMAPS, read, flag, copy, search, delete; new mail
// shows by itself, and the second start takes the headers from its cache.
func muttDay(t *testing.T, prog, name, pkg, setting string) *record {
	prog = need(t, prog, pkg)
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", name, version(pkg), "list, read, flag, copy, search, delete; new mail while idle; header cache")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 4 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	g := h.guest(t)
	g.mkdir(".cache/mutt")
	// New mail is looked for while the keyboard is waited for, every second.
	rc := g.write(".muttrc", g.settings("muttrc", r)+`
set certificate_file = "`+g.path("ca.pem")+`"
set mail_check = 1
set timeout = 1
set sleep_time = 0
set quit = yes
set delete = yes
unset confirmappend
`+setting+"\n")

	s := g.screen(prog, "-F", rc)
	s.see(`1 N .*message 0`, `4 N .*message 3`, `Msgs:4`)
	s.keys("Enter")
	s.see(`^Body of message 0`)
	s.keys("i")
	s.see(`2 N .*message 1`)
	s.keys("F")
	s.see(`1 +! .*message 0`)
	s.keys("$")
	r.await(` OK EXPUNGE`)
	same(t, "after reading and flagging", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 ", "message 2 ", "message 3 "})

	s.keys("C")
	s.see(`Copy to mailbox`)
	s.keys("+Sent", "Enter")
	r.await(` OK .*COPYUID`)
	same(t, "a copy", letters(t, h.maildir("ann")+"/.Sent"), []string{"message 1 "})

	r.next()
	s.keys("/")
	s.see(`Search for`)
	s.keys("=b 'of message 2'", "Enter")
	r.await(`SEARCH .*BODY`)
	s.keys("Enter")
	s.see(`^Body of message 2`)
	s.keys("i")
	s.see(`Msgs:4`)
	s.keys("d", "$")
	s.see(`Msgs:3`)
	r.await(` OK .*EXPUNGE`)
	same(t, "after deleting", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 ", "message 3 "})

	r.idling("INBOX")
	h.deliver(t, "ann", sample(9))
	s.see(`N .*message 9`, `Msgs:4`)
	s.keys("q")
	s.end()

	r.next()
	s = g.screen(prog, "-F", rc)
	s.see(`! .*message 0`, `message 9`, `Msgs:4`)
	if headers := r.said(`HEADER`); len(headers) > 0 {
		t.Errorf("with a header cache it fetched %q", headers)
	}
	s.keys("q")
	s.end()
	// What was seen on the list and not read gets the keyword Old.
	same(t, "in the end", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 a", "message 3 a", "message 9 a"})
	if k := read(t, h.maildir("ann")+"/dovecot-keywords"); k != "0 Old\n" {
		t.Errorf("dovecot-keywords is %q", k)
	}
	return r
}

func TestNeomutt(t *testing.T) { muttDay(t, "neomutt", "NeoMutt", "neomutt", "") }

func TestMutt(t *testing.T) { muttDay(t, "mutt", "Mutt", "mutt", "") }

// The same compressed, of which Debian's NeoMutt knows nothing.
func TestMuttCompressed(t *testing.T) {
	r := muttDay(t, "mutt", "Mutt", "mutt", "set imap_deflate = yes")
	if !strings.Contains(r.text(0), "COMPRESS DEFLATE") {
		t.Error("it did not ask for COMPRESS")
	}
}

// mutt without a terminal sends a message and keeps a copy in Sent; told on its command
// line what to press, it moves all that is unread to Trash.
func TestMuttBatch(t *testing.T) {
	prog := need(t, "mutt", "mutt")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "Mutt", version("mutt"), "from scripts: copies of what it sends, mail moved by a pattern")
	g := h.guest(t)
	rc := g.write(".muttrc", g.settings("muttrc", r)+`
set certificate_file = "`+g.path("ca.pem")+`"
set from = "ann@example.org"
set sendmail = "/bin/true"
set record = "+Sent"
`)
	attachment := g.write("lines.txt", strings.Repeat("attached\n", 1000))
	cmd := g.command(prog, "-F", rc, "-s", "from a script", "-a", attachment, "--", "bob@example.net")
	cmd.Stdin = strings.NewReader("Hello Bob\n")
	if out, err := cmd.CombinedOutput(); err != nil || complaint.Match(out) {
		t.Errorf("mutt: %v\n%s", err, out)
	}
	sent := h.maildir("ann") + "/.Sent"
	same(t, "Sent", letters(t, sent), []string{"from a script S"})
	for _, text := range texts(t, sent) {
		if !strings.Contains(text, "Hello Bob\n") || strings.Count(text, "attached\n") != 1000 {
			t.Errorf("the copy has %d bytes", len(text))
		}
	}

	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 5 {
		var flags []imap.Flag
		if n == 3 {
			flags = []imap.Flag{imap.FlagSeen, "$Label1"}
		}
		appendMessage(t, c, "INBOX", sample(n), flags...)
	}
	g.screen(prog, "-F", rc, "-e", "set delete=yes confirmappend=no mark_old=no",
		"-e", "push '<tag-pattern>~U<enter><tag-prefix><save-message>+Trash<enter><sync-mailbox><quit>'").end()
	same(t, "INBOX", letters(t, h.maildir("ann")), []string{"message 3 Sa"})
	same(t, "Trash", letters(t, h.maildir("ann")+"/.Trash"), []string{"message 0 ", "message 1 ", "message 2 ", "message 4 "})
}
