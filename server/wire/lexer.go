package wire

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Hooks are what a Lexer calls back for. Each may be nil.
type Hooks struct {
	// Fill is called before each read that may block: flush what the client waits for.
	Fill func() error

	// Rest is called behind Fill where the next command is waited for, and may block until
	// a read would not. A read follows unless it fails.
	Rest Rester

	// Invite is called before the first byte of a synchronising literal is read: send
	// "+ " and flush (RFC 9051 section 4.3). Fill follows it.
	Invite func() error

	// Hurry is told that the rest of a command is waited for, before Fill.
	Hurry Hurrier

	// Tap is where somebody may look at the commands; nil: nowhere.
	Tap *Tap
}

// Hurrier is the Hurry of Hooks: what can make a client send the rest of a command now.
type Hurrier interface{ Hurry() }

// Rester is the Rest of Hooks. It is no function because each frame that lies under a
// waiting session counts.
type Rester interface{ Rest() error }

// Lexer reads commands. One goroutine at a time.
//
// Errors of the stream are returned as they are and stay; *SyntaxError and
// *LimitError end only the command: call Skip, then Wait.
type Lexer struct {
	src    io.Reader
	hooks  Hooks
	limits Limits

	small  [64]byte // what an idle session reads into
	buf    []byte   // small, pooled or the input of NewLexer
	r, w   int      // unread bytes are buf[r:w]
	pooled *[]byte  // behind buf when it came from the pool

	off   int64 // bytes of this command consumed so far
	used  int64 // of them, those that count against limits.Command
	ended bool  // the end of the command was consumed
	tail  tail  // whether the line so far ends like the announcement of a literal
	lit   *Literal
	err   error // of the stream; stays

	watch Watch // of the command being read; nil: nobody
	told  int   // buf[told:r] was not shown to it yet
}

var bufferPool = sync.Pool{New: func() any { b := make([]byte, 4096); return &b }}

// NewLexer reads from src, after input, which is what was already read from it
// and is kept until it is used up.
func NewLexer(src io.Reader, input []byte, limits Limits, hooks Hooks) *Lexer {
	l := &Lexer{src: src, hooks: hooks, limits: limits.withDefaults(), ended: true}
	if len(input) > 0 {
		l.buf, l.w = input, len(input)
	}
	return l
}

// SetLimits changes the limits, from the next byte on.
func (l *Lexer) SetLimits(limits Limits) { l.limits = limits.withDefaults() }

// SetRest changes what Hooks.Rest is.
func (l *Lexer) SetRest(r Rester) { l.hooks.Rest = r }

// Buffered gives a copy of what was read from the stream but not consumed: what
// the client pipelined behind the command.
func (l *Lexer) Buffered() []byte { return append([]byte(nil), l.buf[l.r:l.w]...) }

// Take is Buffered, of bytes that are no commands as they stand: the Lexer forgets them,
// and goes on with what its source gives. Between commands only.
func (l *Lexer) Take() []byte {
	rest := l.Buffered()
	l.r = l.w
	l.release()
	return rest
}

// Pending is how many bytes Buffered would give.
func (l *Lexer) Pending() int { return l.w - l.r }

// Err is the error of the stream, if it had one.
func (l *Lexer) Err() error { return l.err }

// Offset is how many bytes of the command were consumed.
func (l *Lexer) Offset() int64 { return l.off }

// Wait blocks until a command begins, and makes ready to read it. Empty lines
// between commands are passed over: Apple Mail sends one before some commands. It
// holds no pooled buffer while it blocks. io.EOF is the orderly end of the stream.
func (l *Lexer) Wait() error {
	for {
		if l.r == l.w {
			l.release()
			if err := l.rest(); err != nil {
				return err
			}
			if err := l.read(l.small[:]); err != nil {
				return err
			}
		}
		if c := l.buf[l.r]; c != '\r' && c != '\n' {
			break
		}
		l.r++
	}
	l.off, l.used, l.ended, l.lit, l.tail = 0, 0, false, nil, tail{}
	l.begin()
	return nil
}

// ReadAhead reads once from the stream behind what is already buffered, for a
// command that takes long and wants to know whether the client is still there.
// It reports false, and reads nothing, when the buffer has no room. The caller
// must not use the Lexer meanwhile. Errors of the stream stay, except timeouts.
func (l *Lexer) ReadAhead() (bool, error) {
	if l.err != nil {
		return false, l.err
	}
	if l.r == l.w {
		l.release()
	}
	if l.pooled == nil {
		if l.w-l.r >= 4096 {
			return false, nil
		}
		l.show()
		rest := l.buf[l.r:l.w]
		l.pooled = bufferPool.Get().(*[]byte)
		l.buf, l.r, l.w, l.told = *l.pooled, 0, copy(*l.pooled, rest), 0
	}
	if l.w == len(l.buf) {
		return false, nil
	}
	n, err := l.src.Read(l.buf[l.w:])
	l.w += n
	if err != nil && n == 0 {
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			l.err = err
		}
		return false, err
	}
	return true, nil
}

