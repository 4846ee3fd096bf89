package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/test/neighbour"
)

// fetchmail counts what is new, takes it and leaves it there, then takes all away;
// nothing is fetched twice.
func TestFetchmail(t *testing.T) {
	prog := need(t, "fetchmail", "fetchmail")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "fetchmail", version("fetchmail"), "count, fetch and keep, fetch and delete")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 5 {
		var flags []imap.Flag
		if n == 0 {
			flags = []imap.Flag{imap.FlagSeen, imap.FlagFlagged}
		}
		appendMessage(t, c, "INBOX", sample(n), flags...)
	}
	g := h.guest(t)
	g.mkdir("got")
	mda := g.write("mda", "#!/bin/sh\nexec cat >got/$$\n")
	if err := os.Chmod(mda, 0o700); err != nil {
		t.Fatal(err)
	}
	rc := g.write(".fetchmailrc", strings.NewReplacer("/usr/bin/maildrop", mda,
		"sslcertck", `sslcertck sslcertfile "`+g.path("ca.pem")+`"`).Replace(g.settings("fetchmailrc", r)))
	// An exit code of 1 says that there was no mail.
	fetch := func(code int, args ...string) string {
		t.Helper()
		r.next()
		cmd := g.command(prog, append([]string{"-f", rc, "--nodetach", "--nosyslog", "--pidfile", g.path("pid")}, args...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code {
			t.Errorf("fetchmail %v: %v, want exit code %d\n%s", args, err, code, out)
		}
		g.content(string(out))
		return string(out)
	}
	arrived := func() int {
		t.Helper()
		names, err := filepath.Glob(g.path("got/*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains(read(t, name), "\n\nBody of message ") {
				t.Errorf("%s did not come whole: %q", name, read(t, name))
			}
		}
		return len(names)
	}

	if out := fetch(0, "--check"); !strings.Contains(out, "5 messages (1 seen)") {
		t.Errorf("--check says %q", out)
	}
	same(t, "after --check", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 ", "message 2 ", "message 3 ", "message 4 "})

	fetch(0, "--keep")
	if n := arrived(); n != 4 {
		t.Errorf("%d messages came, want the 4 unseen", n)
	}
	same(t, "kept", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 S", "message 2 S", "message 3 S", "message 4 S"})
	fetch(1, "--keep")
	r.quiet("with all seen")

	h.deliver(t, "ann", sample(7))
	fetch(0, "--nokeep", "--fetchall")
	if n := arrived(); n != 10 {
		t.Errorf("%d messages came, want 4 and then all 6", n)
	}
	same(t, "taken away", letters(t, h.maildir("ann")), nil)
	fetch(1, "--nokeep", "--fetchall")
}

// getmail takes what is new, once, and takes it away when it is told to.
func TestGetmail(t *testing.T) {
	prog := need(t, "getmail", "getmail6")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "getmail6", version("getmail6"), "fetch and keep, fetch and delete")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 3 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	g := h.guest(t)
	g.mkdir("Maildir/cur", "Maildir/new", "Maildir/tmp")
	settings := g.settings("getmailrc", r)
	g.write(".config/getmail/take", settings)
	g.write(".config/getmail/keep", strings.Replace(settings, "delete = true", "delete = false", 1))
	get := func(rc string) {
		t.Helper()
		r.next()
		g.content(g.run(prog, "--rcfile", rc))
	}
	get("keep")
	same(t, "taken and kept", letters(t, g.path("Maildir")), []string{"message 0 ", "message 1 ", "message 2 "})
	same(t, "on the server", letters(t, h.maildir("ann")), []string{"message 0 ", "message 1 ", "message 2 "})
	get("keep")
	r.quiet("with nothing new")
	h.deliver(t, "ann", sample(7))
	get("take")
	same(t, "taken", letters(t, g.path("Maildir")), []string{"message 0 ", "message 1 ", "message 2 ", "message 7 "})
	same(t, "on the server in the end", letters(t, h.maildir("ann")), nil)
}
