package wire

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
)

// The first buffer of an answer is what one TLS record holds. When that was full more is
// to come, and what follows goes in larger pieces: each is a call of the system, and may
// wake the client.
const (
	encoderBytes = 16 << 10
	wideBytes    = 64 << 10
)

var (
	encoderPool = sync.Pool{New: func() any { b := make([]byte, 0, encoderBytes); return &b }}
	widePool    = sync.Pool{New: func() any { b := make([]byte, 0, wideBytes); return &b }}
)

// giveBack puts a buffer into its pool.
func giveBack(b *[]byte) {
	*b = (*b)[:0]
	if cap(*b) == wideBytes {
		widePool.Put(b)
	} else {
		encoderPool.Put(b)
	}
}

// ErrShortLiteral is returned when a literal had fewer bytes than were announced:
// the client would take what follows for the rest, so the connection must end.
var ErrShortLiteral = errors.New("literal is shorter than announced")

// Encoder writes responses. Methods chain, and after the first error of the stream
// do nothing; Flush and Err tell it. It holds a pooled buffer only while something
// is in it. One goroutine at a time.
type Encoder struct {
	// UTF8 says that the client knows UTF-8 in quoted strings and mailbox names: it
	// enabled IMAP4rev2 or UTF8=ACCEPT.
	UTF8 bool

	// Tap is where somebody may look at the responses; nil: nowhere.
	Tap *Tap

	w   io.Writer
	buf *[]byte
	err error
	n   int64

	watch  Watch // of the buffer; nil: nobody
	told   int   // (*buf)[told:] was not shown to it yet
	hidden bool  // what is appended is a literal's
}

// NewEncoder writes to w: first up to 16 KiB, then pieces of 64.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Err is the first error of the stream.
func (e *Encoder) Err() error { return e.err }

// Fail has nothing be written any more, as after an error of the stream.
func (e *Encoder) Fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// Written counts the bytes handed to the stream.
func (e *Encoder) Written() int64 { return e.n }

// Flush writes what was gathered and gives the buffer back.
func (e *Encoder) Flush() error {
	if e.buf == nil {
		return e.err
	}
	e.write(*e.buf)
	giveBack(e.buf)
	e.buf = nil
	return e.err
}

func (e *Encoder) write(p []byte) {
	e.show()
	e.told = 0
	if e.err != nil || len(p) == 0 {
		return
	}
	n, err := e.w.Write(p)
	e.n += int64(n)
	e.err = err
}

// room makes sure that a buffer is there with n bytes free; n is at most half of it.
func (e *Encoder) room(n int) {
	if e.buf == nil {
		e.buf = encoderPool.Get().(*[]byte)
		e.watch = e.Tap.now()
	}
	if cap(*e.buf)-len(*e.buf) < n {
		e.write(*e.buf)
		*e.buf = (*e.buf)[:0]
		if cap(*e.buf) == encoderBytes {
			giveBack(e.buf)
			e.buf = widePool.Get().(*[]byte)
		}
	}
}

// Write appends bytes as they are. Many are not copied: they fill what is left of the
// buffer, and follow it as they are.
func (e *Encoder) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && e.err == nil {
		e.room(1)
		if len(p) >= wideBytes && len(*e.buf) == 0 && e.watch == nil {
			whole := len(p) - len(p)%wideBytes
			e.write(p[:whole])
			p = p[whole:]
			continue
		}
		n := min(len(p), cap(*e.buf)-len(*e.buf))
		*e.buf = append(*e.buf, p[:n]...)
		p = p[n:]
	}
	return total - len(p), e.err
}

// Free is an empty slice over at least n free bytes of the buffer, n at most 8,192: what is
// appended to it and handed to Write next is not copied again. More than fits is no harm.
func (e *Encoder) Free(n int) []byte {
	e.room(n)
	return (*e.buf)[len(*e.buf):]
}

// Raw appends s as it is.
func (e *Encoder) Raw(s string) *Encoder {
	for len(s) > 0 && e.err == nil {
		e.room(1)
		n := min(len(s), cap(*e.buf)-len(*e.buf))
		*e.buf = append(*e.buf, s[:n]...)
		s = s[n:]
	}
	return e
}

// SP appends a space.
func (e *Encoder) SP() *Encoder { return e.Raw(" ") }

// CRLF ends a line.
func (e *Encoder) CRLF() *Encoder { return e.Raw("\r\n") }

// Number appends a number.
func (e *Encoder) Number(n uint64) *Encoder {
	e.room(20)
	*e.buf = strconv.AppendUint(*e.buf, n, 10)
	return e
}

// Untagged begins an untagged line that starts with a number: "* 5 ".
func (e *Encoder) Untagged(n uint32) *Encoder { return e.Raw("* ").Number(uint64(n)).SP() }

// Line appends an untagged line whole: "* " s CRLF.
func (e *Encoder) Line(s string) *Encoder { return e.Raw("* ").Raw(s).CRLF() }

