package server

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/auth"
	"roost/server/session"
	"roost/test/talk"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// What clients say before their login, each dialogue with a gate of its own.
func TestPrelogin(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name  string
		plain bool // no TLS
		talk  string
	}{
		{name: "greeting and capability", talk: `
A< * OK [CAPABILITY IMAP4rev1 IMAP4rev2 ...SASL-IR...AUTH=PLAIN AUTH=LOGIN] mail.example.org ...
A> a1 CAPABILITY
A< * CAPABILITY IMAP4rev1 IMAP4rev2 ... AUTH=PLAIN AUTH=LOGIN
A> a2 NOOP
A> a3 LOGOUT
A< * BYE ...
A< then
A< a3 OK ...
A< EOF`},
		// RFC 9051 section 6.2.3: no password in the clear, nor asked for.
		{name: "no password in the clear", plain: true, talk: `
A< * OK [CAPABILITY ...STARTTLS LOGINDISABLED] ...
A> a1 LOGIN ann secret
A< a1 NO [PRIVACYREQUIRED] ...
A> a2 LOGIN ann {6}
A< a2 NO [PRIVACYREQUIRED] ...
A> a3 AUTHENTICATE PLAIN
A< a3 NO [PRIVACYREQUIRED] ...
A> a4 AUTHENTICATE PLAIN ` + b64("\x00ann\x00secret") + `
A< a4 NO [PRIVACYREQUIRED] ...
A> a5 NOOP`},
		{name: "login", talk: `
A> a1 LOGIN ann secret
A< a1 OK [CAPABILITY IMAP4rev1 ...] ...
A> a2 SELECT INBOX
A< ...`},
		{name: "login by literals, and pipelined commands behind", talk: `
A> a1 LOGIN {3}
A< + ...
A> ann {6}
A< + ...
A>> "secret\r\na2 NOOP\r\n"
A>| a3 LOGOUT
A< a1 OK ...
A< a2 OK ...
A< * BYE ...
A< a3 OK ...
A< EOF`},
		{name: "pipelined from the start", talk: `
A>> "a1 CAPABILITY\r\na2 LOGIN ann secret\r\na3 NOOP\r\n"
A< * CAPABILITY ...
A< a1 OK ...
A< then
A< a2 OK ...
A< then
A< a3 OK ...`},
		{name: "login quoted", talk: `
A> a1 LOGIN "Ben" "päss \"wörd\\"
A< a1 OK ...`},
		{name: "login with LITERAL+", talk: `
A>> "a1 LOGIN {3+}\r\nann {6+}\r\nsecret\r\n"
A< a1 OK ...`},
		// The bytes of a literal that is too long are no commands.
		{name: "literal too long", talk: `
A>> "a1 LOGIN ann {5000+}\r\n` + long[:4900] + `\r\nx LOGOUT\r\n` + strings.Repeat("y", 88) + `\r\na2 NOOP\r\n"
A< a1 BAD ...
A< a2 OK ...
A> a3 LOGIN ann {5000}
A< a3 BAD ...
A> a4 NOOP`},
		{name: "line too long", talk: `
A> a1 LOGIN ann ` + long + long + `
A< a1 BAD ...
A> a2 NOOP`},
		{name: "line too long to skip", talk: `
A>> "a1 LOGIN ann ` + strings.Repeat(long, 16) + `\r\na2 NOOP\r\n"
A< * BYE Command is too long
A< EOF`},
		{name: "literal too long to skip", talk: `
A>> "a1 LOGIN ann {70000+}\r\n"
A< * BYE Command is too long
A< EOF`},
		{name: "wrong password", talk: `
A> a1 LOGIN ann wrong
A< a1 NO [AUTHENTICATIONFAILED] Authentication failed
A> a2 LOGIN nobody wrong
A< a2 NO [AUTHENTICATIONFAILED] Authentication failed
A> a3 LOGIN closed secret
A< a3 NO [UNAVAILABLE] Gesperrt
A> a4 LOGIN ann secret`},
		{name: "authenticate plain", talk: `
A> a1 AUTHENTICATE plain
A< + 
A> ` + b64("\x00ann\x00secret") + `
A< a1 OK [CAPABILITY ...] ...`},
		{name: "authenticate plain at once", talk: `
A> a1 AUTHENTICATE PLAIN ` + b64("\x00ann\x00secret") + `
A< a1 OK ...`},
		{name: "authenticate login", talk: `
A> a1 AUTHENTICATE LOGIN
A< + VXNlcm5hbWU6
A> ` + b64("ann") + `
A< + UGFzc3dvcmQ6
A> ` + b64("secret") + `
A< a1 OK ...`},
		{name: "authenticate login, name at once", talk: `
A> a1 AUTHENTICATE LOGIN ` + b64("ann") + `
A< + UGFzc3dvcmQ6
A> ` + b64("secret") + `
A< a1 OK ...`},
		// RFC 9051 section 6.2.2; each is a BAD, so each has its connection.
		{name: "cancel", talk: `
A> a1 AUTHENTICATE PLAIN
A< + 
A> *
A< a1 BAD ...cancelled...
A> a2 AUTHENTICATE PLAIN
A< + 
A> *
A< a2 BAD ...
A> a3 AUTHENTICATE PLAIN
A< + 
A> *
A< a3 BAD ...
A> a4 AUTHENTICATE PLAIN
A< + 
A> *
A< a4 BAD ...
A> a5 NOOP`},
		{name: "eM Client leaves an exchange by its next command", talk: `
A> a1 AUTHENTICATE PLAIN
A< + 
A> A2 LOGOUT
A< a1 BAD ...base64...
A> a3 LOGIN ann secret`},
		{name: "empty initial response", talk: `
A> a1 AUTHENTICATE PLAIN =
A< a1 BAD ...
A> a2 AUTHENTICATE LOGIN =
A< + VXNlcm5hbWU6
A> *
A< a2 BAD ...
A> a3 NOOP`},
		{name: "empty response line", talk: `
A> a1 AUTHENTICATE PLAIN
A< + 
A>> "\r\n"
A< a1 BAD PLAIN wants...
A> a2 NOOP`},
		{name: "bad base64", talk: `
A> a1 AUTHENTICATE PLAIN =AAA
A< a1 BAD ...base64...
A> a2 AUTHENTICATE PLAIN AAA=BBB=
A< a2 BAD ...base64...
A> a3 NOOP`},
		{name: "base64 cut off", talk: `
A> a1 AUTHENTICATE PLAIN AAAAA
A< a1 BAD ...base64...
A> a2 NOOP`},
		{name: "unknown mechanism", talk: `
A> a1 AUTHENTICATE CRAM-MD5 biwsbj1hbm4=
A< a1 NO ...
A> a2 NOOP`},
		{name: "SCRAM that is no message of it", talk: `
A> a1 AUTHENTICATE SCRAM-SHA-256 biwsbj1hbm4=
A< a1 BAD ...
A> a2 NOOP`},
		{name: "SCRAM broken off", talk: `
A> a1 AUTHENTICATE SCRAM-SHA-256
A< + 
A> biwsbj1hbm4scj1hYmM=
A< + ...
A> *
A< a1 BAD ...
A> a2 NOOP`},
		{name: "another's mail", talk: `
A> a1 AUTHENTICATE PLAIN ` + b64("ben\x00ann\x00secret") + `
A< a1 NO [AUTHORIZATIONFAILED] ...
A> a2 AUTHENTICATE PLAIN ` + b64("ben\x00ann\x00wrong") + `
A< a2 NO [AUTHENTICATIONFAILED] ...`},
		{name: "Wino Mail sends COMPRESS before its login, others ENABLE", talk: `
A> a1 COMPRESS DEFLATE
A< a1 BAD ...
A> a2 ENABLE UTF8=ACCEPT
A< a2 BAD ...
A> a3 LOGIN ann secret`},
		// How clients begin: spec and order as they were seen on the wire.
		{name: "iOS and macOS Mail", talk: `
A< * OK [CAPABILITY ...AUTH=PLAIN...] ...
A> 1 CAPABILITY
A< * CAPABILITY ...
A> 2 AUTHENTICATE PLAIN ` + b64("\x00ann\x00secret") + `
A< 2 OK [CAPABILITY ...] ...
A> 3 ID ("name" "iPhone Mail" "version" "22C152" "os" "iOS" "os-version" "18.2 (22C152)" "date" NIL)
A< * ID (...)
A> 4 LIST "" ""
A< * LIST (\Noselect) "/" ""
A> 5 LIST "" "*"
A< * LIST (\HasNoChildren) "/" INBOX
A> 6 SELECT INBOX
A< ...
A> 7 UID SEARCH 1:* NOT DELETED
A< * SEARCH
B> 1 AUTHENTICATE PLAIN ` + b64("\x00ann\x00secret") + `
B< 1 OK [CAPABILITY ...] ...`},
		{name: "offlineimap", talk: `
A> a1 CAPABILITY
A< * CAPABILITY ... SASL-IR ...
A> a2 ID ("name" "OfflineIMAP" "version" "8.0.0" "vendor" "OfflineIMAP Team")
A< * ID (...)
A> a3 AUTHENTICATE PLAIN
A< + 
A> ` + b64("\x00ann\x00secret") + `
A< a3 OK ...
A> a4 CAPABILITY
A< * CAPABILITY ...
A> a5 LIST "" ""
A< * LIST (\Noselect) "/" ""`},
		{name: "imapflow", talk: `
A> 1 ID ("name" "imapflow" "version" "2.10.2" "vendor" NIL)
A< * ID (...)
A> 2 AUTHENTICATE PLAIN
A< + 
A> ` + b64("\x00ann\x00secret") + `
A< 2 OK ...
A> 3 ID ("name" "imapflow" "version" "2.10.2" "vendor" NIL)
A< * ID (...)
A> 4 NAMESPACE
A< * NAMESPACE (("" "/")) NIL NIL`},
		{name: "mutt and neomutt", talk: `
A> a0000 CAPABILITY
A< * CAPABILITY ...
A>> "a0001 AUTHENTICATE PLAIN ` + b64("ann\x00ann\x00secret") + `\r\na0002 CAPABILITY\r\na0003 ENABLE UTF8=ACCEPT\r\na0004 LIST \"\" \"\"\r\n"
A< a0001 OK ...
A< * CAPABILITY ...
A< a0002 OK ...
A< * ENABLED UTF8=ACCEPT
A< a0003 OK ...
A< * LIST (\Noselect) "/" ""
A< a0004 OK ...`},
		{name: "mbsync", talk: `
A> 1 CAPABILITY
A< * CAPABILITY ...
A> 2 LOGIN "ann" "secret"
A< 2 OK [CAPABILITY ...] ...
A> 3 NAMESPACE
A< * NAMESPACE (("" "/")) NIL NIL`},
		{name: "getmail and imaplib", talk: `
A> AAAA0 CAPABILITY
A< * CAPABILITY ...
A> AAAA1 CAPABILITY
A< * CAPABILITY ...
A> AAAA2 LOGIN ann "secret"
A< AAAA2 OK ...
A> AAAA3 CAPABILITY
A< * CAPABILITY ...`},
		{name: "Outlook", talk: `
A> c1 CAPABILITY
A< * CAPABILITY IMAP4rev1 ...
A> c2 LOGIN "ann" "secret"
A< c2 OK [CAPABILITY IMAP4rev1 ...] ...
A> c3 CAPABILITY
A< * CAPABILITY IMAP4rev1 ...`},
		{name: "BlackBerry looks for IDLE in the greeting alone", talk: `
A< * OK [CAPABILITY ... IDLE ...] ...
A> 1 NOOP`},
		{name: "a line end in front of commands", talk: `
A>> "\r\n\r\n1.1 CAPABILITY\r\n\r\n2.1 LOGIN ann secret\r\n\r\n3.1 NOOP\r\n"
A< * CAPABILITY ...
A< 1.1 OK ...
A< 2.1 OK ...
A< 3.1 OK ...`},
		{name: "commands behind the data of AUTHENTICATE", talk: `
A>> "a1 AUTHENTICATE PLAIN\r\n` + b64("\x00ann\x00secret") + `\r\na2 NOOP\r\na3 LOGOUT\r\n"
A< + 
A< a1 OK ...
A< a2 OK ...
A< * BYE ...
A< a3 OK ...
A< EOF`},
		{name: "a tag that is none", talk: `
A>> "a+b NOOP\r\n"
A< * BAD ...
A> c NOOP`},
		{name: "three bad commands", talk: `
A> GET / HTTP/1.1
A< GET BAD ...
A>> "\"x\r\n"
A< * BAD ...
A>> "a3 SELECT INBOX\r\n"
A< a3 BAD ...
A< then
A< * BYE Too many bad commands
A< EOF`},
		{name: "id", talk: `
A> a1 ID ("name" "iPhone Mail" "version" "22A3354" "os" NIL)
A< * ID ("name" "Roost" "version" "1")
A> a2 ID NIL
A< * ID ("name" "Roost" "version" "1")
A> a3 ID ()
A< * ID ("name" "Roost" "version" "1")
A> a4 ID ("name")
A< * ID ("name" "Roost" "version" "1")
A> a5 ID foo
A< a5 BAD ...
A> a6 LOGIN ann secret`},
		{name: "starttls over TLS", talk: `
A> a1 STARTTLS
A< a1 BAD ...
A> a2 NOOP`},
		{name: "mail that cannot be found", talk: `
A> a1 LOGIN lost secret
A< a1 NO [UNAVAILABLE] ...
A> a2 LOGIN ann secret`},
		{name: "account that cannot be opened", talk: `
A>> "a1 LOGIN broken secret\r\na2 NOOP\r\na3 LOGIN ann secret\r\n"
A< a1 NO [UNAVAILABLE] broken
A< a2 OK ...
A< a3 OK [CAPABILITY ...] ...`},
		{name: "connections of a user", talk: `
A> a LOGIN ann secret
B> b LOGIN ann secret
C> c LOGIN ann secret
D> d LOGIN ann secret
D< d NO [LIMIT] ...
D> d2 NOOP
! close B
! settle
D> d3 LOGIN ann secret`},
		// Phones leave idle connections behind; who says something now and then stays.
		{name: "room is made", talk: `
A> a LOGIN ann secret
A> a2 IDLE
A< + ...
B> b LOGIN ann secret
C> c LOGIN ann secret
C> c2 IDLE
C< + ...
! sleep 29m
B> b2 NOOP
! sleep 59s
D> d LOGIN ann secret
D< d NO [LIMIT] ...
! sleep 1s
E> e LOGIN ann secret
A< ...
A< * BYE Closed to make room for a new connection
A< EOF
B> b3 NOOP
F> f LOGIN ann secret
C< ...
C< * BYE Closed to make room for a new connection
C< EOF
D> d2 LOGIN ann secret
D< d2 NO [LIMIT] ...
E> e2 NOOP
F> f2 NOOP
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTestGate(t, gateLimits{})
				if c.plain {
					g.arrival.secure = false
					g.arrival.tls, _ = testTLS()
				}
				talk.Run(t, c.talk, talk.Options{
					Dial:     g.dial,
					Greeting: true,
					Hooks: map[string]func([]string) error{
						"settle": func([]string) error { synctest.Wait(); return nil },
						"sleep": func(args []string) error {
							d, err := time.ParseDuration(args[0])
							time.Sleep(d)
							return err
						},
					},
				})
			})
		})
	}
}

// Bytes of literals are data before login too, wherever they stand.
func TestBytesOfLiteralsAreNeverCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(t, gateLimits{BadCommands: 1 << 30, Time: 1000 * time.Hour})
		const inside = "\r\nz1 LOGIN ann secret\r\nz2 LOGOUT\r\n"
		arguments := []string{"", "ann", "PLAIN", `("name"`, `("name" "x"`, "ann wrong", `"`}
		forms := []string{"{%d}", "{%d+}", "~{%d}", "~{%d+}", "({%d+}", "x{%d+}", "{%d+}{%d+}"}
		for _, name := range []string{"CAPABILITY", "NOOP", "LOGOUT", "ID", "STARTTLS", "LOGIN", "AUTHENTICATE", "ENABLE", "SELECT", "APPEND", "FROB", ""} {
			conn, _ := g.dial("")
			say(t, conn, "", "* OK")
			for _, args := range arguments {
				for _, form := range forms {
					line := "a " + name + " " + strings.TrimLeft(args+" ", " ") + strings.ReplaceAll(form, "%d", strconv.Itoa(len(inside)))
					var got string
					if strings.Contains(form, "+") {
						got = say(t, conn, line+"\r\n"+inside+"\r\n", "a ", "* BAD")
					} else if got = say(t, conn, line+"\r\n", "a ", "* BAD", "+"); strings.HasPrefix(got, "+") {
						got += say(t, conn, inside+"\r\n", "a ", "* BAD")
					}
					got += say(t, conn, "b NOOP\r\n", "b ")
					if !strings.Contains(got, "\nb OK") || strings.HasPrefix(got, "z") || strings.Contains(got, "\nz") {
						t.Fatalf("%q: %q", line, got)
					}
				}
			}
			conn.Close()
		}
	})
}

// STARTTLS begins TLS, and nothing of before counts: RFC 9051 section 6.2.1.
func TestStartTLS(t *testing.T) {
	g := newTestGate(t, gateLimits{})
	var clientTLS *tls.Config
	g.arrival.secure = false
	g.arrival.tls, clientTLS = testTLS()
	conn, err := g.dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say(t, conn, "", "* OK")
	say(t, conn, "a1 STARTTLS\r\n", "a1 OK")
	secured := tls.Client(conn, clientTLS)
	if got := say(t, secured, "a2 CAPABILITY\r\n", "a2"); strings.Contains(got, "STARTTLS") || strings.Contains(got, "LOGINDISABLED") || !strings.Contains(got, "AUTH=PLAIN") {
		t.Errorf("after TLS: %q", got)
	}
	if got := say(t, secured, "a3 STARTTLS\r\n", "a3"); !strings.HasPrefix(got, "a3 BAD") {
		t.Errorf("a second time: %q", got)
	}
	if got := say(t, secured, "a4 LOGIN ann secret\r\n", "a4"); !strings.HasPrefix(got, "a4 OK") {
		t.Errorf("login: %q", got)
	}
	say(t, secured, "a5 LOGOUT\r\n", "a5")
	conn.Close()
	g.wg.Wait()
	if in := g.logged[0]; !in.Secure || len(in.Input) > 0 {
		t.Errorf("%+v", in)
	}
}

// What somebody else put behind STARTTLS never runs: CVE-2011-0411 and its kin.
func TestStartTLSInjection(t *testing.T) {
	g := newTestGate(t, gateLimits{})
	g.arrival.secure = false
	g.arrival.tls, _ = testTLS()
	conn, err := g.dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say(t, conn, "", "* OK")
	got := say(t, conn, "a1 STARTTLS\r\na2 NOOP\r\n", "never")
	if strings.Contains(got, "a1 OK") || strings.Contains(got, "a2") || !strings.HasPrefix(got, "* BYE") {
		t.Errorf("%q", got)
	}
}

// Whatever trickles in, the login has its time and no more.
func TestLoginTime(t *testing.T) {
	for _, text := range []string{"", "a1 NOOP\r\n", "a1 LOGIN ann", "a1 LOGIN ann {6}\r\n", "a1 AUTHENTICATE PLAIN\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			g := newTestGate(t, gateLimits{})
			start := time.Now()
			conn, _ := g.dial("")
			defer conn.Close()
			go func() { // ends with the connection
				io.WriteString(conn, text)
				for g.ctx.Err() == nil && time.Since(start) < time.Minute {
					time.Sleep(time.Second)
					io.WriteString(conn, "A")
				}
			}()
			got := say(t, conn, "", "never")
			if took := time.Since(start); took != 30*time.Second || !strings.HasSuffix(got, "* BYE Login took too long\r\n") {
				t.Errorf("%q: after %v: %q", text, took, got)
			}
			time.Sleep(time.Minute)
		})
	}
}

