package maildir

import (
	"time"

	"roost/maildir/index"
	"roost/maildir/uidlist"
)

// newsFor is how long who asks for news waits for who is at the files: a delivery that is
// being taken in is done sooner.
const newsFor = 50 * time.Millisecond

// countNow is a since for refresh that means now, and that nothing but the counts of this one
// mailbox is asked for.
var countNow time.Time

// refresh makes sure that what others did is known: where no events come, and where they
// do, those that were on their way at the time since.
func (m *mailbox) refresh(since time.Time) error {
	if err := m.alive(); err != nil {
		return err
	}
	if m.watch.young.Swap(false) {
		return nil // it was opened just now
	}
	if !m.quiet() {
		m.files.Lock()
	} else if !m.tryFiles() {
		return nil // somebody is at it for longer, and will see what came
	}
	defer m.files.Unlock()
	if !since.IsZero() || !m.quiet() || !m.stands() {
		m.settleEvents(since)
	}
	m.take(askedAtOnce)
	if m.watch.polled.Load() && m.alive() == nil && !m.replacedWithin() {
		m.checkAnnotations()
		s, err := m.stamps()
		if err != nil {
			return err
		}
		if !m.unchanged(s) {
			if err := m.lookAll(); err != nil {
				m.warn("new mail cannot be shown; it is tried again", err)
			}
			if m.hasWriter() {
				m.tidyNew(askedAtOnce)
			}
		} else if err := m.refreshKeywords(); err != nil {
			m.warn("keywords could not be read", err)
		}
	}
	return m.alive()
}

// settleEvents waits until what happened before since was told.
func (m *mailbox) settleEvents(since time.Time) {
	sub := m.watch.subs[subNew] // all three hear from one queue
	if sub == nil {
		return
	}
	if since.IsZero() {
		since = time.Now()
	}
	sub.Settle(since)
}

// stands reports whether the stamps prove that no message came, went or changed its flags, and no
// UID was given, since the table was known to be that of the files: of that no event can be on
// its way. They are three calls, where to hear from the kernel's queue takes five times as long.
// Of a message that was written in place they say nothing, but that changes no count.
func (m *mailbox) stands() bool {
	s, err := m.stamps()
	if err != nil || m.doubt || s != m.seen || m.seenAt-s.newest() < int64(s.tick()) {
		return false
	}
	list, err := m.dirs.control.Stat(uidlist.Name)
	known, ok := m.list.file.Stat()
	return err == nil && ok && index.StampOf(list) == index.StampOf(known)
}

// tryFiles locks files if that can be had within newsFor.
func (m *mailbox) tryFiles() bool {
	if m.long.Load() {
		return m.files.TryLock()
	}
	return m.files.LockWithin(newsFor)
}

// takesLong says that files are held for n messages. It is told to who would wait for them,
// until done is called.
func (m *mailbox) takesLong(n int) (done func()) {
	if n <= flagChunk {
		return func() {}
	}
	m.long.Store(true)
	return func() { m.long.Store(false) }
}

// quiet reports whether events come, so that nobody needs to look.
func (m *mailbox) quiet() bool { return !m.watch.polled.Load() }
