package fts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"

	"roost/maildir/fsys"
	"roost/message"
)

// Name of the file, in the mailbox's index directory.
const (
	Name    = "roost.fts"
	tmpName = "roost.fts.tmp"
)

// TextVersion tells how the text is made that is indexed.
var TextVersion = sync.OnceValue(message.TextVersion)

// Names gives the Sum of each of uids now, 0 for a UID that no message has.
type Names func(uids []uint32, sums []uint32)

// An Index narrows the searches of one mailbox. Safe for concurrent use; one goroutine at a
// time may Add and Tidy.
type Index struct {
	dir      fsys.Dir
	mode     fs.FileMode
	version  uint32
	validity uint32
	names    Names

	mu     sync.RWMutex // guards what follows; searches read the file under its read side
	loaded bool
	failed error // why nothing more is written until the next Release
	file   fsys.File
	size   int64 // of the file, as far as it counts
	segs   []*live
	unused int64 // bytes of segments out of use

	// forgotten messages, since the load: what is being built may not know of them.
	forgotten map[uint32]struct{}
}

// live is a segment in use.
type live struct {
	*segment
	valid []uint64 // a bit for each message: it may be ruled out
	gone  int      // messages that were expunged when it was loaded or made
}

func (l *live) isValid(i uint32) bool { return l.valid[i/64]>>(i%64)&1 != 0 }

// New makes the index of an index directory; nothing is read yet. version is that of the
// text. names must not call the Index.
func New(dir fsys.Dir, mode fs.FileMode, version, validity uint32, names Names) *Index {
	return &Index{dir: dir, mode: mode, version: version, validity: validity, names: names}
}

