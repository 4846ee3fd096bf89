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
	rows    map[imap.UID]store.Row // of the slice at hand, of messages that are still there
	made    []made                 // keys that the store shall keep
	headers bool                   // keys are needed
	sizes   bool                   // and sizes, which a row may not know

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

func (l *loader) slice(from, to int) error {
	uids := l.found.UIDs[from:to]
	l.rows = make(map[imap.UID]store.Row, len(uids))
	for rows, err := range l.src.Box.Rows(l.ctx, uids, 0) {
		if err == nil {
			err = l.src.Box.Measure(l.ctx, rows)
		}
		if err != nil {
			return err
		}
		for _, row := range rows {
			l.rows[row.UID] = row
		}
	}
	left := uids
	if l.headers {
		left = l.notes(from, left, l.src.Keys, decodeKeys)
		left = l.notes(from, left, l.src.Fields, func(note []byte) (keys, error) {
			k := keysOf(note)
			return k, nil
		})
		l.keep()
	} else {
		left = nil
		for _, uid := range uids {
			if row := l.rows[uid]; l.sizes && row.Size < 0 {
				left = append(left, uid)
			} else {
				l.tell(from, uid, keys{})
			}
		}
	}
	for _, uid := range left {
		k, err := l.open(uid)
		if err != nil {
			return err
		}
		l.tell(from, uid, k)
	}
	l.keep()
	return nil
}

// notes tells of the messages that have a note of this kind, and gives those that have
// none. Keys made of other notes are to be kept.
func (l *loader) notes(from int, uids []imap.UID, kind store.NoteKind, read func([]byte) (keys, error)) []imap.UID {
	if kind == 0 || len(uids) == 0 {
		return uids
	}
	done := make([]bool, len(uids))
	for uid, note := range l.src.Box.Notes(l.ctx, uids, kind) {
		at, ok := slices.BinarySearch(uids, uid)
		if !ok || note == nil || l.sizes && l.rows[uid].Size < 0 {
			continue
		}
		k, err := read(note)
		if err != nil { // a note that is none of ours is none
			continue
		}
		if kind != l.src.Keys {
			l.made = append(l.made, made{uid, appendKeys(nil, k)})
		}
		done[at] = true
		l.tell(from, uid, k)
	}
	var left []imap.UID
	for i, uid := range uids {
		if !done[i] {
			left = append(left, uid)
		}
	}
	return left
}

// tell calls visit.
func (l *loader) tell(from int, uid imap.UID, k keys) {
	l.src.Progress.add()
	at, _ := slices.BinarySearch(l.found.UIDs[from:], uid)
	row := l.rows[uid]
	if !k.dated {
		k.sent = row.Internal
	}
	l.visit(from+at, row, k)
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

// open reads the header and size of one message.
func (l *loader) open(uid imap.UID) (keys, error) {
	row, ok := l.rows[uid]
	if !ok {
		return keys{}, nil
	}
	if l.src.Opened != nil {
		if err := l.src.Opened(); err != nil {
			return keys{}, err
		}
	}
	runtime.Gosched()
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
		l.rows[uid] = row
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
