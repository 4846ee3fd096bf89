package deflate

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// dictionary is how much of what was written a Writer keeps, in bytes. Of short answers
// 512 give nearly all that there is to gain (89% of their size become 40; with 8 KiB 38),
// of long ones a few per cent less.
const dictionary = 512

// A Writer compresses to dst. What a Write was given can be read by the peer at once, so
// gather before. One goroutine at a time.
type Writer struct {
	dst io.Writer

	tail [dictionary]byte // the last n bytes that were written
	n    int
}

// NewWriter begins a stream on dst.
func NewWriter(dst io.Writer) *Writer { return &Writer{dst: dst} }

var (
	outputs = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	// Of base64, in which there is nothing to repeat, Huffman codes alone leave three
	// quarters.
	huffmans = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.HuffmanOnly) // fails for unknown levels only
		return w
	}}
)

// Write compresses p and writes it in one piece.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // the stream would grow by a marker
	}
	return w.write(p, false)
}

// WriteLast is a Write that ends the stream with the last byte of p, behind which the
// peer finds nothing more of it.
func (w *Writer) WriteLast(p []byte) (int, error) { return w.write(p, true) }

func (w *Writer) write(p []byte, last bool) (int, error) {
	out := outputs.Get().(*bytes.Buffer)
	defer outputs.Put(out)
	out.Reset()
	w.compress(out, p, last) // a Buffer takes all
	if _, err := w.dst.Write(out.Bytes()); err != nil {
		return 0, err
	}
	w.remember(p)
	return len(p), nil
}

// worthwhile is the size from which a second try may gain something.
const worthwhile = 1 << 10

func (w *Writer) compress(out *bytes.Buffer, p []byte, last bool) {
	flate.StatelessDeflate(out, p, last, w.tail[:w.n])
	if len(p) < worthwhile || last || out.Len() < len(p)-len(p)/16 {
		return
	}
	out.Reset()
	h := huffmans.Get().(*flate.Writer)
	h.Reset(out)
	h.Write(p)
	h.Flush()
	h.Reset(nil)
	huffmans.Put(h)
}

// remember keeps the end of what was written.
func (w *Writer) remember(p []byte) {
	if len(p) >= dictionary {
		w.n = copy(w.tail[:], p[len(p)-dictionary:])
		return
	}
	if over := w.n + len(p) - dictionary; over > 0 {
		w.n = copy(w.tail[:], w.tail[over:w.n])
	}
	w.n += copy(w.tail[w.n:], p)
}
