package index

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	magic       = "RoostIx\x02"
	blockHeader = 4 + 4 + 1

	kindHead     = 1
	kindSets     = 2
	kindRows     = 3
	kindVanished = 4
	kindEnd      = 5
	kindLog      = 6
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of the last block; the next goes on from it.
type sum uint32

// beginBlock leaves room for a header, endBlock fills it in: what was appended to b
// from at on is the payload.
func beginBlock(b []byte, kind byte) (at int, out []byte) {
	return len(b), append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
}

func (s *sum) endBlock(b []byte, at int) {
	*s = sum(crc32.Update(uint32(*s), castagnoli, b[at+8:]))
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-blockHeader))
	binary.LittleEndian.PutUint32(b[at+4:], uint32(*s))
}

// nextBlock takes the first block; ok is false, and the sum as it was, when it is not
// whole or was written behind another.
func (s *sum) nextBlock(b []byte) (kind byte, payload, rest []byte, ok bool) {
	if len(b) < blockHeader {
		return 0, nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-blockHeader) {
		return 0, nil, nil, false
	}
	end := blockHeader + int(n)
	c := crc32.Update(uint32(*s), castagnoli, b[8:end])
	if c != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, nil, false
	}
	*s = sum(c)
	return b[8], b[blockHeader:end], b[end:], true
}

// decoder reads one payload. After a fault all it gives is zero, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.bad = true
	}
	return uint32(v)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func (h Head) append(b []byte) []byte {
	for _, v := range []uint64{uint64(h.Validity), uint64(h.Next), h.ModSeq, uint64(h.Lines), uint64(h.Last), h.Since} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendBytes(b, h.Boot)
	clean := byte(0)
	if h.Clean {
		clean = 1
	}
	b = append(b, clean)
	for _, s := range h.Stamps.each() {
		b = binary.AppendUvarint(b, s.Ino)
		b = binary.AppendVarint(b, s.Size)
		b = binary.AppendVarint(b, s.Mtime)
		b = binary.AppendVarint(b, s.Ctime)
	}
	return binary.AppendVarint(b, h.At)
}

func (d *decoder) head() (h Head) {
	h.Validity, h.Next, h.ModSeq = d.uint32(), d.uint32(), d.uint()
	h.Lines, h.Last, h.Since = d.uint32(), d.uint32(), d.uint()
	h.Boot = string(d.bytes())
	h.Clean = d.byte()&1 != 0
	for _, s := range h.Stamps.each() {
		s.Ino, s.Size, s.Mtime, s.Ctime = d.uint(), d.int(), d.int(), d.int()
	}
	h.At = d.int()
	return h
}

// sound reports whether a head could have been written.
func (h *Head) sound() bool {
	return h.Validity != 0 && h.Next != 0 && h.ModSeq <= maxModSeq && h.Since <= h.ModSeq
}

// A row: state byte, then UID and MODSEQ as differences from the row before, size + 1,
// INTERNALDATE as a difference, flags, keyword set, base, info.
const stateNew = 1

func (r Row) append(b []byte, prev *Row) []byte {
	var state byte
	if r.InNew {
		state |= stateNew
	}
	b = append(b, state, r.Flags)
	b = binary.AppendUvarint(b, uint64(r.UID-prev.UID))
	b = binary.AppendVarint(b, int64(r.ModSeq-prev.ModSeq))
	b = binary.AppendUvarint(b, uint64(r.Size+1))
	b = binary.AppendVarint(b, r.Internal-prev.Internal)
	b = binary.AppendUvarint(b, uint64(r.Keywords))
	b = appendBytes(b, r.Base)
	return appendBytes(b, r.Info)
}

func (d *decoder) row(prev *Row) (r Row) {
	r.InNew = d.byte()&stateNew != 0
	r.Flags = d.byte()
	step := d.uint32()
	r.UID = prev.UID + step
	if r.UID < prev.UID { // it wrapped
		d.bad = true
	}
	r.ModSeq = prev.ModSeq + uint64(d.int())
	r.Size = int64(d.uint()) - 1
	r.Internal = prev.Internal + d.int()
	r.Keywords = d.uint32()
	r.Base, r.Info = d.bytes(), d.bytes()
	return r
}

func appendSet(b []byte, names []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendBytes(b, n)
	}
	return b
}

func (d *decoder) set() []string {
	n := d.uint()
	if n > uint64(len(d.b)) { // each takes a byte at least
		d.bad = true
		return nil
	}
	names := make([]string, 0, n)
	for range n {
		names = append(names, string(d.bytes()))
	}
	return names
}
