package maildir

import (
	"bytes"
	"errors"
	"io"
	"sort"
	"sync"

	"roost/store"
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

// asStored: CRLF everywhere, so that both countings are one.
func (t *crlfTable) asStored() bool { return t.end.raw == t.end.wire }

// before gives the last noted place that is not behind the offset off.
func (t *crlfTable) before(off int64) crlfMark {
	if t.asStored() {
		return crlfMark{raw: off, wire: off, cr: true}
	}
	return lastMark(t.marks, off)
}

// lastMark is the last of marks, of which the first is the start, that is not behind off.
func lastMark(marks []crlfMark, off int64) crlfMark {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].wire > off })
	return marks[i-1]
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

// A cursor reads a message from its file once, in as many pieces as are asked for, each
// behind the one before. One goroutine at a time.
type cursor struct {
	r    io.ReadCloser // bytes of the message as they were stored
	at   crlfMark      // of rest, and where that is empty of what r gives next
	rest []byte        // read, and not wanted yet
}

// copy writes n bytes from the offset off with CRLF; the cursor is not behind off. It
// returns early without error when the message ends. After an error the cursor is of no
// use any more. Errors of reading wrap ErrUnreadable.
func (c *cursor) copy(w io.Writer, off, n int64) (int64, error) {
	in := crlfBuffers.Get().(*[crlfStride]byte)
	defer crlfBuffers.Put(in)
	out := crlfWriter{skip: off - c.at.wire, left: n}
	defer out.to(w)()
	for out.left > 0 {
		b := c.rest
		var readErr error
		if len(b) == 0 {
			var k int
			k, readErr = c.r.Read(in[:min(int64(len(in)), out.skip+out.left)])
			b = in[:k]
		}
		used, err := c.convert(b, &out)
		if err != nil {
			return out.written, err
		}
		if b = b[used:]; len(c.rest) > 0 {
			c.rest = b
		} else {
			c.rest = bytes.Clone(b) // few: at most as many as there were bare LFs
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			if err := out.flush(); err != nil {
				return out.written, err
			}
			return out.written, unreadable(readErr)
		}
	}
	return out.written, out.flush()
}

// convert writes what is wanted of b, which is what the cursor stands before, and moves
// the cursor over it. Of a bare LF whose CR alone is wanted it stays in front.
func (c *cursor) convert(b []byte, out *crlfWriter) (used int, err error) {
	for used < len(b) && out.left > 0 {
		if out.skip == 0 {
			// So many bytes are wanted, whatever they become.
			if n := min(int64(len(b)-used), out.left/2); n > 100 {
				if err := c.bulk(b[used:used+int(n)], out); err != nil {
					return used, err
				}
				used += int(n)
				continue
			}
		}
		line := b[used:]
		i := bytes.IndexByte(line, '\n')
		if i >= 0 {
			line = line[:i]
		}
		if n := min(int64(len(line)), out.skip+out.left); n > 0 {
			line = line[:n]
			if err := out.put(line); err != nil {
				return used, err
			}
			used += len(line)
			c.at = crlfMark{c.at.raw + n, c.at.wire + n, line[n-1] == '\r'}
		}
		if i < 0 || i > len(line) || out.left == 0 {
			continue
		}
		end := []byte("\r\n")
		if c.at.cr {
			end = end[1:]
		}
		if whole := out.skip+out.left >= int64(len(end)); !whole {
			return used, out.put(end[:1])
		}
		if err := out.put(end); err != nil {
			return used, err
		}
		used++
		c.at = crlfMark{c.at.raw + 1, c.at.wire + int64(len(end)), false}
	}
	return used, nil
}

// bulk writes b, all of which is wanted.
func (c *cursor) bulk(b []byte, out *crlfWriter) error {
	at := crlfMark{c.at.raw + int64(len(b)), c.at.wire + out.left, b[len(b)-1] == '\r'}
	cr := c.at.cr
	buf, n := out.buf, out.filled // out is told where it matters: this loop is the cost of all mail
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		line, end := b, 0
		if i >= 0 {
			line, end = b[:i], 2
		}
		if len(buf)-n < len(line)+end {
			out.fill(n)
			if err := out.flush(); err != nil {
				return err
			}
			for buf, n = out.buf, 0; len(line)+end > len(buf); buf = out.buf {
				k := copy(buf, line)
				cr, line = line[k-1] == '\r', line[k:]
				out.fill(k)
				if err := out.flush(); err != nil {
					return err
				}
			}
		}
		if len(line) > 0 {
			cr = line[len(line)-1] == '\r'
		}
		n += copy(buf[n:], line)
		if i < 0 {
			break
		}
		if !cr {
			buf[n] = '\r'
			n++
		}
		buf[n] = '\n'
		n++
		cr = false
		b = b[i+1:]
	}
	out.fill(n)
	at.wire -= out.left
	c.at = at
	return nil
}

// crlfWriter drops skip bytes and passes on left more. What it makes it makes in buf, which
// is lent by w where w does.
type crlfWriter struct {
	w          io.Writer
	lender     store.Roomy // w; nil where it lends nothing
	skip, left int64
	written    int64
	buf        []byte
	filled     int
}

// to begins to write to w; what it returns gives the buffer back.
func (o *crlfWriter) to(w io.Writer) (done func()) {
	o.w = w
	if o.lender, _ = w.(store.Roomy); o.lender != nil {
		o.borrow()
		return func() {}
	}
	buf := crlfBuffers.Get().(*[crlfStride]byte)
	o.buf = buf[:]
	return func() { crlfBuffers.Put(buf) }
}

func (o *crlfWriter) borrow() {
	b := o.lender.Room()
	o.buf = b[:cap(b)]
}

// fill notes that buf holds n bytes by now, all of which are wanted.
func (o *crlfWriter) fill(n int) {
	o.left -= int64(n - o.filled)
	o.filled = n
}

func (o *crlfWriter) put(b []byte) error {
	drop := min(o.skip, int64(len(b)))
	o.skip -= drop
	b = b[drop:]
	b = b[:min(int64(len(b)), o.left)]
	o.left -= int64(len(b))
	for len(b) > 0 {
		if o.filled == len(o.buf) {
			if err := o.flush(); err != nil {
				return err
			}
		}
		k := copy(o.buf[o.filled:], b)
		o.filled, b = o.filled+k, b[k:]
	}
	return nil
}

func (o *crlfWriter) flush() error {
	if o.filled == 0 {
		return nil
	}
	k, err := o.w.Write(o.buf[:o.filled])
	o.written += int64(k)
	o.filled = 0
	if o.lender != nil && err == nil {
		o.borrow()
	}
	return err
}
