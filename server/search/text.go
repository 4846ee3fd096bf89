package search

import (
	"bytes"
	"context"
	"errors"

	"roost/message"
)

// chunk is how much folded text is gathered before it is looked through.
const chunk = 32 << 10

// errFound stops a stream in which all was found.
var errFound = errors.New("all was found")

// A matcher looks for texts in streams of UTF-8, one after the other. It holds the end of
// what went by, so that a text that two writes cut apart is found.
type matcher struct {
	ctx     context.Context
	turns   turns
	needles [][]byte // folded
	found   []bool   // of each needle
	active  []int    // the needles that are looked for in this stream
	longest int      // of those, in bytes

	text   message.Folder // what is written to the matcher goes here first
	buf    []byte         // folded text
	looked int            // how much of buf was looked through
}

// start begins a new stream for those of wanted that were not found yet, and
// reports whether there are any.
func (m *matcher) start(wanted []int) bool {
	m.active, m.longest, m.looked = m.active[:0], 0, 0
	m.buf = m.buf[:0]
	m.text.W = folded{m}
	m.text.Reset()
	for _, i := range wanted {
		if !m.found[i] {
			m.active = append(m.active, i)
			m.longest = max(m.longest, len(m.needles[i]))
		}
	}
	return len(m.active) > 0
}

// Write takes the next bytes. It fails with errFound when nothing is left to find.
func (m *matcher) Write(p []byte) (int, error) { return m.text.Write(p) }

// folded takes what the matcher was given, folded.
type folded struct{ m *matcher }

func (f folded) Write(p []byte) (int, error) {
	m := f.m
	m.buf = append(m.buf, p...)
	if len(m.buf)-m.looked >= max(chunk, m.longest) {
		if err := m.look(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
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
	m.turns.give()
	return m.ctx.Err()
}

// end ends the stream.
func (m *matcher) end() error {
	err := m.text.End()
	if err == nil {
		err = m.look()
	}
	if err != errFound {
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
		message.WriteField(m, f) // found or not shows in end
		if err := m.end(); err != nil {
			return err
		}
	}
	return nil
}
