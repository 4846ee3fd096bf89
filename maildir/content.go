package maildir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"roost/maildir/fsys"
	"roost/store"
)

// content is an open file as the text of a message: packed.go says what the file may
// be, crlf.go how its line ends are told. What its name says of sizes is not asked: the
// first call that needs to know reads the file through. Safe for concurrent use.
//
// The beginning of the file is read as it is opened, which is enough for a header. Of most
// messages all is read once then, and held as long as they are open; of those that are
// longer nothing.
type content struct {
	file fsys.File
	size int64                                    // of the file
	open func(r io.Reader) (io.ReadCloser, error) // of a packed file: reads it as it was
	max  int64                                    // bytes that a packed file may unpack to

	mu      sync.Mutex // guards what follows
	buf     []byte     // of crlfBuffers or heldBuffers
	have    int        // bytes of the file that are in buf
	all     bool       // they are the whole file, which is not packed; not changed once table is set
	table   *crlfTable // nil: not read yet
	inBuf   crlfTable  // what table points to where all is set
	marks   []crlfMark // of the text in buf, where all is set and it is not as it goes to clients; nil: not asked
	failed  error      // why the file can never be read, as it is
	cursors []*cursor  // at rest; the one used last is the last

	// Guarded by shelf.mu.
	key  contentKey
	refs int
	idle time.Time // since when refs is 0
}

// maxCursors is how many readers of one file rest: two clients at once, or one
// that goes back to the header between the pieces of the body.
const maxCursors = 2

// newContent makes a message of an open file, which it takes over unless it fails:
// ErrUnsupported for what cannot be read, ErrUnreadable when reading fails. maxPacked
// bounds what a packed file may unpack to.
func newContent(f fsys.File, st fsys.Stat, maxPacked int64) (*content, error) {
	c := &content{file: f, size: st.Size, max: maxPacked, key: contentKey{st.Dev, st.Ino, st.Size, st.Mtime}}
	c.buf = crlfBuffers.Get().(*[crlfStride]byte)[:]
	if err := c.readTo(min(c.size, headBytes)); err != nil {
		c.drop()
		return nil, unreadable(err)
	}
	if p := packingOf(c.buf[:c.have]); p != nil {
		c.drop()
		if p.open == nil {
			return nil, &store.Explained{Err: store.ErrUnsupported, Text: "Message is stored with " + p.name + ", which is not supported"}
		}
		c.open, c.all = p.open, false
	}
	return c, nil
}

// headBytes is how much of a file is read as it is opened: more than most headers, and
// with them most messages.
const headBytes = 16 << 10

// What the shelf does not keep is held: it would be read twice else, for its length with CRLF
// is told before its text. heldBuffers are for what does not fit into one of crlfBuffers.
var heldBuffers = sync.Pool{New: func() any { return new([keepSize]byte) }}

// readTo has the file in buf up to an offset, or as far as there is a file.
func (c *content) readTo(end int64) error {
	if end > int64(len(c.buf)) {
		buf := heldBuffers.Get().(*[keepSize]byte)[:]
		copy(buf, c.buf[:c.have])
		freeBuffer(c.buf)
		c.buf = buf
	}
	if int64(c.have) < end {
		n, err := c.file.ReadAt(c.buf[c.have:end], int64(c.have))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if c.have += n; int64(c.have) < end { // another program made it shorter
			c.size = int64(c.have)
		}
	}
	c.all = int64(c.have) == c.size
	return nil
}

// drop gives buf back; the table, where there is one, does without. Nobody may read
// meanwhile.
func (c *content) drop() {
	if c.buf != nil {
		freeBuffer(c.buf)
		c.buf, c.have, c.marks = nil, 0, nil
	}
}

func freeBuffer(buf []byte) {
	if len(buf) == crlfStride {
		crlfBuffers.Put((*[crlfStride]byte)(buf))
	} else if len(buf) == keepSize {
		heldBuffers.Put((*[keepSize]byte)(buf))
	}
}

// packed reports whether the file holds something else than the message as it is.
func (c *content) packed() bool { return c.open != nil }

// offsets gives the table of line ends, which the first call makes. Others that
// come meanwhile wait for it.
func (c *content) offsets() (*crlfTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table != nil || c.failed != nil {
		return c.table, c.failed
	}
	if !c.packed() && c.size < keepSize {
		if err := c.readTo(c.size); err != nil {
			return nil, unreadable(err)
		}
		c.inBuf.end = crlfMark{}.after(c.buf[:c.have])
		c.table = &c.inBuf
		return c.table, nil
	}
	cur, err := c.from(crlfMark{})
	if err == nil {
		c.table, err = scanCRLF(cur.r)
		cur.r.Close()
	}
	if err != nil {
		err = unreadable(err)
		if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrLimit) {
			c.failed = err
		}
		return nil, err
	}
	if c.packed() {
		c.table.marks = nil // one cannot begin at them
	}
	return c.table, nil
}

// from gives a reader that begins at a mark, which is the start where the file is packed.
func (c *content) from(at crlfMark) (*cursor, error) {
	if !c.packed() {
		return &cursor{r: io.NopCloser(io.NewSectionReader(c.file, at.raw, c.size-at.raw)), at: at}, nil
	}
	in := bufio.NewReaderSize(io.NewSectionReader(c.file, 0, 1<<62), int(min(c.size+1, 32<<10)))
	r, err := c.open(in)
	if err != nil {
		return nil, unpackError(err)
	}
	return &cursor{r: &unpacker{r: r, left: c.max}}, nil
}

