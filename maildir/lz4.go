package maildir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Dovecot's zlib plugin frames lz4 in its own way. Numbers are big-endian; a chunk is
// one lz4 block and refers to nothing before it.
//
//	0   15  "Dovecot-LZ4" 0d 2a 9b c5
//	15   4  the most bytes that a chunk unpacks to
//	19   .  chunks: u32 packed length | lz4 block
const lz4Magic = "Dovecot-LZ4\r\x2a\x9b\xc5"

// maxLZ4Chunk bounds the memory that a file may ask for; Dovecot writes 64 KiB.
const maxLZ4Chunk = 4 << 20

var errLZ4 = errors.New("damaged lz4")

// lz4Reader unpacks a file, one chunk at a time.
type lz4Reader struct {
	r      io.Reader
	limit  int    // of one chunk, unpacked
	packed []byte // reused
	out    []byte // reused
	rest   []byte // of out, not yet read
}

func newLZ4(r io.Reader) (io.ReadCloser, error) {
	var head [len(lz4Magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	limit := binary.BigEndian.Uint32(head[len(lz4Magic):])
	if string(head[:len(lz4Magic)]) != lz4Magic || limit > maxLZ4Chunk {
		return nil, fmt.Errorf("%w: chunks of %d bytes", errLZ4, limit)
	}
	return io.NopCloser(&lz4Reader{r: r, limit: int(limit)}), nil
}

func (z *lz4Reader) Read(p []byte) (int, error) {
	for len(z.rest) == 0 {
		if err := z.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}

// chunk unpacks the next one.
func (z *lz4Reader) chunk() error {
	var length [4]byte
	if _, err := io.ReadFull(z.r, length[:]); err != nil {
		return err // io.EOF between chunks
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxLZ4Chunk+maxLZ4Chunk/255+16 { // what cannot be packed grows by so much
		return fmt.Errorf("%w: a chunk of %d bytes", errLZ4, n)
	}
	if cap(z.packed) < int(n) {
		z.packed = make([]byte, n)
	}
	z.packed = z.packed[:n]
	if _, err := io.ReadFull(z.r, z.packed); err != nil {
		return io.ErrUnexpectedEOF
	}
	out, ok := unpackLZ4(z.out[:0], z.packed, z.limit)
	z.out, z.rest = out, out
	if !ok {
		z.rest = nil
		return errLZ4
	}
	return nil
}

// unpackLZ4 appends what one lz4 block unpacks to, at most limit bytes in all.
func unpackLZ4(out, in []byte, limit int) ([]byte, bool) {
	for len(in) > 0 {
		token := in[0]
		n, rest, ok := lz4Length(int(token>>4), in[1:])
		if !ok || n > len(rest) || n > limit-len(out) {
			return out, false
		}
		out, in = append(out, rest[:n]...), rest[n:]
		if len(in) == 0 {
			return out, true // a block ends with literals
		}
		if len(in) < 2 {
			return out, false
		}
		back := int(binary.LittleEndian.Uint16(in))
		n, in, ok = lz4Length(int(token&15), in[2:])
		if n += 4; !ok || back == 0 || back > len(out) || n > limit-len(out) {
			return out, false
		}
		for n > 0 { // what is copied may be what was just written
			k := min(n, back)
			out = append(out, out[len(out)-back:len(out)-back+k]...)
			n -= k
		}
	}
	return out, true
}

// lz4Length reads a length of which four bits are known: 15 goes on in bytes.
func lz4Length(n int, in []byte) (int, []byte, bool) {
	if n < 15 {
		return n, in, true
	}
	for i, c := range in {
		if n += int(c); n > maxLZ4Chunk {
			break
		}
		if c < 255 {
			return n, in[i+1:], true
		}
	}
	return 0, nil, false
}
