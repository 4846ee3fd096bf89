package maildir

import (
	"bytes"
	"errors"
	"io"
	"sort"
	"sync"
)

// Messages go to clients with CRLF at every line end, and all offsets count them so,
// while most files have LF. A bare LF becomes CRLF; a CR that no LF follows, and NUL,
// are data. Nothing is held whole: one pass through the file notes where it is every
// 64 KiB, and any range is then converted from the nearest note on.

// crlfStride is how many bytes of a file lie between two notes: 24 bytes of memory
// each, so that a message of 64 MiB costs 24 KiB.
const crlfStride = 64 << 10

// crlfMark is one place in both countings.
type crlfMark struct {
	raw, wire int64 // offset in the file, and with CRLF
	cr        bool  // the byte before is a CR, so that a LF here is no bare one
}

// crlfTable is the result of the one pass.
type crlfTable struct {
	marks []crlfMark // ascending; the first is the start
	end   crlfMark
}

// size is the length with CRLF.
func (t *crlfTable) size() int64 { return t.end.wire }

// before gives the last noted place that is not behind the offset off.
func (t *crlfTable) before(off int64) crlfMark {
	if t.end.raw == t.end.wire { // CRLF everywhere: both countings are one
		return crlfMark{raw: off, wire: off, cr: true}
	}
	i := sort.Search(len(t.marks), func(i int) bool { return t.marks[i].wire > off })
	return t.marks[i-1]
}

// crlfBuffers hold a stride of a file while it is read.
var crlfBuffers = sync.Pool{New: func() any { return new([crlfStride]byte) }}

// scanCRLF reads a message through.
func scanCRLF(r io.Reader) (*crlfTable, error) {
	buf := crlfBuffers.Get().(*[crlfStride]byte)
	defer crlfBuffers.Put(buf)
	t := &crlfTable{marks: []crlfMark{{}}}
	for at := (crlfMark{}); ; {
		n, err := io.ReadFull(r, buf[:])
		at = at.after(buf[:n])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if t.end = at; at.raw == at.wire {
				t.marks = nil // never asked
			}
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		t.marks = append(t.marks, at)
	}
}

// after is the place behind b, which begins at m.
func (m crlfMark) after(b []byte) crlfMark {
	if len(b) == 0 {
		return m
	}
	bare := bytes.Count(b, []byte{'\n'}) - bytes.Count(b, []byte("\r\n"))
	if m.cr && b[0] == '\n' {
		bare--
	}
	return crlfMark{raw: m.raw + int64(len(b)), wire: m.wire + int64(len(b)+bare), cr: b[len(b)-1] == '\r'}
}

// copyCRLF writes n bytes from the offset off with CRLF. r stands at the place at,
// which is not behind off. It returns early without error when r ends.
func copyCRLF(w io.Writer, r io.Reader, at crlfMark, off, n int64) (written int64, err error) {
	in := crlfBuffers.Get().(*[crlfStride]byte)
	out := crlfBuffers.Get().(*[crlfStride]byte)
	defer crlfBuffers.Put(in)
	defer crlfBuffers.Put(out)
	skip := off - at.wire
	prev := byte(0)
	if at.cr {
		prev = '\r'
	}
	filled := 0
	flush := func() error {
		k, err := w.Write(out[:filled])
		written += int64(k)
		filled = 0
		return err
	}
	put := func(b []byte) error {
		if drop := min(skip, int64(len(b))); drop > 0 {
			skip -= drop
			b = b[drop:]
		}
		b = b[:min(int64(len(b)), n)]
		n -= int64(len(b))
		for len(b) > 0 {
			if filled == len(out) {
				if err := flush(); err != nil {
					return err
				}
			}
			k := copy(out[filled:], b)
			filled, b = filled+k, b[k:]
		}
		return nil
	}
	for n > 0 {
		k, readErr := r.Read(in[:min(int64(len(in)), skip+n)])
		for b := in[:k]; len(b) > 0 && n > 0; {
			i := bytes.IndexByte(b, '\n')
			line := b
			if i >= 0 {
				line = b[:i]
			}
			if err := put(line); err != nil {
				return written, err
			}
			if len(line) > 0 {
				prev = line[len(line)-1]
			}
			if i < 0 {
				break
			}
			end := []byte("\r\n")
			if prev == '\r' {
				end = end[1:]
			}
			if err := put(end); err != nil {
				return written, err
			}
			prev, b = '\n', b[i+1:]
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			err = unreadable(readErr)
			break
		}
	}
	if flushErr := flush(); flushErr != nil {
		err = flushErr
	}
	return written, err
}
