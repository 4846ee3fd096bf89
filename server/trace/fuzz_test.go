package trace

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"roost/server/wire"
)

// play is a dialogue that is made up from the bytes of a fuzz test: a Lexer and an
// Encoder with a Mask between them. "^" is in every secret and in every byte of mail,
// beside characters that a mask may stumble over, and in nothing else.
type play struct {
	data []byte
	tap  wire.Tap
	out  strings.Builder
	mask *Mask
	enc  *wire.Encoder
	talk bytes.Buffer // what the client has said and the Lexer has not read
	lex  *wire.Lexer
	tags int
	said []string // tags and names of commands that were not read: "a1 NOOP"
	asks []string // of those that were read and are not answered
}

func newPlay(data []byte) *play {
	p := &play{data: data}
	p.enc = wire.NewEncoder(io.Discard)
	p.enc.Tap = &p.tap
	p.lex = wire.NewLexer(p, nil, wire.Limits{}, wire.Hooks{Tap: &p.tap})
	p.mask = NewMask(func(from From, text string) { p.out.WriteString(string(from) + ": " + text + "\n") })
	p.tap.Set(p.mask)
	return p
}

// next is the next byte of the data, 0 behind its end.
func (p *play) next(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	b := p.data[0]
	p.data = p.data[1:]
	return int(b) % n
}

// Read gives the Lexer pieces of what the client said.
func (p *play) Read(b []byte) (int, error) {
	if p.talk.Len() == 0 {
		return 0, io.EOF
	}
	return p.talk.Read(b[:min(len(b), 1+p.next(20))])
}

