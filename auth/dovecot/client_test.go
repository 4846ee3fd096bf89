package dovecot

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/auth"
	"roost/unixsocket"
)

// fake is what another program says on a socket: greeting, then an answer to each line.
type fake struct {
	path  string
	l     net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newFake(t *testing.T, greeting string, answer func(line string) string) *fake {
	t.Helper()
	f := &fake{path: filepath.Join(t.TempDir(), "socket")}
	f.listen(t, greeting, answer)
	t.Cleanup(f.stop)
	return f
}

func (f *fake) listen(t *testing.T, greeting string, answer func(line string) string) {
	t.Helper()
	l, err := unixsocket.Listen(f.path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	f.l = l
	f.wg.Go(func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.wg.Go(func() { // ends with the connection
				defer c.Close()
				fmt.Fprint(c, greeting)
				for s := bufio.NewScanner(c); s.Scan(); {
					if text := answer(s.Text()); text != "" {
						if _, err := fmt.Fprint(c, text); err != nil {
							return
						}
					}
				}
			})
		}
	})
}

func (f *fake) stop() {
	f.l.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

const hello = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n"

func asking(t *testing.T, opt SourceOptions) *auth.Auth {
	t.Helper()
	a, err := auth.New(auth.Options{Sources: []auth.Source{Open(opt)}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

var imap = auth.Attempt{Secure: true, Protocol: "imap"}

// yes lets in whoever has the password "secret".
func yes(text string) string {
	fields := strings.Split(text, "\t")
	if fields[0] != "AUTH" {
		return ""
	}
	resp, _ := decode(strings.TrimPrefix(fields[len(fields)-1], "resp="))
	who := strings.Split(string(resp), "\x00")
	if who[2] == "secret" {
		return line("OK", fields[1], param("user", who[1]))
	}
	return line("FAIL", fields[1], param("user", who[1]))
}

// Roost's own server is one that its client understands.
func TestClientOfServer(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "auth")
	l, err := unixsocket.Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- NewServer(newAuth(t, log), log).Serve(t.Context(), l) }() // ends with the test's context
	t.Cleanup(func() { <-done })
	a := asking(t, SourceOptions{Socket: path})
	for _, c := range []struct {
		user, password, name string
		want                 error
	}{
		{"plain", "secret", "plain", nil}, {"plain", "wrong", "", auth.ErrDenied}, {"nobody", "secret", "", auth.ErrDenied},
		{"plain", "secret\x00", "", auth.ErrDenied}, {"alias", "secret", "plain", nil}, {"closed", "secret", "", auth.ErrDenied},
	} {
		u, err := a.Login(t.Context(), c.user, c.password, imap)
		if !errors.Is(err, c.want) || u.Name != c.name {
			t.Errorf("%s with %q: %+v, %v", c.user, c.password, u, err)
		}
	}
}

// Whatever the other side does, a login ends: refused for now, and let in when the other
// side is well again.
func TestClientOfABadServer(t *testing.T) {
	quiet := func(string) string { return "" }
	for name, c := range map[string]struct {
		greeting string
		answer   func(string) string
		reason   string
	}{
		"says nothing":     {"", quiet, "i/o timeout"},
		"never answers":    {hello, quiet, "no answer within"},
		"another version":  {"VERSION\t2\t0\n", quiet, "another version"},
		"without PLAIN":    {"VERSION\t1\t2\nMECH\tLOGIN\nDONE\n", quiet, "does not take PLAIN"},
		"endless greeting": {strings.Repeat("MECH\tPLAIN\n", 2000), quiet, "no end"},
		"endless line":     {hello, func(string) string { return strings.Repeat("x", 1<<20) }, "connection ended"},
		"temporary":        {hello, func(s string) string { return answerTo(s, "FAIL", "temp", "reason=no database") }, "no database"},
		"challenge":        {hello, func(s string) string { return answerTo(s, "CONT", "AAAA") }, "CONT"},
		"others' numbers":  {hello, func(string) string { return "OK\t99\tuser=ann\nOK\tx\nOK\n" }, "no answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, c.greeting, c.answer)
			opt := SourceOptions{Socket: f.path, Timeout: 20 * time.Second}
			if c.reason == "no answer within" {
				opt.Timeout = 3 * time.Second
			}
			a := asking(t, opt)
			_, err := a.Login(t.Context(), "ann", "secret", imap)
			var r *auth.Refusal
			if !errors.As(err, &r) || !errors.Is(r, auth.ErrUnavailable) || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
	t.Run("restarted", func(t *testing.T) {
		t.Parallel()
		f := newFake(t, hello, yes)
		a := asking(t, SourceOptions{Socket: f.path, Timeout: 20 * time.Second})
		for i := range 3 {
			if _, err := a.Login(t.Context(), fmt.Sprintf("ann%d", i), "secret", imap); err != nil {
				t.Error(i, err)
			}
			f.stop()
			f.conns = nil
			if i == 1 {
				if _, err := a.Login(t.Context(), "ben", "secret", imap); !errors.Is(err, auth.ErrUnavailable) {
					t.Error("while it is away:", err)
				}
			}
			f.listen(t, hello, yes)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		t.Parallel()
		f := newFake(t, hello, yes)
		a := asking(t, SourceOptions{Socket: f.path, Timeout: 20 * time.Second})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if u, err := a.Login(t.Context(), fmt.Sprintf("ann%d", i), "secret", imap); err != nil || u.Name != fmt.Sprintf("ann%d", i) {
					t.Error(u.Name, err)
				}
			})
		}
		wg.Wait()
	})
}

// answerTo answers with the number of a request.
func answerTo(request, verb string, fields ...string) string {
	asked := strings.Split(request, "\t")
	if asked[0] != "AUTH" {
		return ""
	}
	return line(append([]string{verb, asked[1]}, fields...)...)
}