// Load reads what a search needs, where that was not done yet. With an error, which says what
// was found to be damaged, the index is empty and of use.
func (x *Index) Load() error {
	x.mu.RLock()
	loaded := x.loaded
	x.mu.RUnlock()
	if loaded {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.loadLocked()
}

func (x *Index) loadLocked() error {
	if x.loaded {
		return nil
	}
	x.loaded = true
	f, err := x.dir.Open(Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		x.failed = err
		return err
	}
	f.Close()
	if f, err = x.dir.Update(Name, x.mode); err != nil {
		x.failed = err
		return err
	}
	x.file = f
	st, err := f.Stat()
	if err == nil {
		err = x.readLocked(st.Size)
	}
	if errors.Is(err, errOther) {
		x.discardLocked()
		return nil
	}
	if err != nil {
		x.discardLocked()
		return fmt.Errorf("%s: %w", Name, err)
	}
	return nil
}

// errOther says that the file was made for another mailbox or another version.
var errOther = errors.New("made for something else")

// readLocked reads the file's segments.
func (x *Index) readLocked(size int64) error {
	var h [fileHeader]byte
	if size < fileHeader {
		return errOther // torn when it was made
	}
	if err := readFull(x.file, h[:], 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(h[:8]) != fileMagic || le.Uint32(h[8:]) != x.version || le.Uint32(h[12:]) != x.validity || le.Uint32(h[16:]) != crc32.Checksum(h[:16], castagnoli) {
		return errOther
	}
	x.size = fileHeader
	for {
		s, err := openSegment(x.file, x.size, size-x.size)
		if errors.Is(err, errNoSegment) {
			break
		}
		if err != nil {
			return err
		}
		x.size += s.size
		if err := x.putLocked(&live{segment: s}); err != nil {
			return err
		}
	}
	for _, l := range x.segs {
		if err := x.checkLocked(l); err != nil {
			return err
		}
	}
	return nil
}

// putLocked adds a segment, in place of those that it stands for.
func (x *Index) putLocked(l *live) error {
	from := sort.Search(len(x.segs), func(i int) bool { return x.segs[i].last >= l.first })
	to := sort.Search(len(x.segs), func(i int) bool { return x.segs[i].first > l.last })
	for _, old := range x.segs[from:to] {
		if old.first < l.first || old.last > l.last {
			return fmt.Errorf("UIDs of the segment at %d: %w", l.at, errDamaged)
		}
		x.unused += old.size
	}
	x.segs = slices.Replace(x.segs, from, to, l)
	return nil
}

// checkLocked finds which messages of a segment are what they were when it was made.
func (x *Index) checkLocked(l *live) (err error) {
	l.valid = make([]uint64, (l.docs+63)/64)
	l.gone = 0
	var uids, sums []uint32
	now := make([]uint32, chunkDocs)
	next := l.first
	for c := range l.chunks() {
		if uids, err = l.uids(uids[:0], c); err != nil {
			return err
		}
		if sums, err = l.sums(sums[:0], c); err != nil {
			return err
		}
		for _, uid := range uids {
			if uid < next || uid > l.last {
				return fmt.Errorf("UIDs of the segment at %d: %w", l.at, errDamaged)
			}
			next = uid + 1
		}
		x.names(uids, now)
		for k, uid := range uids {
			i := c*chunkDocs + k
			_, forgotten := x.forgotten[uid]
			switch {
			case now[k] == 0:
				l.gone++
			case now[k] == sums[k] && !forgotten:
				l.valid[i/64] |= 1 << (i % 64)
			}
		}
	}
	return nil
}

// discardLocked throws the index away.
func (x *Index) discardLocked() {
	if x.file != nil {
		x.file.Close() // read only as far as anybody still wants it
		x.file = nil
	}
	if err := x.dir.Remove(Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.failed = err
	}
	x.size, x.segs, x.unused = 0, nil, 0
}

// damaged throws the index away after an error of reading, and gives the error.
func (x *Index) damaged(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.loaded {
		x.discardLocked()
	}
	return fmt.Errorf("%s: %w", Name, err)
}

// Exists tells whether there is an index, loaded or not.
func (x *Index) Exists() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.loaded {
		return len(x.segs) > 0
	}
	_, err := x.dir.Stat(Name)
	return err == nil
}

// rlock locks for reading what is loaded. An error of Load was told to the first caller of
// that; with it there is nothing to read.
func (x *Index) rlock() {
	for {
		x.Load()
		x.mu.RLock()
		if x.loaded {
			return
		}
		x.mu.RUnlock() // released in between
	}
}

// Last is the highest UID in the index; what has a UID above may be added.
func (x *Index) Last() uint32 {
	x.rlock()
	defer x.mu.RUnlock()
	return x.lastLocked()
}

func (x *Index) lastLocked() uint32 {
	if n := len(x.segs); n > 0 {
		return x.segs[n-1].last
	}
	return 0
}

// Writable tells whether anything can be added: after a failure to write nothing is, until
// Release.
func (x *Index) Writable() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.failed == nil
}

// maxTrigramsAsked bounds how many lists of one text are read in a segment.
const maxTrigramsAsked = 64

