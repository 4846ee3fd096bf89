package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/auth"
)

var home = auth.Attempt{Secure: true, Protocol: "imap"}

// program writes a shell script that reads requests as $line.
func program(t *testing.T, body string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	// Not run by its own name: a child that another test has just forked may still have it
	// open for writing, and the kernel says "text file busy".
	return []string{"/bin/sh", path}
}

// asking makes an Auth of one program.
func asking(t *testing.T, opt Options) (*auth.Auth, *Source) {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := Open(opt)
	a, err := auth.New(auth.Options{Sources: []auth.Source{s}, Log: opt.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, s
}

const knows = `while read -r line; do
case $line in
*'"op":"list"'*) echo '{"users":["ann","ben"]}' ;;
*'"user":"ann"'*) echo '{"found":true,"hash":"{PLAIN}secret","fields":{"userdb_home":"/home/%u"}}' ;;
*'"op":"user","user":"ben"'*) echo '{"found":true,"check":true}' ;;
*'"op":"password","user":"ben","password":"secret"'*) echo '{"right":true,"fields":{"userdb_home":"/ben"}}' ;;
*'"op":"password"'*) echo '{"right":false}' ;;
*'"user":"cat"'*) echo '{"found":true}' ;;
*'"user":"down"'*) echo '{"error":"no database"}' ;;
*) echo '{"found":false}' ;;
esac
done
`

func TestCommand(t *testing.T) {
	t.Parallel()
	a, _ := asking(t, Options{Args: program(t, knows)})
	for _, c := range []struct {
		user, password, home string
		want                 error
	}{
		{"ann", "secret", "/home/ann", nil},
		{"ann", "wrong", "", auth.ErrDenied},
		{"ben", "secret", "/ben", nil},
		{"ben", "wrong", "", auth.ErrDenied},
		{"ben", "secret\xff", "", auth.ErrDenied},
		{"cat", "secret", "", auth.ErrDenied},
		{"nobody", "secret", "", auth.ErrDenied},
		{"down", "secret", "", auth.ErrUnavailable},
	} {
		u, err := a.Login(t.Context(), c.user, c.password, home)
		if !errors.Is(err, c.want) || u.Home != c.home {
			t.Errorf("%s with %q: %+v, %v; want %v", c.user, c.password, u, err, c.want)
		}
	}
	if names, silent, err := a.Users(t.Context()); err != nil || strings.Join(names, " ") != "ann ben" || silent != nil {
		t.Errorf("%v, %v, %v", names, silent, err)
	}
}

// What is asked is one line, whatever is in it.
func TestRequestIsOneLine(t *testing.T) {
	t.Parallel()
	seen := filepath.Join(t.TempDir(), "seen")
	a, _ := asking(t, Options{Args: program(t, "while read -r line; do printf '%s\\n' \"$line\" >>"+seen+"; case $line in *'\"op\":\"user\"'*) echo '{\"found\":true,\"check\":true}';; *) echo '{\"right\":false}';; esac; done"), Processes: 1})
	password := "a\nb\"\\\x00{}\u2028"
	if _, err := a.Login(t.Context(), "ann\"'`$(x)", password, home); !errors.Is(err, auth.ErrDenied) {
		t.Error(err)
	}
	b, err := os.ReadFile(seen)
	want := `{"op":"user","user":"ann\"'` + "`" + `$(x)","service":"imap"}` + "\n" +
		`{"op":"password","user":"ann\"'` + "`" + `$(x)","password":"a\nb\"\\\u0000{}\u2028","service":"imap"}` + "\n"
	if err != nil || string(b) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b, want)
	}
}

// A program that fails refuses for now, is replaced, and nobody else waits for it longer
// than the time says.
func TestFailingCommand(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{
		"hangs":             "sleep 1000",
		"ends":              "exit 3",
		"no answer":         "echo hello; sleep 1000",
		"no JSON object":    "echo 17; sleep 1000",
		"endless":           "exec cat /dev/zero",
		"endless list":      "yes | tr -d '\\n'",
		"writes unasked":    "echo '{\"found\":false}'; echo '{\"found\":false}'; while read -r line; do echo '{\"found\":false}'; done",
		"floods the log":    "yes x >&2",
		"closes its output": "exec >&-; sleep 1000",
		"ignores its end":   "trap '' TERM HUP PIPE; sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flag := filepath.Join(t.TempDir(), "mended")
			a, s := asking(t, Options{Processes: 2, Timeout: 300 * time.Millisecond,
				Args: program(t, "if ! [ -e "+flag+" ]; then "+bad+"; fi\n"+knows)})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					_, err := a.Login(t.Context(), "ann", "secret", home)
					if name != "writes unasked" && !errors.Is(err, auth.ErrUnavailable) {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.opt.Timeout = 20 * time.Second // nobody asks now
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Login(t.Context(), "ann", "secret", home); err != nil {
				t.Errorf("when it is mended: %v", err)
			}
		})
	}
	a, _ := asking(t, Options{Args: []string{"/nonexistent/users"}})
	var r *auth.Refusal
	if _, err := a.Login(t.Context(), "ann", "secret", home); !errors.As(err, &r) || !strings.Contains(r.Reason, "command /nonexistent/users: it cannot be run: no such file") {
		t.Errorf("%+v", r)
	}
}

