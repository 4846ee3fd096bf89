package fts

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// A list names some of a segment's messages by their numbers, ascending. It is written as
// the gaps between them in Rice code, whose parameter follows from how many there are; of a
// list with more than half of all those that are not in it are written. So a trigram of
// every message takes nothing, and a rare one about as many bits as it carries news.

// riceBits is the parameter for n of size numbers: a gap has that many low bits.
func riceBits(n, size int) uint {
	// 0.69 is ln 2: the best parameter is its logarithm times the mean gap.
	return uint(max(bits.Len64(uint64(size)*69/(uint64(n)*100)), 1) - 1)
}

// appendList appends a list of numbers below size; it is not empty.
func appendList(dst []byte, list []uint32, size int) []byte {
	w := bitWriter{b: dst}
	n := len(list)
	if n <= size/2 {
		k := riceBits(n, size)
		next := uint32(0)
		for _, d := range list {
			w.rice(d-next, k)
			next = d + 1
		}
		return w.end()
	}
	if n == size {
		return dst
	}
	k := riceBits(size-n, size)
	next, last := uint32(0), uint32(0) // the next number, and the one behind the last missing one
	for i := 0; i <= n; i++ {
		d := uint32(size)
		if i < n {
			d = list[i]
		}
		for ; next < d; next++ {
			w.rice(next-last, k)
			last = next + 1
		}
		next = d + 1
	}
	return w.end()
}

// readList appends to dst the n numbers of a list; false when it is none.
func readList(dst []uint32, b []byte, n, size int) ([]uint32, bool) {
	if n < 1 || n > size {
		return dst, false
	}
	dst = slices.Grow(dst, n)
	r := bitReader{b: b}
	if n <= size/2 {
		k := riceBits(n, size)
		next := uint64(0)
		for range n {
			d := next + r.rice(k)
			if d >= uint64(size) {
				return dst, false
			}
			dst = append(dst, uint32(d))
			next = d + 1
		}
		return dst, !r.bad
	}
	missing := size - n
	next := uint64(0)
	if missing > 0 {
		k := riceBits(missing, size)
		for range missing {
			d := next + r.rice(k)
			if d >= uint64(size) {
				return dst, false
			}
			for ; next < d; next++ {
				dst = append(dst, uint32(next))
			}
			next = d + 1
		}
	}
	for ; next < uint64(size); next++ {
		dst = append(dst, uint32(next))
	}
	return dst, !r.bad
}

// bitWriter appends bits, the lowest of each byte first.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint
}

func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
}

// rice writes v's high part as zeros up to a one, then its k low bits.
func (w *bitWriter) rice(v uint32, k uint) {
	high := uint(v >> k)
	for ; high >= 32; high -= 32 {
		w.put(0, 32)
	}
	w.put(1<<high, high+1)
	w.put(uint64(v)&(1<<k-1), k)
}

func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc))
	}
	return w.b
}

// bitReader reads what bitWriter wrote.
type bitReader struct {
	b   []byte
	acc uint64
	n   uint
	bad bool // read past the end
}

func (r *bitReader) fill() {
	if len(r.b) >= 8 {
		r.acc |= binary.LittleEndian.Uint64(r.b) << r.n
		taken := (63 - r.n) >> 3
		r.b = r.b[taken:]
		r.n += taken << 3
		r.acc &= 1<<r.n - 1 // bits beyond are read again with the next byte
		return
	}
	for r.n <= 56 && len(r.b) > 0 {
		r.acc |= uint64(r.b[0]) << r.n
		r.b = r.b[1:]
		r.n += 8
	}
}

func (r *bitReader) rice(k uint) uint64 {
	high := uint64(0)
	for {
		if r.n < 32 {
			r.fill()
		}
		if r.acc != 0 {
			break
		}
		if r.n == 0 {
			r.bad = true
			return 1 << 40
		}
		high += uint64(r.n)
		r.n = 0
	}
	zeros := uint(bits.TrailingZeros64(r.acc))
	high += uint64(zeros)
	r.acc >>= zeros + 1
	r.n -= zeros + 1
	if r.n < k {
		r.fill()
		if r.n < k {
			r.bad = true
			return 1 << 40
		}
	}
	low := r.acc & (1<<k - 1)
	r.acc >>= k
	r.n -= k
	return min(high, 1<<32)<<k | low
}
