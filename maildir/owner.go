package maildir

import (
	"errors"
	"io/fs"
	"syscall"
)

// One process owns a mailbox's roost.* files: the one that has the flock of roost.lock.
// Another that opens the mailbox serves it from a scan of its own and tells its clients
// that it has no MODSEQs (RFC 7162 section 3.1.2.2), for those of two processes would not
// be one history. It writes no roost.* file, and sets no UIDs aside in roost-state: its
// lines in the uidlist are synced before they are shown. To the owner it is another
// program like any. It stays so until its last session left the mailbox; who opens it
// then owns it, if the owner is gone.

const ownerFile = "roost.lock"

// own takes roost.lock: only its owner keeps roost.* files and has one history of
// MODSEQs.
func (m *mailbox) own() {
	f, err := m.dirs.index.Update(ownerFile, m.fileMode)
	if err == nil {
		var ok bool
		if ok, err = f.TryLock(); ok {
			m.owner = f
			if err := m.list.file.UseBadge(m.dirs.index, ownerFile, f); err != nil {
				m.log.Warn("locks are made anew each time, which is slower", "event", "lock_badge", "path", m.dirs.index.Path(), "err", err)
			}
			return
		}
		f.Close()
	}
	m.noModSeq = true
	m.list.foreign = true // the owner counts on the lines that it sees, not on a reserve of ours
	switch {
	case err == nil:
		m.orphan = true
		m.log.Info("another process owns the mailbox's index; this one serves it without MODSEQs", "event", "not_owner", "path", m.dirs.index.Path())
	case errors.Is(err, syscall.EROFS):
		m.readOnly = m.readOnly || m.dirs.index == m.dirs.box
	case errors.Is(err, fs.ErrPermission) && m.readOnly: // as it should be
	default:
		m.warn("the index cannot be locked; MODSEQs are not kept", err)
	}
}

func (m *mailbox) disown() {
	if x := &m.index; x.log != nil {
		x.log.Release() // nothing is in it that could be lost
		x.log = nil
	}
	if m.owner != nil {
		m.owner.Close() // with it goes the lock
		m.owner = nil
	}
}

// ownable reports whether the owner is gone.
func (m *mailbox) ownable() bool {
	f, err := m.dirs.index.Update(ownerFile, m.fileMode)
	if err != nil {
		return false
	}
	defer f.Close()
	ok, err := f.TryLock()
	return ok && err == nil
}

// reown gives up a mailbox that another process owned and whose owner is gone, where
// nobody but the caller uses it: it is to be opened anew.
func (s *Store) reown(m *mailbox) {
	if !m.orphan || !m.ownable() {
		return
	}
	s.mu.Lock()
	alone := m.refs == 1 && s.open[m.key] == m
	if alone {
		delete(s.open, m.key) // nobody comes to it any more
	}
	s.mu.Unlock()
	if !alone {
		return
	}
	m.files.Lock()
	m.abandon()
	m.files.Unlock()
}
