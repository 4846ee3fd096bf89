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
type content struct {
	file fsys.File
	size int64                                    // of the file
	open func(r io.Reader) (io.ReadCloser, error) // of a packed file: reads it as it was
	max  int64                                    // bytes that a packed file may unpack to

	mu      sync.Mutex // guards what follows
	table   *crlfTable // nil: not read yet
	failed  error      // why the file can never be read, as it is
	cursors []*cursor  // of a packed file, at rest; the one used last is the last

	// Guarded by shelf.mu.
	key  contentKey
	refs int
	idle time.Time // since when refs is 0
}

// maxCursors is how many readers of one packed file rest: two clients at once, or one
// that goes back to the header between the pieces of the body.
const maxCursors = 2

// newContent makes a message of an open file, which it takes over unless it fails:
// ErrUnsupported for what cannot be read, ErrUnreadable when reading fails. maxPacked
// bounds what a packed file may unpack to.
func newContent(f fsys.File, maxPacked int64) (*content, error) {
	var magic [magicLen]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unreadable(err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, unreadable(err)
	}
	c := &content{file: f, size: st.Size, max: maxPacked, key: contentKey{st.Dev, st.Ino, st.Size, st.Mtime}}
	if p := packingOf(magic[:n]); p != nil {
		if p.open == nil {
			return nil, &store.Explained{Err: store.ErrUnsupported, Text: "Message is stored with " + p.name + ", which is not supported"}
		}
		c.open = p.open
	}
	return c, nil
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
// message that is fetched piece by piece is unpacked once and not once a piece.
func (c *content) take(off int64) (*cursor, error) {
	if !c.packed() {
		return c.from(c.table.before(off))
	}
	c.mu.Lock()
	best := -1
	for i, cur := range c.cursors {
		if cur.at.wire <= off && (best < 0 || cur.at.wire >= c.cursors[best].at.wire) {
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
	return c.from(crlfMark{})
}

// rest takes a reader back.
func (c *content) rest(cur *cursor, err error) {
	if err != nil || !c.packed() || cur.at.raw == c.table.end.raw {
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
	b := sliceWriter{rest: p}
	n, err := c.WriteRange(&b, off, int64(len(p)))
	if err == nil && n < int64(len(p)) {
		err = io.EOF
	}
	return int(n), err
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
	return c.file.Close()
}

// unreadable marks an error of reading a message.
func unreadable(err error) error {
	if errors.Is(err, store.ErrUnreadable) {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
}
