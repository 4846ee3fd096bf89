package wire

import (
	"io"
	"strings"
	"testing"
)

// pieces gives one piece a read, as a socket does.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

type hurried int

func (h *hurried) Hurry() { *h++ }

// A client is hurried for the rest of a command, as behind a literal that came apart from
// the end of its line, and never for its next command.
func TestRestOfACommandIsHurried(t *testing.T) {
	for name, c := range map[string]struct {
		in   pieces
		want hurried
	}{
		"whole commands":       {pieces{"a NOOP\r\n", "b NOOP\r\n", "c X {3+}\r\nabc\r\n"}, 0},
		"end behind a literal": {pieces{"a X {3+}\r\nabc", "\r\n"}, 1},
		"literal, then end":    {pieces{"a X {3+}\r\n", "abc", "\r\n"}, 2},
		"invited literal":      {pieces{"a X {3}\r\n", "abc", "\r\n"}, 1},
		"a large literal":      {pieces{"a X {10000+}\r\n", strings.Repeat("x", 10000), "\r\n", "b NOOP\r\n"}, 2},
	} {
		var h hurried
		l := NewLexer(&c.in, nil, Limits{Command: 1 << 20, Literal: 1 << 20}, Hooks{Hurry: &h})
		for {
			if err := l.Wait(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(name, err)
			}
			if _, err := l.Tag(); err != nil {
				t.Fatal(name, err)
			}
			if err := l.SP(); err != nil {
				t.Fatal(name, err)
			}
			word, err := l.Keyword()
			if err != nil {
				t.Fatal(name, err)
			}
			if word == "X" {
				if err := l.SP(); err != nil {
					t.Fatal(name, err)
				}
				lit, err := l.Literal()
				if err != nil {
					t.Fatal(name, err)
				}
				if _, err := io.Copy(io.Discard, lit); err != nil {
					t.Fatal(name, err)
				}
			}
			if err := l.End(); err != nil {
				t.Fatal(name, err)
			}
			if err := l.Skip(); err != nil {
				t.Fatal(name, err)
			}
		}
		if h != c.want {
			t.Errorf("%s: hurried %d times, want %d", name, h, c.want)
		}
	}
}
