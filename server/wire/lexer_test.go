package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func lexerOf(s string) *Lexer {
	l := NewLexer(strings.NewReader(s), nil, Limits{}, Hooks{})
	l.Wait()
	return l
}

func TestTokens(t *testing.T) {
	str := func(f func(*Lexer) (string, error)) func(*Lexer) (string, error) { return f }
	atom := str((*Lexer).Atom)
	astring := str((*Lexer).AString)
	nstring := func(l *Lexer) (string, error) {
		s, ok, err := l.NString()
		if err == nil && !ok {
			return "<NIL>", nil
		}
		return s, err
	}
	for _, tc := range []struct {
		read     func(*Lexer) (string, error)
		in, want string
		bad      string // part of the error
	}{
		{atom, "abc)", "abc", ""},
		{atom, "a]b", "a", ""},
		{atom, "(", "", "expected an atom at byte 0, got '('"},
		{atom, "\r\n", "", "the end of the line"},
		{astring, "a]b ", "a]b", ""},
		{astring, `"a\"b\\c" `, `a"b\c`, ""},
		{astring, `"ü"`, "ü", ""},
		{astring, "\"\xfc\"", "", "not valid UTF-8"},
		{astring, "\"a\r\n", "", `expected the closing '"' at byte 2`},
		{astring, "\"a\x00\"", "", "closing"},
		{astring, "{3}\r\na\r\n", "a\r\n", ""},
		{astring, "{3+}\nabc", "abc", ""},
		{astring, "{0+}\r\n", "", ""},
		{astring, "{3+}abc", "", "end of the line after the size"},
		{astring, "{+}\r\n", "", "the size of a literal"},
		{astring, "{3+}\r\na\x00c", "", "NUL at byte 7"},
		{astring, "{9999999999+}\r\n", "", "literal is longer than"},
		{nstring, "NIL ", "<NIL>", ""},
		{nstring, "nil)", "<NIL>", ""},
		{nstring, `"NIL"`, "NIL", ""},
		{nstring, "NILS ", "", "a string or NIL"},
		{(*Lexer).Keyword, "uid ", "UID", ""},
		{(*Lexer).Tag, "a+", "a", ""},
		{(*Lexer).ListMailbox, "a/%* ", "a/%*", ""},
		{(*Lexer).Line, "DONE now\r\n", "DONE now", ""},
	} {
		for _, whole := range []bool{true, false} {
			var src io.Reader = strings.NewReader(tc.in)
			if !whole {
				src = iotest.OneByteReader(src)
			}
			l := NewLexer(src, nil, Limits{}, Hooks{})
			// Line ends are passed over by Wait, which is not what is tried here.
			if tc.in[0] != '\r' {
				l.Wait()
			}
			got, err := tc.read(l)
			if tc.bad == "" && (err != nil || got != tc.want) {
				t.Errorf("%q gives %q, %v; want %q", tc.in, got, err, tc.want)
			}
			if tc.bad != "" && (err == nil || !strings.Contains(err.Error(), tc.bad)) {
				t.Errorf("%q gives %q, %v; want an error with %q", tc.in, got, err, tc.bad)
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]uint32{"0 ": 0, "007 ": 7, "4294967295)": 1<<32 - 1} {
		if got, err := lexerOf(in).Number(); err != nil || got != want {
			t.Errorf("%q gives %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"4294967296 ", "99999999999999999999999 ", "x", "-1"} {
		if got, err := lexerOf(in).Number(); err == nil {
			t.Errorf("%q gives %d", in, got)
		}
	}
	if n, err := lexerOf("9223372036854775807 ").Number64(); err != nil || n != 1<<63-1 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := lexerOf("0 ").NZNumber(); err == nil {
		t.Error("NZNumber takes 0")
	}
}

// A command that is longer than its limit fails, and is skipped whole.
func TestCommandLimit(t *testing.T) {
	l := NewLexer(strings.NewReader("a "+strings.Repeat("x", 500)+"\r\nb NOOP\r\n"), nil, Limits{Command: 100}, Hooks{})
	l.Wait()
	l.Tag()
	l.SP()
	var limit *LimitError
	if _, err := l.Atom(); !errors.As(err, &limit) {
		t.Fatalf("got %v", err)
	}
	if err := l.Skip(); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(); err != nil {
		t.Fatal(err)
	}
	if tag, err := l.Tag(); tag != "b" || err != nil {
		t.Errorf("next is %q, %v", tag, err)
	}
}

// Where the limit falls between two tokens it is the limit that is told, not what
// could have stood there.
func TestCommandLimitBetweenTokens(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int64
		read  func(*Lexer) error
	}{
		{"12,34\r\n", 2, func(l *Lexer) error { l.UIDSet(); return l.End() }},
		{"12:34\r\n", 2, func(l *Lexer) error { l.SeqSet(); return l.SP() }},
		{"(a b)\r\n", 2, func(l *Lexer) error { return l.List(func() error { _, err := l.Atom(); return err }) }},
		{"(a b)\r\n", 4, func(l *Lexer) error { return l.List(func() error { _, err := l.Atom(); return err }) }},
		{"ab c\r\n", 2, func(l *Lexer) error { l.Atom(); return l.SP() }},
		{"ab (c)\r\n", 3, func(l *Lexer) error { l.Atom(); l.SP(); return l.Expect('(') }},
	} {
		l := NewLexer(strings.NewReader(tc.in), nil, Limits{Command: tc.limit}, Hooks{})
		l.Wait()
		var over *LimitError
		if err := tc.read(l); !errors.As(err, &over) || over.Offset != tc.limit {
			t.Errorf("%q with a limit of %d: %v", tc.in, tc.limit, err)
		}
	}
	l := NewLexer(strings.NewReader("ab\r\n"), nil, Limits{Command: 2}, Hooks{})
	l.Wait()
	l.Atom()
	if err := l.End(); err != nil {
		t.Errorf("a command as long as its limit: %v", err)
	}
}

// A literal is read before its bytes are gathered, so that an announcement alone
// costs nothing.
func TestAnnouncedLiteralCostsNothing(t *testing.T) {
	got := testing.AllocsPerRun(10, func() {
		l := lexerOf("{1000000+}\r\nabc")
		if _, err := l.String(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
	if got > 30 {
		t.Errorf("%v allocations", got)
	}
}

// Skip ends where the command ends, with its literals, whatever was read of it.
func TestSkip(t *testing.T) {
	const next = "b NOOP\r\n"
	for _, tc := range []struct {
		command string
		read    func(*Lexer)
	}{
		{"a FROB x y\r\n", func(*Lexer) {}},
		{"a FROB {4+}\r\nx\r\ny z {0+}\r\n {2+}\r\n\r\n\r\n", func(*Lexer) {}},
		{"a FROB {4}\r\n", func(*Lexer) {}},
		{"a {3+}\r\nx\r\n\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.Literal() }},
		{"a {3+}\r\nx\r\n\r\n", func(l *Lexer) { l.Tag(); l.SP(); lit, _ := l.Literal(); lit.Read(make([]byte, 2)) }},
		{"a {3}\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.Literal() }},
		{"a {3}\r\nx\r\n\r\n", func(l *Lexer) { l.Tag(); l.SP(); lit, _ := l.Literal(); lit.Read(make([]byte, 1)) }},
		{"a {3}\r\nx\r\n {4+}\r\nabcd\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.AString() }},
		{"a {0}\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.Literal() }},
		{"a \"x {3+}\r\nabc\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.AString() }},
		{"a {5+x\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.AString() }},
		{"a {3{3+}\r\nabc\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.AString() }},
		{"a x\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.Atom(); l.End() }},
		{"a x\n", func(*Lexer) {}},
		{"a x\ry\r\n", func(l *Lexer) { l.Tag(); l.SP(); l.Atom(); l.End() }},
	} {
		l := lexerOf(tc.command + next)
		tc.read(l)
		if err := l.Skip(); err != nil {
			t.Errorf("%q: %v", tc.command, err)
			continue
		}
		if got := string(l.Buffered()); got != next {
			t.Errorf("%q: next is %q", tc.command, got)
		}
	}
}

func TestSkipGivesUp(t *testing.T) {
	for _, in := range []string{
		"a {101+}\r\n" + strings.Repeat("x", 101) + "\r\n",
		"a {99999999999999999999+}\r\n",
		strings.Repeat("x", 200) + "\r\n",
		strings.Repeat("{60+}\r\n"+strings.Repeat("x", 60), 2) + "\r\n",
	} {
		l := NewLexer(strings.NewReader(in), nil, Limits{Swallow: 100}, Hooks{})
		l.Wait()
		if err := l.Skip(); !errors.Is(err, ErrSwallow) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

// Between commands a pooled buffer is held only for bytes that are there.
func TestIdleHoldsNoBuffer(t *testing.T) {
	r, w := io.Pipe()
	waits := 0
	l := NewLexer(r, nil, Limits{}, Hooks{Fill: func() error { waits++; return nil }})
	go func() { // ends with the test: the pipe is closed
		io.WriteString(w, "a NOOP "+strings.Repeat("x", 300)+"\r\n")
		w.Close()
	}()
	l.Wait()
	l.Line()
	if l.pooled == nil {
		t.Error("a long command is read without a pooled buffer")
	}
	l.End()
	if err := l.Wait(); err != io.EOF {
		t.Errorf("Wait gives %v at the end of the stream", err)
	}
	if l.pooled != nil {
		t.Error("a buffer is held while nothing is read")
	}
	if waits < 3 {
		t.Errorf("Fill was called %d times", waits)
	}
}

func TestHooks(t *testing.T) {
	var calls []string
	l := NewLexer(strings.NewReader("{3}\r\nabc {2+}\r\nde\r\n"), nil, Limits{}, Hooks{
		Invite: func() error { calls = append(calls, "invite"); return nil },
	})
	l.Wait()
	lit, err := l.Literal()
	if err != nil || len(calls) != 0 {
		t.Fatalf("%v, calls before the first Read: %v", err, calls)
	}
	if b, err := io.ReadAll(lit); string(b) != "abc" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	l.SP()
	if s, err := l.String(); s != "de" || err != nil || len(calls) != 1 {
		t.Errorf("%q, %v, calls %v", s, err, calls)
	}
}
