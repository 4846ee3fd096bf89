package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/server/session"
	"roost/store"
	"roost/store/memstore"
)

// logLines is a log whose lines a test waits for.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// until gives the lines up to the first that holds text.
func (l logLines) until(t *testing.T, text string) (lines []string) {
	t.Helper()
	for {
		select {
		case line := <-l:
			if lines = append(lines, line); strings.Contains(line, text) {
				return lines
			}
		case <-time.After(5 * time.Minute): // a watchdog, no measure
			t.Fatalf("no line with %q in\n%s", text, lines)
		}
	}
}

// However a client goes, LOGOUT or not, it is a normal end: one line of level INFO.
func TestEveryEndIsOneLineOfInfo(t *testing.T) {
	lines := make(logLines, 1000)
	log := slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelInfo}))
	mem := memstore.New(time.Now)
	mem.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 1<<20)})
	s := startServer(t, func(o *Options) {
		o.Log = log
		o.Runner = &Local{Store: mem, Options: session.Options{Log: log}}
	}, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", Plaintext})

	tcp := func(c *client) *net.TCPConn {
		if tc, ok := c.Conn.(*tls.Conn); ok {
			return tc.NetConn().(*net.TCPConn)
		}
		return c.Conn.(*net.TCPConn)
	}
	reset := func(c *client) {
		tcp(c).SetLinger(0)
		tcp(c).Close()
	}
	gone := func(c *client) { tcp(c).Close() }
	for _, e := range []struct {
		name, reason string
		end          func(c *client)
	}{
		{"LOGOUT", "reason=logout", func(c *client) { fmt.Fprint(c, "z LOGOUT\r\n"); c.want("z OK"); c.end() }},
		{"LOGOUT and what nobody reads behind it", "reason=logout", func(c *client) {
			fmt.Fprint(c, "z LOGOUT\r\nz2 NOOP\r\nz3 FETCH 1 BODY[]\r\n")
			c.want("z OK")
			c.end()
		}},
		{"LOGOUT, and gone before the answer", "reason=", func(c *client) { fmt.Fprint(c, "z LOGOUT\r\n"); reset(c) }},
		{"the socket is closed", `reason="client closed the connection"`, gone},
		{"the socket is closed as TLS wants it", `reason="client closed the connection"`, func(c *client) { c.Close() }},
		{"RST", "reason=", reset},
		{"RST while idling", "reason=", func(c *client) { fmt.Fprint(c, "i IDLE\r\n"); c.want("+ "); reset(c) }},
		{"closed while idling", `reason="client closed the connection"`, func(c *client) { fmt.Fprint(c, "i IDLE\r\n"); c.want("+ "); gone(c) }},
		{"half closed: what was asked is answered", `reason="client closed the connection"`, func(c *client) {
			fmt.Fprint(c, "n NOOP\r\nf FETCH 1 (UID)\r\n")
			if tc, ok := c.Conn.(*tls.Conn); ok {
				tc.CloseWrite()
			} else {
				tcp(c).CloseWrite()
			}
			c.want("n OK")
			c.want("f OK")
			c.end()
		}},
		{"half closed while idling", `reason="client closed the connection"`, func(c *client) {
			fmt.Fprint(c, "i IDLE\r\n")
			c.want("+ ")
			if tc, ok := c.Conn.(*tls.Conn); ok {
				tc.CloseWrite()
			} else {
				tcp(c).CloseWrite()
			}
			c.end()
		}},
		{"in the middle of a command", `reason="client closed the connection"`, func(c *client) { fmt.Fprint(c, "z FETCH 1"); gone(c) }},
		{"in the middle of a message", `reason="client closed the connection"`, func(c *client) {
			fmt.Fprint(c, "z APPEND INBOX {1000}\r\n")
			c.want("+ ")
			fmt.Fprint(c, "half of it")
			gone(c)
		}},
		{"RST while a message comes", "reason=", func(c *client) {
			fmt.Fprint(c, "z FETCH 1 BODY.PEEK[]\r\n")
			io.ReadFull(c.r, make([]byte, 1<<20))
			reset(c)
		}},
	} {
		for n := range s.listeners {
			name := e.name + ", " + s.listeners[n].String()
			c := s.dial(t, n)
			c.do("LOGIN ann secret")
			c.do("SELECT INBOX")
			lines.until(t, "event=login ")
			e.end(c)
			got := lines.until(t, "event=logout ")
			if len(got) != 1 || !strings.Contains(got[0], "level=INFO") || !strings.Contains(got[0], e.reason) {
				t.Errorf("%s:\n%s", name, got)
			}
		}
	}

	// The same before login.
	for _, e := range []struct {
		name string
		end  func(c *client)
	}{
		{"LOGOUT", func(c *client) { fmt.Fprint(c, "z LOGOUT\r\n"); c.want("z OK"); c.end() }},
		{"closed", gone},
		{"RST", reset},
		{"half closed", func(c *client) { fmt.Fprint(c, "z LOGIN ann"); tcp(c).CloseWrite(); io.ReadAll(c.r) }},
		{"in the middle of SASL", func(c *client) { fmt.Fprint(c, "z AUTHENTICATE PLAIN\r\n"); c.want("+ "); gone(c) }},
	} {
		c := s.dial(t, 1)
		e.end(c)
		got := lines.until(t, "event=leave ")
		if len(got) != 1 || !strings.Contains(got[0], "level=INFO") {
			t.Errorf("%s before login:\n%s", e.name, got)
		}
	}
}

