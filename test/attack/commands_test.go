package attack

import (
	"fmt"
	"strings"
	"testing"
)

// messages is how many there are in the mailbox that is attacked.
const messages = 500

// inhabited is a server on which ann has mail.
func inhabited(t *testing.T, extra string) (*server, *client) {
	t.Helper()
	s := serve(t, extra, nil)
	c := s.login("ann")
	for i := range messages {
		s.deliver("ann", fmt.Sprintf("%d.M1P1.host", 1000000000+i), fmt.Sprintf(
			"From: Ann <ann@example.org>\r\nTo: Bea <bea@example.org>\r\nSubject: message %d\r\nMessage-ID: <%d@example.org>\r\n\r\n%s",
			i, i, strings.Repeat("the quick brown fox jumps over the lazy dog\r\n", 50)))
	}
	c.ok("SELECT INBOX")
	return s, c
}

// nested is n of open, inner, n of close.
func nested(n int, open, inner, shut string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
}

// Commands as deep and as wide as a command may be, and beyond. Each is answered in little
// memory, and the session goes on.
func TestDeepAndWideCommands(t *testing.T) {
	s, c := inhabited(t, "")
	few := strings.Repeat("1,", 500_000) + "1"
	for _, a := range []struct {
		command string
		want    string
	}{
		{"SEARCH " + nested(1_000_000, "(", "ALL", ")"), "BAD"},
		{"SEARCH " + nested(400_000, "(", "ALL", ")"), "NO [LIMIT]"},
		{"SEARCH " + strings.Repeat("NOT ", 90_000) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("OR ALL ", 45_000) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("OR NOT SEEN ", 30_000) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("FUZZY ", 150_000) + "ALL", ""},
		{"SEARCH " + strings.Repeat("TEXT abc ", 2_000) + "ALL", "NO [LIMIT]"},
		{"SEARCH " + strings.Repeat("OR TEXT abcd ", 199) + "TEXT xyz", "OK"},
		{"SEARCH " + strings.Repeat("NOT TEXT \"the quick brown fox jumps over the lazy cat\" ", 200) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("NOT HEADER SUBJECT xx ", 40_000) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("NOT KEYWORD k ", 45_000) + "ALL", "OK"},
		{"SEARCH " + strings.Repeat("NOT 1:*,1:* ", 45_000) + "ALL", "OK"},
		{"UID SEARCH " + strings.Repeat("*:1,", 250_000) + "1", "OK"},
		{"UID SEARCH UID " + few, "OK"},
		{"UID SEARCH " + few, "OK"},
		{"SEARCH RETURN (" + nested(500_000, "(", "", ")") + ") ALL", "BAD"},
		{"SEARCH RETURN (SAVE) " + strings.Repeat("$,", 10) + "ALL", "BAD"},
		{"SORT (" + strings.Repeat("REVERSE ", 120_000) + "SUBJECT) UTF-8 ALL", ""},
		{"SORT (" + strings.Repeat("SUBJECT ", 120_000) + "SUBJECT) UTF-8 ALL", ""},
		{"FETCH 1 " + nested(1_000_000, "(", "FLAGS", ")"), "BAD"},
		{"FETCH 1 (" + strings.Repeat("BODYSTRUCTURE ", 60_000) + "UID)", "BAD"},
		{"FETCH " + few + " (UID)", "OK"},
		{"UID FETCH " + strings.Repeat("*:1,", 250_000) + "1 (UID)", "OK"},
		{"UID FETCH 1:4294967295,*,1:* (UID)", "OK"},
		{"FETCH 1 BODY.PEEK[HEADER.FIELDS (" + strings.Repeat("a ", 500_000) + "b)]", ""},
		{"FETCH 1 BODY.PEEK[HEADER.FIELDS " + nested(1_000_000, "(", "a", ")") + "]", "BAD"},
		{"FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 500_000) + "MIME]", ""},
		{"FETCH 1 BODY.PEEK[]<0.4294967295>", "OK"},
		{"FETCH 1 BODY.PEEK[]<18446744073709551616.1>", "BAD"},
		{"FETCH 99999999999999999999999999999999 UID", "BAD"},
		{"STORE 1:* +FLAGS (" + strings.Repeat("a ", 500_000) + "b)", "OK"},
		{"STORE 1 +FLAGS " + nested(1_000_000, "(", "a", ")"), "BAD"},
		{"STORE 1 +FLAGS (" + strings.Repeat("x", 1_000_000) + ")", "NO [LIMIT]"},
		{"APPEND INBOX " + nested(1_000_000, "(", "\\Seen", ")") + " {1+}\r\nx", "BAD"},
		{"APPEND INBOX (" + strings.Repeat("\\Seen ", 150_000) + "\\Seen) {1+}\r\nx", ""},
		{"THREAD REFERENCES UTF-8 " + nested(400_000, "(", "ALL", ")"), "NO [LIMIT]"},
		{"ENABLE " + strings.Repeat("X ", 500_000) + "Y", "OK"},
		{"ID (" + strings.Repeat(`"a" "b" `, 120_000) + `"c" "d")`, ""},
		{"ID " + nested(1_000_000, "(", "", ")"), "BAD"},
		{"LIST (" + strings.Repeat("SUBSCRIBED ", 90_000) + `SUBSCRIBED) "" "*"`, ""},
		{`LIST "" "*" RETURN (STATUS (` + strings.Repeat("MESSAGES ", 100_000) + "MESSAGES))", ""},
		{`LIST "" ` + nested(1_000_000, "(", "a", ")"), "BAD"},
		{"STATUS INBOX (" + strings.Repeat("MESSAGES ", 100_000) + "MESSAGES)", ""},
		{"CREATE " + strings.Repeat("a/", 500_000) + "b", "NO"},
		{"SUBSCRIBE " + strings.Repeat("a", 900_000), "NO"},
		{"SETMETADATA INBOX (" + strings.Repeat("/private/comment NIL ", 45_000) + "/private/x NIL)", ""},
		{"GETMETADATA INBOX (" + strings.Repeat("/private/comment ", 60_000) + "/private/x)", ""},
		{"NOTIFY SET " + strings.Repeat("(MAILBOXES x (MessageNew MessageExpunge)) ", 20_000) + "(SELECTED (MessageNew MessageExpunge))", ""},
		{"ESEARCH IN (" + strings.Repeat("SUBTREE INBOX ", 70_000) + ") ALL", ""},
		{"COPY " + few + " INBOX", "OK"},
		{"\x00\x01\xff", "BAD"},
		{"LOGIN " + strings.Repeat("\\", 100) + " x", "BAD"},
		{strings.Repeat("A", 1_000_000), "BAD"},
		{"SEARCH CHARSET " + strings.Repeat("x", 1_000_000) + " ALL", ""},
		{"SEARCH SUBJECT \"" + strings.Repeat("\\\\", 520_000) + "\"", "OK"},
		{"SEARCH SUBJECT " + strings.Repeat("é", 500_000), "BAD"},
	} {
		name := a.command[:min(60, len(a.command))]
		s.attacked(name, 160<<20, func() {
			_, answer := c.do(a.command)
			switch {
			case a.want == "" && !strings.HasPrefix(answer, "OK") && !strings.HasPrefix(answer, "NO") && !strings.HasPrefix(answer, "BAD"),
				!strings.HasPrefix(answer, a.want):
				t.Errorf("%s (%d bytes): %.200q, want %s", name, len(a.command), answer, a.want)
			case a.want == "":
				t.Logf("%s: %.100s", name, answer)
			}
		})
	}
	c.ok("NOOP")
}
