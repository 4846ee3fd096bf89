package trace

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// lineBytes is how much of a line is kept. Webmails send 20,000 UIDs in one command;
// the first few say what is the matter.
const lineBytes = 1 << 10

// hidden stands for what must not be seen.
const hidden = "[hidden]"

// From says who spoke.
type From string

const (
	Client From = "C"
	Server From = "S"
)

// A Mask is the wire.Watch of one connection.
type Mask struct {
	emit func(from From, text string)

	mu   sync.Mutex // guards all below; emit is called under it
	cmd  command
	resp response
	tags tags
	sasl string // tag of the AUTHENTICATE whose responses the client sends; "" for none
	asks string // tag of the AUTHENTICATE whose answer was not written; "" for none
	idle string // tag of the IDLE that no line has ended; "" for none
}

// NewMask gives each line to emit: printable, without its end, a little over lineBytes
// long at most. emit must not block, and is not called from two goroutines at once.
func NewMask(emit func(from From, text string)) *Mask {
	return &Mask{emit: emit, tags: tags{}}
}

// Decided says that an AUTHENTICATE is over though its answer was not written yet: what
// the client says next is a command again.
func (m *Mask) Decided() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sasl = ""
}

// line is one line as it comes, of which the first lineBytes are kept.
type line struct {
	b    []byte
	more int64    // bytes behind b
	last [24]byte // the last bytes before the line's end, to find {12345} behind a long line
	n    int      // bytes of last in use
}

func (l *line) add(b []byte) {
	n := min(len(b), lineBytes-len(l.b))
	l.b = append(l.b, b[:n]...)
	l.more += int64(len(b) - n)
	if k := len(l.last); len(b) >= k {
		l.n = copy(l.last[:], b[len(b)-k:])
	} else {
		keep := min(l.n, k-len(b))
		copy(l.last[:], l.last[l.n-keep:l.n])
		l.n = keep + copy(l.last[keep:], b)
	}
}

func (l *line) reset() { l.b, l.more, l.n = l.b[:0], 0, 0 }

func (l *line) empty() bool { return len(l.b) == 0 }

// text is the line without CR.
func (l *line) text() string {
	s := string(l.b)
	if l.more == 0 {
		s = strings.TrimSuffix(s, "\r")
	}
	return s
}

// rest says how much of the line is not in text.
func (l *line) rest() string {
	if l.more == 0 {
		return ""
	}
	n := l.more
	if l.last[l.n-1] == '\r' {
		n--
	}
	return "..." + size(n)
}

// announced is the size of the literal that the line announces at its end.
func (l *line) announced() (int64, bool) {
	s := strings.TrimSuffix(string(l.last[:l.n]), "\r")
	s, ok := strings.CutSuffix(s, "}")
	i := strings.LastIndexByte(s, '{')
	if !ok || i < 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(s[i+1:], "+"), 10, 64)
	return n, err == nil && n >= 0
}

// size shows a number of bytes in place of them.
func size(n int64) string {
	if n == 1 {
		return "[1 byte]"
	}
	return fmt.Sprintf("[%d bytes]", n)
}

// tell emits a line.
func (m *Mask) tell(from From, text string) { m.emit(from, Printable(text)) }

// Printable writes what a terminal might take for an order, and what is no UTF-8, as
// \x1b.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// tags are the commands that are not answered.
type tags map[string]asked

// asked are commands that have one tag in common: one, for a client in its senses.
type asked struct {
	n     int
	shown bool // the tag may be seen
	whole bool // all of the command was seen
}

// maxTags bounds tags: what is pipelined beyond is answered unseen.
const maxTags = 1000

// add notes a command. Where commands share a tag, what one hides is hidden for all.
func (t tags) add(tag string, shown, whole bool) {
	a, ok := t[tag]
	if !ok {
		if len(t) >= maxTags {
			return
		}
		a = asked{shown: true, whole: true}
	}
	t[tag] = asked{a.n + 1, a.shown && shown, a.whole && whole}
}

// taint notes that something of a command was not seen.
func (t tags) taint(tag string) {
	if a, ok := t[tag]; ok {
		a.whole = false
		t[tag] = a
	}
}

// answer takes a command off.
func (t tags) answer(tag string) asked {
	a := t[tag]
	if a.n > 1 {
		t[tag] = asked{a.n - 1, a.shown, a.whole}
	} else {
		delete(t, tag)
	}
	return a
}
