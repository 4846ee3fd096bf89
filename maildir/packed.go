package maildir

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"roost/store"
)

// The file of a message holds the bytes as they were delivered: with LF or CRLF, or
// packed by one of Dovecot's plugins, which nothing but the first bytes tells.
//
//	1f 8b 08                  gzip
//	"BZh" digit               bzip2
//	28 b5 2f fd               zstd
//	"Dovecot-LZ4" 0d 2a 9b c5 Dovecot's own framing of lz4: lz4.go
//	fd "7zXZ" 00              xz                             refused
//	"CRYPTED" 03 07           Dovecot's mail_crypt           refused
//
// All are read as if plain: sizes and offsets are those of the message's text with CRLF.
// Since such a message would be another one when it is read again, none is stored that
// begins so (Dovecot refuses it likewise).

// magicLen is how many bytes of a file tell what it is.
const magicLen = len(lz4Magic)

// packing is one way in which files are packed.
type packing struct {
	name  string // for people
	magic string
	open  func(r io.Reader) (io.ReadCloser, error) // nil: it cannot be read here
}

var packings = []packing{
	{"gzip", "\x1f\x8b\x08", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"bzip2", "BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"zstd", zstdMagic, newZstd},
	{"lz4", lz4Magic, newLZ4},
	{"xz", "\xfd7zXZ\x00", nil},
	{"mail_crypt", "CRYPTED\x03\x07", nil},
}

// packingOf tells by the first bytes of a file, up to magicLen, how it is packed; nil
// for a plain one.
func packingOf(head []byte) *packing {
	for i := range packings {
		p := &packings[i]
		if !bytes.HasPrefix(head, []byte(p.magic)) {
			continue
		}
		if p.magic == "BZh" && (len(head) < 4 || head[3] < '1' || head[3] > '9') {
			continue
		}
		return p
	}
	return nil
}

const zstdMagic = "\x28\xb5\x2f\xfd"

// maxZstdWindow bounds the memory that a file may ask for. The levels up to 19 use 8 MiB
// at most; the three above declare up to 128 MiB for the shortest message.
const (
	maxZstdWindow     = 16 << 20
	maxZstdDescriptor = 14 << 3 // of 16 MiB: RFC 8878 section 3.1.1.1.2
)

// newZstd unpacks zstd. A window that is declared too large is taken for the largest
// that we hold: a message that is no longer than that cannot tell, and a longer one
// fails only where it refers to what is further back.
func newZstd(r io.Reader) (io.ReadCloser, error) {
	var head [6]byte // magic, descriptor, window where there is one
	n, err := io.ReadFull(r, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	const singleSegment = 0x20 // no window: it is as long as the content
	less := head[4]&singleSegment == 0 && head[5] > maxZstdDescriptor
	if less {
		head[5] = maxZstdDescriptor
	}
	z, err := zstd.NewReader(io.MultiReader(bytes.NewReader(head[:n]), r),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	if less {
		return shortWindow{z.IOReadCloser()}, nil
	}
	return z.IOReadCloser(), nil
}

// shortWindow reads zstd with less of a window than it may need.
type shortWindow struct{ io.ReadCloser }

var errWindow = fmt.Errorf("zstd --ultra refers to more than %d bytes back: %w", maxZstdWindow, &store.Explained{
	Err: store.ErrLimit, Text: "Message is compressed by zstd --ultra, and too big for that",
})

func (s shortWindow) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = errWindow
	}
	return n, err
}

// errTooLong is wrapped by the errors of files that unpack to more than is allowed.
var errTooLong = fmt.Errorf("it unpacks to more than limits.unpacked allows: %w", &store.Explained{
	Err: store.ErrLimit, Text: "Message is compressed, and too big when unpacked",
})

// unpackError marks what a packed file has instead of a message.
func unpackError(err error) error {
	var disk *fs.PathError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the packed file is not whole", store.ErrDamaged)
	case errors.As(err, &disk), errors.Is(err, store.ErrLimit):
		return err
	}
	return fmt.Errorf("%w: unpack it: %w", store.ErrDamaged, err)
}

// unpacker gives what a packed file held, with errors that say so: gzip's
// io.ErrUnexpectedEOF is what io.ReadFull says of any end.
type unpacker struct {
	r    io.ReadCloser
	left int64 // bytes that it may give yet
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if u.left -= int64(n); u.left < 0 {
		return 0, errTooLong
	}
	if err != nil && err != io.EOF {
		err = unpackError(err)
	}
	return n, err
}

func (u *unpacker) Close() error { return u.r.Close() }
