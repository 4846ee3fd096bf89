package index

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"roost/maildir/fsys"
)

// A Snapshot is what an index file said, its log included.
type Snapshot struct {
	Head     Head // as it was last; its Stamps and Clean are empty where changes followed them
	Sets     [][]string
	Vanished []Vanished // ascending MODSEQs
	Count    int        // messages

	// At is the time of the last moment that is known, Torn whether the file went on
	// behind it in a way that cannot be read.
	At   int64
	Torn bool

	blocks  [][]byte // payloads of the rows
	changed map[uint32]Row
	gone    map[uint32]struct{}
	logged  []uint32 // keys of changed, ascending; when all is read
	log     *Log
}

// Load reads the index of at most limit bytes. ErrNone covers all that is not
// believed, and an error of the file system wraps ErrNone too: the caller goes on
// without an index and may log it.
func Load(dir fsys.Dir, limit int64) (*Snapshot, error) {
	b, err := fsys.ReadFile(dir, Name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	s, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir.Path(), Name, err)
	}
	s.log.dir = dir
	return s, nil
}

// Log continues the file's log, where nothing torn is at its end.
func (s *Snapshot) Log() *Log { return s.log }

// parse reads a whole file.
func parse(b []byte) (*Snapshot, error) {
	all := len(b)
	if !bytes.HasPrefix(b, []byte(magic)) {
		return nil, fmt.Errorf("%w: not version %d", ErrNone, magic[len(magic)-1])
	}
	s := &Snapshot{changed: map[uint32]Row{}, gone: map[uint32]struct{}{}}
	var sum sum
	rest, ok := s.parseSnapshot(b[len(magic):], &sum)
	if !ok {
		return nil, fmt.Errorf("%w: damaged, or its end is missing", ErrNone)
	}
	s.log = &Log{snapshot: int64(all - len(rest))}
	for {
		before := sum
		kind, payload, next, ok := sum.nextBlock(rest)
		if !ok || kind != kindLog || !s.replay(payload) {
			sum = before
			break
		}
		rest = next
	}
	s.Torn = len(rest) > 0
	s.logged = slices.Sorted(maps.Keys(s.changed))
	if len(s.changed)+len(s.gone) > 0 {
		s.Count = 0
		for range s.Rows() {
			s.Count++
		}
	}
	l := s.log
	l.size, l.sum, l.sets, l.broken = int64(all-len(rest)), sum, len(s.Sets), s.Torn
	l.modSeq, l.next = s.Head.ModSeq, s.Head.Next
	return s, nil
}

// parseSnapshot reads what is before the log; rest is the log.
func (s *Snapshot) parseSnapshot(b []byte, sum *sum) (rest []byte, ok bool) {
	kind, payload, rest, ok := sum.nextBlock(b)
	if !ok || kind != kindHead {
		return nil, false
	}
	d := decoder{b: payload}
	s.Head = d.head()
	d.bad = d.bad || len(d.b) > 0 || !s.Head.sound()
	s.At = s.Head.At
	rows := 0
	last := uint32(0)
	for !d.bad && kind != kindEnd {
		if kind, payload, rest, ok = sum.nextBlock(rest); !ok {
			return nil, false
		}
		d.b = payload
		switch kind {
		case kindSets:
			for len(d.b) > 0 && !d.bad {
				s.Sets = append(s.Sets, d.set())
			}
		case kindRows:
			s.blocks = append(s.blocks, payload)
			rows += s.checkRows(&d, &last)
		case kindVanished:
			m := s.lastVanished()
			for len(d.b) > 0 && !d.bad {
				step := d.uint()
				v := Vanished{d.uint32(), m + step}
				if v.UID == 0 || v.UID >= s.Head.Next || v.ModSeq < m || v.ModSeq > s.Head.ModSeq {
					d.bad = true
				}
				m = v.ModSeq
				s.Vanished = append(s.Vanished, v)
			}
		case kindEnd:
			d.bad = d.bad || d.uint() != uint64(rows) || len(d.b) > 0
		default:
			d.bad = true
		}
	}
	s.Count = rows
	return rest, !d.bad
}

func (s *Snapshot) lastVanished() uint64 {
	if n := len(s.Vanished); n > 0 {
		return s.Vanished[n-1].ModSeq
	}
	return 0
}

// checkRows walks a block: order and references.
func (s *Snapshot) checkRows(d *decoder, last *uint32) (n int) {
	var prev Row
	for len(d.b) > 0 && !d.bad {
		prev = d.row(&prev)
		if prev.UID <= *last || prev.UID >= s.Head.Next || !prev.sound(s.Head.ModSeq, len(s.Sets)) {
			d.bad = true
		}
		*last = prev.UID
		n++
	}
	return n
}

func (r *Row) sound(modSeq uint64, sets int) bool {
	return r.UID != 0 && len(r.Base) > 0 && r.Size >= -1 && int64(r.Keywords) <= int64(sets) && r.ModSeq != 0 && r.ModSeq <= modSeq
}

// replay takes in one block of the log, if all that it says can be.
func (s *Snapshot) replay(payload []byte) bool {
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
		_, before := s.gone[uid]
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
			r := d.row(&Row{})
			if !r.sound(modSeq, len(sets)) || r.UID >= next || gone(r.UID) {
				return false
			}
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
		s.changed[r.UID] = r
	}
	for _, v := range vanished {
		s.gone[v.UID] = struct{}{}
		delete(s.changed, v.UID)
	}
	return true
}

// Rows yields all messages as they were last, ascending by UID.
func (s *Snapshot) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		logged := s.logged
		for _, b := range s.blocks {
			d := decoder{b: b}
			var prev Row
			for len(d.b) > 0 {
				prev = d.row(&prev)
				r := prev
				for len(logged) > 0 && logged[0] <= r.UID {
					if logged[0] < r.UID && !yield(s.changed[logged[0]]) {
						return
					}
					if logged[0] == r.UID {
						r = s.changed[r.UID]
					}
					logged = logged[1:]
				}
				if len(s.gone) > 0 {
					if _, gone := s.gone[r.UID]; gone {
						continue
					}
				}
				if !yield(r) {
					return
				}
			}
		}
		for _, uid := range logged {
			if !yield(s.changed[uid]) {
				return
			}
		}
	}
}
