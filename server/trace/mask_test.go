package trace

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"roost/server/wire"
)

// dialogue feeds a mask with what a client and a server say, in pieces of the sizes
// that cut gives, and returns the lines that it shows. Lines of talk begin with "C: "
// and "S: "; "~" is CRLF, they have no other end, and "±" is "~".
func dialogue(talk string, cut func() int) string {
	var out strings.Builder
	m := NewMask(func(from From, text string) { out.WriteString(string(from) + ": " + text + "\n") })
	lines := strings.Split(strings.TrimSpace(talk), "\n")
	for i := 0; i < len(lines); {
		who, text := lines[i][:1], ""
		for ; i < len(lines) && lines[i][:1] == who; i++ {
			text += strings.NewReplacer("~", "\r\n", "±", "~").Replace(lines[i][3:])
		}
		if who == "C" {
			read(m, text, cut)
			continue
		}
		for text != "" {
			n := min(cut(), len(text))
			m.Response([]byte(text[:n]))
			text = text[n:]
		}
	}
	return out.String()
}

// read passes commands through a Lexer as a server does that answers each of them
// with an error: their literals are skipped.
func read(m *Mask, text string, cut func() int) {
	tap := &wire.Tap{}
	tap.Set(m)
	lex := wire.NewLexer(&pieces{text, cut}, nil, wire.Limits{}, wire.Hooks{Tap: tap})
	for lex.Wait() == nil {
		for { // literals are read where they are announced, as by a command that wants them
			c, err := lex.Peek()
			if err != nil || c == '\r' || c == '\n' {
				break
			}
			if c == '{' || c == '~' {
				if lit, err := lex.Literal(); err == nil {
					io.Copy(io.Discard, lit)
					continue
				}
				break
			}
			if !lex.Accept(c) {
				break
			}
		}
		if lex.Skip() != nil {
			break
		}
	}
}

// pieces is a reader that gives what cut says.
type pieces struct {
	s   string
	cut func() int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.s == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.cut())], p.s)
	p.s = p.s[n:]
	return n, nil
}

func whole() int { return 1 << 20 }

