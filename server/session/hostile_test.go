package session

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// stranger is a client at a socket that says whatever it likes.
type stranger struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (b *bench) stranger(t testing.TB) *stranger {
	t.Helper()
	conn, err := b.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &stranger{t, conn, bufio.NewReader(conn)}
	s.until("l")
	return s
}

func (s *stranger) say(text string) {
	s.t.Helper()
	s.conn.SetDeadline(time.Now().Add(5 * time.Minute)) // a watchdog, no measure
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

// until reads lines up to the tagged one, or the "+" that asks for more.
func (s *stranger) until(tag string) (lines []string) {
	s.t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%v after %q", err, lines)
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
		if strings.HasPrefix(line, tag+" ") || strings.HasPrefix(line, "+") {
			return lines
		}
	}
}

// Whatever command a literal stands in, in whatever place and form, its bytes are
// data: none is ever run as a command. RFC 7888 section 4, RFC 9051 section 4.3.
func TestBytesOfLiteralsAreNeverCommands(t *testing.T) {
	b := newBench(t, Options{Limits: Limits{AppendBytes: 5000}})
	const inside = "\r\nz1 CREATE intruder\r\nz2 LOGOUT\r\n"
	var names []string
	for name := range table {
		names = append(names, name)
	}
	names = append(names, "FROB", "UID FROB", "")
	arguments := [][]string{ // in front of the literal
		{}, {"1"}, {"INBOX"}, {"1", "INBOX"}, {"INBOX", "(\\Seen)"}, {"(SUBSCRIBED)"}, {`""`}, {`""`, "*", "RETURN"},
		{"SUBJECT"}, {"HEADER", "x"}, {"OR", "ALL"}, {"CHARSET"}, {"1", "+FLAGS"}, {"1", "BODY[HEADER.FIELDS (x"},
		{"INBOX", "{1+}\r\nx"}, {"INBOX", `"17-Jul-1996 02:44:25 -0700"`}, {"INBOX", "UTF8"}, {`("name"`}, {"UTF8=ACCEPT"}, {`"`},
	}
	forms := []string{"{%d}", "{%d+}", "~{%d}", "~{%d+}", "({%d+}", "x{%d+}", `"{%d+}`, "\\{%d+}", "{%d+}{%d+}", "[{%d+}"}
	for _, name := range names {
		s := b.stranger(t)
		for _, args := range arguments {
			for _, form := range forms {
				line := strings.Join(append([]string{"a", name}, args...), " ") + " " + strings.ReplaceAll(form, "%d", fmt.Sprint(len(inside)))
				s.say("s SELECT INBOX\r\n")
				s.until("s")
				if strings.Contains(form, "+") {
					s.say(line + "\r\n" + inside + "\r\nb NOOP\r\n")
				} else {
					s.say(line + "\r\n")
				}
				got := s.until("a")
				if strings.HasPrefix(got[len(got)-1], "+") {
					s.say(inside + "\r\n")
					got = append(got, s.until("a")...)
				}
				if !strings.Contains(form, "+") {
					s.say("b NOOP\r\n")
				}
				got = append(got, s.until("b")...)
				if !strings.HasPrefix(got[len(got)-1], "b OK") || strings.Contains(strings.Join(got, "\n"), "\nz") {
					t.Errorf("%q: %q", line, got)
				}
			}
		}
		s.say("q LIST \"\" intruder\r\n")
		if got := s.until("q"); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
		s.conn.Close()
	}
}

// Each command that needs a selected mailbox says so where none is, those of before
// login are refused after it, and the connection goes on. RFC 9051 section 3.
func TestCommandsInTheWrongState(t *testing.T) {
	b := newBench(t, Options{})
	s := b.stranger(t)
	for name, c := range table {
		want := ""
		switch c.needs {
		case selectedState:
			want = "a BAD " + name + " needs a selected mailbox"
		case nobodyState:
			want = "a BAD " + name + ": already logged in"
		default:
			continue
		}
		for _, args := range []string{"", " 1 x", " 1:* (FLAGS)", " {3+}\r\nabc"} {
			s.say("a " + name + args + "\r\n")
			if got := s.until("a"); len(got) != 1 || got[0] != want {
				t.Errorf("%s%s: %q, want %q", name, args, got, want)
			}
		}
	}
	s.say("b NOOP\r\n")
	if got := s.until("b"); len(got) != 1 || !strings.HasPrefix(got[0], "b OK") {
		t.Errorf("afterwards: %q", got)
	}
}

