package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"roost/test/neighbour"
	"roost/test/witness"
)

// Locks that a process left which is no more: of a Roost or a Dovecot that was killed, of
// one killed before it said who it was, of pid 1 of a container that is pid 1 again. They
// lie there when the server starts, and appear under it. Everything that takes a lock is
// done all the same.
func TestLocksOfTheDeadHoldUpNobody(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	bin, err := neighbour.BuildRoost(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		first         bool // the server is pid 1
	}{
		{"a dead process", fmt.Sprintf("%d:%s", gone.Process.Pid, host), false},
		{"nobody", "", false},
		{"pid 1 of a container that was started again", "1:" + host, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.first && os.Getuid() != 0 {
				t.Skip("needs root and CAP_SYS_ADMIN: the server is pid 1 of a namespace")
			}
			t.Parallel() // it waits for most of its time
			mail := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := os.Mkdir(mail, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := neighbour.Own(mail); err != nil {
				t.Fatal(err)
			}
			tree := filepath.Join(mail, "ann")
			start := func() *neighbour.Roost {
				t.Helper()
				r, err := neighbour.StartRoost(neighbour.RoostOptions{Bin: bin, Dir: mail + ".server", FirstProcess: c.first,
					Location: filepath.Join(mail, "%n"), Users: map[string]string{"ann@example.org": password}})
				if err != nil && c.first && strings.Contains(err.Error(), "not permitted") {
					t.Skipf("needs root and CAP_SYS_ADMIN: %v", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			ledger := witness.NewLedger()
			dial := func(r *neighbour.Roost) *witness.Session {
				t.Helper()
				s, err := witness.Dial(ledger, "the client", r.PlainAddr, "ann@example.org", password)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			do := func(s *witness.Session, commands ...string) {
				t.Helper()
				for _, command := range commands {
					if err := s.Do(command); err != nil {
						t.Error(err)
					}
				}
			}
			text := func(n int) string { return fmt.Sprintf("Message-ID: <%d@locks>\r\nSubject: %d\r\n\r\nx\r\n", n, n) }
			number := 0
			appendTo := func(s *witness.Session, box string) {
				t.Helper()
				number++
				if err := s.Append(box, "", text(number)); err != nil {
					t.Error(err)
				}
			}
			lock := func() {
				t.Helper()
				for _, name := range []string{"dovecot-uidlist.lock", ".Box/dovecot-uidlist.lock", ".Box.Below/dovecot-uidlist.lock", "subscriptions.lock"} {
					path := filepath.Join(tree, name)
					if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
						t.Fatal(err)
					}
					if err := neighbour.Own(path); err != nil {
						t.Fatal(err)
					}
				}
			}

			r := start()
			s := dial(r)
			do(s, "CREATE Box", "CREATE Box/Below")
			for _, box := range []string{"INBOX", "Box", "Box/Below"} {
				appendTo(s, box)
			}
			s.Close()
			r.Kill()

			lock()
			r = start()
			defer r.Kill()
			s = dial(r)
			defer s.Close()
			if err := s.Select("INBOX"); err != nil {
				t.Error(err)
			}
			appendTo(s, "INBOX")
			appendTo(s, "Box")
			do(s, "SUBSCRIBE Box", "STORE 1 +FLAGS (Key)", "COPY 1 Box", "STATUS Box/Below (MESSAGES UIDNEXT)")

			lock() // and now under the running server
			appendTo(s, "INBOX")
			do(s, "SUBSCRIBE Box/Below", "STORE 1 +FLAGS (Other)", "MOVE 1 Box/Below")
			lock()
			do(s, "RENAME Box Crate")
			for _, name := range []string{".Crate", ".Crate.Below"} {
				if left, err := os.ReadFile(filepath.Join(tree, name, "dovecot-uidlist.lock")); err == nil {
					t.Errorf("%s took a lock along: %q", name, left)
				}
			}
			do(s, "DELETE Crate/Below")
			if err := s.Do(`LSUB "" *`); err != nil || !strings.Contains(strings.Join(s.Lines, " "), `"/" Crate`) {
				t.Errorf("%v: subscribed is %q", err, s.Lines)
			}
			if t.Failed() {
				t.Logf("the server's log:\n%s", r.Log())
			}
		})
	}
}
