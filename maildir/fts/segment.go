package fts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
)

// roost.fts: a header, then segments, one behind the other. Little-endian.
//
//	0   8  magic "RoostFt" and version 1
//	8   4  version of the text: message.TextVersion
//	12  4  UIDVALIDITY
//	16  4  CRC-32C of what is before
//	20  12 0
//
// A segment speaks of messages with neighbouring UIDs, from its first to its last; those of
// different segments do not mingle. One whose UIDs lie within those of a later segment is out
// of use. In a list messages are numbers, from 0, in the order of their UIDs.
//
//	0   8  "segment1"
//	8   4  messages, at least 1
//	12  4  first UID: no message has a lower one
//	16  4  last UID: none has a higher one
//	20  4  salt: a number that the checksums of the segment begin with
//	24  4  blocks
//	28  8  bytes of all blocks
//	36  4  0
//	40  4  CRC-32C of what is before
//	44  4  0
//	... blocks, each: entries | u32 CRC-32C of salt, the block's number and the entries
//	    entry: uvarint trigram less the one before in the block (the first: as it is) |
//	           uvarint messages that have it | uvarint length of the list | list
//	... a fence for each block: u32 first trigram | u32 length with its checksum
//	    u32 CRC-32C of salt, the number of blocks and the fences
//	... for each 1024 messages, and the rest: their UIDs, u32 each |
//	    u32 CRC-32C of salt, 2^31 and how many 1024 were before, and the UIDs
//	... for each message: u32 sum
//
// The sum of a message is Sum of its UID and the base name of its file, 0 for one that is
// never ruled out. It needs no checksum: one that is not the name's says nothing. It is
// overwritten with 0 when the message's text is found to be another.
//
// The header of a segment is written when all of it is: reading ends at the first that is not
// whole. A trigram is three bytes of folded text, the first the highest.
const (
	fileMagic     = "RoostFt\x01"
	fileHeader    = 32
	segmentMagic  = "segment1"
	segmentHeader = 48
	fenceSize     = 8
	chunkDocs     = 1024
	chunkSize     = chunkDocs*4 + 4

	// blockSize is from how many bytes on a block is full: a search reads one for each
	// trigram of its text.
	blockSize = 8 << 10

	// maxDocs bounds a segment, and so the longest list.
	maxDocs = 1 << 18
)

// errDamaged says that the file is not what was written.
var errDamaged = errors.New("the file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum gives what a message is known by: never 0.
func Sum[S []byte | string](uid uint32, base S) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uid)
	s := crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, []byte(base))
	return max(s, 1)
}

// doc is one message of a segment.
type doc struct{ uid, sum uint32 }

// salted is the checksum of a block or of the fences.
func salted(salt, number uint32, b []byte) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint32(s[:], salt)
	binary.LittleEndian.PutUint32(s[4:], number)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, b)
}

// segmentWriter writes one segment. Errors are told by finish.
type segmentWriter struct {
	w           io.WriterAt
	at          int64 // of the segment in w
	docs        []doc
	first, last uint32 // UIDs
	salt        uint32

	block    []byte // entries
	before   uint32 // trigram
	fences   []byte
	blocks   int64  // bytes of all that are full
	out      []byte // full blocks that are not written yet
	finished int64  // bytes of blocks written
	err      error
}

// newSegmentWriter begins a segment of docs, at least one, whose UIDs lie between first and
// last.
func newSegmentWriter(w io.WriterAt, at int64, docs []doc, first, last, salt uint32) *segmentWriter {
	return &segmentWriter{w: w, at: at, docs: docs, first: first, last: last, salt: salt}
}

// add writes the list of the next trigram.
func (w *segmentWriter) add(trigram uint32, list []uint32) {
	delta := trigram
	if len(w.block) == 0 {
		w.fences = binary.LittleEndian.AppendUint32(w.fences, trigram)
	} else {
		delta -= w.before
	}
	w.before = trigram
	w.block = binary.AppendUvarint(w.block, uint64(delta))
	w.block = binary.AppendUvarint(w.block, uint64(len(list)))
	// One byte holds the length of most lists.
	at := len(w.block)
	w.block = append(w.block, 0)
	w.block = appendList(w.block, list, len(w.docs))
	if n := len(w.block) - at - 1; n < 0x80 {
		w.block[at] = byte(n)
	} else {
		var b [binary.MaxVarintLen64]byte
		k := binary.PutUvarint(b[:], uint64(n))
		w.block = append(w.block, b[:k-1]...)
		copy(w.block[at+k:], w.block[at+1:at+1+n])
		copy(w.block[at:], b[:k])
	}
	if len(w.block) >= blockSize {
		w.full()
	}
}

