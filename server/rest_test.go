package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
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

// A connection at rest has let go of what a large record needed, and has not when bytes
// are in hand.
func TestTLSLetsGo(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit})
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.opt.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
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

// What an idle session over TLS costs: its heap and its stack, after collections. A fresh
// one has 4 KiB of stack and 8.5 KiB of heap, with what the model store keeps; TLS's
// buffers would be 3.5 KiB more, the next stack 4. One that has appended and fetched a
// megabyte would have 18 KiB of buffers and more.
func TestIdleSessionMemory(t *testing.T) {
	if addr := os.Getenv("ROOST_TEST_IDLE_CLIENTS"); addr != "" {
		idleClients(t, addr, os.Getenv("ROOST_TEST_IDLE_USED") != "")
		return
	}
	if raceEnabled {
		t.Skip("the race detector's frames are larger")
	}
	for used, c := range map[bool]struct{ sessions, limit int64 }{
		false: {300, 14 << 10},
		true:  {60, 20 << 10},
	} {
		t.Run(fmt.Sprintf("used=%t", used), func(t *testing.T) {
			s := startServer(t, func(o *Options) {
				o.Log = slog.New(slog.DiscardHandler) // lines are kept by the test's
				o.Limits.PerUser, o.Limits.PerUserAddress, o.Limits.PerAddress = 500, 500, 500
			}, Spec{"127.0.0.1:0", Implicit})
			first := s.idleClients(t, 1, used)
			before, stack := settledMemory(), stacks()
			all := s.idleClients(t, int(c.sessions), used)
			each := int64(settledMemory()-before) / c.sessions
			t.Logf("%d bytes a session, of which stack %d", each, int64(stacks()-stack)/c.sessions)
			if each > c.limit {
				t.Errorf("%d bytes a session, %d are allowed", each, c.limit)
			}
			all()
			first()
		})
	}
}

// settledMemory is memory after as many collections as a stack needs to shrink.
func settledMemory() (n uint64) {
	for range 5 {
		runtime.GC()
		n = memory()
	}
	return n
}

func stacks() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// idleClients has another process open n sessions that idle, until end is called: what
// clients cost is not counted here.
func (s *testServer) idleClients(t *testing.T, n int, used bool) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestIdleSessionMemory$")
	cmd.Env = append(os.Environ(), "ROOST_TEST_IDLE_CLIENTS="+s.listeners[0].Addr().String(), "ROOST_TEST_IDLE_N="+strconv.Itoa(n))
	if used {
		cmd.Env = append(cmd.Env, "ROOST_TEST_IDLE_USED=1")
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		stdin.Close()
		cmd.Wait()
	}
	t.Cleanup(end)
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatal(l, err)
	}
	return end
}

// idleClients is the other process.
func idleClients(t *testing.T, addr string, used bool) {
	n, _ := strconv.Atoi(os.Getenv("ROOST_TEST_IDLE_N"))
	text := strings.Repeat(strings.Repeat("x", 78)+"\r\n", 1<<20/80)
	for range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{nc, t, nil}
		c.tls()
		c.want("* OK ")
		c.do("LOGIN ann secret")
		c.do("SELECT INBOX")
		if used {
			fmt.Fprintf(c, "b APPEND INBOX {%d+}\r\n%s\r\n", len(text), text)
			c.want("b OK")
			fmt.Fprint(c, "f FETCH * BODY[]\r\n")
			for l := ""; !strings.HasPrefix(l, "f OK"); {
				l = c.line()
			}
			c.do("STORE 1:* +FLAGS.SILENT (\\Deleted)")
			c.do("EXPUNGE")
		}
		fmt.Fprint(c, "i IDLE\r\n")
		c.want("+ idling")
		defer c.Close()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// Memory is given back once, when a burst is over.
func TestThriftGivesBackOnce(t *testing.T) {
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
	y.give(now)
	if now = readMemory(); now.worthwhile(y.stacks) {
		t.Errorf("worth while again at once: %+v", now)
	}
	if wait := time.Until(y.next); wait <= 0 {
		t.Errorf("the next time may be %v", wait)
	}
}