// release gives the pooled buffer back; nothing unread may be in it.
func (l *Lexer) release() {
	l.show()
	if l.pooled != nil {
		bufferPool.Put(l.pooled)
		l.pooled = nil
	}
	l.buf, l.r, l.w, l.told = nil, 0, 0, 0
}

// read fills into, which becomes the buffer.
func (l *Lexer) read(into []byte) error {
	if l.err != nil {
		return l.err
	}
	l.show()
	if l.hooks.Fill != nil {
		if err := l.hooks.Fill(); err != nil {
			l.err = err
			return err
		}
	}
	l.buf, l.r, l.w, l.told = into, 0, 0, 0
	for range 100 { // as bufio: a reader that gives nothing for ever is broken
		n, err := l.src.Read(into)
		if n > 0 {
			l.w = n
			return nil
		}
		if err != nil {
			l.err = err
			return err
		}
	}
	l.err = io.ErrNoProgress
	return l.err
}

// rest waits as Hooks.Rest does.
func (l *Lexer) rest() error {
	if l.hooks.Rest == nil || l.err != nil {
		return nil
	}
	if l.hooks.Fill != nil {
		l.err = l.hooks.Fill()
	}
	if l.err == nil {
		l.err = l.hooks.Rest.Rest()
	}
	return l.err
}

// fill makes sure that a byte is unread, inside a command: the end of the stream
// is unexpected here.
func (l *Lexer) fill() error {
	if l.r < l.w {
		return nil
	}
	if l.pooled == nil {
		l.pooled = bufferPool.Get().(*[]byte)
	}
	if l.hooks.Hurry != nil {
		l.hooks.Hurry.Hurry()
	}
	err := l.read(*l.pooled)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
		l.err = err
	}
	return err
}

// Peek gives the next byte without consuming it.
func (l *Lexer) Peek() (byte, error) {
	if err := l.fill(); err != nil {
		return 0, err
	}
	return l.buf[l.r], nil
}

// next consumes the byte that Peek gave.
func (l *Lexer) next() error {
	if l.used >= l.limits.Command {
		return &LimitError{Offset: l.off, What: "command", Limit: l.limits.Command}
	}
	l.used++
	l.consume()
	return nil
}

func (l *Lexer) consume() {
	c := l.buf[l.r]
	l.r++
	l.off++
	if l.tail.state != 0 || c == '{' {
		l.tail.step(c)
	}
}

// Unexpected makes the error for a command that should have had want here.
func (l *Lexer) Unexpected(want string) error {
	c, err := l.Peek()
	if err != nil {
		return err
	}
	if l.used >= l.limits.Command && c != '\r' && c != '\n' {
		return &LimitError{Offset: l.off, What: "command", Limit: l.limits.Command} // what Accept could not tell
	}
	got := strconv.QuoteRuneToASCII(rune(c))
	switch {
	case c == '\r' || c == '\n':
		got = "the end of the line"
	case c == ' ':
		got = "a space"
	case c >= 0x80:
		got = "byte 0x" + strconv.FormatUint(uint64(c), 16)
	}
	return &SyntaxError{Offset: l.off, Want: want, Got: got}
}

// Accept consumes the next byte when it is c, and reports whether it was. After an
// error of the stream it reports false; the next call tells the error.
func (l *Lexer) Accept(c byte) bool {
	got, err := l.Peek()
	return err == nil && got == c && l.next() == nil
}

// Expect consumes c or fails.
func (l *Lexer) Expect(c byte) error {
	got, err := l.Peek()
	if err != nil {
		return err
	}
	if got != c {
		return l.Unexpected(strconv.QuoteRune(rune(c)))
	}
	return l.next()
}

// SP consumes one space.
func (l *Lexer) SP() error {
	if l.Accept(' ') {
		return nil
	}
	if c, err := l.Peek(); err != nil || c != ' ' {
		return l.Unexpected("a space")
	}
	return l.next() // for its LimitError
}

// AtEnd reports whether the command ends here.
func (l *Lexer) AtEnd() bool {
	c, err := l.Peek()
	return err == nil && (c == '\r' || c == '\n')
}