// full ends a block.
func (w *segmentWriter) full() {
	number := uint32(len(w.fences) / fenceSize) // a fence that has begun does not count
	w.block = binary.LittleEndian.AppendUint32(w.block, salted(w.salt, number, w.block))
	w.fences = binary.LittleEndian.AppendUint32(w.fences, uint32(len(w.block)))
	w.blocks += int64(len(w.block))
	w.out = append(w.out, w.block...)
	w.block = w.block[:0]
	if len(w.out) >= 256<<10 {
		w.flush()
	}
}

func (w *segmentWriter) flush() {
	if w.err == nil {
		_, w.err = w.w.WriteAt(w.out, w.at+segmentHeader+w.finished)
	}
	w.finished += int64(len(w.out))
	w.out = w.out[:0]
}

// finish writes what is left, the header last, and gives the segment's whole length.
func (w *segmentWriter) finish() (int64, error) {
	if len(w.block) > 0 {
		w.full()
	}
	n := len(w.fences) / fenceSize
	w.out = append(w.out, w.fences...)
	w.out = binary.LittleEndian.AppendUint32(w.out, salted(w.salt, uint32(n), w.fences))
	for i := 0; i < len(w.docs); i += chunkDocs {
		from := len(w.out)
		for _, d := range w.docs[i:min(i+chunkDocs, len(w.docs))] {
			w.out = binary.LittleEndian.AppendUint32(w.out, d.uid)
		}
		w.out = binary.LittleEndian.AppendUint32(w.out, salted(w.salt, 1<<31|uint32(i/chunkDocs), w.out[from:]))
	}
	for _, d := range w.docs {
		w.out = binary.LittleEndian.AppendUint32(w.out, d.sum)
	}
	w.flush()
	h := append(make([]byte, 0, segmentHeader), segmentMagic...)
	h = binary.LittleEndian.AppendUint32(h, uint32(len(w.docs)))
	h = binary.LittleEndian.AppendUint32(h, w.first)
	h = binary.LittleEndian.AppendUint32(h, w.last)
	h = binary.LittleEndian.AppendUint32(h, w.salt)
	h = binary.LittleEndian.AppendUint32(h, uint32(n))
	h = binary.LittleEndian.AppendUint64(h, uint64(w.blocks))
	h = binary.LittleEndian.AppendUint32(h, 0)
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	h = binary.LittleEndian.AppendUint32(h, 0)
	if w.err == nil {
		_, w.err = w.w.WriteAt(h, w.at)
	}
	return segmentHeader + w.finished, w.err
}

// fence is where a block begins.
type fence struct {
	trigram uint32
	off     int64 // in the segment
}

// segment is one that can be read.
type segment struct {
	r           io.ReaderAt
	at, size    int64
	docs        int
	first, last uint32 // UIDs
	salt        uint32
	fences      []fence // of each block, and one behind them
}

// errNoSegment says that no whole segment begins there.
var errNoSegment = errors.New("no segment")

// openSegment reads what is needed to find a list. left is how many bytes r has from at on.
func openSegment(r io.ReaderAt, at, left int64) (*segment, error) {
	var h [segmentHeader]byte
	if left < segmentHeader {
		return nil, errNoSegment
	}
	if err := readFull(r, h[:], at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(h[:8]) != segmentMagic || le.Uint32(h[40:]) != crc32.Checksum(h[:40], castagnoli) {
		return nil, errNoSegment
	}
	s := &segment{r: r, at: at, docs: int(le.Uint32(h[8:])), first: le.Uint32(h[12:]), last: le.Uint32(h[16:]), salt: le.Uint32(h[20:])}
	n, bytes := int64(le.Uint32(h[24:])), int64(le.Uint64(h[28:]))
	if s.docs < 1 || s.docs > maxDocs || s.first > s.last || n > left || bytes < 0 || bytes > left {
		return nil, errNoSegment
	}
	s.size = segmentHeader + bytes + n*fenceSize + 4 + int64(s.chunks())*4 + int64(s.docs)*8
	if s.size > left {
		return nil, errNoSegment
	}
	b := make([]byte, n*fenceSize+4)
	if err := readFull(r, b, at+segmentHeader+bytes); err != nil {
		return nil, err
	}
	if le.Uint32(b[n*fenceSize:]) != salted(s.salt, uint32(n), b[:n*fenceSize]) {
		return nil, fmt.Errorf("fences at %d: %w", at, errDamaged)
	}
	s.fences = make([]fence, 0, n+1)
	off := int64(segmentHeader)
	for i := range n {
		s.fences = append(s.fences, fence{le.Uint32(b[i*fenceSize:]), off})
		off += int64(le.Uint32(b[i*fenceSize+4:]))
	}
	s.fences = append(s.fences, fence{1 << 24, off})
	if off != segmentHeader+bytes {
		return nil, fmt.Errorf("fences at %d: %w", at, errDamaged)
	}
	return s, nil
}

// readFull reads all of b. A file that is too short is damaged.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return fmt.Errorf("%d bytes at %d are missing: %w", len(b)-n, off, errDamaged)
	}
	return err
}

