package server

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"

	"roost/server/control"
	"roost/test/talk"
)

// One connection for many logins. RFC 8437 sections 3 and 4.
func TestUnauthenticate(t *testing.T) {
	for _, c := range []struct{ name, talk string }{
		{"not before a login", `
A> a1 UNAUTHENTICATE
A< a1 BAD ...
A> a2 LOGIN ann secret
A> a3 UNAUTHENTICATE
A< a3 OK ...
A> a4 UNAUTHENTICATE
A< a4 BAD ...
A> a5 NOOP`},
		{"nobody is logged in, and the next login is another's", `
A> a1 LOGIN ann secret
A> a2 CREATE Mine
A> a3 UNAUTHENTICATE
A> a4 LIST "" *
A< a4 BAD ...
A> a5 CAPABILITY
A< * CAPABILITY IMAP4rev1 ... AUTH=PLAIN AUTH=LOGIN
A> a6 LOGIN zoe secret
A< a6 OK [CAPABILITY ... UNAUTHENTICATE ...] ...
A> a7 LIST "" *
A< * LIST (\HasNoChildren) "/" INBOX`},
		// CONDSTORE, QRESYNC, UTF8=ACCEPT, IMAP4rev2, "$" and the selection (section 4.1).
		{"nothing is left of what was enabled", `
A> a1 LOGIN ann secret
A> a2 ENABLE IMAP4rev2 QRESYNC UTF8=ACCEPT
A> a3 CREATE "Übung"
A< a3 OK ...
A>> "a4 APPEND INBOX {5+}\r\nhello\r\n"
A< a4 OK ...
A> a5 SELECT INBOX
A> a6 SEARCH RETURN (SAVE) ALL
A> a7 UNAUTHENTICATE
A< a7 OK ...
A> b1 LOGIN ann secret
A> b2 FETCH 1 FLAGS
A< b2 BAD ...
A> b3 LIST "" *
A< * LIST (\HasNoChildren) "/" INBOX
A< * LIST (\HasNoChildren) "/" &ANw-bung
A> b4 SELECT INBOX
A< * 0 RECENT
A< ...
A> b5 SEARCH $
A< * SEARCH
A> b6 STORE 1 +FLAGS (\Seen)
A< * 1 FETCH (FLAGS (\Seen))
A> b7 SEARCH ALL
A< * SEARCH 1
A> b8 STORE 1 +FLAGS (\Deleted)
A> b9 EXPUNGE
A< * 1 EXPUNGE`},
		// NOTIFY, and searches that are kept up to date (section 4.1).
		{"nobody is told of anything", `
A> a1 LOGIN ann secret
A> a2 CREATE Work
A> a3 SELECT INBOX
A> a4 NOTIFY SET (selected (MessageNew MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge MailboxName))
A> a5 UID SEARCH RETURN (UPDATE) ALL
A< ...
A> a6 UNAUTHENTICATE
B> b1 LOGIN ann secret
B>> "b2 APPEND INBOX {5+}\r\nhello\r\n"
B< b2 OK ...
B>> "b3 APPEND Work {5+}\r\nhello\r\n"
B< b3 OK ...
B> b4 CREATE More
A> a7 NOOP
A< a7 OK ...
A> a8 LOGIN ann secret
A< a8 OK ...
B>> "b5 APPEND Work {5+}\r\nhello\r\n"
B< b5 OK ...
A> a9 NOOP
A< a9 OK ...`},
		{"the next login in the same segment", `
A> a1 LOGIN ann secret
A>> "a2 UNAUTHENTICATE\r\na3 LOGIN zoe secret\r\na4 NOOP\r\na5 UNAUTHENTICATE\r\na6 AUTHENTICATE PLAIN ` + b64("\x00ann\x00secret") + `\r\na7 NOOP\r\n"
A< a2 OK ...
A< then
A< a3 OK ...
A< then
A< a4 OK ...
A< then
A< a5 OK ...
A< then
A< a6 OK ...
A< then
A< a7 OK ...`},
		{"a wrong password is one afterwards too", `
A> a1 LOGIN ann secret
A> a2 UNAUTHENTICATE
A> a3 LOGIN ann wrong
A< a3 NO [AUTHENTICATIONFAILED] ...
A> a4 NOOP`},
		// 3 connections a user and address are allowed.
		{"the place of the user is free", `
A> a1 LOGIN ann secret
B> b1 LOGIN ann secret
C> c1 LOGIN ann secret
D> d1 LOGIN ann secret
D< d1 NO [LIMIT] ...
A> a2 UNAUTHENTICATE
D> d2 LOGIN ann secret
A> a3 LOGIN ann secret
A< a3 NO [LIMIT] ...
A> a4 LOGIN zoe secret`},
		{"commands before a login are limited as ever", `
A> a1 LOGIN ann secret
A> a2 UNAUTHENTICATE
A> a3 NONE
A< a3 BAD ...
A> a4 NONE
A< a4 BAD ...
A>> "a5 NONE\r\n"
A< a5 BAD ...
A< then
A< * BYE Too many bad commands
A< EOF`},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestGate(t, gateLimits{})
			talk.Run(t, c.talk, talk.Options{Dial: g.dial, Greeting: true})
		})
	}
}

