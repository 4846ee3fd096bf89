package deflate

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// ErrCorrupt says that the peer sent what is no DEFLATE data.
var ErrCorrupt = errors.New("compressed data is corrupt")

// step is what comes next in the stream.
type step uint8

const (
	atHeader  step = iota // of a block, or the end
	atStored              // the length of a stored block
	inStored              // its bytes
	atSizes               // how many codes a block brings
	atMeta                // the lengths of the code that spells the lengths
	atLengths             // the lengths of the codes
	inBlock               // symbols
	inMatch               // a match of which a part was given out
)

const (
	window    = 32 << 10 // RFC 1951 section 2
	firstRing = 512
)

// A Reader inflates what src gives. Memory follows what was read, up to 32 KiB that a
// peer may refer back to; 3 KiB more while a block is being read. An error of src, a
// timeout say, leaves it as it was: it goes on with the next Read. ErrCorrupt stays.
// io.EOF is the end of src, wherever it is, or of the stream. One goroutine at a time.
type Reader struct {
	src io.Reader
	err error // ErrCorrupt, or io.EOF of the stream

	small  [64]byte // what is read into between blocks
	pooled *[]byte  // what is read into else
	in     []byte   // read and not consumed

	bits  uint64 // consumed of in and not used, lowest first
	nbits int

	step           step
	last           bool // of the stream is this block
	marked, ending bool // the last thing was the mark of a flush; nothing but that is wanted
	left           int  // bytes of a stored block; lengths that are known
	dist           int  // of the match
	match          int  // bytes that are left of it

	lits, dists, metas int     // sizes of a block's codes
	t                  *tables // nil between blocks
	ring               []byte  // the window, of a size that is a power of two; nil: see rest
	at                 int     // where the next byte goes
	full               bool    // ring is as large as it gets and was once round

	resting bool
	rest    []byte // what ring held, compressed
}

// NewReader begins a stream that starts with first and goes on in src. first is kept
// until it was read.
func NewReader(src io.Reader, first []byte) *Reader { return &Reader{src: src, in: first} }

// Rest says whether the peer is expected to be silent for long: then the window is kept
// compressed, where that saves something.
func (r *Reader) Rest(resting bool) { r.resting = resting }

// worthResting is the window from which it does.
const worthResting = 4 << 10

// lieDown compresses the window.
func (r *Reader) lieDown() {
	if len(r.ring) < worthResting {
		return
	}
	out := outputs.Get().(*bytes.Buffer)
	out.Reset()
	new(Writer).compress(out, r.ring, false) // as it lies there
	if out.Len() < len(r.ring)-len(r.ring)/8 {
		r.rest, r.ring = bytes.Clone(out.Bytes()), nil
	}
	outputs.Put(out)
}

// getUp makes the window what it was.
func (r *Reader) getUp() {
	var size int
	for size = firstRing; size < r.at || r.full && size < window; size *= 2 {
	}
	r.ring = make([]byte, size)
	io.ReadFull(NewReader(bytes.NewReader(r.rest), nil), r.ring) // of our own making
	r.rest = nil
}

// Read inflates what is there. It blocks only when that is nothing.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n := r.inflate(p)
		switch {
		case n > 0:
			return n, nil
		case r.err != nil:
			return 0, r.err
		}
		n, err := r.src.Read(r.emptied()) // here, for what waits should not lie deep
		if err := r.filled(n, err); err != nil {
			return 0, err
		}
	}
}

var inputs = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// emptied gives what is read into. Nothing is left of what was read before but bits.
func (r *Reader) emptied() []byte {
	r.in = nil
	if r.step != atHeader {
		if r.pooled == nil {
			r.pooled = inputs.Get().(*[]byte)
		}
		return *r.pooled
	}
	r.release()
	if r.resting {
		r.lieDown()
	}
	return r.small[:]
}

