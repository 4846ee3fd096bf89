package attack

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// asked are the commands that take a message apart in each way that there is.
var asked = []string{
	"FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)",
	"FETCH 1 (PREVIEW)",
	"FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT TO X-NONE)] BODY.PEEK[HEADER.FIELDS.NOT (TO)])",
	"FETCH 1 (BODY.PEEK[TEXT]<0.1000> BODY.PEEK[1] BODY.PEEK[1.1.1.1.1.1] BODY.PEEK[1.MIME] BINARY.PEEK[1] BINARY.SIZE[1])",
	"SEARCH SUBJECT nowhere FROM nowhere TO nowhere",
	"SEARCH TEXT nowhere",
	"SEARCH FUZZY BODY nowhere",
	"SORT (SUBJECT FROM TO CC DATE DISPLAYFROM DISPLAYTO SIZE) UTF-8 ALL",
	"THREAD REFERENCES UTF-8 ALL",
	"THREAD REFS UTF-8 ALL",
	"THREAD ORDEREDSUBJECT UTF-8 ALL",
	"COPY 1 INBOX",
	"SELECT INBOX",
	"UID STORE 1:* +FLAGS.SILENT (\\Deleted)",
	"CLOSE",
}

// multipart is a message of n parts.
func multipart(n int, part string) string {
	return "Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n"+part+"\r\n", n) + "--b--\r\n"
}

// hostileMessages are messages of a size n, which is the number of what there is too much of.
var hostileMessages = []struct {
	name string
	n    int
	make func(n int) string
}{
	{"parentheses in addresses", 250_000, func(n int) string {
		return "From: " + nested(n, "(", "x", ")") + " a@b\r\nTo: " + strings.Repeat("(", n) + "\r\n\r\nx\r\n"
	}},
	{"comments in a date and types", 250_000, func(n int) string {
		return "Date: " + nested(n, "(", "x", ")") + "\r\nContent-Type: " + nested(n, "(", "x", ")") + " text/plain\r\n\r\nx\r\n"
	}},
	{"addresses", 75_000, func(n int) string {
		return "From: a@b\r\nTo: " + strings.Repeat("a <b@c.de>, ", n) + "z@y\r\n\r\nx\r\n"
	}},
	{"groups", 100_000, func(n int) string { return "To: " + strings.Repeat("a:;", n) + "\r\n\r\nx\r\n" }},
	{"words before an address", 250_000, func(n int) string { return "To: " + strings.Repeat("a ", n) + "<b@c>\r\n\r\nx\r\n" }},
	{"dots in an address", 250_000, func(n int) string {
		return "To: " + strings.Repeat("a.", n) + "b@" + strings.Repeat("c.", n) + "d\r\n\r\nx\r\n"
	}},
	{"routes", 250_000, func(n int) string {
		return "To: <" + strings.Repeat("@a,", n) + "\r\nCc: " + strings.Repeat("<@a", n) + "\r\n\r\nx\r\n"
	}},
	{"quotes", 250_000, func(n int) string {
		return "To: " + strings.Repeat(`"a" `, n) + "\r\nCc: " + strings.Repeat(`"`, n) + "\r\nBcc: " + strings.Repeat(`\"`, n) + "\r\n\r\nx\r\n"
	}},
	{"header line", 12 << 20, func(n int) string { return "Subject: " + strings.Repeat("x", n) + "\r\n\r\nx\r\n" }},
	{"line breaks in a header field", 250_000, func(n int) string { return "Subject: x" + strings.Repeat("\r\n x", n) + "\r\n\r\nx\r\n" }},
	{"header fields", 250_000, func(n int) string { return strings.Repeat("To: a@b\r\nReferences: <a@b>\r\n", n) + "\r\nx\r\n" }},
	{"encoded words", 250_000, func(n int) string {
		return "Subject: " + strings.Repeat("=?utf-8?q?x?= ", n) + "\r\n\r\nx\r\n"
	}},
	{"encoded words that do not end", 60_000, func(n int) string {
		return "Subject: " + strings.Repeat("=?a?b?y", n) + "\r\nFrom: " + strings.Repeat("=?utf-8?b?y", n) + " <a@b>\r\n\r\nx\r\n"
	}},
	{"charsets in turn", 30_000, func(n int) string {
		return "Subject: " + strings.Repeat("=?iso-2022-jp?b?GyRC?= =?iso-8859-2?q?=B1?= ", n) + "\r\n\r\nx\r\n"
	}},
	{"parameters", 60_000, func(n int) string {
		return "Content-Type: text/plain" + strings.Repeat("; a=b", n) + "\r\nContent-Disposition: x" + strings.Repeat(`; a*1*="b"`, n) + "\r\n\r\nx\r\n"
	}},
	{"pieces of a parameter", 2_000, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "; a*%d*=%%41", i)
		}
		return "Content-Type: text/plain" + b.String() + "\r\n\r\nx\r\n"
	}},
	{"languages", 100_000, func(n int) string { return "Content-Language: " + strings.Repeat("de,", n) + "\r\n\r\nx\r\n" }},
	{"references", 25_000, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " <%d@example.org>", i)
		}
		return "Message-ID: <x@y>\r\nReferences:" + b.String() + "\r\nIn-Reply-To:" + b.String() + "\r\nSubject: " + strings.Repeat("Re: ", n) + "\r\n\r\nx\r\n"
	}},
	{"marks of answers in a subject", 100_000, func(n int) string {
		return "Subject: " + strings.Repeat("Re[2]: [x] ", n/4) + strings.Repeat("[fwd: ", n) + strings.Repeat(" (fwd)", n) + "\r\n\r\nx\r\n"
	}},
	{"parts", 25_000, func(n int) string { return multipart(n, "\r\nx") }},
	{"short lines in parts", 25_000, func(n int) string { return strings.ReplaceAll(multipart(n, "\r\nx"), "\r\n", "\n") }},
	{"parts with headers", 25_000, func(n int) string {
		return multipart(n, "Content-Type: text/html; charset=utf-8; name=\"a\"\r\nContent-ID: <a@b>\r\nContent-Disposition: attachment; filename=x\r\n\r\n<p>x")
	}},
	{"boundaries that none is", 500_000, func(n int) string {
		return multipart(1, "\r\n"+strings.Repeat("--\r\n", n)+strings.Repeat("--c\r\n", n))
	}},
	{"messages in messages", 10_000, func(n int) string {
		return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) + "Subject: inner\r\n\r\nx\r\n"
	}},
	{"multiparts in multiparts", 10_000, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String() + "\r\nx\r\n"
	}},
	{"boundaries of many open multiparts", 100_000, func(n int) string {
		var b strings.Builder
		long := strings.Repeat("b", 900)
		for i := range 99 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s%d\r\n\r\n--%s%d\r\n", long, i, long, i)
		}
		return b.String() + "\r\n" + strings.Repeat("--"+long[:50]+"\r\n", n)
	}},
	{"tags in HTML", 250_000, func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<b>", n) + strings.Repeat("<", n) + strings.Repeat("<!--", n) + strings.Repeat("&amp", n) + "\r\n"
	}},
	{"scripts in HTML", 100_000, func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<script>", n) + strings.Repeat("</scrip", n) + strings.Repeat("<style>", n) + "\r\n"
	}},
	{"soft breaks", 500_000, func(n int) string {
		return "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=\r\n", n) + strings.Repeat("=", n) + strings.Repeat(" ", n) + "\r\n"
	}},
	{"base64 that is none", 500_000, func(n int) string {
		return "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("=", n) + strings.Repeat("*", n) + strings.Repeat("QQ==", n) + "\r\n"
	}},
	{"bare line ends", 1_000_000, func(n int) string { return "Subject: x\n\n" + strings.Repeat("\n", n) + strings.Repeat("\r", n) }},
	{"NULs", 4 << 20, func(n int) string { return "Subject: \x00\x00\r\n\r\n" + strings.Repeat("\x00", n) }},
	{"letters with marks", 250_000, func(n int) string {
		return "Subject: " + strings.Repeat("\u0300", n) + "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("a\u0300\u0301", n) + strings.Repeat("\u1100", n) + "\r\n"
	}},
	{"letters that grow when they are folded", 100_000, func(n int) string {
		return "Subject: " + strings.Repeat("\ufdfa", n) + "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("\ufdfa", n) + "\r\n"
	}},
}

