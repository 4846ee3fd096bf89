package system

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/auth"
	"roost/test/neighbour"
)

var imap = auth.Attempt{Secure: true, Protocol: "imap"}

func asking(t *testing.T, opt Options) *auth.Auth {
	t.Helper()
	a, err := auth.New(auth.Options{Sources: []auth.Source{Open(opt)}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// skip skips, or fails where all must be there.
func skip(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("ROOST_PEERS") == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// machine runs saslauthd with PAM where /etc/passwd and /etc/shadow are others, and gives
// its socket and a getent that sees them too.
func machine(t *testing.T) Options {
	t.Helper()
	prog, err := neighbour.Find("saslauthd", "sasl2-bin")
	if err != nil {
		skip(t, err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts another /etc/passwd")
	}
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	hash, err := auth.NewHash("sha512-crypt", "secret", true)
	if err != nil {
		t.Fatal(err)
	}
	var passwd, shadow strings.Builder
	for _, u := range []struct {
		name string
		uid  int
	}{{"root", 0}, {"roosttest", 12345}, {"roostlow", 99}, {"roost100%n", 12346}} {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/home/%s:/bin/sh\n", u.name, u.uid, u.uid, u.name)
		fmt.Fprintf(&shadow, "%s:%s:19000:0:99999:7:::\n", u.name, hash)
	}
	for name, text := range map[string]string{"passwd": passwd.String(), "shadow": shadow.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/shadow" /etc/shadow && exec "$2" -d -a pam -n 2 -m "$1"`, "sh", dir, prog)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its end signals its whole group
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // joined below
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Minute):
			cmd.Process.Kill()
			<-ended
		}
	})
	socket := filepath.Join(dir, "mux")
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("saslauthd cannot run in a namespace of its own: %v", err)
		default:
		}
		if time.Since(start) > 5*time.Minute {
			t.Fatal("saslauthd does not listen")
		}
	}
	return Options{Socket: socket, Timeout: time.Minute, Getent: []string{"nsenter", "-t", strconv.Itoa(cmd.Process.Pid), "-m", "getent"}}
}

// The real saslauthd, PAM and getent say who logs in.
func TestSystemAccounts(t *testing.T) {
	a := asking(t, machine(t))
	var wg sync.WaitGroup
	for _, c := range []struct {
		user, password, home string
		want                 error
	}{
		{"roosttest", "secret", "/home/roosttest", nil},
		{"RoostTest", "secret", "/home/roosttest", nil},
		{"roost100%n", "secret", "/home/roost100%n", nil},
		{"roosttest", "wrong", "", auth.ErrDenied},
		{"roosttest", "secret\x00x", "", auth.ErrDenied},
		{"12345", "secret", "", auth.ErrDenied}, // the uid of roosttest
		{"root", "secret", "", auth.ErrDenied},
		{"roostlow", "secret", "", auth.ErrDenied},
		{"nobodyhere", "secret", "", auth.ErrDenied},
		{"--help", "secret", "", auth.ErrDenied},
		{"roosttest:x", "secret", "", auth.ErrDenied},
	} {
		wg.Go(func() { // PAM delays each failure
			u, err := a.Login(t.Context(), c.user, c.password, imap)
			if !errors.Is(err, c.want) || u.Home != c.home {
				t.Errorf("%s with %q: %+v, %v; want %v", c.user, c.password, u, err, c.want)
			}
		})
	}
	wg.Wait()
	names, silent, err := a.Users(t.Context())
	if got := strings.Join(names, " "); err != nil || silent != nil || got != "roosttest roost100%n" {
		t.Errorf("%q, %q, %v", got, silent, err)
	}
	if u, ok := a.Lookup("roosttest", auth.Attempt{}); !ok || u.UID != 12345 || u.GID != 12345 {
		t.Errorf("%+v, %v", u, ok)
	}
	if _, ok := a.Lookup("nobodyhere", auth.Attempt{}); ok {
		t.Error("nobodyhere is there")
	}
}

// Whatever the helpers do, a login ends and is refused for now.
func TestHelpersThatFail(t *testing.T) {
	ann := []string{"sh", "-c", "echo ann:x:1000:1000::/home/ann:/bin/sh"}
	serve := func(t *testing.T, answer string, hold bool) string {
		path := filepath.Join(t.TempDir(), "mux")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		t.Cleanup(func() { l.Close(); wg.Wait() })
		wg.Go(func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { // ends with the connection
					defer c.Close()
					io.WriteString(c, answer)
					if hold {
						io.Copy(io.Discard, c)
					} else {
						c.Read(make([]byte, 1024))
					}
				})
			}
		})
		return path
	}
	for name, c := range map[string]struct {
		answer string
		hold   bool
		getent []string
		want   error
	}{
		"right":         {"\x00\x02OK", false, ann, nil},
		"wrong":         {"\x00\x02NO", false, ann, auth.ErrDenied},
		"cut off":       {"\x00\x02O", false, ann, auth.ErrUnavailable},
		"nonsense":      {"\x00\x02??", false, ann, auth.ErrUnavailable},
		"silent":        {"", true, ann, auth.ErrUnavailable},
		"unknown":       {"\x00\x02OK", false, []string{"sh", "-c", "exit 2"}, auth.ErrDenied},
		"getent fails":  {"\x00\x02OK", false, []string{"sh", "-c", "exit 3"}, auth.ErrUnavailable},
		"getent hangs":  {"\x00\x02OK", false, []string{"sleep", "1000"}, auth.ErrUnavailable},
		"getent floods": {"\x00\x02OK", false, []string{"yes"}, auth.ErrUnavailable},
		"no getent":     {"\x00\x02OK", false, []string{"/nonexistent"}, auth.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := Options{Socket: serve(t, c.answer, c.hold), Getent: c.getent, Timeout: 20 * time.Second}
			if name == "silent" || name == "getent hangs" {
				opt.Timeout = 300 * time.Millisecond
			}
			if name == "getent hangs" {
				opt.Getent = []string{"sh", "-c", "sleep 1000"}
			}
			if _, err := asking(t, opt).Login(t.Context(), "ann", "secret", imap); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if _, err := asking(t, Options{Socket: "/nonexistent", Getent: ann}).Login(t.Context(), "ann", "secret", imap); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without saslauthd: %v", err)
	}
}