// filled takes n bytes that were read.
func (r *Reader) filled(n int, err error) error {
	if r.rest != nil {
		r.getUp()
	}
	r.in = r.small[:]
	if r.pooled != nil {
		r.in = *r.pooled
	}
	r.in = r.in[:n]
	switch {
	case n > 0:
		return nil // an error comes again
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// more reads from src.
func (r *Reader) more() error {
	n, err := r.src.Read(r.emptied())
	return r.filled(n, err)
}

// release gives back what is held only within a block.
func (r *Reader) release() {
	if r.pooled != nil {
		inputs.Put(r.pooled)
		r.pooled = nil
	}
	r.giveTables()
}

func (r *Reader) giveTables() {
	if r.t != nil && r.t != fixed() {
		tablePool.Put(r.t)
	}
	r.t = nil
}

// need makes sure that n bits are there, at most 56.
func (r *Reader) need(n int) bool {
	for r.nbits < n {
		if len(r.in) == 0 {
			return false
		}
		r.bits |= uint64(r.in[0]) << r.nbits
		r.nbits += 8
		r.in = r.in[1:]
	}
	return true
}

// take uses n bits, which are there.
func (r *Reader) take(n int) int {
	v := int(r.bits & (1<<n - 1))
	r.bits >>= n
	r.nbits -= n
	return v
}

// inflate gives what comes of the input that is there, up to p's length.
func (r *Reader) inflate(p []byte) (n int) {
	for r.err == nil && n < len(p) {
		more := true
		switch r.step {
		case atHeader:
			more = r.header()
		case atStored:
			more = r.stored()
		case inStored:
			k := r.copyStored(p[n:])
			n += k
			more = k > 0 || r.step != inStored
		case atSizes:
			more = r.sizes()
		case atMeta:
			more = r.meta()
		case atLengths:
			more = r.lengths()
		case inBlock:
			var k int
			k, more = r.symbols(p[n:])
			n += k
		case inMatch:
			n += r.copyMatch(p[n:])
		}
		// Behind the mark of a flush the peer may have left the stream: what follows is looked
		// at when it is asked for.
		if !more || r.marked && (n > 0 || r.ending) {
			break
		}
	}
	return n
}

// header begins a block. RFC 1951 section 3.2.3.
func (r *Reader) header() bool {
	if r.last {
		r.release()
		r.take(r.nbits % 8)
		r.err = io.EOF
		return false
	}
	if !r.need(3) {
		return false
	}
	r.last, r.marked = r.take(1) == 1, false
	switch r.take(2) {
	case 0:
		r.step = atStored
	case 1:
		r.giveTables()
		r.t, r.step = fixed(), inBlock
	case 2:
		if r.t == nil || r.t == fixed() {
			r.t = tablePool.Get().(*tables)
		}
		r.step = atSizes
	default:
		return r.corrupt()
	}
	return true
}

func (r *Reader) corrupt() bool {
	r.release()
	r.err = ErrCorrupt
	return false
}

// stored reads the length of a stored block. RFC 1951 section 3.2.4.
func (r *Reader) stored() bool {
	r.take(r.nbits % 8) // up to the next byte: nothing but whole bytes is added
	if !r.need(32) {
		return false
	}
	n, check := r.take(16), r.take(16)
	if n != ^check&0xffff {
		return r.corrupt()
	}
	r.left, r.step = n, inStored
	if n == 0 {
		r.step, r.marked = atHeader, !r.last
	}
	return true
}

// copyStored gives bytes of a stored block.
func (r *Reader) copyStored(p []byte) (n int) {
	for n < len(p) && r.left > 0 && r.need(8) {
		p[n] = byte(r.take(8))
		r.put(p[n])
		n++
		r.left--
	}
	if r.left == 0 {
		r.step = atHeader
	}
	return n
}

// metaOrder is the order in which the lengths of the code of lengths come.
var metaOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// sizes begins a block that brings its codes. RFC 1951 section 3.2.7.
func (r *Reader) sizes() bool {
	if !r.need(14) {
		return false
	}
	r.lits, r.dists, r.metas = r.take(5)+257, r.take(5)+1, r.take(4)+4
	if r.lits > 286 || r.dists > 30 {
		return r.corrupt()
	}
	clear(r.t.lengths[:len(metaOrder)])
	r.left, r.step = 0, atMeta
	return true
}

// meta reads the lengths of the code of lengths. It uses the place of the distances.
func (r *Reader) meta() bool {
	for ; r.left < r.metas; r.left++ {
		if !r.need(3) {
			return false
		}
		r.t.lengths[metaOrder[r.left]] = uint8(r.take(3))
	}
	if !r.t.dist.build(r.t.lengths[:len(metaOrder)]) {
		return r.corrupt()
	}
	r.left, r.step = 0, atLengths
	return true
}

// lengths reads those of the codes of the block.
func (r *Reader) lengths() bool {
	all := r.t.lengths[:r.lits+r.dists]
	for r.left < len(all) {
		r.need(14) // a code of at most 7 bits, and at most 7 more
		symbol, n := r.t.dist.find(r.bits, r.nbits)
		if n == invalid {
			return r.corrupt()
		}
		if n == cutOff {
			return false
		}
		if symbol < 16 {
			r.take(n)
			all[r.left] = uint8(symbol)
			r.left++
			continue
		}
		extra, base, value := 2, 3, uint8(0)
		switch symbol {
		case 16: // as before
			if r.left == 0 {
				return r.corrupt()
			}
			value = all[r.left-1]
		case 17:
			extra = 3
		default:
			extra, base = 7, 11
		}
		if r.nbits < n+extra {
			return false
		}
		r.take(n)
		repeat := base + r.take(extra)
		if r.left+repeat > len(all) {
			return r.corrupt()
		}
		for range repeat {
			all[r.left] = value
			r.left++
		}
	}
	// Without a code for the end of the block there would be none.
	if all[endOfBlock] == 0 || !r.t.lit.build(all[:r.lits]) || !r.t.dist.build(all[r.lits:]) {
		return r.corrupt()
	}
	r.step = inBlock
	return true
}

const endOfBlock = 256

// Lengths and distances of matches: the least one of a symbol, and how many bits follow.
// RFC 1951 section 3.2.5.
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbols reads literals, up to a match or the end of the block. Either is used whole or
// not at all, for its bits may be still on their way; more is false when they are.
func (r *Reader) symbols(p []byte) (n int, more bool) {
	for n < len(p) {
		r.need(48) // as many as a match can have; fewer at the end of the input
		b, have := r.bits, r.nbits
		symbol, k := r.t.lit.find(b, have)
		if k == invalid {
			return n, r.corrupt()
		}
		if k == cutOff {
			return n, false
		}
		if symbol < endOfBlock {
			r.bits, r.nbits = b>>k, have-k
			p[n] = byte(symbol)
			r.put(p[n])
			n++
			continue
		}
		b, have = b>>k, have-k
		if symbol == endOfBlock {
			r.bits, r.nbits, r.step = b, have, atHeader
			return n, true
		}
		if symbol -= endOfBlock + 1; symbol >= len(lengthBase) {
			return n, r.corrupt()
		}
		extra := int(lengthExtra[symbol])
		length := int(lengthBase[symbol]) + int(b&(1<<extra-1))
		b, have = b>>extra, have-extra
		if have < 0 {
			return n, false
		}
		symbol, k = r.t.dist.find(b, have)
		if k == invalid || k != cutOff && symbol >= len(distBase) {
			return n, r.corrupt()
		}
		if k == cutOff {
			return n, false
		}
		b, have = b>>k, have-k
		extra = int(distExtra[symbol])
		if have < extra {
			return n, false
		}
		dist := int(distBase[symbol]) + int(b&(1<<extra-1))
		if dist > r.at && (!r.full || dist > window) {
			return n, r.corrupt()
		}
		r.bits, r.nbits = b>>extra, have-extra
		r.dist, r.match, r.step = dist, length, inMatch
		return n, true
	}
	return n, true
}

// copyMatch gives bytes of the match.
func (r *Reader) copyMatch(p []byte) (n int) {
	p = p[:min(len(p), r.match)]
	for n < len(p) {
		if r.at == len(r.ring) {
			r.turn()
		}
		from := (r.at - r.dist) & (len(r.ring) - 1)
		k := min(r.dist, len(r.ring)-from, len(r.ring)-r.at) // so far neither end wraps, nor do they meet
		k = copy(p[n:], r.ring[from:from+k])
		copy(r.ring[r.at:], p[n:n+k])
		r.at += k
		n += k
	}
	if r.match -= n; r.match == 0 {
		r.step = inBlock
	}
	return n
}

// put appends to the window.
func (r *Reader) put(b byte) {
	if r.at == len(r.ring) {
		r.turn()
	}
	r.ring[r.at] = b
	r.at++
}

// turn makes room in the window: more of it, as long as that may be.
func (r *Reader) turn() {
	if len(r.ring) == window {
		r.at, r.full = 0, true
		return
	}
	ring := make([]byte, max(firstRing, 2*len(r.ring)))
	copy(ring, r.ring)
	r.ring = ring
}

// End goes on to where the stream ends, all of whose data was read, and gives the bytes
// behind it that are here already. The peer either ended its last block, or left behind
// a flush: an empty stored block, as Z_SYNC_FLUSH and Z_FULL_FLUSH of zlib write it. End
// waits for it where it must. Data before that is ErrCorrupt. The Reader is not used after.
func (r *Reader) End() (behind []byte, err error) {
	r.ending = true
	var b [1]byte
	for !r.marked && r.err == nil {
		if n := r.inflate(b[:]); n > 0 {
			r.corrupt()
		}
		if !r.marked && r.err == nil {
			if err := r.more(); err != nil {
				return nil, err
			}
		}
	}
	if r.err != nil && r.err != io.EOF {
		return nil, r.err
	}
	for r.nbits > 0 {
		behind = append(behind, byte(r.take(8)))
	}
	behind = append(behind, r.in...)
	// A flush and then Z_FINISH.
	behind = bytes.TrimPrefix(behind, []byte{3, 0})
	r.in = nil
	r.release()
	return behind, nil
}