// trigramsOf gives the trigrams of a folded text, ascending, each once; of a long text some.
func trigramsOf(text []byte) (list []uint32) {
	for i := 0; i+3 <= len(text) && i < 64<<10; i++ {
		list = append(list, uint32(text[i])<<16|uint32(text[i+1])<<8|uint32(text[i+2]))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if n := len(list); n > maxTrigramsAsked {
		for i := range maxTrigramsAsked {
			list[i] = list[i*n/maxTrigramsAsked]
		}
		list = list[:maxTrigramsAsked]
	}
	return list
}

// RuledOut yields the UIDs, ascending, of messages that do not hold text, which is folded.
// ok is false where the text is too short, or nothing is indexed. What was yielded before an
// error, which says what was found to be damaged or that ctx ended, is of no use.
func (x *Index) RuledOut(ctx context.Context, text []byte, yield func(uid uint32)) (ok bool, err error) {
	trigrams := trigramsOf(text)
	if len(trigrams) == 0 {
		return false, nil
	}
	x.rlock()
	var q query
	for _, l := range x.segs {
		if err = ctx.Err(); err == nil {
			err = q.segment(l, trigrams, yield)
		}
		if err != nil {
			break
		}
	}
	ok = len(x.segs) > 0
	x.mu.RUnlock()
	if err != nil && ctx.Err() == nil {
		err = x.damaged(err)
	}
	return ok && err == nil, err
}

// query is one search in the segments, with what it needs again in each.
type query struct {
	buf        []byte
	arena      []byte
	lists      []found
	have, with []uint32
	uids       []uint32
}

// found is the list of one trigram, in arena.
type found struct{ n, from, to int }

// segment yields the valid messages of a segment that lack one of the trigrams.
func (q *query) segment(l *live, trigrams []uint32, yield func(uid uint32)) error {
	all, err := q.find(l, trigrams)
	if err != nil {
		return err
	}
	q.have = q.have[:0]
	if all {
		sort.Slice(q.lists, func(i, j int) bool { return q.lists[i].n < q.lists[j].n })
		for i, f := range q.lists {
			if i > 0 && len(q.have) == 0 {
				break
			}
			list, ok := readList(q.with[:0], q.arena[f.from:f.to], f.n, l.docs)
			if !ok {
				return fmt.Errorf("a list in the segment at %d: %w", l.at, errDamaged)
			}
			if i == 0 {
				q.have = append(q.have, list...)
			} else {
				q.have = intersect(q.have, list)
			}
			q.with = list
		}
	}
	have := q.have
	for c := range l.chunks() {
		if q.uids, err = l.uids(q.uids[:0], c); err != nil {
			return err
		}
		for k, uid := range q.uids {
			i := uint32(c*chunkDocs + k)
			if len(have) > 0 && have[0] == i {
				have = have[1:]
			} else if l.isValid(i) {
				yield(uid)
			}
		}
	}
	return nil
}

// find gathers the lists of trigrams; not all says that one has none.
func (q *query) find(l *live, trigrams []uint32) (all bool, err error) {
	q.arena, q.lists = q.arena[:0], q.lists[:0]
	var block []byte
	at := -1
	for _, t := range trigrams {
		i := l.blockOf(t)
		if i < 0 {
			return false, nil
		}
		if i != at {
			if block, q.buf, err = l.block(q.buf, i); err != nil {
				return false, err
			}
			at = i
		}
		var e entry
		rest, ok := e.next(block, true)
		for ok && e.trigram < t && len(rest) > 0 {
			rest, ok = e.next(rest, false)
		}
		if !ok {
			return false, fmt.Errorf("entries of a block of the segment at %d: %w", l.at, errDamaged)
		}
		if e.trigram != t {
			return false, nil
		}
		q.lists = append(q.lists, found{e.n, len(q.arena), len(q.arena) + len(e.list)})
		q.arena = append(q.arena, e.list...)
	}
	return true, nil
}

// intersect keeps in a what is in b too; both ascend.
func intersect(a, b []uint32) []uint32 {
	out, i := a[:0], 0
	for _, d := range a {
		for i < len(b) && b[i] < d {
			i++
		}
		if i < len(b) && b[i] == d {
			out = append(out, d)
		}
	}
	return out
}

// Forget lets a message be a candidate always: its text is another than was indexed, or may
// be.
func (x *Index) Forget(uid uint32) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.loadLocked()
	if x.forgotten == nil {
		x.forgotten = map[uint32]struct{}{}
	}
	x.forgotten[uid] = struct{}{}
	if err != nil {
		return err
	}
	if err := x.eraseLocked(uid); err != nil {
		x.discardLocked()
		return err
	}
	return nil
}

// eraseLocked makes a message in the file one that is never ruled out.
func (x *Index) eraseLocked(uid uint32) error {
	n := sort.Search(len(x.segs), func(i int) bool { return x.segs[i].last >= uid })
	if n == len(x.segs) {
		return nil
	}
	l := x.segs[n]
	for c := range l.chunks() {
		uids, err := l.uids(nil, c)
		if err != nil {
			return err
		}
		if k, ok := slices.BinarySearch(uids, uid); ok {
			i := c*chunkDocs + k
			l.valid[i/64] &^= 1 << (i % 64)
			_, err = x.file.WriteAt([]byte{0, 0, 0, 0}, l.sumAt(i))
			return err
		}
	}
	return nil
}

