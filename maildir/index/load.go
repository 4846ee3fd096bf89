package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"roost/maildir/fsys"
)

// A Snapshot is what an index file said, its log included, but for what a Taker was given.
type Snapshot struct {
	Head     Head // as it was last; its Stamps and Clean are empty where changes followed them
	Sets     [][]string
	Infos    []string   // of the entries that were given
	Count    int        // of the entries that are given
	Vanished []Vanished // ascending MODSEQs

	// What became of the entries: Changed are in place of those with their UIDs, or new; Gone
	// are no longer there, if they ever were. Ascending.
	Changed []Row
	Gone    []uint32

	// At is the time of the last moment that is known, Torn whether the file went on
	// behind it in a way that cannot be read.
	At   int64
	Torn bool

	log *Log
}

// A Taker is given the messages of a snapshot while it is read, before it is known whether
// the file is whole: Sets, Infos and Count are known by then. First come all chunks of
// names, which are the taker's to keep, then the entries, ascending.
type Taker interface {
	Names(chunk []byte)
	Entries(*Snapshot, []Entry) // good until it returns; up to 1,024
}

// Load reads the index of at most limit bytes and gives the messages of its snapshot to
// take (nil: nowhere). ErrNone covers all that is not believed, and an error of the file
// system wraps ErrNone too: the caller forgets what it was given, goes on without an
// index, and may log it.
func Load(dir fsys.Dir, limit int64, take Taker) (*Snapshot, error) {
	f, err := dir.Open(Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if st.Size > limit {
		return nil, fmt.Errorf("%w: %s/%s has %d bytes, at most %d are read", ErrNone, dir.Path(), Name, st.Size, limit)
	}
	s, err := read(f, st.Size, take)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir.Path(), Name, err)
	}
	s.log.dir = dir
	return s, nil
}

// Log continues the file's log, where nothing torn is at its end.
func (s *Snapshot) Log() *Log { return s.log }

// logged is what the log said of rows.
type logged struct {
	changed map[uint32]Row
	gone    map[uint32]struct{}
}

