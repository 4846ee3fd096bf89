package wire

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// Literal is one literal of a command, read as a stream. The next token can be
// read when it was read to its end (io.EOF). RFC 9051 section 4.3, RFC 7888.
type Literal struct {
	Size   int64
	Sync   bool // the client waits for "+ " before it sends
	Binary bool // literal8: may hold NUL (RFC 3516 section 4.4)

	l       *Lexer
	left    int64
	invited bool
}

// Literal reads the announcement of a literal: {n}, {n+}, ~{n} or ~{n+}, with the
// line end behind it. What must be refused should be refused before the first
// Read, which invites the client to send.
func (l *Lexer) Literal() (*Literal, error) {
	lit := &Literal{Sync: true}
	if l.Accept('~') {
		lit.Binary = true
	}
	if err := l.Expect('{'); err != nil {
		return nil, err
	}
	// A size that no integer holds must still be known as a literal, or its bytes
	// would be read as commands: the tail remembers it.
	digits, err := l.run("the size of a literal", func(c byte) bool { return c >= '0' && c <= '9' }, false)
	if err != nil {
		return nil, err
	}
	lit.Size = saturated(digits)
	if l.Accept('+') {
		lit.Sync = false
	}
	if err := l.Expect('}'); err != nil {
		return nil, err
	}
	if !l.AtEnd() {
		return nil, l.Unexpected("the end of the line after the size of a literal")
	}
	if l.Accept('\r') {
		if c, err := l.Peek(); err != nil || c != '\n' {
			return nil, l.Unexpected("LF after CR")
		}
	}
	l.consume()
	l.open(lit)
	return lit, nil
}

// saturated is the number that digits spell, or the largest there is.
func saturated(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}

func (l *Lexer) open(lit *Literal) {
	lit.l, lit.left, l.lit = l, lit.Size, lit
	l.tail = tail{}
	l.show()
	if lit.left == 0 && !lit.Sync {
		l.lit = nil
	}
}

// invite asks the client for the bytes, once.
func (lit *Literal) invite() error {
	if !lit.Sync || lit.invited {
		return nil
	}
	lit.invited = true
	if lit.left == 0 {
		lit.l.lit = nil
	}
	if lit.l.hooks.Invite != nil {
		if err := lit.l.hooks.Invite(); err != nil {
			lit.l.err = err
			return err
		}
	}
	return nil
}

// Left is how many bytes were not read yet.
func (lit *Literal) Left() int64 { return lit.left }

// Read gives the bytes as they come, then io.EOF. Its first call invites them.
func (lit *Literal) Read(p []byte) (int, error) {
	if err := lit.invite(); err != nil {
		return 0, err
	}
	if lit.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	l := lit.l
	if l.r == l.w && len(p) >= 4096 && l.err == nil {
		// Large reads go past the buffer. Never more than the literal: what follows is
		// the command's.
		if l.hooks.Fill != nil {
			if err := l.hooks.Fill(); err != nil {
				l.err = err
				return 0, err
			}
		}
		if !lit.Sync && lit.left == lit.Size && l.hooks.Hurry != nil {
			l.hooks.Hurry.Hurry()
		}
		n, err := l.src.Read(p[:min(int64(len(p)), lit.left)])
		l.off += int64(n)
		l.showLiteral(n)
		lit.sub(n)
		if err == io.EOF && lit.left > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			l.err = err
			return n, err
		}
		return n, nil
	}
	if err := l.fill(); err != nil {
		return 0, err
	}
	from := l.buf[l.r:l.w]
	return copy(p, from[:lit.take(min(len(p), len(from)))]), nil
}

// take consumes up to n buffered bytes as the literal's and says how many.
func (lit *Literal) take(n int) int {
	n = int(min(int64(n), lit.left))
	lit.l.r += n
	lit.l.off += int64(n)
	lit.l.showLiteral(n)
	lit.sub(n)
	return n
}

func (lit *Literal) sub(n int) {
	if lit.left -= int64(n); lit.left == 0 {
		lit.l.lit = nil
	}
}

// gather reads the whole literal as a string, within the limits.
func (lit *Literal) gather() (string, error) {
	l := lit.l
	if limit := min(l.limits.Literal, l.limits.Command-l.used); lit.Size > limit {
		return "", &LimitError{Offset: l.off, What: "literal", Limit: limit}
	}
	at := l.off
	l.used += lit.Size
	var b strings.Builder
	// The client may announce what it never sends: memory follows the bytes.
	if _, err := io.Copy(&b, lit); err != nil {
		return "", err
	}
	if i := strings.IndexByte(b.String(), 0); i >= 0 {
		return "", &SyntaxError{Offset: at + int64(i), Want: "literal has a NUL"}
	}
	return b.String(), nil
}

// tail follows the bytes of a line and knows whether they end like "{12+}", the
// announcement of a literal that comes without being asked for.
type tail struct {
	state uint8
	size  int64
}

const (
	tailBrace   = 1 // {
	tailDigits  = 2 // {12
	tailPlus    = 3 // {12+
	tailNonSync = 4 // {12+}, and the CR behind it
)

func (t *tail) step(c byte) {
	switch {
	case c == '{':
		*t = tail{state: tailBrace}
	case c >= '0' && c <= '9' && (t.state == tailBrace || t.state == tailDigits):
		t.state = tailDigits
		if d := int64(c - '0'); t.size > (math.MaxInt64-d)/10 {
			t.size = math.MaxInt64
		} else {
			t.size = t.size*10 + d
		}
	case c == '+' && t.state == tailDigits:
		t.state = tailPlus
	case c == '}' && t.state == tailPlus:
		t.state = tailNonSync
	case c == '\r' && t.state == tailNonSync:
	default:
		t.state = 0
	}
}