// A peer that is gone without a word is found by the kernel: keepalive is on.
func TestKeepaliveOfSockets(t *testing.T) {
	listeners, err := Listen(t.Context(), []Spec{{"127.0.0.1:0", Plaintext}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listeners[0].Close()
	client, err := net.Dial("tcp", listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listeners[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		idle, err2 := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
		if on != 1 || idle != 600 || err != nil || err2 != nil {
			t.Errorf("keepalive is %d after %d s, %v, %v", on, idle, err, err2)
		}
	})
}

// The defaults let a family behind one router in: 20 connections of a user from an
// address, and the next is told why not.
func TestTwentyConnectionsOfAUser(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Plaintext})
	var last *client
	for range 20 {
		last = s.dial(t, 0)
		last.do("LOGIN ann secret")
	}
	c := s.dial(t, 0)
	fmt.Fprint(c, "a LOGIN ann secret\r\n")
	if got := c.want("a "); !strings.HasPrefix(got, "a NO [LIMIT] ") {
		t.Errorf("the twenty-first: %s", got)
	}
	fmt.Fprint(last, "b LOGOUT\r\n")
	last.want("b OK")
	last.end()
	// The place is free when the end is done, which the client cannot see: it is asked again.
	for got := ""; !strings.HasPrefix(got, "c OK"); {
		fmt.Fprint(c, "c LOGIN ann secret\r\n")
		got = c.want("c ")
	}
}

// Who has logged in does not count for the address, behind which a whole office may be;
// who logs out does not count at all.
func TestLoginFreesThePlaceOfTheAddress(t *testing.T) {
	s := startServer(t, func(o *Options) { o.Limits.PerAddress = 1 }, Spec{"127.0.0.1:0", Plaintext})
	for range 3 {
		s.dial(t, 0).do("LOGIN ann secret")
	}
	guest := s.dial(t, 0)
	nc, err := net.Dial("tcp", s.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &client{nc, t, bufio.NewReader(nc)}
	if got := c.line(); !strings.HasPrefix(got, "* BYE [LIMIT] ") {
		t.Errorf("a second guest is greeted with %q", got)
	}
	guest.do("LOGIN ann secret")
	s.dial(t, 0)
}

// A client that says TLS where there is none, or the other way round, is sent away and
// is no reason for alarm.
func TestWrongProtocol(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", STARTTLS})
	plain, err := net.Dial("tcp", s.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprint(plain, "a LOGIN ann secret\r\n")
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "OK") {
		t.Errorf("%q", b)
	}
	nc, err := net.Dial("tcp", s.listeners[1].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("a handshake without STARTTLS")
	}
	ok := s.dial(t, 1)
	ok.do("NOOP")
	if log := s.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") || strings.Contains(log, "secret") {
		t.Errorf("log:\n%s", log)
	}
}

// An ID of before STARTTLS may be another's: it does not name the client in the log.
// RFC 9051 section 6.2.1
func TestIDOfBeforeTLSIsForgotten(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", STARTTLS})
	c := s.dial(t, 0)
	c.do(`ID ("name" "Mallory" "version" "6")`)
	c.do("STARTTLS")
	c.tls()
	c.do("LOGIN ann secret")
	c.do("LOGOUT")
	s.stop()
	s.wait()
	if log := s.log.String(); strings.Contains(log, "Mallory") || !strings.Contains(log, `event=login user=ann login=ann method=LOGIN tls=true client=""`) {
		t.Errorf("log:\n%s", log)
	}

	s = startServer(t, nil, Spec{"127.0.0.1:0", STARTTLS})
	c = s.dial(t, 0)
	c.do("STARTTLS")
	c.tls()
	c.r = bufio.NewReader(c.Conn)
	c.do(`ID ("name" "Mail" "version" "1.0" "os" "x")`)
	c.do("LOGIN ann secret")
	c.do("LOGOUT")
	s.stop()
	s.wait()
	if log := s.log.String(); !strings.Contains(log, `event=login user=ann login=ann method=LOGIN tls=true client="Mail 1.0"`) {
		t.Errorf("log:\n%s", log)
	}
}