// The server's end is told to those who have not logged in.
func TestShutdownBeforeLogin(t *testing.T) {
	for _, text := range []string{"", "a1 LOGIN ann {6}\r\n", "a1 LOGIN ann wrong\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			g := newTestGate(t, gateLimits{})
			conn, _ := g.dial("")
			defer conn.Close()
			io.WriteString(conn, text)
			go func() {
				synctest.Wait()
				g.stop(session.Goodbye("Gone for lunch"))
			}()
			if got := say(t, conn, "", "never"); !strings.HasSuffix(got, "* BYE Gone for lunch\r\n") {
				t.Errorf("%q: %q", text, got)
			}
		})
	}
}

// A response of OAuth's length is taken; the memory for a longer one is not spent.
func TestLongResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(t, gateLimits{})
		fits := b64("\x00ann\x00" + strings.Repeat("x", 18000)) // 24,007 bytes
		for _, c := range []struct{ text, want string }{
			{"a1 AUTHENTICATE PLAIN " + fits + "\r\n", "a1 NO"},
			{"a1 AUTHENTICATE PLAIN\r\n" + fits + "\r\n", "a1 NO"},
			{"a1 AUTHENTICATE PLAIN " + fits + fits[:1000] + "\r\n", "a1 BAD"},
			{"a1 AUTHENTICATE PLAIN\r\n" + fits + fits[:1000] + "\r\n", "a1 BAD"},
		} {
			conn, _ := g.dial("")
			say(t, conn, "", "* OK")
			if got := say(t, conn, c.text, "a1 "); !strings.Contains(got, c.want) {
				t.Errorf("%d bytes: %q, want %s", len(c.text), got, c.want)
			}
			if got := say(t, conn, "a2 NOOP\r\n", "a2 "); !strings.HasPrefix(got, "a2 OK") {
				t.Errorf("afterwards: %q", got)
			}
			conn.Close()
		}
	})
}

