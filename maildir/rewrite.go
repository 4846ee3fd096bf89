package maildir

import (
	"time"

	"github.com/emersion/go-imap/v2"
)

// A file in cur/ or new/ never changes its bytes. But there are programs that write a
// message where it is to be, as cp does, and so it is seen, and may be read, before it
// is whole. What was learned of it then must not stay.

// hotFor is how long after a write in place nothing is kept of what is read: the next
// write may be under way.
const hotFor = 2 * time.Second

// rewritten forgets what is known of the bytes of messages that were written in place.
// Called with files held.
func (m *mailbox) rewritten(names []string) {
	if len(names) == 0 {
		return
	}
	for _, name := range names {
		i, ok := m.table.byBase(baseOf(name))
		if !ok {
			continue
		}
		m.mu.Lock()
		r := m.table.rows.at(i)
		r.bytes = unknownSize
		m.index.changed = append(m.index.changed, r.uid) // no stamp tells of a write in place
		if m.hot == nil {
			m.hot = map[imap.UID]time.Time{}
		}
		m.hot[r.uid] = time.Now()
		delete(m.unreadable, r.uid)
		uid := r.uid
		m.mu.Unlock()
		m.forgetText(uid)
		if m.notes == nil {
			continue
		}
		if err := m.notes.Forget(uint32(uid)); err != nil {
			m.log.Warn("notes on a message that was rewritten are kept", "event", "cache", "uid", uid, "err", err)
		}
	}
	m.record()
}

// hotLocked reports whether a message is being written. Called with mu held.
func (m *mailbox) hotLocked(uid imap.UID) bool {
	if len(m.hot) == 0 {
		return false
	}
	for u, at := range m.hot {
		if time.Since(at) > hotFor {
			delete(m.hot, u)
		}
	}
	_, yes := m.hot[uid]
	return yes
}