// take gives a reader for what begins at off: the nearest that rests before it, so that a
// message that is fetched piece by piece is unpacked or converted once and not once a piece.
func (c *content) take(off int64) (*cursor, error) {
	start := crlfMark{}
	if !c.packed() {
		start = c.table.before(off)
	}
	c.mu.Lock()
	best := -1
	for i, cur := range c.cursors {
		if cur.at.wire <= off && cur.at.wire >= start.wire && (best < 0 || cur.at.wire >= c.cursors[best].at.wire) {
			best = i
		}
	}
	var cur *cursor
	if best >= 0 {
		cur = c.cursors[best]
		c.cursors = slices.Delete(c.cursors, best, best+1)
	}
	c.mu.Unlock()
	if cur != nil {
		return cur, nil
	}
	return c.from(start)
}

// rest takes a reader back.
func (c *content) rest(cur *cursor, err error) {
	if err != nil || !c.packed() && c.table.asStored() || cur.at.raw == c.table.end.raw {
		cur.r.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cursors) == maxCursors {
		c.cursors[0].r.Close()
		c.cursors = slices.Delete(c.cursors, 0, 1)
	}
	c.cursors = append(c.cursors, cur)
}

// Size implements store.Message.
func (c *content) Size() (int64, error) {
	t, err := c.offsets()
	if err != nil {
		return 0, err
	}
	return t.size(), nil
}

// ReadAt implements io.ReaderAt over the text with CRLF.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the start of a message")
	}
	if c.peek(p, off) {
		return len(p), nil
	}
	b := sliceWriter{rest: p}
	n, err := c.WriteRange(&b, off, int64(len(p)))
	if err == nil && n < int64(len(p)) {
		err = io.EOF
	}
	return int(n), err
}

// peek fills p where what was read as the file was opened is enough for that. A header is
// read so, without a look at how long the message is.
func (c *content) peek(p []byte, off int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have == 0 || off > int64(c.have) {
		return false
	}
	if c.table != nil && c.table.asStored() {
		return copy(p, c.buf[off:c.have]) == len(p)
	}
	at := crlfMark{}
	switch {
	case c.table == nil || off < heldStride:
	case c.all:
		at = c.heldMarkLocked(off)
	default:
		return false // a cursor is nearer
	}
	cur := cursor{at: at}
	out := crlfWriter{skip: off - at.wire, left: int64(len(p)), buf: p}
	cur.convert(c.buf[at.raw:c.have], &out) // no error: p has room for all
	return out.left == 0
}

// heldStride is how many bytes of buf lie between two of marks.
const heldStride = 4 << 10

// heldMarkLocked is the last noted place of buf that is not behind the offset off.
func (c *content) heldMarkLocked(off int64) crlfMark {
	if c.marks == nil {
		at := crlfMark{}
		for text := c.buf[:c.have]; ; {
			c.marks = append(c.marks, at)
			if len(text) <= heldStride {
				break
			}
			at, text = at.after(text[:heldStride]), text[heldStride:]
		}
	}
	return lastMark(c.marks, off)
}

// sliceWriter fills a slice.
type sliceWriter struct{ rest []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	n := copy(w.rest, p)
	w.rest = w.rest[n:]
	if n < len(p) {
		return n, io.ErrShortBuffer
	}
	return n, nil
}

// WriteRange implements store.Message.
func (c *content) WriteRange(w io.Writer, off, n int64) (int64, error) {
	t, err := c.offsets()
	if err != nil {
		return 0, err
	}
	if n = min(n, t.size()-off); n <= 0 || off < 0 {
		return 0, nil
	}
	if c.all {
		return c.writeHeld(w, off, n)
	}
	cur, err := c.take(off)
	if err != nil {
		return 0, unreadable(err)
	}
	written, err := cur.copy(w, off, n)
	if err == nil && written < n {
		err = unreadable(errShrunk)
	}
	c.rest(cur, err)
	return written, err
}

// Stream implements store.Message.
func (c *content) Stream(w io.Writer) error {
	c.mu.Lock()
	err := c.failed
	if err == nil && !c.packed() && c.size <= crlfStride {
		err = c.readTo(c.size)
	}
	var text []byte
	if c.all {
		text = c.buf[:c.have]
	}
	c.mu.Unlock()
	if err != nil {
		return unreadable(err)
	}
	if text != nil {
		_, err := w.Write(text)
		return err
	}
	cur, err := c.from(crlfMark{})
	if err != nil {
		return unreadable(err)
	}
	defer cur.r.Close()
	buf := crlfBuffers.Get().(*[crlfStride]byte)
	defer crlfBuffers.Put(buf)
	for {
		n, err := cur.r.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreadable(err)
		}
	}
}

// writeHeld is WriteRange where the whole file is in buf.
func (c *content) writeHeld(w io.Writer, off, n int64) (int64, error) {
	text := c.buf[:c.have]
	if c.table.asStored() {
		k, err := w.Write(text[off : off+n])
		return int64(k), err
	}
	at := crlfMark{}
	if off >= heldStride {
		c.mu.Lock()
		at = c.heldMarkLocked(off)
		c.mu.Unlock()
	}
	cur := cursor{at: at}
	out := crlfWriter{skip: off - at.wire, left: n}
	defer out.to(w)()
	_, err := cur.convert(text[at.raw:], &out)
	if err == nil {
		err = out.flush()
	}
	return out.written, err
}

// errShrunk is what a reader meets whose file another program rewrites in place.
var errShrunk = fmt.Errorf("the file became shorter while it was read: %w", io.ErrUnexpectedEOF)

// close ends the use of the file.
func (c *content) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cur := range c.cursors {
		cur.r.Close()
	}
	c.cursors = nil
	c.drop()
	return c.file.Close()
}

// unreadable marks an error of reading a message.
func unreadable(err error) error {
	if errors.Is(err, store.ErrUnreadable) {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
}