// secret has some length; without line ends where it must be one line. It is no command:
// of that its tag and its arguments would be shown.
func (p *play) secret(lines bool) string {
	chars := []string{"^", `"`, `\`, "{", "5", "}", "+", " ", "(", ")", "*", "NOOP^", "OK", "FETCH^", "a1", "INTERNALDATE ", "DONE", "=", "\xff"}
	if lines {
		chars = append(chars, "\r\n", "\n", "\r", "{5}\r\n", "{3+}\r\n", "* 1 FETCH (", "\r\na1 OK ", "* OK ")
	}
	s := "^"
	for range p.next(8) {
		s += chars[p.next(len(chars))]
	}
	return s + "^"
}

func (p *play) tag() string {
	p.tags++
	return []string{"a1", "a2", "x", "DONE", "A" + strings.Repeat("0", p.tags%7)}[p.next(5)]
}

// quoted spells a quoted string.
func quoted(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' {
			return '^'
		}
		return r
	}, strings.ToValidUTF8(s, "^"))
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// literal spells one that is not waited for.
func literal(s string) string { return "{" + itoa(len(s)) + "+}\r\n" + s }

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// say is one command.
func (p *play) say() {
	tag := p.tag()
	ask := func(name, text string) {
		p.mask.Decided() // what stands before was read, or is read as commands
		p.said = append(p.said, tag+" "+name)
		p.talk.WriteString(tag + " " + text)
	}
	one := strings.Trim(p.secret(false), " ")
	switch p.next(12) {
	case 0:
		ask("LOGIN", "LOGIN ann "+one+"\r\n")
	case 1:
		ask("LOGIN", "login "+quoted(p.secret(true))+" "+quoted(p.secret(true))+"\n")
	case 2:
		ask("LOGIN", "LOGIN "+literal(p.secret(true))+" "+literal(p.secret(true))+"\r\n")
	case 3:
		ask("AUTHENTICATE", "AUTHENTICATE PLAIN "+one+"\r\n")
	case 4:
		ask("AUTHENTICATE", "AUTHENTICATE "+[]string{"PLAIN", "LOGIN", one}[p.next(3)]+"\r\n")
		for range p.next(3) {
			p.talk.WriteString(p.secret(false) + "\r\n") // before it is known whether the server wants it
		}
	case 5:
		ask("APPEND", "APPEND INBOX (\\Seen) "+literal(p.secret(true))+"\r\n")
	case 6:
		ask("SEARCH", "SEARCH TEXT "+literal(p.secret(true))+" SUBJECT "+literal(p.secret(true))+"\r\n")
	case 7:
		if p.next(2) == 0 {
			ask("NOOP", "IDLE\r\nDONE\r\n")
		} else {
			ask("IDLE", "IDLE\r\n"+p.secret(false)+"\r\n")
		}
	case 8: // typed where it does not belong
		p.talk.WriteString(p.secret(false) + "\r\n")
		p.said = append(p.said, one+" X")
	case 9:
		ask("X", one+" "+one+"\r\n")
	case 10:
		ask("NOOP", "NOOP\r\n\r\n")
	case 11:
		ask("SELECT", "SELECT \"a b\"\r\n")
	}
}

// hear lets the Lexer read all that was said: commands that want their literals, and
// such that are refused in their middle.
func (p *play) hear() {
	for p.lex.Wait() == nil {
		for p.next(10) > 0 {
			c, err := p.lex.Peek()
			if err != nil || c == '\r' || c == '\n' {
				break
			}
			if c == '{' || c == '~' {
				if lit, err := p.lex.Literal(); err == nil {
					io.CopyN(io.Discard, lit, int64(p.next(200)))
				}
				break
			}
			if !p.lex.Accept(c) {
				break
			}
		}
		if p.lex.Skip() != nil {
			break
		}
	}
	p.asks, p.said = append(p.asks, p.said...), nil
	// The end of what was said is not the end of the stream.
	p.lex = wire.NewLexer(p, nil, wire.Limits{}, wire.Hooks{Tap: &p.tap})
}

// answer is a response: tagged, to the oldest command, or of mail.
func (p *play) answer() {
	mail := p.secret(true)
	switch p.next(9) {
	case 0, 1, 2:
		if len(p.asks) == 0 {
			return
		}
		tag, name, _ := strings.Cut(p.asks[0], " ")
		p.asks = p.asks[1:]
		said := strings.NewReplacer("\r", "", "\n", "").Replace(mail)
		switch {
		case name == "NOOP" || name == "SELECT":
			p.enc.Raw(tag + " OK [READ-WRITE] done {5}\r\n")
		case strings.Contains(tag, "^"):
			p.enc.Raw("* BAD " + said + "\r\n")
		default:
			p.enc.Raw(tag + []string{" BAD ", " NO ", " NO [CANNOT] ", " BAD [LIMIT 5] "}[p.next(4)] + said + "\r\n")
		}
	case 3:
		p.enc.Raw("* 1 FETCH (UID 7 BODY[] ").Literal(int64(len(mail)), func(w io.Writer) error {
			_, err := io.WriteString(w, mail)
			return err
		})
		p.enc.Raw(" FLAGS (\\Seen)").Raw(" BODY[TEXT] ").String(mail).Raw(")\r\n")
	case 4: // ready for the wire
		p.enc.Raw("* 1 FETCH (ENVELOPE (" + quoted(mail) + " {" + itoa(len(mail)) + "}\r\n" + mail + " NIL) PREVIEW " + quoted(mail) + ")\r\n")
	case 5:
		p.enc.UTF8 = !p.enc.UTF8
		p.enc.Raw("* 2 FETCH (BODY[HEADER.FIELDS (X)] ").String(mail).Raw(" INTERNALDATE \"17-Jul-1996 02:44:25 -0700\")\r\n")
	case 6:
		p.enc.Raw("* LIST () NIL {" + itoa(len(mail)) + "}\r\n" + mail + "\r\n")
	case 7:
		p.enc.Raw("* 3 EXISTS\r\n* OK [ALERT] text {9}\r\n")
	case 8:
		if p.next(2) == 0 {
			p.enc.Flush()
		}
	}
	if p.next(3) == 0 {
		p.enc.Flush()
	}
}

// No byte of a secret or of mail is shown, whatever is said in whatever pieces.
func FuzzMask(f *testing.F) {
	for i := range 60 {
		seed := make([]byte, 400)
		x := uint32(i + 1)
		for k := range seed {
			x = x*1664525 + 1013904223
			seed[k] = byte(x >> 24)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := newPlay(data)
		for len(p.data) > 0 {
			switch p.next(3) {
			case 0:
				p.say()
			case 1:
				p.hear()
			case 2:
				p.answer()
			}
		}
		p.hear()
		p.enc.Flush()
		if i := strings.IndexAny(p.out.String(), "^"); i >= 0 {
			t.Errorf("it shows ^:\n%s", p.out.String())
		}
	})
}