// A stranger sends messages of each kind. Whatever is asked of them costs memory within
// bounds, and of four times the message no more than about four times the processor time.
func TestMessagesOfAStranger(t *testing.T) {
	for _, index := range []string{"off", "auto"} { // of text: it is made in the background, of the same messages
		t.Run("index "+index, func(t *testing.T) {
			s := serve(t, fmt.Sprintf("[search]\nindex = %q", index), nil)
			c := s.login("ann")
			for k, m := range hostileMessages {
				costs := map[string]time.Duration{}
				for i, n := range []int{m.n, 4 * m.n} {
					if i == 0 && index != "off" {
						continue
					}
					box := fmt.Sprintf("box%d-%d", k, i)
					c.ok("CREATE " + box)
					c.ok("SELECT INBOX")
					s.deliver("ann", fmt.Sprintf("10000000%02d.M1P1.host", k), m.make(n))
					c.ok("NOOP")
					c.ok("MOVE 1:* " + box)
					c.ok("SELECT " + box)
					for _, command := range asked {
						ask := func() { c.answered(command, "OK") }
						if i == 0 {
							costs[command] = s.spent(ask)
							continue
						}
						four := s.attacked(m.name+": "+command, 192<<20, ask)
						if one, ok := costs[command]; ok && four > 9*one+150*time.Millisecond {
							t.Errorf("%s: %s: %v, for four times as much %v", m.name, command, one, four)
						}
					}
				}
			}
		})
	}
}