// COMPRESS ends with the session, behind the command and behind its answer, whatever is
// sent along with it, and may begin anew (RFC 8437 section 4.1).
func TestUnauthenticateEndsCompression(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Plaintext})
	for name, pipelined := range map[string]string{"waiting": "", "pipelined": "b LOGIN ben s3cretword\r\n"} {
		for _, final := range []bool{false, true} {
			c := s.dial(t, 0)
			c.do("LOGIN ann secret")
			for range 3 {
				c.do("COMPRESS DEFLATE")
				var out bytes.Buffer
				w, err := flate.NewWriter(&out, 6)
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(w, "a SELECT INBOX\r\nu UNAUTHENTICATE\r\n")
				if final {
					w.Close()
				} else {
					w.Flush()
				}
				c.Write(append(out.Bytes(), pipelined...))
				// A reader that takes no byte too many: what follows is not compressed.
				got, err := io.ReadAll(flate.NewReader(c.r))
				if err != nil || !strings.Contains(string(got), "u OK ") {
					t.Fatalf("%s, final %t: %q, %v", name, final, got, err)
				}
				if pipelined == "" {
					fmt.Fprint(c, "b LOGIN ben s3cretword\r\n")
				}
				c.want("b OK")
			}
			c.do("LOGOUT")
		}
	}
}

// What the client goes on to compress is no command of a login.
func TestCompressedCommandsBehindUnauthenticate(t *testing.T) {
	s := startServer(t, nil, Spec{"127.0.0.1:0", Plaintext})
	c := s.dial(t, 0)
	c.do("LOGIN ann secret")
	c.do("COMPRESS DEFLATE")
	w, err := flate.NewWriter(c, 6)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "u UNAUTHENTICATE\r\nb LOGIN ben s3cretword\r\n")
	w.Flush()
	io.ReadAll(flate.NewReader(c.r))
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// who shows the connection as nobody's; a trace of the user before ends there, and sees
// nothing of the one who comes.
func TestUnauthenticateIsSeen(t *testing.T) {
	s := startControlled(t)
	ann := s.trace(control.Request{User: "ann"})
	ben := s.trace(control.Request{User: "ben"})
	c := s.dial(t, 1)
	c.do("LOGIN ann secret")
	c.do("SELECT INBOX")
	c.do("UNAUTHENTICATE")
	c.do("NOOP")
	list, _, err := s.ask(control.Request{Do: "who"})
	if err != nil || len(list) != 1 || list[0].Session.State != "not logged in" || list[0].Session.User != "" || list[0].Session.Mailbox != "" {
		t.Errorf("%+v, %v", list, err)
	}
	c.do("LOGIN ben s3cretword")
	list, _, _ = s.ask(control.Request{Do: "who"})
	if len(list) != 1 || list[0].Session.State != "authenticated" || list[0].Session.User != "ben" {
		t.Errorf("%+v", list)
	}
	c.do("NAMESPACE")
	c.do("LOGOUT")
	got := ben.until("session ended")
	for _, want := range []string{" NOOP\n", " LOGIN [hidden]\n", " NAMESPACE\n", " LOGOUT\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in ben's:\n%s", want, got)
		}
	}
	if strings.Contains(got, "SELECT INBOX") || strings.Contains(got, "s3cret") {
		t.Errorf("ben's:\n%s", got)
	}
	if got = ann.until("session ended: unauthenticated"); !strings.Contains(got, "SELECT INBOX") {
		t.Errorf("ann's:\n%s", got)
	}
	c = s.dial(t, 1)
	c.do("LOGIN ann secret")
	if got = ann.until("LOGIN"); strings.Contains(got, "NOOP") || strings.Contains(got, "NAMESPACE") {
		t.Errorf("ann's goes on:\n%s", got)
	}
}