// A hundred logins at once are answered by the few processes there may be.
func TestPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, _ := asking(t, Options{Processes: 3, Timeout: time.Minute, Args: program(t, ": >"+dir+"/$$\n"+knows)})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := a.Login(context.Background(), "ben", "secret", home); err != nil {
				t.Error(i, err)
			}
		})
	}
	wg.Wait()
	if list, err := os.ReadDir(dir); err != nil || len(list) > 3 || len(list) == 0 {
		t.Errorf("%d processes, %v", len(list), err)
	}
}

// Nothing is left of the program and of what it started.
func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	s := Open(Options{Args: program(t, "sleep 1000 2>/dev/null & echo $! >"+file+"\n"+knows), Processes: 1, Log: slog.New(slog.DiscardHandler)})
	if _, err := s.Find(t.Context(), "ann", home); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) { // a signal takes its time
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/status")
		if err != nil || strings.Contains(string(state), "State:\tZ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s lives", b)
		}
	}
}

// The example for PostfixAdmin, on a database with its tables.
func TestPostfixAdmin(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("ROOST_PEERS") == "required" {
			t.Fatal("python3 is not installed: apt-get install python3")
		}
		t.Skip("python3 is not installed: apt-get install python3")
	}
	dir := t.TempDir()
	hash, err := auth.NewHash("bcrypt", "secret", false)
	if err != nil {
		t.Fatal(err)
	}
	crypt, err := auth.NewHash("sha512-crypt", "secret", true)
	if err != nil {
		t.Fatal(err)
	}
	fill := exec.Command(python, "-c", `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript(open("testdata/postfixadmin.sql").read())
db.executemany("INSERT INTO domain (domain, active) VALUES (?, ?)", [("example.org", 1), ("closed.example", 0)])
db.executemany("INSERT INTO mailbox (username, password, name, maildir, quota, local_part, domain, active) VALUES (?, ?, '', ?, ?, ?, ?, ?)", [
 ("ann@example.org", sys.argv[2], "example.org/ann/", 1048576, "ann", "example.org", 1),
 ("ben@example.org", sys.argv[3], "example.org/ben/", 0, "ben", "example.org", 1),
 ("off@example.org", sys.argv[2], "example.org/off/", 0, "off", "example.org", 0),
 ("cat@closed.example", sys.argv[2], "closed.example/cat/", 0, "cat", "closed.example", 1)])
db.commit()`, filepath.Join(dir, "db"), hash, crypt)
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ini := filepath.Join(dir, "ini")
	if err := os.WriteFile(ini, fmt.Appendf(nil, "[database]\ndriver = sqlite ; here\nname = %s\n[mail]\nbase = /var/vmail/\n", filepath.Join(dir, "db")), 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../../contrib/postfixadmin/roost-users")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := asking(t, Options{Args: []string{python, script, ini}, Timeout: time.Minute})
	for _, c := range []struct {
		user, password string
		want           error
	}{
		{"ann@example.org", "secret", nil}, {"ben@example.org", "secret", nil}, {"ANN@Example.org", "secret", nil},
		{"ann@example.org", "wrong", auth.ErrDenied}, {"off@example.org", "secret", auth.ErrDenied},
		{"cat@closed.example", "secret", auth.ErrDenied}, {"' OR ''='", "secret", auth.ErrDenied}, {"%", "secret", auth.ErrDenied},
		{"ann@example.org ", "secret", auth.ErrDenied}, // the database takes it for ann
	} {
		u, err := a.Login(t.Context(), c.user, c.password, home)
		if !errors.Is(err, c.want) {
			t.Errorf("%s with %q: %v, want %v", c.user, c.password, err, c.want)
		}
		if c.user == "ann@example.org" && err == nil && (u.Home != "/var/vmail/example.org/ann" || u.Mail != "maildir:/var/vmail/example.org/ann" || u.QuotaBytes != 1<<20) {
			t.Errorf("%+v", u)
		}
	}
	names, _, err := a.Users(t.Context())
	if got := strings.Join(names, " "); err != nil || got != "ann@example.org ben@example.org off@example.org" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Rename(filepath.Join(dir, "db"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	b, _ := asking(t, Options{Args: []string{python, script, ini}, Timeout: time.Minute})
	if _, err := b.Login(t.Context(), "ann@example.org", "secret", home); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without its database: %v", err)
	}
}