// End consumes the end of the command. Spaces before it and a bare LF are
// accepted: hand-written clients send both.
func (l *Lexer) End() error {
	for {
		c, err := l.Peek()
		if err != nil {
			return err
		}
		switch c {
		case ' ':
			if err := l.next(); err != nil {
				return err
			}
			continue
		case '\r':
			l.consume()
			if c, err = l.Peek(); err != nil {
				return err
			}
			if c != '\n' {
				return l.Unexpected("LF after CR")
			}
			fallthrough
		case '\n':
			l.consume()
			l.finish()
			return nil
		}
		return l.Unexpected("the end of the command")
	}
}

// Skip goes to the end of the command, wherever it stands in it, over the
// literals that are on their way. A literal that was not invited ends the
// command. Afterwards Wait is next. It fails with ErrSwallow or as the stream does.
func (l *Lexer) Skip() error {
	left := l.limits.Swallow
	for !l.ended {
		if l.lit != nil {
			if l.lit.Sync && !l.lit.invited {
				l.lit = nil
				l.finish()
				return nil
			}
			if l.lit.left > left {
				return ErrSwallow
			}
			left -= l.lit.left
			for l.lit != nil {
				if err := l.fill(); err != nil {
					return err
				}
				l.lit.take(l.w - l.r)
			}
		}
		for {
			if err := l.fill(); err != nil {
				return err
			}
			c := l.buf[l.r]
			if c == '\n' {
				break
			}
			if left--; left < 0 {
				return ErrSwallow
			}
			l.consume()
		}
		tail := l.tail
		l.consume()
		l.tail.state = 0
		if tail.state != tailNonSync {
			l.finish()
			return nil
		}
		l.open(&Literal{Size: tail.size})
	}
	return nil
}

// Line reads the rest of the line, without its end: DONE, or a response to a SASL
// challenge. Longer ones are a *LimitError.
func (l *Lexer) Line() (string, error) {
	return l.run("", func(c byte) bool { return c != '\r' && c != '\n' }, true)
}

// run consumes bytes while ok and gives them; what names them in errors.
func (l *Lexer) run(what string, ok func(byte) bool, empty bool) (string, error) {
	var gathered []byte
	for {
		if err := l.fill(); err != nil {
			return "", err
		}
		i := l.r
		for i < l.w && ok(l.buf[i]) {
			i++
		}
		n := int64(i - l.r)
		if left := l.limits.Command - l.used; n > left {
			for range left { // what Skip has left to pass over does not depend on how bytes come
				l.consume()
			}
			l.used += left
			return "", &LimitError{Offset: l.off, What: "command", Limit: l.limits.Command}
		}
		piece := l.buf[l.r:i]
		for range piece {
			l.consume()
		}
		l.used += n
		if l.r < l.w { // it ends here
			if len(gathered) == 0 && len(piece) == 0 && !empty {
				return "", l.Unexpected(what)
			}
			if gathered == nil {
				return string(piece), nil
			}
			return string(append(gathered, piece...)), nil
		}
		gathered = append(gathered, piece...)
	}
}

// Character classes of RFC 9051 section 9.
const (
	classAtom    = 1 << iota // ATOM-CHAR
	classAString             // ASTRING-CHAR: ATOM-CHAR and "]"
	classList                // list-char: ASTRING-CHAR and wildcards
	classTag                 // ASTRING-CHAR without "+"
)

var classes = func() (t [256]uint8) {
	for c := 0x21; c < 0x7f; c++ {
		switch c {
		case '(', ')', '{', '"', '\\':
		case '%', '*':
			t[c] = classList
		case ']':
			t[c] = classAString | classList | classTag
		case '+':
			t[c] = classAtom | classAString | classList
		default:
			t[c] = classAtom | classAString | classList | classTag
		}
	}
	return t
}()

func (l *Lexer) class(what string, mask uint8) (string, error) {
	return l.run(what, func(c byte) bool { return classes[c]&mask != 0 }, false)
}

// Tag reads the tag of a command. Long ones are refused: they are echoed.
func (l *Lexer) Tag() (string, error) {
	tag, err := l.class("a tag", classTag)
	if err == nil && len(tag) > 255 {
		return "", &SyntaxError{Offset: 0, Want: "a tag of at most 255 bytes", Got: strconv.Itoa(len(tag))}
	}
	return tag, err
}

// Atom reads an atom.
func (l *Lexer) Atom() (string, error) { return l.class("an atom", classAtom) }

// Keyword reads an atom that is a word of the protocol, and gives it in capitals.
func (l *Lexer) Keyword() (string, error) {
	s, err := l.class("a word", classAtom)
	return strings.ToUpper(s), err
}

