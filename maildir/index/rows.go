package index

import (
	"encoding/binary"
	"math"
)

// A row of a snapshot, 40 bytes:
//
//	0   8  MODSEQ
//	8   8  INTERNALDATE
//	16  4  UID
//	20  4  size, 1<<32 - 1 not known
//	24  4  where its base is: number of the block of names, offset there, 16 bits each
//	28  4  info
//	32  4  keyword set
//	36  1  flags
//	37  1  state
//	38  2  0
const rowBytes = 40

// maxNames is how long a block of names may be: an offset has 16 bits.
const maxNames = 1 << 16

// UnknownSize is the Size of an Entry whose size is not known, or too large to be kept.
const UnknownSize = math.MaxUint32

// Entry is one message of a snapshot. What it shares with others stands there by number.
type Entry struct {
	ModSeq   uint64
	Internal int64 // INTERNALDATE, unix seconds
	UID      uint32
	Size     uint32 // with CRLF
	Name     uint32 // its base: the number of its chunk << 16 | where in it
	Info     uint32 // from 1 in Infos; 0 is ""
	Keywords uint32 // from 1 in Sets; 0 none
	Flags    uint8
	InNew    bool
}

func (e Entry) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.ModSeq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Internal))
	b = binary.LittleEndian.AppendUint32(b, e.UID)
	b = binary.LittleEndian.AppendUint32(b, e.Size)
	b = binary.LittleEndian.AppendUint32(b, e.Name)
	b = binary.LittleEndian.AppendUint32(b, e.Info)
	b = binary.LittleEndian.AppendUint32(b, e.Keywords)
	return append(b, e.Flags, stateOf(e.InNew), 0, 0)
}

// entries takes a block apart into room, if it could have been written behind UID last.
func (s *Snapshot) entries(b []byte, last uint32, names [][]byte, room []Entry) ([]Entry, bool) {
	if len(b) == 0 || len(b)%rowBytes != 0 || len(b) > blockRows*rowBytes {
		return nil, false
	}
	next, modSeq := s.Head.Next, s.Head.ModSeq
	sets, infos := uint64(len(s.Sets)), uint64(len(s.Infos))
	room = room[:len(b)/rowBytes]
	for i := range room {
		f := b[i*rowBytes:][:rowBytes]
		e := &room[i]
		e.ModSeq = binary.LittleEndian.Uint64(f)
		e.Internal = int64(binary.LittleEndian.Uint64(f[8:]))
		e.UID = binary.LittleEndian.Uint32(f[16:])
		e.Size = binary.LittleEndian.Uint32(f[20:])
		e.Name = binary.LittleEndian.Uint32(f[24:])
		e.Info = binary.LittleEndian.Uint32(f[28:])
		e.Keywords = binary.LittleEndian.Uint32(f[32:])
		e.Flags, e.InNew = f[36], f[37]&stateNew != 0
		if e.UID <= last || e.UID >= next || e.ModSeq-1 >= modSeq || uint64(e.Keywords) > sets || uint64(e.Info) > infos || !isName(names, e.Name) {
			return nil, false
		}
		last = e.UID
	}
	return room, true
}

// isName reports whether a base is where at says.
func isName(names [][]byte, at uint32) bool {
	chunk, off := at>>16, int(at&0xffff)
	if int64(chunk) >= int64(len(names)) || off >= len(names[chunk]) {
		return false
	}
	c := names[chunk]
	if n := int(c[off]); n < 0x80 { // its length has one byte
		return n > 0 && n < len(c)-off
	}
	n, k := binary.Uvarint(c[off:])
	return k > 0 && n > 0 && n <= maxBase && int(n) <= len(c)-off-k
}
