package acme

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openIssuer(t *testing.T) *Issuer {
	t.Helper()
	i, err := Open(Options{
		Names: []string{"mail.example.org"}, Directory: "https://127.0.0.1:1/dir", Listen: "127.0.0.1:0",
		Dir: filepath.Join(t.TempDir(), "acme"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// The port that is open to everybody answers challenges, and nothing else; without an
// authority there is no certificate, and other names are none of its.
func TestIssuerWithoutAuthority(t *testing.T) {
	i := openIssuer(t)
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/.well-known/acme-challenge/x", "/../../etc/passwd"} {
		r, err := http.Get("http://" + i.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusNotFound || !strings.Contains(string(b), "mail server") {
			t.Errorf("%s: %d %q %v", path, r.StatusCode, b, err)
		}
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	hello := &tls.ClientHelloInfo{Conn: near, ServerName: "Mail.example.org", SupportedVersions: []uint16{tls.VersionTLS13}}
	if c, err := i.Certificate(hello); c != nil || err == nil {
		t.Errorf("a certificate out of nowhere: %v, %v", c, err)
	}
	hello.ServerName = "other.example.org"
	if c, err := i.Certificate(hello); c != nil || err != nil {
		t.Errorf("for a name that is not its: %v, %v", c, err)
	}
	if fi, err := os.Stat(i.opt.Dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", fi, err)
	}
}

// Who opens connections and says nothing gets no more of them than there are places.
func TestChallengesAreLimited(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limit := limited(l)
	defer limit.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var held []net.Conn
	for range maxChallenges {
		dial()
		c, err := limit.Accept()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, _ := limit.Accept() // returns when there is a place, or the listener is closed
		accepted <- c
	}()
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("one too many was not closed")
	}
	held[0].Close()
	dial()
	if c := <-accepted; c == nil {
		t.Error("a place that became free is not given")
	} else {
		c.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	bad := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(bad, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, opt := range map[string]Options{
		"tls.acme.listen": {Listen: busy.Addr().String()},
		"no certificate":  {Listen: "127.0.0.1:0", Roots: bad},
		"no such file":    {Listen: "127.0.0.1:0", Roots: bad + ".none"},
	} {
		opt.Names, opt.Log = []string{"mail.example.org"}, slog.New(slog.DiscardHandler)
		if i, err := Open(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
			if i != nil {
				i.Close()
			}
		}
	}
}
