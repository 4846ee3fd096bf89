package maildir

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"roost/maildir/fsys"
	"roost/store"
)

// The file of a message holds the bytes as they were delivered: with LF or CRLF, or
// compressed by one of Dovecot's plugins, which nothing but the first bytes tells.
//
//	1f 8b 08                  gzip
//	"BZh" digit               bzip2
//	28 b5 2f fd               zstd
//	"Dovecot-LZ4" 0d 2a 9b c5 Dovecot's own framing of lz4: lz4.go
//	"CRYPTED" 03 07           Dovecot's mail_crypt           refused
//
// All are read as if plain: sizes and offsets are those of the message's text with CRLF.

// source opens the bytes of a message as they were before any compression.
type source struct {
	file fsys.File
	size int64 // of the plain bytes; -1 when only reading to the end tells
	from func() (io.ReadCloser, error)
}

// openContent makes a message of an open file, which it takes over unless it fails:
// ErrUnsupported for what cannot be read, ErrUnreadable when reading fails.
func openContent(f fsys.File) (store.Message, error) {
	var magic [16]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unreadable(err)
	}
	head := magic[:n]
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return newContent(f, -1, func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }), nil
	case len(head) > 3 && bytes.HasPrefix(head, []byte("BZh")) && '1' <= head[3] && head[3] <= '9':
		return newContent(f, -1, func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }), nil
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return newContent(f, -1, newZstd), nil
	case bytes.HasPrefix(head, []byte(lz4Magic)):
		return newContent(f, -1, newLZ4), nil
	case bytes.HasPrefix(head, []byte("CRYPTED\x03\x07")):
		return nil, fmt.Errorf("the message is encrypted by Dovecot's mail_crypt: %w", store.ErrUnsupported)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, unreadable(err)
	}
	return newContent(f, st.Size, nil), nil
}

// maxZstdWindow bounds the memory that a hostile file may ask for; zstd's own tools
// write windows of 8 MiB at most unless told otherwise.
const maxZstdWindow = 16 << 20

func newZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

func newContent(f fsys.File, size int64, unpack func(io.Reader) (io.ReadCloser, error)) *content {
	src := source{file: f, size: size}
	if unpack != nil {
		src.from = func() (io.ReadCloser, error) {
			r, err := unpack(io.NewSectionReader(f, 0, 1<<62))
			return wholeReader{r}, err
		}
	}
	return &content{src: src}
}

// reader gives the plain bytes from off on. Of compressed ones those before are read
// and dropped: parts of a compressed message cost its length.
func (s *source) reader(off int64) (io.ReadCloser, error) {
	if s.from == nil {
		return io.NopCloser(io.NewSectionReader(s.file, off, s.size-off)), nil
	}
	r, err := s.from()
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, off); err != nil && !errors.Is(err, io.EOF) {
		r.Close()
		return nil, err
	}
	return r, nil
}

// wholeReader tells a compressed file that was cut off from the end of one: gzip says
// io.ErrUnexpectedEOF, as io.ReadFull does of any end.
type wholeReader struct{ io.ReadCloser }

var errCutOff = errors.New("the compressed file is not whole")

func (r wholeReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCutOff
	}
	return n, err
}

// content is store.Message over one open file. What the file's name says of sizes is
// not asked: the first call that needs to know reads the file through.
type content struct {
	src source

	mu     sync.Mutex // guards table
	table  *crlfTable // nil: not read yet
	closed bool
}

// offsets gives the table of line ends, which the first call makes. Others that
// come meanwhile wait for it.
func (c *content) offsets() (*crlfTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table == nil {
		r, err := c.src.reader(0)
		if err != nil {
			return nil, unreadable(err)
		}
		defer r.Close()
		t, err := scanCRLF(r)
		if err != nil {
			return nil, unreadable(err)
		}
		c.table = t
	}
	return c.table, nil
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
	at := t.before(off)
	r, err := c.src.reader(at.raw)
	if err != nil {
		return 0, unreadable(err)
	}
	defer r.Close()
	written, err := copyCRLF(w, r, at, off, n)
	if err == nil && written < n {
		err = unreadable(io.ErrUnexpectedEOF) // the file became shorter under us
	}
	return written, err
}

// Close implements store.Message.
func (c *content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.src.file.Close()
}

// unreadable marks an error of reading a message.
func unreadable(err error) error { return fmt.Errorf("%w: %w", store.ErrUnreadable, err) }