// AString reads an astring: an atom, where "]" is allowed, or a string.
func (l *Lexer) AString() (string, error) {
	return l.classOrString("a string or an atom", classAString)
}

// ListMailbox reads the pattern of LIST, where wildcards are allowed without quotes.
func (l *Lexer) ListMailbox() (string, error) {
	return l.classOrString("a mailbox pattern", classList)
}

func (l *Lexer) classOrString(what string, mask uint8) (string, error) {
	c, err := l.Peek()
	if err != nil {
		return "", err
	}
	if c == '"' || c == '{' {
		return l.String()
	}
	return l.class(what, mask)
}

// NString reads a string or NIL; ok is false for NIL.
func (l *Lexer) NString() (s string, ok bool, err error) {
	c, err := l.Peek()
	if err != nil {
		return "", false, err
	}
	if c != 'N' && c != 'n' {
		s, err = l.String()
		return s, err == nil, err
	}
	at := l.off
	s, err = l.Keyword()
	if err == nil && s != "NIL" {
		err = &SyntaxError{Offset: at, Want: "a string or NIL", Got: shown(s)}
	}
	return "", false, err
}

// String reads a quoted string or gathers a literal. UTF-8 is accepted in both,
// as IMAP4rev2 has it and clients of IMAP4rev1 send it; NUL is not.
func (l *Lexer) String() (string, error) {
	c, err := l.Peek()
	if err != nil {
		return "", err
	}
	switch c {
	case '"':
		return l.quoted()
	case '{':
		lit, err := l.Literal()
		if err != nil {
			return "", err
		}
		return lit.gather()
	}
	return "", l.Unexpected("a string")
}

func (l *Lexer) quoted() (string, error) {
	start := l.off
	if err := l.next(); err != nil {
		return "", err
	}
	var out []byte
	for {
		c, err := l.Peek()
		if err != nil {
			return "", err
		}
		switch c {
		case '"':
			if err := l.next(); err != nil {
				return "", err
			}
			if !utf8.Valid(out) {
				return "", &SyntaxError{Offset: start, Want: "quoted string is not valid UTF-8"}
			}
			return string(out), nil
		case '\\':
			if err := l.next(); err != nil {
				return "", err
			}
			// RFC 9051 section 9 allows only \" and \\; a client that quotes another
			// character surely means that character.
			if c, err = l.Peek(); err != nil {
				return "", err
			}
		}
		if c == 0 || c == '\r' || c == '\n' {
			return "", l.Unexpected(`the closing '"'`)
		}
		if err := l.next(); err != nil {
			return "", err
		}
		out = append(out, c)
	}
}

// Number reads a number of 32 bits.
func (l *Lexer) Number() (uint32, error) {
	n, err := l.number("a number", 1<<32-1)
	return uint32(n), err
}

// Number64 reads a number of 63 bits.
func (l *Lexer) Number64() (int64, error) {
	n, err := l.number("a number", 1<<63-1)
	return int64(n), err
}

// NZNumber reads a number of 32 bits that is not zero.
func (l *Lexer) NZNumber() (uint32, error) {
	at := l.off
	n, err := l.number("a number above 0", 1<<32-1)
	if err == nil && n == 0 {
		return 0, &SyntaxError{Offset: at, Want: "a number above 0", Got: "0"}
	}
	return uint32(n), err
}

func (l *Lexer) number(what string, limit uint64) (uint64, error) {
	at := l.off
	var n uint64
	for digits := 0; ; digits++ {
		c, err := l.Peek()
		if err != nil {
			return 0, err
		}
		if c < '0' || c > '9' {
			if digits == 0 {
				return 0, l.Unexpected(what)
			}
			return n, nil
		}
		d := uint64(c - '0')
		if n > (limit-d)/10 {
			return 0, &SyntaxError{Offset: at, Want: "number is above " + strconv.FormatUint(limit, 10)}
		}
		if err := l.next(); err != nil {
			return 0, err
		}
		n = n*10 + d
	}
}

// List reads "(", the items with item, one space between them, and ")". The list
// may be empty. Nested lists are the caller's: item may call List, to a depth
// that it bounds.
func (l *Lexer) List(item func() error) error {
	if err := l.Expect('('); err != nil {
		return err
	}
	if l.Accept(')') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if l.Accept(')') {
			return nil
		}
		if c, err := l.Peek(); err != nil || c != ' ' {
			return l.Unexpected("a space or ')'")
		}
		if err := l.next(); err != nil {
			return err
		}
	}
}