// block reads block i into buf and gives its entries.
func (s *segment) block(buf []byte, i int) (entries, whole []byte, err error) {
	from, to := s.fences[i].off, s.fences[i+1].off
	if to-from < 4 {
		return nil, buf, fmt.Errorf("block at %d: %w", s.at+from, errDamaged)
	}
	buf = slices.Grow(buf[:0], int(to-from))[:to-from]
	if err := readFull(s.r, buf, s.at+from); err != nil {
		return nil, buf, err
	}
	entries = buf[:len(buf)-4]
	if binary.LittleEndian.Uint32(buf[len(buf)-4:]) != salted(s.salt, uint32(i), entries) {
		return nil, buf, fmt.Errorf("block at %d: %w", s.at+from, errDamaged)
	}
	return entries, buf, nil
}

// entry is one trigram's.
type entry struct {
	trigram uint32
	n       int // messages that have it
	list    []byte
}

// next takes the entry that b begins with, which follows before; first: none does.
func (e *entry) next(b []byte, first bool) (rest []byte, ok bool) {
	delta, i := binary.Uvarint(b)
	if i <= 0 {
		return nil, false
	}
	b = b[i:]
	n, i := binary.Uvarint(b)
	if i <= 0 {
		return nil, false
	}
	b = b[i:]
	size, i := binary.Uvarint(b)
	if i <= 0 || size > uint64(len(b)-i) || n == 0 || n > maxDocs || delta >= 1<<24 {
		return nil, false
	}
	b = b[i:]
	if first {
		e.trigram = uint32(delta)
	} else {
		e.trigram += uint32(delta)
	}
	e.n, e.list = int(n), b[:size]
	return b[size:], e.trigram < 1<<24
}

// blockOf gives the block in which a trigram's entry is, if there is one; -1: none.
func (s *segment) blockOf(trigram uint32) int {
	return sort.Search(len(s.fences)-1, func(i int) bool { return s.fences[i].trigram > trigram }) - 1
}

// chunks is how many runs of UIDs there are.
func (s *segment) chunks() int { return (s.docs + chunkDocs - 1) / chunkDocs }

// uids appends the UIDs of chunk i, checked, to dst.
func (s *segment) uids(dst []uint32, i int) ([]uint32, error) {
	n := min(chunkDocs, s.docs-i*chunkDocs)
	var buf [chunkSize]byte
	b := buf[:n*4+4]
	at := s.sumAt(0) - int64(s.docs)*4 - int64(s.chunks())*4 + int64(i)*chunkSize
	if err := readFull(s.r, b, at); err != nil {
		return dst, err
	}
	if binary.LittleEndian.Uint32(b[n*4:]) != salted(s.salt, 1<<31|uint32(i), b[:n*4]) {
		return dst, fmt.Errorf("UIDs at %d: %w", at, errDamaged)
	}
	dst = slices.Grow(dst, n)
	for k := range n {
		dst = append(dst, binary.LittleEndian.Uint32(b[k*4:]))
	}
	return dst, nil
}

// sums appends the sums of chunk i to dst.
func (s *segment) sums(dst []uint32, i int) ([]uint32, error) {
	n := min(chunkDocs, s.docs-i*chunkDocs)
	var buf [chunkSize]byte
	b := buf[:n*4]
	if err := readFull(s.r, b, s.sumAt(i*chunkDocs)); err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, n)
	for k := range n {
		dst = append(dst, binary.LittleEndian.Uint32(b[k*4:]))
	}
	return dst, nil
}

// sumAt is where the sum of message i is in the file.
func (s *segment) sumAt(i int) int64 { return s.at + s.size - int64(s.docs-i)*4 }

// entries goes through all trigrams of a segment.
type entries struct {
	s     *segment
	next  int // block
	rest  []byte
	buf   []byte
	first bool
	entry entry
	done  bool
}

// step goes to the next entry; done says that there is none.
func (e *entries) step() error {
	for len(e.rest) == 0 {
		if e.next == len(e.s.fences)-1 {
			e.done = true
			return nil
		}
		var err error
		if e.rest, e.buf, err = e.s.block(e.buf, e.next); err != nil {
			return err
		}
		e.next++
		e.first = true
	}
	before := e.entry.trigram
	rest, ok := e.entry.next(e.rest, e.first)
	if !ok || e.first && e.entry.trigram != e.s.fences[e.next-1].trigram || (!e.first || e.next > 1) && e.entry.trigram <= before {
		return fmt.Errorf("entries of the block at %d: %w", e.s.at+e.s.fences[e.next-1].off, errDamaged)
	}
	e.rest, e.first = rest, false
	return nil
}
