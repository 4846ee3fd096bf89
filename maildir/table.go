package maildir

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"sort"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A table is what an open mailbox knows of its messages, one row each, ascending
// by UID. All sessions share it, so it is built to be small: 40 bytes a row, the
// base name once in an arena, the info (":2,S") and the keyword set interned, since a
// mailbox has few different ones, and an index by base name of 4-byte row numbers. None
// of it but these few holds a pointer, so that the garbage collector passes it over.
//
// Rows are only added at the end. Removing marks them; compacted leaves them out when
// they are many, so that one expunge among a million messages moves nothing. Row
// numbers are good until then.
//
// The index by base name is made when it is first asked for: a mailbox that is only read
// needs none.
//
// It has no lock of its own; mailbox says who may read and write it. byBase may be called
// only by who may write it.
type table struct {
	rows  rows
	dead  int // rows marked as removed
	names arena
	infos interner
	sets  keywordSets

	seed  maphash.Seed
	index []uint32 // open addressing by base name: row number + 1, 0 is free; nil: not made
	taken int      // places of index that are not free
}

// row is one message. Removed rows keep their UID, so that the order stays.
type row struct {
	modSeq   store.ModSeq
	internal int64 // unix seconds
	uid      imap.UID
	bytes    uint32 // size with CRLF; see size
	base     uint32 // in names
	info     uint32 // in infos: what follows the base in the file name
	set      uint32 // in sets: keywords
	flags    store.Flags
	state    rowState
}

type rowState uint8

const (
	rowInNew  rowState = 1 << iota // the file lies in new/, not in cur/
	rowDead                        // removed
	rowListed                      // the uidlist told of it, and no file was seen yet: while a mailbox is opened
)

// unknownSize stands for a size that is not known; and for one of 4 GiB, which is found
// anew each time.
const unknownSize = math.MaxUint32

func (r *row) inNew() bool { return r.state&rowInNew != 0 }

// size is the size with CRLF; -1 not known.
func (r *row) size() int64 {
	if r.bytes == unknownSize {
		return -1
	}
	return int64(r.bytes)
}

func (r *row) setSize(n int64) { r.bytes = keptSize(n) }

func keptSize(n int64) uint32 {
	if n < 0 || n >= unknownSize {
		return unknownSize
	}
	return uint32(n)
}

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

// len is the number of messages.
func (t *table) len() int { return t.rows.len() - t.dead }

// find gives the row of a UID.
func (t *table) find(uid imap.UID) (int, bool) {
	i := t.rows.search(uid)
	if i == t.rows.len() {
		return i, false
	}
	r := t.rows.at(i)
	return i, r.uid == uid && r.state&rowDead == 0
}

// byBase gives the row whose file has this base name.
func (t *table) byBase(base string) (int, bool) {
	if t.rows.len() == 0 {
		return 0, false
	}
	if t.index == nil {
		t.reindex(t.rows.len())
	}
	for slot := t.slot(maphash.String(t.seed, base)); ; {
		n := t.index[slot]
		if n == 0 {
			return 0, false
		}
		i := int(n - 1)
		if r := t.rows.at(i); r.state&rowDead == 0 && t.names.equal(r.base, base) {
			return i, true
		}
		if slot++; slot == len(t.index) {
			slot = 0
		}
	}
}

// add puts a message at the end; its UID must be above all that are there. The
// fields base, info and set of r are set here.
func (t *table) add(r row, base, info string, keywords store.Keywords) int {
	r.base = t.names.put(base)
	r.info = t.infos.put(info)
	r.set = t.sets.take(keywords)
	return t.append(r)
}

// append is add for a row whose parts are in the table.
func (t *table) append(r row) int {
	i := t.rows.len()
	t.rows.append(r)
	switch {
	case t.index == nil:
	case (t.taken+1)*4 > len(t.index)*3:
		t.reindex(i + 1)
	default:
		t.enter(i)
	}
	return i
}

// remove marks a row.
func (t *table) remove(i int) {
	r := t.rows.at(i)
	if r.state&rowDead == 0 {
		r.state |= rowDead
		t.dead++
		t.names.forget(r.base)
		t.sets.drop(r.set)
		r.set = 0
	}
}

// wasteful says that compact would free much.
func (t *table) wasteful() bool { return t.dead > 256 && t.dead > t.rows.len()/4 }

// namesWasteful says so of names, which outlive their rows in roost.index.
func (t *table) namesWasteful() bool {
	all := 0
	for _, c := range t.names.chunks {
		all += len(c)
	}
	return all > arenaChunk && all > t.names.live+t.names.live/2
}

// compacted is the table without the removed rows. Row numbers are others there.
func (t *table) compacted() *table {
	out := &table{seed: t.seed}
	for i := range t.rows.len() {
		if r := *t.rows.at(i); r.state&rowDead == 0 {
			out.add(r, t.base(i), t.info(i), t.keywords(i))
		}
	}
	return out
}

// base is the identity of a message's file; info what follows it now.
func (t *table) base(i int) string { return string(t.names.get(t.rows.at(i).base)) }
func (t *table) info(i int) string { return t.infos.get(t.rows.at(i).info) }

