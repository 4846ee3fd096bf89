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
	m.files.Lock()
	defer m.files.Unlock()
	if uids == nil {
		v := m.newest()
		uids = v.UIDs.Slice(0, v.UIDs.Len())
	}
	var doomed []imap.UID
	for _, uid := range uids {
		if i, ok := m.findShownLocked(uid); ok && m.table.rows.at(i).flags&store.FlagDeleted != 0 {
			doomed = append(doomed, uid)
		}
	}
	if len(doomed) == 0 {
		return nil, m.newest().ModSeq, nil
	}
	m.ensureMark()
	gone, err := m.unlink(doomed, func(i int) bool { return m.table.rows.at(i).flags&store.FlagDeleted != 0 })
	if err != nil {
		err = m.wrapped(h, "expunge", err)
	}
	return gone, m.newest().ModSeq, err
}

// unlink removes the files of those messages that are doomed when their turn comes, and
// shows it. Called with files held.
func (m *mailbox) unlink(uids []imap.UID, doomed func(i int) bool) (gone []imap.UID, err error) {
	told := 0
next:
	for _, uid := range uids {
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
	return sorted(gone), err
}
