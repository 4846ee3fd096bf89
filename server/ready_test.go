package server

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
)

// caughtConn keeps what is written, once it is told to.
type caughtConn struct {
	net.Conn
	catch bool
	b     bytes.Buffer
}

func (c *caughtConn) Write(p []byte) (int, error) {
	if c.catch {
		return c.b.Write(p)
	}
	return c.Conn.Write(p)
}

// A connection is ready when a Read would give something, and not for a part of a TLS
// record, wherever the parts are: in the kernel, with what woke a rest, in TLS.
func TestReady(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit})
	for _, secure := range []bool{false, true} {
		for _, rest := range []bool{false, true} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, nc := dialed(t, l)
			below := resting(nc).(*restingConn)
			conn := &heardConn{Conn: below, on: &presence{}}
			caught := &caughtConn{Conn: client}
			var talker io.Writer = caught
			if secure {
				server, c := tls.Server(below, s.opt.TLS), tls.Client(caught, &tls.Config{InsecureSkipVerify: true})
				shaken := make(chan error, 1)
				go func() { shaken <- c.Handshake() }() // ends with the handshake
				if err := server.Handshake(); err != nil {
					t.Fatal(err)
				}
				if err := <-shaken; err != nil {
					t.Fatal(err)
				}
				conn.Conn, talker = server, c
			}
			caught.catch = true
			record := func(text string) []byte {
				if _, err := io.WriteString(talker, text); err != nil {
					t.Fatal(err)
				}
				defer caught.b.Reset()
				return bytes.Clone(caught.b.Bytes())
			}
			arrive := func(b []byte) {
				want := below.arrived(nil) + len(b)
				if _, err := client.Write(b); err != nil {
					t.Fatal(err)
				}
				for below.arrived(nil) != want {
					runtime.Gosched()
				}
			}
			ready := func(want bool, when string) {
				t.Helper()
				if got := conn.Ready(); got != want {
					t.Errorf("TLS %v, rested %v: %s: ready is %v", secure, rest, when, got)
				}
			}
			read := func(n int) {
				t.Helper()
				if _, err := io.ReadFull(conn, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
			}
			ready(false, "nothing came")
			first, second := record("hello"), record("world")
			if secure {
				arrive(first[:3])
				if rest {
					conn.Rest()
				}
				ready(false, "a part of a head")
				arrive(first[3:10])
				ready(false, "a part of a record")
				arrive(first[10 : len(first)-1])
				ready(false, "all but a byte")
				first = first[len(first)-1:]
			}
			arrive(first)
			if rest {
				conn.Rest()
			}
			ready(true, "a whole record")
			read(2)
			ready(true, "a part was read")
			read(3)
			ready(false, "it was read")
			third := record("again")
			arrive(append(second, third[:len(third)-2]...))
			read(5)
			ready(!secure, "one was read, and a part of the next is in hand")
			arrive(third[len(third)-2:])
			ready(true, "and the rest came")
			read(5)
			ready(false, "all was read")
			client.Close()
			below.wait()
			ready(false, "the client is gone")
		}
	}
}
