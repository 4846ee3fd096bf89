package search

import (
	"context"
	"slices"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// loader reads what Sort and the threads compare.
type loader struct {
	ctx     context.Context
	src     Source
	found   *Found
	from    int         // index of the first message of the slice at hand
	rows    []store.Row // of the slice, by index; of what is gone the zero Row
	done    []bool      // likewise: visit was called
	made    []made      // what the store shall keep
	looks   []headLook  // messages of the slice that must be opened
	crew    *crew
	readers [maxReaders]headReader
	dates   bool // rows' dates are needed
	headers bool // keys are needed
	sizes   bool // and sizes, which a row may not know

	visit func(i int, row store.Row, k keys) // k is good until it returns
}

type made struct {
	uid  imap.UID
	kind store.NoteKind
	note []byte
}

// headLook is one message that must be opened: message i of the slice.
type headLook struct {
	i   int
	uid imap.UID

	keys   keys
	size   int64
	fields []byte // to be kept; nil: none
	err    error
}

// headReader is what one of several readers has for itself.
type headReader struct{ room []byte }

// load calls visit for each message of found, by its index, in no order. What is gone
// or cannot be read has an empty header. It fails as Search does.
func (l *loader) load() error {
	defer busy(&searching)()
	l.crew = newCrew(l.src.Others)
	defer l.crew.close()
	n := len(l.found.UIDs)
	for from := 0; from < n; from += slice {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err := l.slice(from, min(from+slice, n)); err != nil {
			return err
		}
		l.crew.turns.give()
	}
	return nil
}

// asksRows tells whether more than the headers is compared.
func (l *loader) asksRows() bool { return l.dates || l.sizes || !l.headers }

func (l *loader) slice(from, to int) error {
	uids := l.found.UIDs[from:to]
	l.from = from
	l.rows = slices.Grow(l.rows[:0], len(uids))[:len(uids)]
	l.done = slices.Grow(l.done[:0], len(uids))[:len(uids)]
	clear(l.rows)
	clear(l.done)
	i, asked := 0, uids
	if !l.asksRows() {
		asked = nil
	}
	for rows, err := range l.src.Box.Rows(l.ctx, asked, 0) {
		if err == nil {
			err = l.src.Box.Measure(l.ctx, rows)
		}
		if err != nil {
			return err
		}
		for _, row := range rows {
			for uids[i] != row.UID {
				i++
			}
			l.rows[i] = row
		}
	}
	if l.headers {
		l.notes(uids, l.src.Keys, decodeKeys)
		l.notes(uids, l.src.Fields, func(note []byte) (keys, error) { return keysOf(note), nil })
		l.keep()
	}
	for i, uid := range uids {
		switch {
		case l.done[i]:
		case !l.headers && !(l.sizes && l.rows[i].Size < 0), l.asksRows() && l.rows[i].UID == 0:
			l.tell(i, keys{})
		default:
			if l.looks = append(l.looks, headLook{i: i, uid: uid}); len(l.looks) == batch || l.src.Opened != nil {
				if err := l.open(); err != nil {
					return err
				}
			}
		}
	}
	return l.open()
}

// notes tells of the messages that have a note of this kind. Keys made of other notes are
// to be kept.
func (l *loader) notes(uids []imap.UID, kind store.NoteKind, read func([]byte) (keys, error)) {
	if kind == 0 {
		return
	}
	left := uids
	if kind != l.src.Keys {
		left = nil
		for i, uid := range uids {
			if !l.done[i] {
				left = append(left, uid)
			}
		}
	}
	i := 0
	for uid, note := range l.src.Box.Notes(l.ctx, left, kind) {
		for uids[i] != uid {
			i++
		}
		if note == nil || l.sizes && l.rows[i].Size < 0 {
			continue
		}
		k, err := read(note)
		if err != nil { // a note that is none of ours is none
			continue
		}
		if kind != l.src.Keys {
			l.made = append(l.made, made{uid, l.src.Keys, appendKeys(nil, k)})
		}
		l.tell(i, k)
	}
}

// tell calls visit for message i of the slice.
func (l *loader) tell(i int, k keys) {
	l.src.Progress.add()
	l.done[i] = true
	row := l.rows[i]
	if !k.dated {
		k.sent = row.Internal
	}
	l.visit(l.from+i, row, k)
}

// keep gives the store what was made, once no iteration of its notes is under way.
func (l *loader) keep() {
	for _, m := range l.made {
		if m.kind != 0 {
			l.src.Box.Note(m.uid, m.kind, m.note)
		}
	}
	l.made = l.made[:0]
}

// open reads the headers and sizes of looks, and tells of them.
func (l *loader) open() error {
	if l.src.Opened != nil && len(l.looks) > 0 {
		if err := l.src.Opened(); err != nil {
			return err
		}
	}
	l.crew.each(len(l.looks), func(reader, i int) {
		look := &l.looks[i]
		look.err = l.read(look, &l.readers[reader])
	})
	for i := range l.looks {
		look := &l.looks[i]
		if err := l.found.missed(l.ctx, look.err); err != nil {
			return err
		}
		row := &l.rows[look.i]
		if row.Size < 0 {
			row.Size = look.size
		}
		if look.err != nil {
			look.keys = keys{}
		} else if l.headers {
			l.made = append(l.made, made{look.uid, l.src.Keys, appendKeys(nil, look.keys)})
		}
		l.tell(look.i, look.keys)
	}
	// Behind all keys: what is asked for together shall lie together.
	for _, look := range l.looks {
		if look.fields != nil {
			l.made = append(l.made, made{look.uid, l.src.Fields, look.fields})
		}
	}
	clear(l.looks)
	l.looks = l.looks[:0]
	l.keep()
	return nil
}

// read may be called by several at once, each with a reader of its own.
func (l *loader) read(look *headLook, reader *headReader) error {
	m, err := l.src.Box.Message(l.ctx, look.uid)
	if err != nil {
		return err
	}
	defer m.Close()
	if l.sizes {
		if look.size, err = m.Size(); err != nil {
			return err
		}
	}
	if l.headers {
		if reader.room, err = readHeader(m, reader.room); err != nil {
			return err
		}
		look.keys = keysOf(reader.room)
		look.fields = l.src.commonOf(reader.room)
	}
	return nil
}
