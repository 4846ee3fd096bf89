package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/auth"
	"roost/server/session"
	"roost/store"
	"roost/store/memstore"
)

// gateUsers are who may log in at a testGate.
const gateUsers = "ann:{PLAIN}secret\nzoe:{PLAIN}secret\nben:{PLAIN}päss \"wörd\\\nlost:{PLAIN}secret\nbroken:{PLAIN}secret\nclosed:{PLAIN}secret::::::nologin reason=Gesperrt\n"

// testGate is a gate whose clients are at pipes, so that it works in a bubble of synctest.
type testGate struct {
	*gate
	arrival arrival // what each connection is like; conn is filled in
	logged  []session.Login
	wg      sync.WaitGroup
	stop    context.CancelCauseFunc
	ctx     context.Context
}

func newTestGate(t testing.TB, limits gateLimits) *testGate {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte(gateUsers), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	a, err := auth.New(auth.Options{File: path, NoWatch: true, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	mail := memstore.New(time.Now)
	g := &testGate{arrival: arrival{id: "1", addr: netip.MustParseAddr("192.0.2.7"), secure: true}}
	g.ctx, g.stop = context.WithCancelCause(context.Background())
	local := &Local{Store: mail, Options: session.Options{Log: quiet, Keepalive: -1}} // pipes hold nothing that is not read
	var mu sync.Mutex
	g.gate = &gate{
		hostname: "mail.example.org",
		product:  []string{"name", "Roost", "version", "1"},
		auth:     a,
		log:      quiet,
		crowd:    &crowd{},
		limits:   limits,
		places: newPlaces(placeLimits{Total: 1000, PerAddress: 1000, PerUserAddress: 3, PerUser: 100,
			MakeRoom: 30 * time.Minute}),
		identity: func(u auth.User) (store.Identity, error) {
			if u.Name == "lost" {
				return store.Identity{}, os.ErrPermission
			}
			return store.Identity{User: u.Name, Login: u.Login, Roots: []store.Root{{}}}, nil
		},
		runner: runnerFunc(func(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
			mu.Lock()
			g.logged = append(g.logged, *in)
			mu.Unlock()
			if in.Who.User == "broken" {
				io.WriteString(stream, in.Tag+" NO [UNAVAILABLE] broken\r\n")
				return &session.Outcome{Unauthenticated: true, Input: in.Input}, nil
			}
			return local.Run(ctx, stream, in)
		}),
	}
	t.Cleanup(func() {
		g.stop(nil)
		g.wg.Wait()
		a.Close()
	})
	return g
}

// dial opens a connection to the gate.
func (g *testGate) dial(string) (net.Conn, error) {
	client, server := net.Pipe()
	a := g.arrival
	ctx, leave := context.WithCancelCause(g.ctx)
	a.conn, a.on = server, &presence{id: a.id, leave: func(why session.Goodbye) { leave(why) }}
	var err error
	if a.seat, err = g.places.connect(a.addr); err != nil {
		return nil, err
	}
	g.wg.Go(func() { // ends with the connection or ctx
		defer leave(nil)
		defer a.seat.leave()
		g.serve(ctx, &a)
	})
	c := &patientConn{Conn: client, out: make(chan []byte, 1000), gone: make(chan struct{})}
	g.wg.Go(c.pump)
	return c, nil
}

// patientConn is a pipe whose Write does not wait for the reader, as a socket's.
type patientConn struct {
	net.Conn
	out  chan []byte
	gone chan struct{}
	once sync.Once
}

func (c *patientConn) Write(p []byte) (int, error) {
	c.out <- append([]byte(nil), p...)
	return len(p), nil
}

// SetWriteDeadline is for those who wait.
func (c *patientConn) SetWriteDeadline(time.Time) error { return nil }

func (c *patientConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// pump writes what was handed to Write. Ends with Close or with the other side.
func (c *patientConn) pump() {
	for {
		select {
		case p := <-c.out:
			if _, err := c.Conn.Write(p); err != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}

// testTLS is a server's and a client's configuration that fit.
var testTLS = sync.OnceValues(func() (serverSide, clientSide *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "mail.example.org"}
})

// say sends text and gives what comes until a line starts with one of ends, or the
// connection ends.
func say(t *testing.T, conn net.Conn, text string, ends ...string) string {
	t.Helper()
	if text != "" { // a pipe would wait for somebody to read nothing
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	var got strings.Builder
	line, one := "", make([]byte, 1)
	for {
		if _, err := conn.Read(one); err != nil {
			return got.String()
		}
		got.Write(one)
		if line += string(one); one[0] != '\n' {
			continue
		}
		if slices.ContainsFunc(ends, func(end string) bool { return strings.HasPrefix(line, end) }) {
			return got.String()
		}
		line = ""
	}
}