// read reads a whole file.
func read(f io.ReaderAt, size int64, take Taker) (*Snapshot, error) {
	r := &reader{f: f, size: size}
	if !r.magic() {
		return nil, fmt.Errorf("%w: not version %d", ErrNone, magic[len(magic)-1])
	}
	s := &Snapshot{}
	if !s.readSnapshot(r, take) {
		return nil, errors.Join(fmt.Errorf("%w: damaged, or its end is missing", ErrNone), r.err)
	}
	s.log = &Log{snapshot: r.at}
	l := logged{map[uint32]Row{}, map[uint32]struct{}{}}
	for {
		at, sum := r.at, r.sum
		kind, payload, ok := r.next()
		switch {
		case !ok:
		case kind == kindLog:
			ok = s.replay(payload, &l)
		case kind == kindSummary:
			var told Summary
			told, ok = readSummary(payload)
			ok = ok && told.Head == s.Head
		default:
			ok = false
		}
		if !ok {
			s.Torn = at < size
			s.log.size, s.log.sum = at, sum
			break
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(l.changed)) {
		s.Changed = append(s.Changed, l.changed[uid])
	}
	s.Gone = slices.Sorted(maps.Keys(l.gone))
	s.log.sets, s.log.broken = len(s.Sets), s.Torn
	s.log.modSeq, s.log.next = s.Head.ModSeq, s.Head.Next
	return s, nil
}

// readSnapshot reads what is before the log.
func (s *Snapshot) readSnapshot(r *reader, take Taker) bool {
	kind, payload, ok := r.next()
	if !ok || kind != kindHead {
		return false
	}
	d := decoder{b: payload}
	s.Head = d.head()
	if d.bad || len(d.b) > 0 || !s.Head.sound() {
		return false
	}
	s.At = s.Head.At
	if kind, payload, ok = r.next(); !ok || kind != kindWords {
		return false
	}
	d = decoder{b: payload}
	if !s.words(&d, r.size) || d.bad {
		return false
	}
	var names [][]byte
	for r.few = true; ; {
		chunk, ok := r.nextNames()
		if !ok {
			break
		}
		if names = append(names, chunk); take != nil {
			take.Names(chunk)
		}
	}
	r.few = false
	rows, last := 0, uint32(0)
	var room [blockRows]Entry
	for kind != kindEnd {
		if kind, payload, ok = r.next(); !ok {
			return false
		}
		d.b = payload
		switch kind {
		case kindRows:
			block, ok := s.entries(payload, last, names, room[:])
			if !ok {
				return false
			}
			last = block[len(block)-1].UID
			if rows += len(block); take != nil {
				take.Entries(s, block)
			}
		case kindVanished:
			ok = s.vanished(&d)
		case kindEnd:
			ok = d.uint() == uint64(rows) && rows == s.Count && len(d.b) == 0
		default:
			ok = false
		}
		if !ok || d.bad {
			return false
		}
	}
	return true
}

// words reads what entries refer to. size is of the file.
func (s *Snapshot) words(d *decoder, size int64) bool {
	n, sets := d.uint(), d.uint()
	if n > uint64(size)/rowBytes || sets > uint64(len(d.b)) {
		return false
	}
	s.Count = int(n)
	for range sets {
		s.Sets = append(s.Sets, d.set())
	}
	for len(d.b) > 0 && !d.bad {
		info := string(d.bytes())
		if info == "" {
			return false
		}
		s.Infos = append(s.Infos, info)
	}
	return true
}

func (s *Snapshot) vanished(d *decoder) bool {
	m := s.lastVanished()
	for len(d.b) > 0 && !d.bad {
		step := d.uint()
		v := Vanished{d.uint32(), m + step}
		if v.UID == 0 || v.UID >= s.Head.Next || v.ModSeq < m || v.ModSeq > s.Head.ModSeq {
			return false
		}
		m = v.ModSeq
		s.Vanished = append(s.Vanished, v)
	}
	return true
}

func (s *Snapshot) lastVanished() uint64 {
	if n := len(s.Vanished); n > 0 {
		return s.Vanished[n-1].ModSeq
	}
	return 0
}

// maxBase is how long the base of a file name may be: no filesystem has longer ones.
const maxBase = 1 << 15

func (r *Row) sound(modSeq uint64, sets int) bool {
	return r.UID != 0 && len(r.Base) > 0 && len(r.Base) <= maxBase && r.Size >= -1 && int64(r.Keywords) <= int64(sets) &&
		r.ModSeq != 0 && r.ModSeq <= modSeq
}

// replay takes in one block of the log, if all that it says can be.
func (s *Snapshot) replay(payload []byte, l *logged) bool {
	d := decoder{b: payload}
	at, modSeq, next := d.int(), d.uint(), d.uint32()
	if d.bad || modSeq < s.Head.ModSeq || modSeq > maxModSeq || next < s.Head.Next {
		return false
	}
	var (
		sets     = s.Sets
		rows     []Row
		vanished []Vanished
		goneNow  map[uint32]struct{}
		head     = s.Head
		last     = s.lastVanished()
	)
	head.ModSeq, head.Next, head.Clean, head.Stamps, head.At = modSeq, next, false, Stamps{}, 0
	gone := func(uid uint32) bool {
		_, before := l.gone[uid]
		_, now := goneNow[uid]
		return before || now
	}
	for len(d.b) > 0 && !d.bad {
		op := d.byte()
		if op != opHead { // a change behind it: its stamps are old
			head.Clean, head.Stamps, head.At = false, Stamps{}, 0
		}
		switch op {
		case opSet:
			sets = append(sets, d.set())
		case opRow:
			r := d.row()
			if !r.sound(modSeq, len(sets)) || r.UID >= next || gone(r.UID) {
				return false
			}
			r.Base = slices.Clone(r.Base) // of a buffer
			rows = append(rows, r)
		case opGone:
			v := Vanished{d.uint32(), d.uint()}
			if v.UID == 0 || v.UID >= next || v.ModSeq < last || v.ModSeq > modSeq || gone(v.UID) {
				return false
			}
			if goneNow == nil {
				goneNow = map[uint32]struct{}{}
			}
			goneNow[v.UID] = struct{}{}
			vanished = append(vanished, v)
			last = v.ModSeq
		case opHead:
			h := d.head()
			if !h.sound() || h.Validity != head.Validity || h.Boot != head.Boot || h.ModSeq > modSeq || h.Next > next {
				return false
			}
			h.ModSeq, h.Next, h.Since = modSeq, next, max(h.Since, head.Since)
			head = h
		default:
			return false
		}
	}
	if d.bad {
		return false
	}
	s.Head, s.Sets, s.At = head, sets, at
	s.Vanished = append(s.Vanished, vanished...)
	for _, r := range rows {
		l.changed[r.UID] = r
	}
	for _, v := range vanished {
		l.gone[v.UID] = struct{}{}
		delete(l.changed, v.UID)
	}
	return true
}
