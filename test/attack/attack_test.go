// Package attack sends the real program what a hostile client, a hostile sender of mail or
// somebody with a shell on the machine could send it, over real sockets. Beside each
// attack another user's session goes on, and afterwards three things are looked at: what
// the attacker was answered, the memory that the server held at most, and the processor
// time that it spent. A time by the clock is nowhere a limit: the clock of the process is
// what is asked, and mostly only whether twice the input costs about twice as much.
package attack

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/test/neighbour"
	"roost/test/usage"
)

var roostBin string // the program under attack, built once

func TestMain(m *testing.M) {
	dir, remove, err := neighbour.TempDir()
	if err == nil {
		roostBin, err = neighbour.BuildRoost(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	remove()
	os.Exit(code)
}

// patience is when a wait is called stuck: a watchdog, no measure.
const patience = 5 * time.Minute

const password = "secret"

// server is a Roost of its own with mail in mail/USER/Maildir, for the users ann, who
// attacks or is attacked, and bea, who stands by.
type server struct {
	*neighbour.Roost
	t    *testing.T
	dir  string
	mail string
}

// serve starts a server; extra are further lines of the configuration, of [mail] first.
func serve(t *testing.T, extra string, users map[string]string) *server {
	t.Helper()
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	s := &server{t: t, dir: dir, mail: filepath.Join(dir, "mail")}
	if err := os.MkdirAll(s.mail, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(s.mail); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"ann": password, "bea": password}
	for name, pass := range users {
		all[name] = pass
	}
	s.Roost, err = neighbour.StartRoost(neighbour.RoostOptions{
		Bin: roostBin, Dir: filepath.Join(dir, "server"), Location: s.mail + "/%n/Maildir", Extra: extra, Users: all,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("the server did not end in order: %v", err)
		}
		if log := s.Log(); strings.Contains(log, "panic") || strings.Contains(log, "SERVERBUG") {
			t.Errorf("the log of the server:\n%s", log)
		}
	})
	return s
}

// maildir is the tree of a user, which the first login makes.
func (s *server) maildir(user string) string { return filepath.Join(s.mail, user, "Maildir") }

// deliver puts a file into a user's INBOX, as an MTA does.
func (s *server) deliver(user, name, text string) {
	s.t.Helper()
	file := filepath.Join(s.maildir(user), "new", name)
	tmp := filepath.Join(s.maildir(user), "tmp", name)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := neighbour.Own(tmp); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		s.t.Fatal(err)
	}
}

// cpu is the processor time that the server has used so far.
func (s *server) cpu() time.Duration {
	s.t.Helper()
	return usage.Of(s.t, s.PID())
}

// spent is the processor time of work.
func (s *server) spent(work func()) time.Duration {
	s.t.Helper()
	before := s.cpu()
	work()
	return s.cpu() - before
}

// peak is the most memory in bytes that the server held at once during work, beyond what
// it held before.
func (s *server) peak(work func()) int64 {
	s.t.Helper()
	before := s.memory("VmRSS")
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0); err != nil {
		s.t.Skipf("kernel: the peak of a process cannot be reset: %v", err)
	}
	work()
	return s.memory("VmHWM") - before
}

func (s *server) memory(line string) int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	for l := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return kib << 10
		}
	}
	s.t.Fatalf("no %s in %s", line, status)
	return 0
}

// attacked runs an attack beside a session of bea, and says how much processor time it took the server.
// The bystander's commands must all be answered, some of them before the attack is over
// where that takes long, and the memory that is held at most must stay below limit.
func (s *server) attacked(name string, limit int64, attack func()) time.Duration {
	s.t.Helper()
	by := s.login("bea")
	defer by.close()
	by.ok("SELECT INBOX")
	var over atomic.Bool
	var waits []time.Duration
	during := 0
	done := make(chan error, 1)
	go func() { // ends when the attack is over
		for len(waits) == 0 || !over.Load() {
			start := time.Now()
			if err := by.try("NOOP"); err != nil {
				done <- err
				return
			}
			waits = append(waits, time.Since(start))
			if !over.Load() {
				during++
			}
			time.Sleep(time.Millisecond) // what is measured is the answer, not how many there are
		}
		done <- nil
	}()
	var cost time.Duration
	held := s.peak(func() { cost = s.spent(attack) })
	over.Store(true)
	if err := <-done; err != nil {
		s.t.Errorf("%s: the bystander: %v", name, err)
	}
	if held > limit {
		s.t.Errorf("%s: the server held %d MiB more than before, at most %d were expected", name, held>>20, limit>>20)
	}
	if cost > 2*time.Second && during < 3 {
		s.t.Errorf("%s: in %v of work the bystander had %d answers", name, cost, during)
	}
	slices.Sort(waits)
	s.t.Logf("%s: %v of processor time, %d KiB; the bystander's NOOP: %d, p99 %v", name,
		cost.Round(time.Millisecond), held>>10, len(waits), waits[len(waits)*99/100].Round(time.Microsecond))
	return cost
}

