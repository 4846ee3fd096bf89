package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"roost/server/session"
)

// What a client does to mail is told, with who it was; what it only reads is not.
func TestAudit(t *testing.T) {
	var mu sync.Mutex
	var deeds []string
	s := startServer(t, func(o *Options) {
		o.Runner.(*Local).Options.Audit = func(in *session.Login, client string, d session.Deed) {
			mu.Lock()
			defer mu.Unlock()
			deeds = append(deeds, strings.TrimRight(fmt.Sprint(in.Who.User, " ", in.Addr, " ", client, ": ", d.What, " ", d.Mailbox, " ", d.To, " ", d.UIDs, " ", d.Op, d.Flags), " "))
		}
	}, Spec{"127.0.0.1:0", Plaintext})
	c := s.dial(t, 0)
	c.do("LOGIN ann secret")
	c.do(`ID ("name" "Mail" "version" "1")`)
	c.do("CREATE Trash")
	for range 4 {
		fmt.Fprint(c, "x APPEND INBOX {5+}\r\na: b\n\r\n")
		c.want("x OK")
	}
	c.do("SELECT INBOX")
	for _, step := range []struct{ command, want string }{
		{"FETCH 1:* (FLAGS UID)", ""},
		{`STORE 1,2 +FLAGS.SILENT (\Deleted $x)`, `flags INBOX  [1 2] +[\Deleted $x]`},
		{`UID STORE 99 +FLAGS (\Deleted)`, ""},
		{"NOOP", ""},
		{"EXPUNGE", "expunge INBOX  [1 2] []"},
		{"EXPUNGE", ""},
		{"UID MOVE 3 Trash", "move INBOX Trash [3] []"},
		{"COPY 1 Trash", ""},
		{"RENAME Trash Bin", "rename_mailbox Trash Bin [] []"},
		{"DELETE Bin", "delete_mailbox Bin  [] []"},
		{`STORE 1 FLAGS (\Deleted)`, `flags INBOX  [4] =[\Deleted]`},
		{"CLOSE", "expunge INBOX  [4] []"},
	} {
		c.do(step.command)
		mu.Lock()
		got := strings.Join(deeds, "; ")
		deeds = nil
		mu.Unlock()
		if want := step.want; got != strings.TrimSuffix("ann 127.0.0.1 Mail 1: "+want, "ann 127.0.0.1 Mail 1: ") {
			t.Errorf("%s: %q, want %q", step.command, got, want)
		}
	}
	// A client that has said before the login what it is need not say it again.
	c = s.dial(t, 0)
	c.do(`ID ("name" "Early")`)
	c.do("LOGIN ann secret")
	c.do("CREATE x")
	c.do("DELETE x")
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(deeds, "; "); got != "ann 127.0.0.1 Early: delete_mailbox x  [] []" {
		t.Errorf("%q", got)
	}
}
