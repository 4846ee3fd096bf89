package search

import (
	"iter"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// headers gives the headers of common fields, kept as notes, of the messages of a slice: one
// after the other, since the store reads neighbouring notes at once.
type headers struct {
	next func() (imap.UID, []byte, bool)
	stop func()
	uid  imap.UID // whose note is at hand; 0 before the first, and behind the last
	note []byte
	done bool
}

// headersOf begins to read the notes of those of rows, which ascend, that need one.
func (r *run) headersOf(rows []store.Row) {
	uids := r.uidsRoom[:0]
	for _, row := range rows {
		r.meet(row)
		undecided := false
		for _, p := range r.plan.pieces {
			t := r.eval(p)
			undecided = undecided || t == maybe
			if t == no {
				undecided = false
				break
			}
		}
		if undecided {
			uids = append(uids, row.UID)
		}
	}
	r.uidsRoom = uids
	r.ahead = headers{}
	r.ahead.next, r.ahead.stop = iter.Pull2(r.src.Box.Notes(r.ctx, uids, r.src.Fields))
}

// of gives the note of a message, whose UID is above those asked for before. It is good until
// the next call.
func (h *headers) of(uid imap.UID) ([]byte, bool) {
	for h.uid < uid && !h.done {
		var ok bool
		if h.uid, h.note, ok = h.next(); !ok {
			h.done = true
		}
	}
	return h.note, !h.done && h.uid == uid
}
