package index

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

const (
	magic       = "RoostIx\x03"
	blockHeader = 4 + 4 + 1

	kindHead     = 1
	kindWords    = 2
	kindNames    = 3
	kindRows     = 4
	kindVanished = 5
	kindEnd      = 6
	kindLog      = 7
	kindSummary  = 8
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

// reader reads blocks, a piece of the file at a time.
type reader struct {
	f    io.ReaderAt
	size int64
	at   int64 // where b begins
	b    []byte
	room []byte // what b lies in
	few  bool   // read no more than is asked for, or little more: the rest goes elsewhere
	sum  sum    // of the last block
	err  error
}

// readBytes is how much is read at once.
const readBytes = 128 << 10

// fill has n bytes at hand, if the file has them.
func (r *reader) fill(n int64) bool {
	if int64(len(r.b)) >= n {
		return true
	}
	if n > r.size-r.at {
		return false
	}
	if n > int64(cap(r.room)) {
		r.room = make([]byte, max(n, min(readBytes, r.size)))
	}
	have := copy(r.room[:cap(r.room)], r.b)
	to := min(int64(cap(r.room)), r.size-r.at)
	if r.few {
		to = min(to, n+64)
	}
	k, err := r.f.ReadAt(r.room[have:to], r.at+int64(have))
	if err != nil && err != io.EOF {
		r.err = err
	}
	r.b = r.room[:have+k]
	return int64(len(r.b)) >= n
}

func (r *reader) take(n int64) []byte {
	b := r.b[:n:n]
	r.b = r.b[n:]
	r.at += n
	return b
}

func (r *reader) magic() bool {
	return r.fill(int64(len(magic))) && string(r.take(int64(len(magic)))) == magic
}

// next takes a block, good until the one after it is taken. ok is false, and nothing
// taken, when it is not whole or was written behind another.
func (r *reader) next() (kind byte, payload []byte, ok bool) {
	if !r.fill(blockHeader) {
		return 0, nil, false
	}
	end := blockHeader + int64(binary.LittleEndian.Uint32(r.b))
	if !r.fill(end) {
		return 0, nil, false
	}
	c := crc32.Update(uint32(r.sum), castagnoli, r.b[8:end])
	if c != binary.LittleEndian.Uint32(r.b[4:]) {
		return 0, nil, false
	}
	r.sum = sum(c)
	b := r.take(end)
	return b[8], b[blockHeader:], true
}

// nextNames is next for a block of names, if one comes; its payload is the caller's.
func (r *reader) nextNames() (payload []byte, ok bool) {
	if !r.fill(blockHeader) || r.b[8] != kindNames {
		return nil, false
	}
	n := int64(binary.LittleEndian.Uint32(r.b))
	want := binary.LittleEndian.Uint32(r.b[4:])
	if n == 0 || n > maxNames || n > r.size-r.at-blockHeader {
		return nil, false
	}
	at, before := r.at, r.b
	r.take(blockHeader)
	payload = make([]byte, n)
	k := copy(payload, r.b)
	r.take(int64(k))
	if k < len(payload) { // the rest goes by no buffer
		if m, err := r.f.ReadAt(payload[k:], r.at); m < len(payload)-k {
			r.err = err
			r.at, r.b = at, before
			return nil, false
		}
		r.at += n - int64(k)
	}
	c := crc32.Update(crc32.Update(uint32(r.sum), castagnoli, []byte{kindNames}), castagnoli, payload)
	if c != want {
		r.at, r.b = at, before
		return nil, false
	}
	r.sum = sum(c)
	return payload, true
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

// A row of the log: state byte, flags, UID, MODSEQ, size + 1, INTERNALDATE, keyword
// set, base, info.
const stateNew = 1

func (r Row) append(b []byte) []byte {
	b = append(b, stateOf(r.InNew), r.Flags)
	b = binary.AppendUvarint(b, uint64(r.UID))
	b = binary.AppendUvarint(b, r.ModSeq)
	b = binary.AppendUvarint(b, uint64(r.Size+1))
	b = binary.AppendVarint(b, r.Internal)
	b = binary.AppendUvarint(b, uint64(r.Keywords))
	b = appendBytes(b, r.Base)
	return appendBytes(b, r.Info)
}

func stateOf(inNew bool) byte {
	if inNew {
		return stateNew
	}
	return 0
}

func (d *decoder) row() (r Row) {
	r.InNew = d.byte()&stateNew != 0
	r.Flags = d.byte()
	r.UID, r.ModSeq = d.uint32(), d.uint()
	r.Size = int64(d.uint()) - 1
	r.Internal = d.int()
	r.Keywords = d.uint32()
	r.Base, r.Info = d.bytes(), string(d.bytes())
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