// Whatever bytes come, the gate answers, and ends when the client does. Nobody is in
// who did not send a password, and what follows the login reaches the session.
func FuzzPrelogin(f *testing.F) {
	f.Add("a1 CAPABILITY\r\na2 LOGIN ann {6+}\r\nsecret\r\na3 NOOP\r\n")
	f.Add("a1 AUTHENTICATE PLAIN\r\nAGFubgBzZWNyZXQ=\r\na2 ID (\"a\" NIL)\r\n")
	f.Add("a1 ID (\r\n\r\n* {99999+}\r\n")
	f.Add("a LOGIN {3}\r\nann {999999999999}\r\n")
	g := newTestGate(f, gateLimits{Time: 10 * time.Millisecond}) // no failed login is waited for
	g.gate.runner = runnerFunc(func(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
		rest, err := io.ReadAll(stream)
		fmt.Fprintf(stream, "%s LOGGED IN %d\r\n", in.Tag, len(in.Input)+len(rest))
		return &session.Outcome{}, err
	})
	f.Fuzz(func(t *testing.T, text string) {
		conn := &script{in: strings.NewReader(text)}
		seat, err := g.places.connect(netip.MustParseAddr("192.0.2.7"))
		if err != nil {
			t.Fatal(err)
		}
		defer seat.leave()
		g.serve(t.Context(), &arrival{conn: conn, seat: seat, on: &presence{}, id: "f", addr: netip.MustParseAddr("192.0.2.7"), secure: true})
		out := conn.out.String()
		if !strings.HasPrefix(out, "* OK [") {
			t.Errorf("greeting: %.100q", out)
		}
		if strings.Contains(out, " LOGGED IN ") && !strings.Contains(text, "secret") && !strings.Contains(text, "c2VjcmV0") && !strings.Contains(text, "zZWNyZXQ") {
			t.Errorf("logged in without a password: %q", text)
		}
		if out[len(out)-1] != '\n' {
			t.Errorf("an answer is cut: %.100q", out)
		}
		if len(out) > 1000+100*len(text) {
			t.Errorf("%d bytes of answers to %d", len(out), len(text))
		}
	})
}

