package message

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// lexer walks over the words of a structured field (RFC 5322 section 3.2). Line
// breaks are white space, so values are lexed folded. Each byte is passed a
// bounded number of times.
type lexer struct {
	b       []byte
	i       int
	comment string // the last one that skip passed
	spaced  bool   // skip passed something since it was last false
}

func (l *lexer) end() bool { return l.i >= len(l.b) }

// peek is the next byte, 0 at the end. (A NUL in the text is no special byte and
// is taken as part of a word.)
func (l *lexer) peek() byte {
	if l.end() {
		return 0
	}
	return l.b[l.i]
}

// skip passes white space and comments. A comment that is not closed reaches to
// the end.
func (l *lexer) skip() {
	for !l.end() {
		switch l.b[l.i] {
		case ' ', '\t', '\r', '\n':
			l.spaced = true
			l.i++
		case '(':
			l.spaced = true
			l.skipComment()
		default:
			return
		}
	}
}

// skipComment goes behind the closing parenthesis, or to the end.
func (l *lexer) skipComment() {
	start, depth := l.i+1, 0
	for ; !l.end(); l.i++ {
		switch l.b[l.i] {
		case '\\':
			l.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				l.comment = unquote(l.b[start:l.i])
				l.i++
				return
			}
		}
	}
	l.i = len(l.b)
}

// unquote takes the backslashes of quoted pairs away, and unfolds.
func unquote(v []byte) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return unfold(v)
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		out = append(out, v[i])
	}
	return unfold(out)
}

// run takes bytes up to the next one of stop or white space.
func (l *lexer) run(stop string) string {
	start := l.i
	for !l.end() && strings.IndexByte(stop, l.b[l.i]) < 0 && strings.IndexByte(" \t\r\n", l.b[l.i]) < 0 {
		l.i++
	}
	return clean(l.b[start:l.i])
}

func clean(b []byte) string {
	if bytes.IndexByte(b, 0) < 0 {
		return string(b)
	}
	return strings.ReplaceAll(string(b), "\x00", string(utf8.RuneError))
}

// quoted takes a quoted string, at whose quote the lexer stands. It is not ok
// when nothing closes it; then it reaches to the end. Blanks inside are kept.
func (l *lexer) quoted() (s string, ok bool) {
	var out []byte
	for l.i++; !l.end(); l.i++ {
		switch c := l.b[l.i]; c {
		case '"':
			l.i++
			return clean(out), true
		case '\\':
			if l.i+1 < len(l.b) {
				l.i++
				out = append(out, l.b[l.i])
			}
		case '\r', '\n': // of a fold: the blank behind it stays
		default:
			out = append(out, c)
		}
	}
	return clean(out), false
}

// past goes on behind the next byte of stop, or to the end; quoted strings and
// comments hide what is in them.
func (l *lexer) past(stop string) (found byte) {
	for !l.end() {
		c := l.b[l.i]
		switch {
		case strings.IndexByte(stop, c) >= 0:
			l.i++
			return c
		case c == '"':
			l.quoted()
		case c == '(':
			l.skipComment()
		default:
			l.i++
		}
	}
	l.i = len(l.b)
	return 0
}