// A command of almost 1 MiB is served: Horde sends some 20,000 UIDs at once, SOGo's
// manual asks for more than a megabyte. A longer one is BAD, is skipped, and the next
// is served.
func TestCommandOfAMegabyte(t *testing.T) {
	b := newBench(t, Options{})
	b.mem.Seed("ann", store.Inbox, memstore.Seed{Message: "x"}, memstore.Seed{Message: "y"})
	s := b.stranger(t)
	s.say("a SELECT INBOX\r\n")
	s.until("a")
	var set strings.Builder
	for n := 1; set.Len() < 1<<20-100; n += 2 {
		fmt.Fprintf(&set, "%d,", n)
	}
	long := set.String() + "2"
	for _, c := range []struct{ command, want string }{
		{"UID SEARCH UID " + long + " NOT DELETED", "* SEARCH 1 2"},
		{"UID FETCH " + long + " UID", "* 2 FETCH (UID 2)"},
		{"UID STORE " + long + ` +FLAGS.SILENT (\Seen)`, "c OK"},
		{"UID COPY " + long + " INBOX", "c OK [COPYUID"},
		{"STATUS " + strings.Repeat("x", 1<<20-100) + " (MESSAGES)", "c NO [NONEXISTENT]"},
		{"SEARCH " + strings.Repeat("(", 400_000) + "ALL" + strings.Repeat(")", 400_000), "c NO [LIMIT]"},
		{"SEARCH " + strings.Repeat("(", 1_000_000), "c BAD Syntax: "},
		{"FETCH 1 (" + strings.Repeat("UID ", 200_000) + "UID)", "c BAD Too many data items"},
		{"FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 500_000) + "1]", "c BAD"},
		{"LIST \"\" " + strings.Repeat("*", 1_000_000), "c NO [LIMIT]"},
		{"LIST \"\" (" + strings.Repeat("*% ", 300_000) + "a)", "c NO [LIMIT]"},
		{"LIST " + strings.Repeat("x", 500_000) + " (" + strings.Repeat("y ", 200_000) + "a)", "c NO [LIMIT]"},
		{"LSUB " + strings.Repeat("x", 500_000) + " %", "c NO [LIMIT]"},
		{"LIST \"\" (" + strings.Repeat("INBOX ", 2000) + "%)", "c OK"},
	} {
		s.say("c " + c.command + "\r\n")
		got := s.until("c")
		if !strings.Contains(strings.Join(got, "\n")+"\n", c.want) {
			t.Errorf("%.40s: %.200q, want %s", c.command, got, c.want)
		}
	}
	for _, command := range []string{
		"UID SEARCH UID " + long + ",1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
		"STATUS " + strings.Repeat("x", 3<<20) + " (MESSAGES)",
		"STATUS \"" + strings.Repeat("x", 3<<20) + "\" (MESSAGES)",
		fmt.Sprintf("STATUS {%d+}\r\n%s (MESSAGES)", 3<<20, strings.Repeat("y NOOP\r\n", 3<<17)),
		strings.Repeat("x", 3<<20),
	} {
		s.say("d " + command + "\r\ne NOOP\r\n")
		got := append(s.until("d"), s.until("e")...)
		if len(got) != 2 || !strings.HasPrefix(got[0], "d BAD [LIMIT] Too long: ") || !strings.HasPrefix(got[1], "e OK") {
			t.Errorf("%.40s: %.200q", command, got)
		}
	}
}

// A keyword of a megabyte was kept, and told to everybody who opened the mailbox.
func TestEndlessKeywordsAreRefused(t *testing.T) {
	b := newBench(t, Options{})
	b.mem.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
	s := b.stranger(t)
	s.say("a SELECT INBOX\r\n")
	s.until("a")
	long := strings.Repeat("k", maxKeyword)
	for _, c := range []struct{ command, want string }{
		{"STORE 1 +FLAGS (" + long + ")", "b OK"},
		{"STORE 1 +FLAGS (" + long + "k)", "b NO [LIMIT]"},
		{"STORE 1 +FLAGS " + long + "k", "b NO [LIMIT]"},
		{"STORE 1 -FLAGS (x " + strings.Repeat("k", 1_000_000) + ")", "b NO [LIMIT]"},
		{"APPEND INBOX (" + long + "k) {1+}\r\nx", "b NO [LIMIT]"},
		{"STORE 1 FLAGS (" + strings.Repeat("a A ", 200_000) + "a)", "* 1 FETCH (FLAGS (a \\Recent))"},
	} {
		s.say("b " + c.command + "\r\n")
		if got := strings.Join(s.until("b"), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%.60s: %.300q, want %s", c.command, got, c.want)
		}
	}
}

// A client that sends much and reads late gets every answer, in order.
func TestClientThatReadsLate(t *testing.T) {
	b := newBench(t, Options{})
	b.mem.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 2000)})
	s := b.stranger(t)
	const commands = 300
	sent := make(chan error, 1)
	go func() { // ends when all is written, which the reading below brings about
		var err error
		io.WriteString(s.conn, "a SELECT INBOX\r\n")
		for i := range commands {
			if _, err = fmt.Fprintf(s.conn, "f%d FETCH 1 BODY.PEEK[]\r\n", i); err != nil {
				break
			}
		}
		sent <- err
	}()
	s.until("a")
	for i := range commands {
		if got := s.until(fmt.Sprintf("f%d", i)); len(got) != 2005 {
			t.Fatalf("answer %d has %d lines", i, len(got))
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