// What is shown of dialogues. "^" is in every secret and in every byte of mail, and in
// nothing else.
var dialogues = []struct{ name, talk, want string }{
	{"a login", `
S: * OK [CAPABILITY IMAP4rev1] mail.example.org Roost ready~
C: a LOGIN ann ^secret^~
S: a OK [CAPABILITY IMAP4rev1] Logged in~
C: b SELECT INBOX~
S: * 3 EXISTS~* OK [UIDVALIDITY 1] UIDs valid~b OK [READ-WRITE] Mailbox opened~
`, `
S: * OK [CAPABILITY IMAP4rev1] mail.example.org Roost ready
C: a LOGIN [hidden]
S: a OK [CAPABILITY IMAP4rev1] Logged in
C: b SELECT INBOX
S: * 3 EXISTS
S: * OK [UIDVALIDITY 1] UIDs valid
S: b OK [READ-WRITE] Mailbox opened
`},
	{"a login by literals, and one that fails", `
C: a LOGIN {3+}~ann {8+}~^secret^~
S: a NO [AUTHENTICATIONFAILED] Authentication failed^~
C: b login "ann" "^secret^" too much~
S: b BAD Syntax: ^~
`, `
C: a LOGIN [hidden]
C: [hidden]
C: [hidden]
S: a NO [AUTHENTICATIONFAILED] [hidden]
C: b login [hidden]
S: b BAD [hidden]
`},
	{"AUTHENTICATE, with and without initial response", `
C: a AUTHENTICATE PLAIN XnNlY3JldF4=^~
S: a NO [UNAVAILABLE] closed~
C: b authenticate LOGIN~
S: + ^~
C: ^~
S: + ^~
C: c NOOP^~
S: b BAD authentication cancelled~
C: d AUTHENTICATE ^SECRET~
S: d NO Mechanism~
C: e NOOP~
S: e OK NOOP completed~
`, `
C: a AUTHENTICATE PLAIN [hidden]
S: a NO [UNAVAILABLE] [hidden]
C: b authenticate LOGIN
S: + [hidden]
C: [hidden]
S: + [hidden]
C: [hidden]
S: b BAD [hidden]
C: d AUTHENTICATE [hidden]
S: d NO [hidden]
C: e NOOP
S: e OK NOOP completed
`},
	{"AUTHENTICATE behind commands of the same tag", `
C: x NOOP~x AUTHENTICATE LOGIN~
S: x OK NOOP completed~+ ^~
C: ^~
S: + ^~
`, `
C: x NOOP
C: x AUTHENTICATE LOGIN
S: x OK NOOP completed
S: + [hidden]
C: [hidden]
S: + [hidden]
`},
	{"what is no command", `
C: ^secret^~
S: * BAD ^secret^~
C: ^secret^ ^secret^~
S: ^secret^ BAD ^SECRET^ is not known before login~
C: a ^secret^ {9+}~^secrets^~
S: a BAD ^SECRET^ is not known~
C: a LOGIN~
S: a BAD ^~
C: a  NOOP^~
S: a BAD ^~
C: a UID LOGIN ^~
S: a BAD ^~
C: x ^secret^~x NOOP~
S: x BAD ^SECRET^ is not known~x OK NOOP completed^~
`, `
C: [hidden]
S: * BAD [hidden]
C: [hidden]
S: ? BAD [hidden]
C: [hidden]
C: [hidden]
S: ? BAD [hidden]
C: a LOGIN [hidden]
S: a BAD [hidden]
C: [hidden]
S: ? BAD [hidden]
C: [hidden]
S: ? BAD [hidden]
C: [hidden]
C: x NOOP
S: ? BAD [hidden]
S: ? OK [hidden]
`},
	{"IDLE that is ended by something else", `
C: i IDLE~
S: + idling~* 4 EXISTS~
C: DONE~
S: i OK IDLE completed~
C: i IDLE~
S: + idling~
C: b LOGIN ann ^secret^~
S: i BAD Expected DONE, got "b LOGIN ann ^secret^"~
`, `
C: i IDLE
S: + idling
S: * 4 EXISTS
C: DONE
S: i OK IDLE completed
C: i IDLE
S: + idling
C: b LOGIN [hidden]
S: i BAD [hidden]
`},
	{"mail that comes", `
C: a APPEND Sent (\Seen) {12+}~^a^~^b^^^~~
S: a OK [APPENDUID 1 2] APPEND completed~
C: b SEARCH SUBJECT {3+}~^^^ UID 3~
S: b BAD String "^^^" is not UTF-8~
C: c APPEND Sent {5+}~^^~^~
S: c NO [TOOBIG] ^~
`, `
C: a APPEND Sent (\Seen) {12+}
C: [12 bytes]
S: a OK [APPENDUID 1 2] APPEND completed
C: b SEARCH SUBJECT {3+}
C: [3 bytes] UID 3
S: b BAD [hidden]
C: c APPEND Sent {5+}
C: [5 bytes]
S: c NO [TOOBIG] [hidden]
`},
	{"mail that goes", `
C: a FETCH 1 (FLAGS)~
S: * 1 FETCH (UID 5 INTERNALDATE "17-Jul-1996 02:44:25 -0700" BODY[] {10}~^^^~^^)^^ FLAGS (\Seen) ENVELOPE ("^ \"^ INTERNALDATE " "17-Jul-1996 02^44:25 -0700" {6}~^"^~^ NIL ((NIL NIL "^" "^.^"))))~
S: * 2 FETCH (BINARY[1] ±{3}~^^^ PREVIEW "" BODY[HEADER.FIELDS (X)] {0}~)~
S: * 3 EXPUNGE~* LIST (\HasNoChildren) "/" "a b"~* LIST () "/" {3}~^^^~* ID ("name" "Roost")~
S: a OK FETCH completed {5}~
S: * BYE text {3}~
`, `
C: a FETCH 1 (FLAGS)
S: * 1 FETCH (UID 5 INTERNALDATE "17-Jul-1996 02:44:25 -0700" BODY[] {10}
S: [10 bytes] FLAGS (\Seen) ENVELOPE ("[18 bytes]" "[26 bytes]" {6}
S: [6 bytes] NIL ((NIL NIL "[1 byte]" "[3 bytes]"))))
S: * 2 FETCH (BINARY[1] ~{3}
S: [3 bytes] PREVIEW "[0 bytes]" BODY[HEADER.FIELDS (X)] {0}
S: )
S: * 3 EXPUNGE
S: * LIST (\HasNoChildren) "/" "a b"
S: * LIST () "/" {3}
S: [3 bytes]
S: * ID ("name" "Roost")
S: a OK FETCH completed {5}
S: * BYE text {3}
`},
	{"orders to a terminal", "C: a SELECT \"\x1b[2J\u202e\xff\u00fc\"~\nS: * OK \x07~", `
C: a SELECT "\x1b[2J\xe2\x80\xae\xffü"
S: * OK \x07
`},
	{"a trace that begins in the middle", `
S: ^ "^" FLAGS (\Seen))~
S: ^^ OK done~
S: i5 OK IDLE completed~
`, `
S: [hidden]
S: ? OK [hidden]
S: ? OK [hidden]
`},
}

func TestMask(t *testing.T) {
	for _, d := range dialogues {
		want := strings.TrimLeft(d.want, "\n")
		check := func(how string, cut func() int) {
			if got := dialogue(d.talk, cut); got != want {
				t.Errorf("%s, %s:\n%swant:\n%s", d.name, how, got, want)
			}
		}
		check("whole", whole)
		check("byte by byte", func() int { return 1 })
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 0))
			check("in pieces", func() int { return 1 + rng.IntN(9) })
		}
	}
}

// Long lines are cut, and what their ends announce is seen all the same.
func TestMaskLongLines(t *testing.T) {
	long := strings.Repeat("1234567,", 1000)
	got := dialogue("C: a UID FETCH "+long+"9 FLAGS~\nS: * 1 FETCH (X "+long+" BODY[] {5}~^^^^^ Y)~* 2 EXISTS~\n"+
		"C: b LOGIN "+long+"~\nS: b NO "+long+"~", whole)
	sc := bufio.NewScanner(strings.NewReader(got))
	var lines []string
	for sc.Scan() {
		if len(sc.Text()) > lineBytes+40 {
			t.Errorf("a line of %d bytes", len(sc.Text()))
		}
		lines = append(lines, sc.Text())
	}
	if len(lines) != 6 || !strings.HasSuffix(lines[0], "...[6995 bytes]") || lines[2] != "S: [5 bytes] Y)" || lines[4] != "C: b LOGIN [hidden]" || lines[5] != "S: b NO [hidden]" {
		t.Errorf("%d lines: %.2000s", len(lines), got)
	}
}

// Nothing is kept of what is never answered.
func TestMaskTagsAreBounded(t *testing.T) {
	m := NewMask(func(From, string) {})
	for i := range 3 * maxTags {
		m.Begin()
		m.Command([]byte(fmt.Sprintf("a%d NOOP\r\n", i)))
	}
	if len(m.tags) > maxTags {
		t.Errorf("%d tags", len(m.tags))
	}
}
