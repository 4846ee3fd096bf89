package peers

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"roost/test/talk"
)

// A mailbox has one id in both servers, whichever made it, and keeps it when either
// renames it: what dsync and backups of Dovecot's know it by is not changed under them.
func TestMailboxIDsAreDovecots(t *testing.T) {
	h := newHouse(t)
	both := h.beside(t, "", "", "")
	if err := both.roost.Create("Ours", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := both.dovecot.Create("Theirs", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	check := func(names ...string) map[string]string {
		t.Helper()
		script := "A> a0 LOGIN ann@example.org " + password + "\n"
		ids := map[string]string{}
		for i, n := range names {
			out, err := both.d.Doveadm("-f", "tab", "mailbox", "status", "-u", "ann@example.org", "guid", n)
			fields := strings.Fields(out)
			if err != nil || len(fields) == 0 || len(fields[len(fields)-1]) != 32 {
				t.Fatalf("%s: %q, %v", n, out, err)
			}
			ids[n] = fields[len(fields)-1]
			script += fmt.Sprintf("A> a%d STATUS %s (MAILBOXID)\nA< * STATUS %s (MAILBOXID (F%s))\n", i+1, n, n, ids[n])
		}
		talk.Run(t, script, talk.Options{Greeting: true, Dial: func(string) (net.Conn, error) { return net.Dial("tcp", both.r.PlainAddr) }})
		return ids
	}
	before := check("Ours", "Theirs", "INBOX")
	if err := both.roost.Rename("Theirs", "Theirs2", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := both.dovecot.Rename("Ours", "Ours2", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	after := check("Ours2", "Theirs2")
	if after["Ours2"] != before["Ours"] || after["Theirs2"] != before["Theirs"] {
		t.Errorf("%v became %v", before, after)
	}
}