// script is a client that sends all it has and listens no more.
type script struct {
	net.Conn
	in  *strings.Reader
	out strings.Builder
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// A client that has not logged in costs less than 64 KiB, at the most costly instant
// that it can bring about and hold.
func TestPreloginMemory(t *testing.T) {
	const clients, limit = 200, 64 << 10
	for name, text := range map[string]string{
		"response": "a1 AUTHENTICATE PLAIN " + strings.Repeat("A", 24500),
		"line":     "a1 LOGIN ann " + strings.Repeat("A", 8000),
		"literal":  "a1 LOGIN {4096+}\r\n" + strings.Repeat("A", 4096) + " {4096+}\r\n" + strings.Repeat("A", 4000),
		"id":       "a1 ID (" + strings.Repeat(`"" `, 2700),
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newTestGate(t, gateLimits{})
			before := memory()
			for range clients {
				client, server := net.Pipe()
				a := g.arrival
				a.conn, a.on = server, &presence{}
				g.wg.Go(func() { g.serve(g.ctx, &a) })
				say(t, client, "", "* OK")
				defer client.Close()
				if _, err := io.WriteString(client, text); err != nil {
					t.Fatal(name, err)
				}
			}
			synctest.Wait()
			if each := int64(memory()-before) / clients; each > limit {
				t.Errorf("%s: %d bytes a connection", name, each)
			}
		})
	}
}

// memory is what the program holds on its heap and stacks, in bytes.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// Every mechanism stands in the table of docs/support.md, and no other.
func TestDocsNameEveryMechanism(t *testing.T) {
	page, err := os.ReadFile("../docs/support.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\| AUTH=([^ |]*) \|`).FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1])
	}
	offered := auth.AllMechanisms()
	slices.Sort(offered)
	slices.Sort(documented)
	if !slices.Equal(documented, offered) {
		t.Errorf("docs/support.md has %q, and the server offers %q", documented, offered)
	}
}
