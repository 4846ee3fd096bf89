package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// When this fails after an upgrade of Go, see tlsInside: connections cost more until its
// names are mended.
func TestTLSInside(t *testing.T) {
	if !tlsInside.known {
		t.Fatal("crypto/tls keeps what it received elsewhere")
	}
	if findTLSInside(reflect.TypeFor[struct{ rawInput, hand bytes.Buffer }]()).known {
		t.Error("a struct without input is taken for a tls.Conn")
	}
}

// dialed is a connection to a listener, as client and server see it.
func dialed(t testing.TB, l net.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// A connection at rest has let go of what a large record needed, and has not when bytes
// are in hand.
func TestTLSLetsGo(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit})
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.opt.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, nc := dialed(t, l)
	go tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Write(make([]byte, 10_000)) // ends with the connection
	conn := nc.(*tls.Conn)
	if _, err := io.ReadFull(conn, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if tlsInside.letGo(conn) {
		t.Fatal("bytes in hand were let go")
	}
	if _, err := io.ReadFull(conn, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if !tlsInside.letGo(conn) {
		t.Fatal("bytes are in hand that nobody sent")
	}
	for _, name := range []string{"rawInput", "hand"} {
		if b := reflect.ValueOf(conn).Elem().FieldByName(name).FieldByName("buf"); b.Cap() != 0 {
			t.Errorf("%s keeps %d bytes", name, b.Cap())
		}
	}
}

// Whatever the pieces in which commands come, none is waited for that is there.
func TestCommandsInAnyPieces(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", Plaintext})
	const n = 40
	for mode := range 2 {
		for _, piece := range []int{1, 5, 63, 64, 65, 127, 128, 1000, 5000} {
			c := s.dial(t, mode)
			c.do("LOGIN ann secret")
			var text strings.Builder
			for i := range n {
				fmt.Fprintf(&text, "t%d NOOP%s\r\n", i, strings.Repeat(" ", i*5))
			}
			go func() { // ends with the text, or the connection
				for all := text.String(); all != ""; {
					k := min(piece, len(all))
					if _, err := io.WriteString(c.Conn, all[:k]); err != nil {
						return
					}
					all = all[k:]
				}
			}()
			for i := range n {
				c.want(fmt.Sprintf("t%d OK", i))
			}
			c.Close()
		}
	}
}

// trickle passes on what it reads a byte at a time.
type trickle struct{ net.Conn }

func (c trickle) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// Records that come byte by byte wake a session that rests, and it waits for the rest.
func TestRecordsThatTrickle(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit})
	nc, err := net.Dial("tcp", s.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.(*net.TCPConn).SetNoDelay(true)
	c := &client{Conn: tls.Client(trickle{nc}, &tls.Config{InsecureSkipVerify: true}), t: t}
	c.r = bufio.NewReader(c.Conn)
	c.want("* OK ")
	c.do("LOGIN ann secret")
	for range 5 {
		c.do("NOOP")
	}
	fmt.Fprint(c, "i IDLE\r\n")
	c.want("+ idling")
	fmt.Fprint(c, "DONE\r\n")
	c.want("i OK")
}

// Memory is given back once, when a burst is over. A process of its own does it: behind
// servers that have run the program's own thrift may take the garbage away first.
func TestThriftGivesBackOnce(t *testing.T) {
	if os.Getenv("ROOST_TEST_THRIFT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestThriftGivesBackOnce$")
		cmd.Env = append(os.Environ(), "ROOST_TEST_THRIFT=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var y thrifty
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would take the garbage away
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	burst = nil
	now := readMemory()
	if !now.worthwhile(0) {
		t.Fatalf("64 MiB of garbage are not worth while: %+v", now)
	}
	begun := time.Now()
	y.give(now)
	if now = readMemory(); now.worthwhile(y.stacks) {
		t.Errorf("worth while again at once: %+v", now)
	}
	if wait := y.next.Sub(begun); wait < thriftMost {
		t.Errorf("the next time may be after %v", wait)
	}
}
