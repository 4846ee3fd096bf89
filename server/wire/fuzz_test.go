package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// However the bytes are cut into reads, the same tokens come, and no byte of one
// command is taken for another: what was read and what Skip passed over is the
// stream, once.
func FuzzLexer(f *testing.F) {
	for _, s := range []string{
		"a1 LOGIN {3+}\r\nann \"x\\\"y\"\r\n", "a UID FETCH 1:*,3 (FLAGS)\r\n", "\r\nx APPEND INBOX (\\Seen) \" 1-Jan-2020 00:00:00 +0000\" ~{4}\r\nabcd\r\n",
		"a {99999999999999999999+}\r\n", "a $ NIL 5 &-\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		whole, wholeErr := readAll(strings.NewReader(s))
		single, singleErr := readAll(iotest.OneByteReader(strings.NewReader(s)))
		if !slices.Equal(whole, single) || (wholeErr == nil) != (singleErr == nil) {
			t.Fatalf("whole: %q, %v; byte by byte: %q, %v", whole, wholeErr, single, singleErr)
		}
	})
}

// readAll reads commands as wildly as their first bytes say.
func readAll(r io.Reader) (out []string, err error) {
	limits := Limits{Command: 300, Literal: 50, Swallow: 1000}
	l := NewLexer(r, nil, limits, Hooks{})
	for {
		if err := l.Wait(); err != nil {
			return out, err
		}
		tag, err := l.Tag()
		for i := 0; err == nil && !l.AtEnd() && i < 50; i++ {
			if err = l.SP(); err != nil {
				break
			}
			var s string
			c, _ := l.Peek()
			switch {
			case c == '(':
				_, err = l.FlagList()
			case c >= '0' && c <= '9', c == '*', c == '$':
				_, err = l.NumSet(len(tag)%2 == 0)
			case c == '~':
				var lit *Literal
				if lit, err = l.Literal(); err == nil && len(tag)%2 == 0 {
					_, err = io.Copy(io.Discard, lit)
				}
			case c == '"' && len(tag)%2 == 0:
				_, err = l.DateTime()
			case c == '\\':
				_, err = l.Flag()
			case c == 'N':
				s, _, err = l.NString()
			default:
				s, err = l.AString()
			}
			out = append(out, s)
		}
		if err == nil {
			err = l.End()
		}
		if err != nil {
			out = append(out, err.Error())
		}
		if l.used > limits.Command {
			return out, errors.New("limit was passed")
		}
		if err := l.Skip(); err != nil {
			return out, err
		}
	}
}

// A set prints as what was read, and reading that changes nothing.
func FuzzNumSet(f *testing.F) {
	for _, s := range []string{"1", "1:*", "*:3,5", "4294967295,7:2", "$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := lexerOf(s + "\r\n").UIDSet()
		if err != nil {
			return
		}
		again, err := lexerOf(set.String() + "\r\n").UIDSet()
		if err != nil || !slices.Equal(set, again) {
			t.Fatalf("%q: %v, then %v, %v", s, set, again, err)
		}
	})
}

// A name that was decoded is encoded and decoded to itself.
func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"INBOX", "&-", "&U,BTFw-", "&2D3eAA-x", "a&b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := DecodeMailbox(s)
		if err != nil {
			return
		}
		again, err := DecodeMailbox(EncodeMailbox(name))
		if err != nil || again != name {
			t.Fatalf("%q: %q, then %q, %v", s, name, again, err)
		}
	})
}

// What String writes, a Lexer reads as the same, but for NUL.
func FuzzString(f *testing.F) {
	f.Add("a\"b\\", true)
	f.Add("ü\r\n", false)
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		var b bytes.Buffer
		e := NewEncoder(&b)
		e.UTF8 = utf8
		e.AString(s).SP().Flush()
		l := NewLexer(&b, nil, Limits{}, Hooks{})
		got, err := l.AString()
		if want := strings.ReplaceAll(s, "\x00", ""); err != nil || got != want {
			t.Fatalf("%q comes back as %q, %v", s, got, err)
		}
	})
}

// A date that was read is written and read as the same.
func FuzzDateTime(f *testing.F) {
	f.Add(`" 1-Jan-2024 00:00:00 +0000"`)
	f.Fuzz(func(t *testing.T, s string) {
		date, err := lexerOf(s + "\r\n").DateTime()
		if err != nil || date.Year() < 1 {
			return
		}
		again, err := lexerOf(string(AppendDateTime(nil, date)) + "\r\n").DateTime()
		if err != nil || !again.Equal(date.Truncate(time.Second)) {
			t.Fatalf("%q is %v, then %v, %v", s, date, again, err)
		}
	})
}