// Add puts the messages of a batch into the file, and empties the batch: all that there are
// behind after, which is what Last was. Where Last is another by now, since the index was
// thrown away, they are dropped. With an error nothing more is added until Release; what is
// there stays good.
func (x *Index) Add(b *Batch, after uint32) error {
	b.endRun()
	runs := b.runs
	b.runs, b.size, b.count = nil, 0, 0
	if len(runs) == 0 {
		return nil
	}
	x.mu.Lock()
	err := x.loadLocked()
	if err == nil {
		err = x.failed
	}
	other := x.lastLocked() != after
	if err == nil && !other && x.file == nil {
		err = x.createLocked()
	}
	at, file := x.size, x.file
	x.mu.Unlock()
	if err != nil || other {
		return err
	}
	return x.write(file, at, runs, func() error { b.breathe(); return nil })
}

// createLocked makes the file.
func (x *Index) createLocked() error {
	f, err := x.dir.Update(Name, x.mode)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(x.header(), 0)
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		x.failed = err
		return err
	}
	x.file, x.size = f, fileHeader
	return nil
}

func (x *Index) header() []byte {
	h := append(make([]byte, 0, fileHeader), fileMagic...)
	h = binary.LittleEndian.AppendUint32(h, x.version)
	h = binary.LittleEndian.AppendUint32(h, x.validity)
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return append(h, make([]byte, fileHeader-len(h))...)
}

