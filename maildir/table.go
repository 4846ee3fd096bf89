package maildir

import (
	"encoding/binary"
	"hash/maphash"
	"sort"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A table is what an open mailbox knows of its messages, one row each, ascending
// by UID. All sessions share it, so it is built to be small: 48 bytes a row, the
// base name once in an arena, the info (":2,S") interned, since a mailbox has few
// different ones, and an index by base name of 4-byte row numbers.
//
// Rows are only added at the end. Removing marks them; compact takes them out when
// they are many, so that one expunge among a million messages moves nothing. Row
// numbers are good until the next compact.
//
// It has no lock of its own; mailbox says who may read and write it.
type table struct {
	rows  []row
	dead  int // rows marked as removed
	names arena
	infos interner

	seed  maphash.Seed
	index []uint32 // open addressing by base name: row number + 1, 0 is free
}

// row is one message. Removed rows keep their UID, so that the order stays.
type row struct {
	modSeq   store.ModSeq
	size     int64 // with CRLF; -1 not known
	internal int64 // unix seconds
	keywords store.Keywords
	uid      imap.UID
	base     uint32 // in names
	info     uint32 // in infos: what follows the base in the file name
	flags    store.Flags
	state    rowState
}

type rowState uint8

const (
	rowInNew rowState = 1 << iota // the file lies in new/, not in cur/
	rowDead                       // removed
)

func (r *row) inNew() bool { return r.state&rowInNew != 0 }

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

// expect makes room for n messages in all, so that a mailbox that is loaded does not
// grow by doubling.
func (t *table) expect(n int) {
	if len(t.rows) == 0 && n > cap(t.rows) {
		t.rows = make([]row, 0, n)
		t.reindex(n)
	}
}

// len is the number of messages.
func (t *table) len() int { return len(t.rows) - t.dead }

// find gives the row of a UID.
func (t *table) find(uid imap.UID) (int, bool) {
	i := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].uid >= uid })
	return i, i < len(t.rows) && t.rows[i].uid == uid && t.rows[i].state&rowDead == 0
}

// byBase gives the row whose file has this base name.
func (t *table) byBase(base string) (int, bool) {
	if len(t.index) == 0 {
		return 0, false
	}
	mask := uint32(len(t.index) - 1)
	for slot := uint32(maphash.String(t.seed, base)) & mask; ; slot = (slot + 1) & mask {
		n := t.index[slot]
		if n == 0 {
			return 0, false
		}
		i := int(n - 1)
		if t.rows[i].state&rowDead == 0 && t.names.equal(t.rows[i].base, base) {
			return i, true
		}
	}
}

// add puts a message at the end; its UID must be above all that are there. The
// fields base and info of r are set here.
func (t *table) add(r row, base, info string) int {
	if (len(t.rows)+1)*4 > len(t.index)*3 {
		t.reindex(len(t.rows) + 1)
	}
	r.base = t.names.put(base)
	r.info = t.infos.put(info)
	t.rows = append(t.rows, r)
	t.enter(len(t.rows)-1, base)
	return len(t.rows) - 1
}

// remove marks a row.
func (t *table) remove(i int) {
	if t.rows[i].state&rowDead == 0 {
		t.rows[i].state |= rowDead
		t.dead++
	}
}

// wasteful says that compact would free much.
func (t *table) wasteful() bool { return t.dead > 256 && t.dead > len(t.rows)/4 }

// compact rebuilds the table without the removed rows. Row numbers change.
func (t *table) compact() {
	old := *t
	*t = table{seed: old.seed, rows: make([]row, 0, old.len())}
	t.reindex(old.len())
	for i := range old.rows {
		if r := old.rows[i]; r.state&rowDead == 0 {
			t.add(r, old.base(i), old.info(i))
		}
	}
}

// base is the identity of a message's file; info what follows it now.
func (t *table) base(i int) string { return string(t.names.get(t.rows[i].base)) }
func (t *table) info(i int) string { return t.infos.get(t.rows[i].info) }

// fileName is the name of the file in cur/ or new/.
func (t *table) fileName(i int) string { return t.base(i) + t.info(i) }

// setInfo notes another info.
func (t *table) setInfo(i int, info string) { t.rows[i].info = t.infos.put(info) }

// reindex makes the index anew, for at least n rows.
func (t *table) reindex(n int) {
	size := 64
	for size*3 < n*4 {
		size *= 2
	}
	t.index = make([]uint32, size)
	for i := range t.rows {
		if t.rows[i].state&rowDead == 0 {
			t.enter(i, t.base(i))
		}
	}
}

func (t *table) enter(i int, base string) {
	mask := uint32(len(t.index) - 1)
	slot := uint32(maphash.String(t.seed, base)) & mask
	for t.index[slot] != 0 {
		slot = (slot + 1) & mask
	}
	t.index[slot] = uint32(i + 1)
}

// arenaChunk holds about a thousand names; names never span chunks, so growing
// copies nothing.
const arenaChunk = 1 << 16

// An arena keeps strings of less than arenaChunk bytes, each behind its length.
type arena struct {
	chunks [][]byte
}

// put keeps a string, cut where it is longer than any file name, and gives its place.
func (a *arena) put(s string) uint32 {
	s = s[:min(len(s), arenaChunk/2)]
	need := len(s) + binary.MaxVarintLen16
	last := len(a.chunks) - 1
	if last < 0 || len(a.chunks[last])+need > arenaChunk {
		// The first chunk starts small: most mailboxes are.
		size := arenaChunk
		if last < 0 {
			size = 1 << 10
		}
		a.chunks = append(a.chunks, make([]byte, 0, size))
		last++
	}
	c := a.chunks[last]
	at := uint32(last)<<16 | uint32(len(c))
	c = binary.AppendUvarint(c, uint64(len(s)))
	a.chunks[last] = append(c, s...)
	return at
}

func (a *arena) get(at uint32) []byte {
	c := a.chunks[at>>16][at&0xffff:]
	n, k := binary.Uvarint(c)
	return c[k : k+int(n)]
}

func (a *arena) equal(at uint32, s string) bool { return string(a.get(at)) == s }

// An interner keeps each of a few different strings once. The zero value knows
// none; 0 is the empty string.
type interner struct {
	all []string
	ids map[string]uint32
}

func (n *interner) put(s string) uint32 {
	if s == "" {
		return 0
	}
	id, ok := n.ids[s]
	if !ok {
		if n.ids == nil {
			n.ids = map[string]uint32{}
		}
		n.all = append(n.all, s)
		id = uint32(len(n.all))
		n.ids[s] = id
	}
	return id
}

func (n *interner) get(id uint32) string {
	if id == 0 {
		return ""
	}
	return n.all[id-1]
}
