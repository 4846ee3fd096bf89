package attack

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

// What somebody between client and server puts behind STARTTLS, in the clear, is never taken
// for the client's: CVE-2011-0411 and what NO STARTTLS (2021) found of it in most servers.
func TestSTARTTLSInjection(t *testing.T) {
	s := serve(t, "", nil)
	config := &tls.Config{InsecureSkipVerify: true}
	for _, behind := range []string{
		"b NOOP\r\n",
		"b LOGIN ann secret\r\n",
		"b LOGIN {3+}\r\nann {6+}\r\nsecret\r\n",
		"\r\n",
		"b",
		"\x16\x03\x01\x00\x00",
	} {
		for _, starttls := range []string{"a STARTTLS\r\n", "a StartTLS \r\n", "x CAPABILITY\r\na STARTTLS\n"} {
			c := dial(t, s.STARTTLSAddr)
			c.line()
			c.send(starttls + behind)
			rest := c.rest()
			if strings.Contains(rest, "b OK") || strings.Contains(rest, "b NO") || strings.Contains(rest, "a OK") || !strings.Contains(rest, "* BYE ") {
				t.Errorf("%q: %q", starttls+behind, rest)
			}
			c.close()
		}
	}

	// In the place of the handshake.
	c := dial(t, s.STARTTLSAddr)
	c.line()
	c.send("a STARTTLS\r\n")
	if line := c.line(); !strings.HasPrefix(line, "a OK") {
		t.Fatal(line)
	}
	c.send("b LOGIN ann secret\r\nc NOOP\r\n")
	if rest := c.rest(); strings.Contains(rest, "OK") || strings.Contains(rest, "NO") {
		t.Errorf("%q", rest)
	}
	c.close()

	// A literal that reaches beyond STARTTLS: its bytes are the literal's.
	c = dial(t, s.STARTTLSAddr)
	c.line()
	c.send("a ID (\"name\" {14+}\r\nb STARTTLS\r\nc\r\n NIL)\r\nd NOOP\r\n")
	if _, answer := c.until("d"); !strings.HasPrefix(answer, "d OK") {
		t.Errorf("%q", answer)
	}
	c.close()

	// What was said before is forgotten behind it, and nothing comes in between.
	c = dial(t, s.STARTTLSAddr)
	greeting := c.line()
	if !strings.Contains(greeting, "LOGINDISABLED") || strings.Contains(greeting, "AUTH=") {
		t.Errorf("passwords are offered in the clear: %q", greeting)
	}
	for _, command := range []string{"LOGIN ann secret", "LOGIN {3}", "AUTHENTICATE PLAIN", "AUTHENTICATE PLAIN AGFubgBzZWNyZXQ="} {
		c.answered(command, "NO [PRIVACYREQUIRED]")
	}
	c.send("a STARTTLS\r\n")
	if line := c.line(); !strings.HasPrefix(line, "a OK") || c.r.Buffered() > 0 {
		t.Fatalf("%q and %d bytes", line, c.r.Buffered())
	}
	if err := c.secure(config); err != nil {
		t.Fatal(err)
	}
	c.answered("STARTTLS", "BAD")
	if caps := c.ok("CAPABILITY"); strings.Contains(caps, "STARTTLS") || strings.Contains(caps, "LOGINDISABLED") {
		t.Errorf("%q", caps)
	}
	c.ok("LOGIN ann secret")
	c.answered("STARTTLS", "BAD")
	c.close()
}

// pour writes text until the server takes no more, and gives what it answered to its end.
func (c *client) pour(text string, times int) string {
	done := make(chan struct{})
	go func() { // ends when the server has closed the connection, or took all
		defer close(done)
		for range times {
			if _, err := io.WriteString(c.conn, text); err != nil {
				return
			}
		}
	}()
	rest := c.rest()
	c.conn.Close()
	<-done
	return rest
}

// Lines and literals that do not end are told BYE, before login and after, and hold no memory.
func TestWhatDoesNotEnd(t *testing.T) {
	s := serve(t, "", nil)
	mib := strings.Repeat("A", 1<<20)
	for _, c := range []struct {
		name, begin string
		in          bool // after login
	}{
		{"line", "a ", false},
		{"tag", "", false},
		{"quoted string", "a LOGIN \"", false},
		{"literal", "a LOGIN {1000000000+}\r\n", false},
		{"literals", "a LOGIN {1000+}\r\n", false},
		{"SASL response", "a AUTHENTICATE PLAIN\r\n", false},
		{"initial response", "a AUTHENTICATE PLAIN ", false},
		{"ID", "a ID (\"", false},
		{"line in a session", "a ", true},
		{"quoted string in a session", "a SELECT \"", true},
		{"literal in a session", "a SELECT {1000000000+}\r\n", true},
		{"message", "a APPEND INBOX {1000000000+}\r\n", true},
		{"keyword in a session", "a STORE 1 +FLAGS (", true},
		{"set in a session", "a FETCH 1", true},
	} {
		var cl *client
		if c.in {
			cl = s.login("ann")
			if c.name != "message" {
				cl.ok("SELECT INBOX")
			}
		} else {
			cl = s.connect()
		}
		s.attacked(c.name, 24<<20, func() {
			cl.send(c.begin)
			if rest := cl.pour(mib, 200); !strings.Contains(rest, "* BYE ") {
				t.Errorf("%s: %.200q", c.name, rest)
			}
		})
	}
}