// linear fails where four times the input costs much more than four times the processor
// time. The least of a few rounds is compared, for what disturbs a round adds to it; where
// it is too much, of more rounds. What is too little to be measured passes.
func (s *server) linear(name string, n int, attack func(n int)) {
	s.t.Helper()
	one, four := time.Duration(1<<63-1), time.Duration(1<<63-1)
	dear := func() bool { return four > 9*one+100*time.Millisecond }
	for round := 0; round < 3 || round < 20 && dear(); round++ {
		one = min(one, s.spent(func() { attack(n) }))
		four = min(four, s.spent(func() { attack(4 * n) }))
	}
	if dear() {
		s.t.Errorf("%s: %d cost %v, %d cost %v", name, n, one, 4*n, four)
	}
	s.t.Logf("%s: %d cost %v, %d cost %v", name, n, one.Round(time.Microsecond), 4*n, four.Round(time.Microsecond))
}

// client says whatever it likes.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	tag  int
}

// dial connects to a socket of the server and reads no greeting.
func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return over(t, conn)
}

// over is a client on a connection.
func over(t *testing.T, conn net.Conn) *client {
	return &client{t: t, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
}

// connect is dial, with the greeting, to the socket where passwords may be sent.
func (s *server) connect() *client {
	s.t.Helper()
	c := dial(s.t, s.PlainAddr)
	c.line()
	return c
}

// from is connect from another network of loopback.
func (s *server) from(network byte) *client {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 8, network, 8)}}
	conn, err := d.Dial("tcp", s.PlainAddr)
	if err != nil {
		s.t.Fatal(err)
	}
	c := over(s.t, conn)
	c.line()
	return c
}

// login is connect, logged in.
func (s *server) login(user string) *client {
	s.t.Helper()
	c := s.connect()
	c.ok("LOGIN " + user + " " + password)
	return c
}

// secure puts TLS on the connection.
func (c *client) secure(config *tls.Config) error {
	conn := tls.Client(c.conn, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

func (c *client) close() { c.conn.Close() }

// send writes bytes as they are.
func (c *client) send(text string) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one line, "" at the end of the connection.
func (c *client) line() string {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(patience))
	line, err := c.r.ReadString('\n')
	if err != nil && line != "" {
		c.t.Fatalf("%v after %q", err, line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// rest reads to the end of the connection.
func (c *client) rest() string {
	c.conn.SetDeadline(time.Now().Add(patience))
	b, _ := io.ReadAll(c.r) // a connection may end by a reset
	return string(b)
}

// until reads to the answer of a tag, of long answers only the beginning: "" when the
// connection ended before.
func (c *client) until(tag string) (untagged, answer string) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	for {
		piece, err := c.r.ReadSlice('\n')
		whole := err == nil
		if err == bufio.ErrBufferFull {
			err = nil
		}
		if err != nil {
			c.t.Logf("connection ended (%v) after %.200q", err, b.String())
			return b.String(), ""
		}
		if strings.HasPrefix(string(piece), tag+" ") || strings.HasPrefix(string(piece), "+ ") {
			return b.String(), strings.TrimRight(string(piece), "\r\n")
		}
		if b.Len() < 1<<20 {
			b.Write(piece)
		}
		for !whole { // what is in a long line is no answer
			more, err := c.r.ReadSlice('\n')
			if b.Len() < 1<<20 {
				b.Write(more)
			}
			if err == nil {
				whole = true
			} else if err != bufio.ErrBufferFull {
				return b.String(), ""
			}
		}
	}
}

// do sends a command and gives its answer.
func (c *client) do(command string) (untagged, answer string) {
	c.t.Helper()
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	c.send(tag + " " + command + "\r\n")
	untagged, answer = c.until(tag)
	return untagged, strings.TrimPrefix(answer, tag+" ")
}

// ok is do for a command that must succeed.
func (c *client) ok(command string) string {
	c.t.Helper()
	untagged, answer := c.do(command)
	if !strings.HasPrefix(answer, "OK") {
		c.t.Fatalf("%.80q: %q", command, answer)
	}
	return untagged
}

// try is ok for other goroutines than the test's.
func (c *client) try(command string) error {
	c.tag++
	tag := "t" + strconv.Itoa(c.tag)
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c.conn, "%s %s\r\n", tag, command); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return fmt.Errorf("%s: %q", command, line)
			}
			return nil
		}
	}
}

// answered fails unless the answer to a command begins with one of want.
func (c *client) answered(command string, want ...string) (untagged string) {
	c.t.Helper()
	untagged, answer := c.do(command)
	for _, w := range want {
		if strings.HasPrefix(answer, w) {
			return untagged
		}
	}
	c.t.Errorf("%.80q (%d bytes): answered %.200q, want %q", command, len(command), answer, want)
	return untagged
}
