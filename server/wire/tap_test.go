package wire

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// record is a Watch that writes down what it is shown.
type record struct{ strings.Builder }

func (r *record) Begin()                  { r.WriteString("[begin]") }
func (r *record) Command(b []byte)        { r.Write(b) }
func (r *record) CommandLiteral(n int64)  { fmt.Fprintf(r, "[%d]", n) }
func (r *record) Response(b []byte)       { r.Write(b) }
func (r *record) ResponseLiteral(n int64) { fmt.Fprintf(r, "[%d]", n) }

// take gives what was written down, literals in pieces as one.
func (r *record) take() string {
	s := r.String()
	r.Reset()
	for {
		i := strings.Index(s, "][")
		var a, b int
		if i < 0 {
			return s
		}
		j := strings.LastIndexByte(s[:i], '[')
		if n, _ := fmt.Sscanf(s[j:], "[%d][%d]", &a, &b); n != 2 {
			return s
		}
		end := i + 2 + strings.IndexByte(s[i+2:], ']')
		s = fmt.Sprintf("%s[%d]%s", s[:j], a+b, s[end+1:])
	}
}

// A Watch of commands sees all of them but the bytes of literals, however they come and
// whether they are read, gathered or skipped.
func TestTapOfCommands(t *testing.T) {
	big := strings.Repeat("^", 9000)
	in := "a NOOP\r\n\r\nb SEARCH TEXT {3+}\r\n^^^ UID 4\r\nc APPEND x {9000+}\r\n" + big + "\r\nd REFUSED {3+}\r\n^^^\r\ne WAIT {3}\r\nf NOOP\n"
	want := "[begin]a NOOP\r\n[begin]b SEARCH TEXT {3+}\r\n[3] UID 4\r\n[begin]c APPEND x {9000+}\r\n[9000]\r\n" +
		"[begin]d REFUSED {3+}\r\n[3]\r\n[begin]e WAIT {3}\r\n[begin]f NOOP\n"
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)), "halves": iotest.HalfReader(strings.NewReader(in)),
	} {
		var tap Tap
		r := &record{}
		tap.Set(r)
		l := NewLexer(src, nil, Limits{}, Hooks{Tap: &tap})
		read := func(f func() error) {
			t.Helper()
			if err := f(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		words := func(n int) {
			t.Helper()
			read(l.Wait)
			for i := range n {
				if i > 0 {
					read(l.SP)
				}
				read(func() error { _, err := l.AString(); return err })
			}
		}
		words(2)
		read(l.End)
		words(4)
		read(l.SP)
		for _, want := range []string{"UID", "4"} {
			if got, err := l.AString(); got != want || err != nil {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
			l.Accept(' ')
		}
		read(l.End)
		words(3)
		read(l.SP)
		lit, err := l.Literal()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(lit); string(b) != big || err != nil {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		read(l.End)
		words(2)
		read(l.Skip)
		words(2)
		read(l.SP)
		if _, err := l.Literal(); err != nil {
			t.Fatal(err)
		}
		read(l.Skip) // it was not invited
		words(2)
		read(l.End)
		if got := r.take(); got != want {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, want)
		}
	}
}

// A Watch that is set in the middle of a command sees the next one, and no literal of
// the one before.
func TestTapBeginsWithACommand(t *testing.T) {
	var tap Tap
	r := &record{}
	l := NewLexer(strings.NewReader("a LOGIN ^ {3+}\r\n^^^\r\nb NOOP\r\n"), nil, Limits{}, Hooks{Tap: &tap})
	if err := l.Wait(); err != nil {
		t.Fatal(err)
	}
	tap.Set(r)
	if err := l.Skip(); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(); err != nil {
		t.Fatal(err)
	}
	tap.Set(nil) // the command that began is seen to its end
	if err := l.Skip(); err != nil {
		t.Fatal(err)
	}
	if got := r.take(); got != "[begin]b NOOP\r\n" {
		t.Errorf("%q", got)
	}
}

// A Watch of responses sees all of them but literals, wherever the buffer ends.
func TestTapOfResponses(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var tap Tap
		r := &record{}
		e := NewEncoder(io.Discard)
		e.Tap = &tap
		e.Raw("* OK ^unseen ") // in a buffer that nobody asked to see
		tap.Set(r)
		e.Literal(5, func(w io.Writer) error { _, err := io.WriteString(w, "^^^^^"); return err })
		e.CRLF()
		e.Flush()
		var want strings.Builder
		for range 30 {
			n := rng.IntN(3 * encoderBytes / 2)
			if rng.IntN(2) == 0 {
				n = rng.IntN(4)
			}
			body := strings.Repeat("^", n)
			e.Raw("* FETCH ").Number(uint64(n)).SP()
			fmt.Fprintf(&want, "* FETCH %d ", n)
			switch rng.IntN(3) {
			case 0:
				e.Literal(int64(n), func(w io.Writer) error {
					for b := body; b != ""; {
						k := 1 + rng.IntN(len(b))
						if _, err := io.WriteString(w, b[:k]); err != nil {
							return err
						}
						b = b[k:]
					}
					return nil
				})
				fmt.Fprintf(&want, "{%d}\r\n[%d]", n, n)
			case 1:
				e.Literal8(int64(n), func(w io.Writer) error { _, err := io.WriteString(w, body); return err })
				fmt.Fprintf(&want, "~{%d}\r\n[%d]", n, n)
			case 2:
				e.String(body + "\n")
				fmt.Fprintf(&want, "{%d}\r\n[%d]", n+1, n+1)
			}
			e.Raw(")\r\n")
			want.WriteString(")\r\n")
			if rng.IntN(3) == 0 {
				e.Flush()
			}
		}
		e.Flush()
		if got := r.take(); got != want.String() {
			t.Fatalf("seed %d:\n%.3000q\nwant\n%.3000q", seed, got, want.String())
		}
		tap.Set(nil)
		e.Raw("* OK more\r\n").Flush()
		if got := r.take(); got != "" {
			t.Errorf("after the end: %q", got)
		}
	}
}