// Announcements of literals that cannot be: what is behind them is a command only where the
// client would not have sent the literal.
func TestRefusedLiterals(t *testing.T) {
	s := serve(t, "[limits]\nbad_commands = 1000", nil)
	refused := regexp.MustCompile(`^a (BAD|NO) `)
	for _, in := range []bool{false, true} {
		c := s.connect()
		commands := []string{"LOGIN ann ", "LOGIN ", "ID (\"a\" ", "NOOP ", "FROB ", "AUTHENTICATE PLAIN ", "AUTHENTICATE "}
		if in {
			c.ok("LOGIN ann secret")
			c.ok("SELECT INBOX")
			commands = []string{"SELECT ", "APPEND INBOX ", "APPEND INBOX (\\Seen) ", "SEARCH TEXT ", "SEARCH CHARSET UTF-8 SUBJECT ", "LIST \"\" ", "STATUS ",
				"FETCH 1 BODY[HEADER.FIELDS (", "STORE 1 ", "ID (\"a\" ", "RENAME a ", "FROB ", "SETMETADATA INBOX (/private/comment ", "APPEND INBOX CATENATE (TEXT "}
		}
		for _, command := range commands {
			for _, literal := range []string{
				"{99999999999}", "{4294967296}", "{9223372036854775807}", "{9223372036854775808}", "{18446744073709551616}",
				"{99999999999999999999999999999999999999999}", "{-1}", "{+}", "{}", "{0x10}", "{1 }", "{ 1}", "{1++}", "{1-}", "{1", "{1}x", "{1+}x", "~{-1}",
				"{" + strings.Repeat("9", 5000) + "}",
			} {
				c.send("a " + command + literal + "\r\nb NOOP\r\n")
				// Every one of them is refused at once, and NOOP is a command: nothing was invited.
				_, answer := c.until("a")
				_, next := c.until("b")
				if !refused.MatchString(answer) && !strings.HasPrefix(command, "ID") || !strings.HasPrefix(next, "b OK") {
					t.Errorf("%q: %.100q, then %.100q", command+literal[:min(len(literal), 60)], answer, next)
				}
			}
		}
		c.close()
		for _, literal := range []string{"{99999999999+}", "{9223372036854775807+}", "{9223372036854775808+}", "{18446744073709551616+}", "{99999999999999999999999999999999999999999+}"} {
			// The client says that it sends as much at once: nothing behind is a command.
			c := s.connect()
			command := "LOGIN "
			if in {
				c.ok("LOGIN ann secret")
				command = "SELECT "
			}
			c.send("a " + command + literal + "\r\nb NOOP\r\nc LOGOUT\r\n")
			if rest := c.rest(); strings.Contains(rest, "b OK") || strings.Contains(rest, "c OK") || !strings.Contains(rest, "* BYE ") {
				t.Errorf("%s: %q", literal, rest)
			}
			c.close()
		}
	}
}

// Bytes that are no IMAP at all are told BYE, or BAD.
func TestOtherProtocols(t *testing.T) {
	s := serve(t, "[limits]\nlogin_time = \"1s\"", nil) // for what is not yet too much
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
		"EHLO example.org\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00\r\n", 20),
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 143\r\n",
		"\r\n\r\n\x00\r\nQUIT\r\n" + strings.Repeat("\x00\xff\r\n", 10),
		strings.Repeat("\x00", 100_000),
		strings.Repeat("\r", 100_000),
		strings.Repeat("(", 100_000),
		"* OK hello\r\n* BYE\r\n+ \r\n",
	} {
		for _, addr := range []string{s.PlainAddr, s.STARTTLSAddr} {
			c := dial(t, addr)
			c.line()
			if rest := c.pour(text+"\r\n", 1); !strings.Contains(rest, "* BYE ") && !strings.Contains(rest, " BAD ") {
				t.Errorf("%.40q: %.200q", text, rest)
			}
		}
	}
	// Towards TLS it is the handshake that fails; the next client is served.
	for i := range 50 {
		c := dial(t, s.Addr)
		c.send(fmt.Sprintf("a%d CAPABILITY\r\n", i))
		c.rest()
		c.close()
	}
	conn, err := tls.Dial("tcp", s.Addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		t.Errorf("%q %v", line, err)
	}
}
