package message

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// foldSlowly is AppendFold said in the plainest way.
func foldSlowly(text []byte) (out []byte) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			out = append(out, text[0])
		} else {
			out = appendApart(out, unicode.ToTitle(r))
		}
		text = text[size:]
	}
	return out
}

var foldPieces = []string{"a", "Z", "plain ascii of some length, with @[`{ beside the letters z and Z",
	"İ", "ı", "ß", "ſ", "Σ", "ς", "\u212A", "ﬁ", "é", "e\u0301", "한", "中文", "😀", "\x80", "\xe2\x82", "\xe2", "\xf0\x9f", "\xc3", "\xff", "\x00", "\r\n", "\ufffd"}

func foldText(r *rand.Rand) []byte {
	var b []byte
	for range r.IntN(30) {
		b = append(b, foldPieces[r.IntN(len(foldPieces))]...)
	}
	return b
}

func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		text := foldText(r)
		if got, want := AppendFold([]byte("x"), text), foldSlowly(text); string(got) != "x"+string(want) {
			t.Fatalf("%q folds to %q, want %q", text, got[1:], want)
		}
	}
}

func TestFoldOfEachCharacter(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		text := utf8.AppendRune(nil, r)
		if got, want := AppendFold(nil, text), foldSlowly(text); !bytes.Equal(got, want) {
			t.Fatalf("%U folds to %q, want %q", r, got, want)
		}
	}
}

// However a text is cut into writes, in the middle of characters and of what looks like
// one, the same comes out.
func TestFolderDoesNotSeeTheWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var out bytes.Buffer
	f := Folder{W: &out}
	for range 20_000 {
		text := foldText(r)
		if r.IntN(100) == 0 {
			text = bytes.Repeat(text, 1+foldAtOnce/(1+len(text)))
		}
		out.Reset()
		for rest := text; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			f.Write(rest[:n])
			rest = rest[n:]
		}
		f.End()
		if want := AppendFold(nil, text); !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%q in pieces gives %q, want %q", text, out.Bytes(), want)
		}
	}
}

func BenchmarkFold(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ascii", "The quick brown fox jumps over the lazy dog, again. "},
		{"german", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. "},
		{"russian", "Съешь же ещё этих мягких французских булок. "},
	} {
		text := []byte(strings.Repeat(c.text, 1000))
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = AppendFold(dst[:0], text)
			}
		})
	}
}
