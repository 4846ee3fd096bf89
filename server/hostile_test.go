//go:build !race

// The race detector's frames are larger.

package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"roost/auth"
)

// hostile is what a connection does that wants to cost much before it has logged in; it
// is then held open. Each is a thousand times there.
var hostile = map[string]func(c *withheld){
	"silent":    func(c *withheld) {},
	"no TLS":    nil,
	"handshake": nil,
	"response":  func(c *withheld) { c.send("a AUTHENTICATE PLAIN " + strings.Repeat("A", 24540)) },
	"line":      func(c *withheld) { c.send("a LOGIN ann " + strings.Repeat("A", 8100)) },
	"literal": func(c *withheld) {
		c.send("a LOGIN {4096+}\r\n" + strings.Repeat("A", 4096) + " {4096+}\r\n" + strings.Repeat("A", 4000))
	},
	"id": func(c *withheld) { c.send("a ID (" + strings.Repeat(`"" `, 2700)) },
	"record": func(c *withheld) { // one of 16 KiB that does not end
		c.hold = true
		c.send(strings.Repeat("A", 16<<10))
	},
	"response and record": func(c *withheld) {
		c.send("a AUTHENTICATE PLAIN " + strings.Repeat("A", 24540))
		c.hold = true
		c.send(strings.Repeat("A", 16<<10))
	},
	"guess": func(c *withheld) { c.send(fmt.Sprintf("a LOGIN ann guess%d\r\n", c.n)) },
}

// withheld is a client over TLS that can keep the last byte of a write back.
type withheld struct {
	net.Conn
	tls  *tls.Conn
	n    int
	hold bool
}

func (c *withheld) Write(p []byte) (int, error) {
	if c.hold {
		n, err := c.Conn.Write(p[:len(p)-1])
		return n + 1, err
	}
	return c.Conn.Write(p)
}

func (c *withheld) send(text string) { io.WriteString(c.tls, text) }

// A thousand hostile connections to a real server cost at most 64 KiB each, with TLS.
func TestHostileConnectionsMemory(t *testing.T) {
	const clients, limit = 1000, 64 << 10
	if addr := os.Getenv("ROOST_TEST_HOSTILE"); addr != "" {
		hostileClients(t, addr, os.Getenv("ROOST_TEST_HOSTILE_HOW"), clients)
		return
	}
	for how := range hostile {
		t.Run(how, func(t *testing.T) {
			s := startServer(t, func(o *Options) {
				o.Log = slog.New(slog.DiscardHandler) // lines are kept by the test's
				o.Limits.PerAddress, o.Limits.LoginTime = 2*clients, 10*time.Minute
			}, Spec{"127.0.0.1:0", Implicit})
			s.dial(t, 0).do("LOGIN ben s3cretword") // what is made once is there
			before := settledMemory()
			end := s.hostileClients(t, how)
			// It accepts all of them, and ends none by itself.
			for n := 0; s.places.count() < clients+1; n++ {
				if n == 3000 {
					t.Fatalf("%d connections are there", s.places.count()-1)
				}
				time.Sleep(10 * time.Millisecond)
			}
			each := int64(settledMemory()-before) / clients
			// What they said last may be on its way, and stacks shrink by half each time.
			for n := 0; each > limit && n < 20; n++ {
				each = int64(settledMemory()-before) / clients
			}
			t.Logf("%d bytes a connection", each)
			if each > limit {
				t.Errorf("%d bytes a connection, %d are allowed", each, limit)
			}
			end()
		})
	}
}

// count is how many connections there are.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// hostileClients has another process do it, until end is called: what clients cost is not
// counted here.
func (s *testServer) hostileClients(t *testing.T, how string) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostileConnectionsMemory$")
	cmd.Env = append(os.Environ(), "ROOST_TEST_HOSTILE="+s.listeners[0].Addr().String(), "ROOST_TEST_HOSTILE_HOW="+how)
	stdin, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
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

func hostileClients(t *testing.T, addr, how string, n int) {
	for i := range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		switch act := hostile[how]; {
		case how == "handshake": // a ClientHello as large as one can be, but for its end
			io.WriteString(nc, "\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03"+strings.Repeat("A", 16<<10-7-1))
		case act != nil:
			c := &withheld{Conn: nc, n: i}
			c.tls = tls.Client(c, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
			if _, err := c.tls.Read(make([]byte, 1024)); err != nil { // the greeting
				t.Fatal(err)
			}
			act(c)
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// Five hundred slow connections of one address delay nobody else's login: while all of
// them are there, another address logs in again and again.
func TestSlowConnectionsDelayNobodyElse(t *testing.T) {
	begun := time.Now()
	guess := &entering{want: 100, all: make(chan struct{})}
	s := startServer(t, func(o *Options) {
		guess.Auth = o.Auth.(*auth.Auth)
		o.Auth = guess
		o.Limits.PerAddress, o.Limits.LoginTime = 1000, 10*time.Minute
	}, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", Plaintext})
	var slow []net.Conn
	for i := range 500 {
		kind := i % 5
		l := s.listeners[0]
		if kind > 0 {
			l = s.listeners[1]
		}
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		slow = append(slow, nc)
		io.WriteString(nc, []string{
			"\x16\x03\x01\x40\x00\x01\x00", // and no more of the handshake
			"a LOG",
			"a LOGIN ben {6+}\r\nsec",
			fmt.Sprintf("a LOGIN ben guess%d\r\n", i),
			"a AUTHENTICATE PLAIN\r\nAGJ",
		}[kind])
	}
	<-guess.all
	for s.places.count() < len(slow) {
		time.Sleep(time.Millisecond)
	}
	ready := time.Now()
	for i := range 20 {
		nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", s.listeners[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := &client{nc, t, nil}
		c.tls()
		c.want("* OK ")
		user := []string{"ann secret", "ben s3cretword"}[i%2] // ben is whom the others guess at
		c.do("LOGIN " + user)
		c.do("SELECT INBOX")
		c.Close()
	}
	took := time.Since(ready)
	t.Logf("20 logins beside 500 slow connections: %v each", took/20)
	// They were there all the time, and what they guessed was looked at by the budget.
	if n := s.places.count(); n < len(slow) {
		t.Errorf("only %d connections are left", n)
	}
	if n, most := strings.Count(s.log.String(), `reason="wrong password"`), 4+1+int(time.Since(begun)/(7*time.Second)); n > most {
		t.Errorf("%d guesses were looked at, %d are allowed", n, most)
	}
}
