package maildir

import (
	"errors"

	"roost/maildir/uidlist"
	"roost/store"
)

// A Dovecot that serves the same mailbox reads its directories under the uidlist's lock
// and believes what it sees: a file that readdir missed, because somebody renamed it
// meanwhile, is expunged for its clients and comes back with another UID. So once a
// lock of others was met, flags are changed under that lock too. Alone it is not taken:
// it costs more than the rename.

// meets reports whether another program holds the uidlist's lock just now, of whom
// nothing was known. Called with files held.
func (m *mailbox) meets() bool {
	if m.list.beside || m.list.locked {
		return false
	}
	_, err := m.dirs.control.Stat(uidlist.LockName)
	m.list.beside = err == nil
	return m.list.beside
}

// renaming runs f, which gives files other names, and does not run it after
// store.ErrReplaced. A lock that cannot be had does not keep a user from setting flags:
// a full disk, a directory that is not ours, a holder that stays. Called with files held.
func (m *mailbox) renaming(f func()) error {
	if m.list.beside && !m.list.locked {
		lock, err := m.lockList()
		switch {
		case err == nil:
			defer m.unlockList(lock)
		case errors.Is(err, store.ErrReplaced):
			return err
		default:
			m.warn("flags are set without the uidlist's lock", err)
		}
	}
	f()
	return nil
}
