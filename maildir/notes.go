package maildir

import (
	"context"
	"iter"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/cache"
	"roost/store"
)

// Notes implements store.Mailbox. A process that does not own the mailbox's roost.*
// files has none.
func (h *hold) Notes(ctx context.Context, uids []imap.UID, kind store.NoteKind) iter.Seq2[imap.UID, []byte] {
	return func(yield func(imap.UID, []byte) bool) {
		c := h.m.notes
		if c == nil {
			return
		}
		for u, b := range c.All(uids, uint16(kind)) {
			if ctx.Err() != nil || !yield(u, b) {
				return
			}
		}
	}
}

// Note implements store.Mailbox.
func (h *hold) Note(uid imap.UID, kind store.NoteKind, b []byte) {
	m := h.m
	m.whole()
	m.mu.Lock()
	_, ok := m.findShownLocked(uid)
	ok = ok && !m.hotLocked(uid)
	m.mu.Unlock()
	if !ok {
		return
	}
	m.putNotes(cache.Note{UID: uint32(uid), Kind: uint16(kind), Data: b})
}

// putNotes keeps notes. They may be lost, so a failure is logged and no more.
func (m *mailbox) putNotes(list ...cache.Note) {
	if m.notes == nil || len(list) == 0 {
		return
	}
	if err := m.notes.Put(list...); err != nil {
		m.log.Warn("notes on messages are not kept; what they save is done again", "event", "cache", "err", err)
	}
}

// closeNotes writes what was gathered, and frees the memory that notes take.
func (m *mailbox) closeNotes(compact bool) error {
	if m.notes == nil {
		return nil
	}
	if compact {
		live := func(uid uint32) bool {
			_, ok := m.table.find(imap.UID(uid))
			return ok
		}
		if m.notes.Wasteful(live) {
			if err := m.notes.Compact(live); err != nil {
				return err
			}
		}
	}
	return m.notes.Release()
}
