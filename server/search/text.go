package search

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"unicode/utf8"

	"roost/message"
)

// chunk is how much folded text is gathered before it is looked through.
const chunk = 32 << 10

// errFound stops a stream in which all was found.
var errFound = errors.New("all was found")

// A matcher looks for texts in a stream of UTF-8. It holds the end of what went
// by, so that a text that two writes cut apart is found.
type matcher struct {
	ctx     context.Context
	needles [][]byte // folded
	found   []bool   // of each needle
	active  []int    // the needles that are looked for in this stream
	longest int      // of those, in bytes

	cut    []byte // the beginning of a character whose rest is to come
	buf    []byte // folded text
	looked int    // how much of buf was looked through
}

// start begins a new stream for those of wanted that were not found yet, and
// reports whether there are any.
func (m *matcher) start(wanted []int) bool {
	m.active, m.longest, m.looked = m.active[:0], 0, 0
	m.cut, m.buf = m.cut[:0], m.buf[:0]
	for _, i := range wanted {
		if !m.found[i] {
			m.active = append(m.active, i)
			m.longest = max(m.longest, len(m.needles[i]))
		}
	}
	return len(m.active) > 0
}

// Write takes the next bytes. It fails with errFound when nothing is left to find.
func (m *matcher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), chunk)]
		p = p[len(part):]
		m.fold(part)
		if len(m.buf)-m.looked >= max(chunk, m.longest) {
			if err := m.look(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// fold adds text to buf, and keeps back a character that is not complete.
func (m *matcher) fold(p []byte) {
	if len(m.cut) > 0 {
		for len(p) > 0 && !utf8.FullRune(m.cut) {
			m.cut, p = append(m.cut, p[0]), p[1:]
		}
		if !utf8.FullRune(m.cut) {
			return
		}
		m.buf = appendFold(m.buf, m.cut)
		m.cut = m.cut[:0]
	}
	end := len(p)
	for back := 1; back <= min(utf8.UTFMax-1, len(p)); back++ {
		if utf8.RuneStart(p[len(p)-back]) {
			if !utf8.FullRune(p[len(p)-back:]) {
				end = len(p) - back
			}
			break
		}
	}
	m.buf = appendFold(m.buf, p[:end])
	m.cut = append(m.cut, p[end:]...)
}

// look looks through what is new in buf, and keeps what the next text may begin in.
func (m *matcher) look() error {
	left := m.active[:0]
	for _, i := range m.active {
		from := max(0, m.looked-len(m.needles[i])+1)
		if bytes.Contains(m.buf[from:], m.needles[i]) {
			m.found[i] = true
		} else {
			left = append(left, i)
		}
	}
	m.active = left
	keep := min(len(m.buf), max(0, m.longest-1))
	m.buf = append(m.buf[:0], m.buf[len(m.buf)-keep:]...)
	m.looked = keep
	if len(left) == 0 {
		return errFound
	}
	// Long text goes by here, with nothing in between that gives others their turn.
	runtime.Gosched()
	return m.ctx.Err()
}

// end ends the stream.
func (m *matcher) end() error {
	m.buf = appendFold(m.buf, m.cut)
	m.cut = m.cut[:0]
	if err := m.look(); err != nil && err != errFound {
		return err
	}
	return nil
}

// header looks through a header, field by field.
func (m *matcher) header(header []byte, wanted []int) error {
	for f := range message.Fields(header) {
		if !m.start(wanted) {
			return nil
		}
		io.WriteString(m, string(f.Name)+": ") // found or not shows in end
		io.WriteString(m, message.DecodeText(f.Value))
		if err := m.end(); err != nil {
			return err
		}
	}
	return nil
}
