package maildir

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Expunge implements store.Mailbox. A file that is gone already is no failure; one
// that another program renamed is looked for, and stays when it is no longer \Deleted.
func (h *hold) Expunge(ctx context.Context, uids []imap.UID) ([]imap.UID, store.ModSeq, error) {
	m := h.m
	if err := m.alive(); err != nil {
		return nil, 0, m.wrapped(h, "expunge", err)
	}
	if !h.write {
		return nil, 0, m.wrapped(h, "expunge", store.ErrReadOnly)
	}
	var gone []imap.UID
	var err error
	rest := h.deleted(uids)
	if m.isMost(len(rest)) { // else there is no need to wait for files once more
		m.files.Lock()
		done := m.muffle(len(rest))
		m.files.Unlock()
		defer done()
	}
	for len(rest) > 0 && err == nil {
		var removed []imap.UID
		n := 0
		m.files.Lock()
		if err = m.alive(); err == nil {
			m.ensureMark()
			removed, n, err = m.unlink(rest[:min(len(rest), flagChunk)], m.isDeleted)
		}
		m.files.Unlock()
		gone, rest = append(gone, removed...), rest[n:]
	}
	if err != nil {
		err = m.wrapped(h, "expunge", err)
	}
	return sorted(gone), m.newest().ModSeq, err
}

// isDeleted reports whether a row is \Deleted. Called with files held.
func (m *mailbox) isDeleted(i int) bool { return m.table.rows.at(i).flags&store.FlagDeleted != 0 }

// deleted gives those of uids (nil: of all messages) that are \Deleted.
func (h *hold) deleted(uids []imap.UID) (list []imap.UID) {
	m := h.m
	m.files.Lock()
	defer m.files.Unlock()
	if uids == nil {
		v := m.newest()
		uids = v.UIDs.Slice(0, v.UIDs.Len())
	}
	for _, uid := range uids {
		if i, ok := m.findShownLocked(uid); ok && m.isDeleted(i) {
			list = append(list, uid)
		}
	}
	return list
}

// unlinkAll is unlink of all of them.
func (m *mailbox) unlinkAll(uids []imap.UID, doomed func(i int) bool) (gone []imap.UID, err error) {
	for len(uids) > 0 && err == nil {
		var removed []imap.UID
		var n int
		removed, n, err = m.unlink(uids, doomed)
		gone, uids = append(gone, removed...), uids[n:]
	}
	return sorted(gone), err
}

// unlink removes the files of those messages that are doomed when their turn comes, and
// shows it: of all, or of the first n where somebody waits for the files. Called with files
// held.
func (m *mailbox) unlink(uids []imap.UID, doomed func(i int) bool) (gone []imap.UID, n int, err error) {
	told := 0
next:
	for _, uid := range uids {
		if n >= flagLeast && m.files.Wanted() {
			break
		}
		n++
		for range renameTries {
			i, ok := m.table.find(uid)
			if !ok || !doomed(i) {
				continue next
			}
			at, _ := m.whereIs(uid)
			err = m.dirs.of(at.inNew).Remove(at.name)
			if err == nil {
				gone = append(gone, uid)
				continue next
			}
			if !isNotExist(err) {
				err = fmt.Errorf("UID %d: %w", uid, err)
				break next
			}
			err = nil
			// The look must not take what was removed here for another's doing.
			m.apply(step{gone: sorted(gone[told:])})
			told = len(gone)
			m.locate(uid)
		}
	}
	m.apply(step{gone: sorted(gone[told:])})
	return sorted(gone), n, err
}