// String appends a string, quoted where it can be and as a literal else. NUL, which
// no string may hold, is left out.
func (e *Encoder) String(s string) *Encoder {
	quotable := len(s) <= 4096
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0:
			return e.String(strings.ReplaceAll(s, "\x00", ""))
		case c == '\r' || c == '\n' || c >= 0x80 && !e.UTF8:
			quotable = false
		}
	}
	if quotable && e.UTF8 && !validUTF8(s) {
		quotable = false
	}
	if !quotable {
		e.Raw("{").Number(uint64(len(s))).Raw("}\r\n").hide(true)
		e.Raw(s).hide(false)
		return e
	}
	e.Raw(`"`)
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			return e.Raw(s).Raw(`"`)
		}
		e.Raw(s[:i]).Raw(`\`).Raw(s[i : i+1])
		s = s[i+1:]
	}
}

func validUTF8(s string) bool { return strings.ToValidUTF8(s, "") == s }

// NString appends a string, or NIL when ok is false.
func (e *Encoder) NString(s string, ok bool) *Encoder {
	if !ok {
		return e.Raw("NIL")
	}
	return e.String(s)
}

// AString appends an atom where s is one, else a string.
func (e *Encoder) AString(s string) *Encoder {
	for i := 0; i < len(s); i++ {
		if classes[s[i]]&classAString == 0 {
			return e.String(s)
		}
	}
	if s == "" || strings.EqualFold(s, "NIL") {
		return e.String(s)
	}
	return e.Raw(s)
}

// Mailbox appends a mailbox name: as UTF-8 for those who know it, else in modified
// UTF-7. Atoms stay atoms; clients break on literals here.
func (e *Encoder) Mailbox(name string) *Encoder {
	if !e.UTF8 {
		name = EncodeMailbox(name)
	}
	return e.AString(name)
}

// Flags appends a list of flags in parentheses.
func (e *Encoder) Flags(flags []imap.Flag) *Encoder {
	e.Raw("(")
	for i, f := range flags {
		if i > 0 {
			e.SP()
		}
		e.Raw(string(f))
	}
	return e.Raw(")")
}

// DateTime appends a quoted date-time.
func (e *Encoder) DateTime(t time.Time) *Encoder {
	e.room(40)
	*e.buf = AppendDateTime(*e.buf, t)
	return e
}

// UIDs appends a sequence-set of UIDs, in their order.
func (e *Encoder) UIDs(uids []imap.UID) *Encoder { return e.Raw(string(AppendSet(nil, uids))) }

// Nums appends a sequence-set of message sequence numbers.
func (e *Encoder) Nums(nums []uint32) *Encoder { return e.Raw(string(AppendSet(nil, nums))) }

// UnixTime appends a quoted date-time in UTC.
func (e *Encoder) UnixTime(sec int64) *Encoder {
	e.room(40)
	*e.buf = AppendUnixTime(*e.buf, sec)
	return e
}

// LiteralBytes appends b as a literal; NUL becomes 0x80 as in Literal.
func (e *Encoder) LiteralBytes(b []byte) *Encoder {
	e.Raw("{").Number(uint64(len(b))).Raw("}\r\n").hide(true)
	w := literalWriter{e: e, left: int64(len(b))}
	w.Write(b) // an error stays in e
	e.hide(false)
	return e
}

// Literal appends a literal of size bytes that from writes. When it writes fewer
// the encoder is at an end, for the client can no longer tell what is what. What
// it writes beyond size is dropped. NUL, which a literal may not hold
// (RFC 9051 section 9, literal), becomes 0x80 as with other servers: the length
// and all else stay.
func (e *Encoder) Literal(size int64, from func(w io.Writer) error) error {
	return e.Raw("{").literal(size, false, from)
}

// Literal8 is Literal for the form that may hold NUL (RFC 3516 section 4.4).
func (e *Encoder) Literal8(size int64, from func(w io.Writer) error) error {
	return e.Raw("~{").literal(size, true, from)
}

func (e *Encoder) literal(size int64, binary bool, from func(w io.Writer) error) error {
	e.Number(uint64(size)).Raw("}\r\n").hide(true)
	defer e.hide(false)
	w := &literalWriter{e: e, left: size, binary: binary}
	err := from(w)
	if w.left > 0 && e.err == nil {
		e.err = errors.Join(ErrShortLiteral, err)
	}
	return e.err
}

type literalWriter struct {
	e      *Encoder
	left   int64
	binary bool
}

// Room implements store.Roomy.
func (w *literalWriter) Room() []byte { return w.e.Free(literalRoom) }

// literalRoom is store.RoomBytes, of which this package knows nothing.
const literalRoom = 4 << 10

func (w *literalWriter) Write(p []byte) (int, error) {
	n := int(min(int64(len(p)), w.left))
	w.left -= int64(n)
	q := p[:n]
	for !w.binary {
		i := bytes.IndexByte(q, 0)
		if i < 0 {
			break
		}
		if _, err := w.e.Write(q[:i]); err != nil {
			return 0, err
		}
		w.e.Raw("\x80")
		q = q[i+1:]
	}
	if _, err := w.e.Write(q); err != nil {
		return 0, err
	}
	return len(p), nil
}
