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
	Head     Head
	Sets     [][]string
	Vanished []Vanished
	Count    int // messages

	blocks  [][]byte // payloads of the rows
	changed map[uint32]Row
	gone    map[uint32]struct{}
	added   []uint32 // keys of changed that are in no block, ascending
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
	s, size, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir.Path(), Name, err)
	}
	s.log.dir = dir
	// What follows the last whole block was torn off: nothing can be added behind it.
	s.log.broken = size != int64(len(b))
	return s, nil
}

// Log continues the file's log.
func (s *Snapshot) Log() *Log { return s.log }

// parse reads a whole file; size is where its last whole block ends.
func parse(b []byte) (*Snapshot, int64, error) {
	all := len(b)
	if !bytes.HasPrefix(b, []byte(magic)) {
		return nil, 0, fmt.Errorf("%w: not version 1", ErrNone)
	}
	b = b[len(magic):]
	s := &Snapshot{changed: map[uint32]Row{}, gone: map[uint32]struct{}{}}
	kind, payload, rest, ok := nextBlock(b)
	if !ok || kind != kindHead {
		return nil, 0, fmt.Errorf("%w: no head", ErrNone)
	}
	d := decoder{b: payload}
	s.Head = d.head()
	rows := 0
	last := uint32(0)
	for !d.bad && kind != kindEnd {
		if kind, payload, rest, ok = nextBlock(rest); !ok {
			return nil, 0, fmt.Errorf("%w: snapshot is not whole", ErrNone)
		}
		d.b = payload
		switch kind {
		case kindSets:
			for len(d.b) > 0 && !d.bad {
				s.Sets = append(s.Sets, d.set())
			}
		case kindRows:
			s.blocks = append(s.blocks, payload)
			rows += d.checkRows(&last, len(s.Sets))
		case kindVanished:
			var m uint64
			for len(d.b) > 0 && !d.bad {
				m += d.uint()
				s.Vanished = append(s.Vanished, Vanished{d.uint32(), m})
			}
		case kindEnd:
			d.bad = d.bad || d.uint() != uint64(rows) || len(d.b) > 0
		default:
			d.bad = true
		}
	}
	if d.bad || s.Head.Validity == 0 {
		return nil, 0, fmt.Errorf("%w: damaged", ErrNone)
	}
	snapshot := all - len(rest)
	s.Count = rows
	for {
		kind, payload, next, ok := nextBlock(rest)
		if !ok {
			break
		}
		if kind != kindLog || !s.replay(payload) {
			return nil, 0, fmt.Errorf("%w: damaged log", ErrNone)
		}
		rest = next
	}
	if !s.finish(last) {
		return nil, 0, fmt.Errorf("%w: damaged log", ErrNone)
	}
	s.log = &Log{snapshot: int64(snapshot), size: int64(all - len(rest)), sets: len(s.Sets)}
	return s, s.log.size, nil
}

// checkRows walks a block: order and references.
func (d *decoder) checkRows(last *uint32, sets int) (n int) {
	var prev Row
	for len(d.b) > 0 && !d.bad {
		prev = d.row(&prev)
		if prev.UID <= *last || !prev.sound(sets) {
			d.bad = true
		}
		*last = prev.UID
		n++
	}
	return n
}

func (r *Row) sound(sets int) bool {
	return len(r.Base) > 0 && r.Size >= -1 && int64(r.Keywords) <= int64(sets) && r.UID != 0
}

// replay notes one block of the log.
func (s *Snapshot) replay(payload []byte) bool {
	d := decoder{b: payload}
	for len(d.b) > 0 && !d.bad {
		switch d.byte() {
		case opHead:
			since := s.Head.Since
			s.Head = d.head()
			s.Head.Since = max(s.Head.Since, since)
		case opSet:
			s.Sets = append(s.Sets, d.set())
		case opRow:
			r := d.row(&Row{})
			_, gone := s.gone[r.UID]
			if gone || !r.sound(len(s.Sets)) {
				return false
			}
			s.changed[r.UID] = r
		case opGone:
			v := Vanished{d.uint32(), d.uint()}
			s.gone[v.UID] = struct{}{}
			delete(s.changed, v.UID)
			s.Vanished = append(s.Vanished, v)
		default:
			return false
		}
	}
	return !d.bad && s.Head.Validity != 0
}

// finish finds which logged rows are new, and counts. It is false when a logged row is
// neither new nor in the snapshot, where Rows would pass over it.
func (s *Snapshot) finish(last uint32) bool {
	for _, uid := range slices.Sorted(maps.Keys(s.changed)) {
		if uid > last {
			s.added = append(s.added, uid)
		}
	}
	if len(s.changed) == 0 && len(s.gone) == 0 {
		return true
	}
	s.Count = 0
	replaced := 0
	for r := range s.Rows() {
		s.Count++
		if _, ok := s.changed[r.UID]; ok {
			replaced++
		}
	}
	return replaced == len(s.changed)
}

// Rows yields all messages as they were last, ascending by UID.
func (s *Snapshot) Rows() iter.Seq[Row] {
	quiet := len(s.changed) == 0 && len(s.gone) == 0
	return func(yield func(Row) bool) {
		for _, b := range s.blocks {
			d := decoder{b: b}
			var prev Row
			for len(d.b) > 0 {
				prev = d.row(&prev)
				r := prev
				if !quiet {
					if _, gone := s.gone[r.UID]; gone {
						continue
					}
					if c, ok := s.changed[r.UID]; ok {
						r = c
					}
				}
				if !yield(r) {
					return
				}
			}
		}
		for _, uid := range s.added {
			if !yield(s.changed[uid]) {
				return
			}
		}
	}
}