// fileName is the name of the file in cur/ or new/.
func (t *table) fileName(i int) string { return t.base(i) + t.info(i) }

// setInfo notes another info.
func (t *table) setInfo(i int, info string) { t.rows.at(i).info = t.infos.put(info) }

// keywords are those of a message.
func (t *table) keywords(i int) store.Keywords { return t.sets.get(t.rows.at(i).set) }

func (t *table) setKeywords(i int, kw store.Keywords) {
	r := t.rows.at(i)
	old := r.set
	r.set = t.sets.take(kw)
	t.sets.drop(old)
}

// reindex makes the index anew, for at least n rows: two thirds full, so that it need not
// grow at once.
func (t *table) reindex(n int) {
	t.index, t.taken = make([]uint32, max(64, n+n/2)), 0
	for i := range t.rows.len() {
		if t.rows.at(i).state&rowDead == 0 {
			t.enter(i)
		}
	}
}

// slot is where the search for a hash begins: the hash scaled to the length.
func (t *table) slot(hash uint64) int {
	return int(uint64(uint32(hash)) * uint64(len(t.index)) >> 32)
}

func (t *table) enter(i int) {
	slot := t.slot(maphash.Bytes(t.seed, t.names.get(t.rows.at(i).base)))
	for t.index[slot] != 0 {
		if slot++; slot == len(t.index) {
			slot = 0
		}
	}
	t.index[slot] = uint32(i + 1)
	t.taken++
}

// rowChunk is how many rows lie together: growing copies no more than these.
const rowChunk = 1024

// rows is a list of rows in chunks.
type rows struct {
	chunks [][]row
	n      int
}

func (l *rows) len() int { return l.n }

func (l *rows) at(i int) *row { return &l.chunks[i/rowChunk][i%rowChunk] }

func (l *rows) append(r row) {
	last := len(l.chunks) - 1
	if l.n%rowChunk == 0 {
		l.chunks = append(l.chunks, nil)
		last++
	}
	c := l.chunks[last]
	if len(c) == cap(c) {
		room := min(max(2*cap(c), 16), rowChunk)
		if last > 0 {
			room = rowChunk
		}
		c = append(make([]row, 0, room), c...)
	}
	l.chunks[last] = append(c, r)
	l.n++
}

// extend appends rows, which are the list's from then on.
func (l *rows) extend(more []row) {
	if l.n%rowChunk == 0 && len(more) <= rowChunk {
		l.chunks = append(l.chunks, more)
		l.n += len(more)
		return
	}
	for _, r := range more {
		l.append(r)
	}
}

// search gives the first row whose UID is not below uid.
func (l *rows) search(uid imap.UID) int {
	return sort.Search(l.n, func(i int) bool { return l.at(i).uid >= uid })
}

// arenaChunk holds about a thousand names; names never span chunks, so growing
// copies nothing.
const arenaChunk = 1 << 16

// An arena keeps strings of less than arenaChunk bytes, each behind its length.
type arena struct {
	chunks [][]byte
	live   int // bytes of what was not forgotten
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
	if len(c)+need > cap(c) {
		c = append(make([]byte, 0, min(max(2*cap(c), len(c)+need), arenaChunk)), c...)
	}
	at := uint32(last)<<16 | uint32(len(c))
	c = binary.AppendUvarint(c, uint64(len(s)))
	a.chunks[last] = append(c, s...)
	a.live += len(a.chunks[last]) - int(at&0xffff)
	return at
}

// keep counts a string of a chunk that was taken over; forget counts it off.
func (a *arena) keep(at uint32)   { a.live += a.room(at) }
func (a *arena) forget(at uint32) { a.live -= a.room(at) }

func (a *arena) room(at uint32) int {
	n, k := binary.Uvarint(a.chunks[at>>16][at&0xffff:])
	return k + int(n)
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

// keywordSets numbers the keyword sets that rows have, and lets go of those that none has
// any more: a client that tries all subsets on one message would fill the memory. The zero
// value knows none; 0 is the empty set.
type keywordSets struct {
	all  []store.Keywords
	uses []int // by rows
	free []uint32
	ids  map[store.Keywords]uint32
}

func (k *keywordSets) get(id uint32) store.Keywords {
	if id == 0 {
		return store.Keywords{}
	}
	return k.all[id-1]
}

// take gives the number of a set that one more row has.
func (k *keywordSets) take(kw store.Keywords) uint32 {
	if kw == (store.Keywords{}) {
		return 0
	}
	id, ok := k.ids[kw]
	if !ok {
		if k.ids == nil {
			k.ids = map[store.Keywords]uint32{}
		}
		if n := len(k.free); n > 0 {
			id, k.free = k.free[n-1], k.free[:n-1]
			k.all[id-1] = kw
		} else {
			k.all, k.uses = append(k.all, kw), append(k.uses, 0)
			id = uint32(len(k.all))
		}
		k.ids[kw] = id
	}
	k.uses[id-1]++
	return id
}

// drop takes it back.
func (k *keywordSets) drop(id uint32) {
	if id == 0 {
		return
	}
	if k.uses[id-1]--; k.uses[id-1] == 0 {
		delete(k.ids, k.all[id-1])
		k.all[id-1] = store.Keywords{}
		k.free = append(k.free, id)
	}
}