// write merges parts into a segment at the end of the file, and puts it to use.
func (x *Index) write(file fsys.File, at int64, parts []part, breathe func() error) error {
	size, err := merge(file, at, parts, rand.Uint32(), breathe)
	var s *segment
	if err == nil {
		s, err = openSegment(file, at, size)
	}
	if errors.Is(err, errDamaged) {
		return x.damaged(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file != file || x.size != at { // thrown away meanwhile
		return nil
	}
	if err == nil {
		l := &live{segment: s}
		if err = x.checkLocked(l); err == nil {
			x.size += s.size
			err = x.putLocked(l)
		}
	}
	for uid := range x.forgotten {
		if err == nil {
			err = x.eraseLocked(uid)
		}
	}
	switch {
	case errors.Is(err, errDamaged):
		x.discardLocked()
		return fmt.Errorf("%s: %w", Name, err)
	case errors.Is(err, ErrStopped):
	case err != nil:
		x.failed = err
		x.file.Truncate(x.size) // what was written of it does not count anyway
	}
	return err
}

// ErrStopped is what a breathe function returns to end the work; what was done of it does not
// count.
var ErrStopped = errors.New("stopped")

// fanIn is how much bigger a segment is than those that are merged into it, or more: so a
// message is written as many times as there are levels, and there are fewer than fanIn
// segments of each.
const fanIn = 8

// level orders segments by size.
func level(docs int) (n int) {
	for docs /= 64; docs >= fanIn; docs /= fanIn {
		n++
	}
	return n
}

// due gives which segments are to be merged now: the last ones, where together they are of a
// higher level than any of them; else one of which most messages are gone.
func (x *Index) due() (from, to int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for top := range level(maxDocs) {
		from, to, docs := len(x.segs), len(x.segs), 0
		for from > 0 && level(x.segs[from-1].docs) <= top && docs+x.segs[from-1].docs <= maxDocs {
			from--
			docs += x.segs[from].docs
		}
		if to-from > 1 && level(docs) > top {
			return from, to
		}
	}
	for i, l := range x.segs {
		if l.gone*2 > l.docs {
			return i, i + 1
		}
	}
	return 0, 0
}

// Tidy does one piece of work that keeps the index small and fast, and says whether there
// may be more. breathe is called often; its error ends the work and is returned, and should be
// ErrStopped.
func (x *Index) Tidy(breathe func() error) (more bool, err error) {
	from, to := x.due()
	if from == to {
		return false, x.shrink(breathe)
	}
	x.mu.RLock()
	segs := slices.Clone(x.segs[from:to])
	file, at, failed := x.file, x.size, x.failed
	x.mu.RUnlock()
	if failed != nil {
		return false, failed
	}
	var parts []part
	kept := 0
	for _, l := range segs {
		p, err := x.keep(l.segment)
		if err != nil {
			return false, x.damaged(err)
		}
		parts = append(parts, p)
		kept += len(p.kept)
	}
	if kept == 0 { // all are gone
		x.mu.Lock()
		defer x.mu.Unlock()
		x.segs = slices.DeleteFunc(x.segs, func(l *live) bool { return slices.Contains(segs, l) })
		for _, l := range segs {
			x.unused += l.size
		}
		return false, nil
	}
	if err := x.write(file, at, parts, breathe); err != nil {
		return false, err
	}
	return true, nil
}

// keep finds the messages of a segment that are there still.
func (x *Index) keep(s *segment) (part, error) {
	p := part{segment: s, kept: make([]doc, 0, s.docs)}
	to := make([]int32, s.docs)
	var uids, sums []uint32
	now := make([]uint32, chunkDocs)
	var err error
	for c := range s.chunks() {
		if uids, err = s.uids(uids[:0], c); err != nil {
			return p, err
		}
		if sums, err = s.sums(sums[:0], c); err != nil {
			return p, err
		}
		x.names(uids, now)
		for k, uid := range uids {
			if now[k] == 0 {
				to[c*chunkDocs+k] = -1
				continue
			}
			to[c*chunkDocs+k] = int32(len(p.kept))
			p.kept = append(p.kept, doc{uid, sums[k]})
		}
	}
	if len(p.kept) < s.docs {
		p.to = to
	}
	return p, nil
}

// shrink writes the file anew where less than half of it is in use.
func (x *Index) shrink(breathe func() error) error {
	x.mu.RLock()
	file, segs, unused, size, failed := x.file, slices.Clone(x.segs), x.unused, x.size, x.failed
	x.mu.RUnlock()
	if failed != nil || unused < 64<<10 || unused < size/2 {
		return failed
	}
	f, err := x.dir.Create(tmpName, x.mode)
	if errors.Is(err, fs.ErrExist) { // left by a crash
		if err = x.dir.Remove(tmpName); err == nil {
			f, err = x.dir.Create(tmpName, x.mode)
		}
	}
	if err != nil {
		return x.fail(err)
	}
	_, err = f.WriteAt(x.header(), 0)
	moved := make([]*live, len(segs))
	at := int64(fileHeader)
	buf := make([]byte, 128<<10)
	for i, l := range segs {
		for off := int64(0); off < l.size && err == nil; off += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), l.size-off)]
			if err = readFull(file, b, l.at+off); err == nil {
				_, err = f.WriteAt(b, at+off)
			}
			if err == nil {
				err = breathe()
			}
		}
		copied := *l.segment
		copied.r, copied.at = f, at
		moved[i] = &live{segment: &copied, valid: l.valid, gone: l.gone}
		at += l.size
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil && (x.file != file || x.size != size) {
		err = fs.ErrClosed // thrown away meanwhile
	}
	if err == nil {
		// The names in f are those of a moment ago.
		was, wasSegs := x.file, x.segs
		x.file, x.segs = f, moved
		for uid := range x.forgotten {
			if err == nil {
				err = x.eraseLocked(uid)
			}
		}
		if err == nil {
			err = x.dir.Rename(tmpName, x.dir, Name)
		}
		if err == nil {
			was.Close() // all that was in it is in f
			x.size, x.unused = at, 0
			return nil
		}
		x.file, x.segs = was, wasSegs
	}
	f.Close()
	x.dir.Remove(tmpName) // best effort: the first error is the one to tell
	if errors.Is(err, errDamaged) {
		x.discardLocked()
	}
	if x.loaded && x.failed == nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, ErrStopped) {
		x.failed = err
	}
	return err
}

func (x *Index) fail(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed = err
	return err
}

// Release frees the memory and the descriptor; the next Load reads again.
func (x *Index) Release() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	if x.file != nil {
		err = x.file.Close()
	}
	x.file, x.loaded, x.failed = nil, false, nil
	x.size, x.segs, x.unused, x.forgotten = 0, nil, 0, nil
	return err
}
