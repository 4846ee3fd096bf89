package search

import (
	"context"
	"errors"
	"runtime"
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
	made    []made      // keys that the store shall keep
	turns   turns       // of others, while messages are opened
	dates   bool        // rows' dates are needed
	headers bool        // keys are needed
	sizes   bool        // and sizes, which a row may not know

	visit func(i int, row store.Row, k keys) // k is good until it returns
}

type made struct {
	uid  imap.UID
	note []byte
}

// load calls visit for each message of found, by its index, in no order. What is gone
// or cannot be read has an empty header. It fails as Search does.
func (l *loader) load() error {
	n := len(l.found.UIDs)
	for from := 0; from < n; from += slice {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err := l.slice(from, min(from+slice, n)); err != nil {
			return err
		}
		runtime.Gosched()
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
		case !l.headers && !(l.sizes && l.rows[i].Size < 0):
			l.tell(i, keys{})
		default:
			k, err := l.open(i, uid)
			if err != nil {
				return err
			}
			l.tell(i, k)
		}
	}
	l.keep()
	return nil
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
			l.made = append(l.made, made{uid, appendKeys(nil, k)})
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
	if l.src.Keys != 0 {
		for _, m := range l.made {
			l.src.Box.Note(m.uid, l.src.Keys, m.note)
		}
	}
	l.made = l.made[:0]
}

// open reads the header and size of message i of the slice.
func (l *loader) open(i int, uid imap.UID) (keys, error) {
	row := &l.rows[i]
	if l.asksRows() && row.UID == 0 {
		return keys{}, nil
	}
	if l.src.Opened != nil {
		if err := l.src.Opened(); err != nil {
			return keys{}, err
		}
	}
	l.turns.give()
	k, size, err := l.read(uid)
	switch {
	case err == nil:
	case l.ctx.Err() != nil:
		return keys{}, l.ctx.Err()
	case errors.Is(err, store.ErrGone):
	case errors.Is(err, store.ErrUnreadable), errors.Is(err, store.ErrUnsupported):
		if l.found.Unread++; l.found.Err == nil {
			l.found.Err = err
		}
	default:
		return keys{}, err
	}
	if row.Size < 0 {
		row.Size = size
	}
	return k, nil
}

func (l *loader) read(uid imap.UID) (k keys, size int64, err error) {
	m, err := l.src.Box.Message(l.ctx, uid)
	if err != nil {
		return k, 0, err
	}
	defer m.Close()
	if l.sizes {
		if size, err = m.Size(); err != nil {
			return k, 0, err
		}
	}
	if l.headers {
		header, err := readHeader(m)
		if err != nil {
			return k, size, err
		}
		k = keysOf(header)
		l.made = append(l.made, made{uid, appendKeys(nil, k)})
	}
	return k, size, nil
}
