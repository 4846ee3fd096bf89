package fts

import (
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
	size, err := merge(file, at, parts, rand.Uint32(), breathe) // #nosec G404 -- a salt of checksums, against old bytes and no enemy
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
