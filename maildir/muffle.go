package maildir

import (
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
)

// The kernel tells of our own renames and removals too, and to hear of most of a mailbox's
// files one by one costs more than to look at all of them once. So cur is not watched while a
// STORE or an EXPUNGE changes so many; new and the mailbox's own directory are. What others
// did in cur meanwhile is found behind the command, as after an overflow of the kernel's
// queue: the watch is set, a look compares the names, and the times of the files tell which
// were written in place. Until then nobody hears of it, but who comes across it.

const (
	// muffleLeast is of how many changed files on cur is not watched. To set a watch and to
	// look costs a quarter of what is saved by it, for each file of the mailbox.
	muffleLeast = 512

	// muffleMost is how many messages a mailbox has at most for that: a look is not cut
	// into slices, and who asks for news waits for newsFor.
	muffleMost = 65536

	// muffleSlack is how long before the watch ends a write may have been whose event was
	// not passed on yet, the clock that stamps files included.
	muffleSlack = time.Second
)

// muffled is what is known of the time in which cur was not watched. Guarded by
// mailbox.files, but for commands.
type muffled struct {
	commands atomic.Int32 // at work; while there are any cur may lack its watch
	since    time.Time    // of the first that is not made up for; zero: none
	checked  imap.UID     // files of lower UIDs were looked at for writes since then
}

// muffle is called before n files of cur are changed by one command, with files held. done,
// which takes no lock, is called behind the last.
func (m *mailbox) muffle(n int) (done func()) {
	if !m.isMost(n) {
		return func() {}
	}
	x, w := &m.watch.muffled, &m.watch
	began := m.st.wall()
	m.take(portion) // what was told is not forgotten
	sub := w.subs[subCur]
	if m.alive() != nil || w.polled.Load() || sub == nil && x.since.IsZero() {
		return func() {}
	}
	if sub != nil {
		sub.Close()
		w.subs[subCur] = nil
	}
	if x.since.IsZero() {
		x.since = began
	}
	x.checked = 0
	x.commands.Add(1)
	return func() {
		if x.commands.Add(-1) == 0 {
			// The next command often is another of that kind.
			time.AfterFunc(m.st.lateAfter, m.wake)
		}
	}
}

// isMost reports whether that many changed files are so many that cur is not watched.
func (m *mailbox) isMost(n int) bool {
	all := m.newest().UIDs.Len()
	return n >= m.st.muffleLeast && n >= all/2 && all <= muffleMost
}

// checkWritten forgets what is known of files that were written in place while cur was not
// watched, and looks at limit files at most, fewer where somebody waits. It reports whether
// there are more. Called with files held, behind take.
func (m *mailbox) checkWritten(limit int) (more bool) {
	x := &m.watch.muffled
	if x.since.IsZero() || x.commands.Load() > 0 || m.watch.subs[subCur] == nil && !m.watch.polled.Load() {
		return false // take sets the watch first
	}
	var names []string
	first, n := x.since.Add(-muffleSlack), 0
	i, _ := m.table.find(x.checked)
	for ; i < m.table.rows.len(); i++ {
		r := m.table.rows.at(i)
		if r.state&rowDead != 0 || r.inNew() {
			continue
		}
		if n >= limit || n >= flagLeast && m.files.Wanted() {
			x.checked, more = r.uid, true
			break
		}
		n++
		name := m.table.fileName(i)
		st, err := m.dirs.cur.Stat(name)
		at := time.Unix(0, st.Mtime)
		if err != nil || !at.Before(first) && !at.After(m.st.wall().Add(muffleSlack)) ||
			r.internal >= first.Unix() && r.internal != at.Unix() { // cp -p gives its time in the end
			names = append(names, name)
		}
	}
	if !more {
		x.since = time.Time{}
	}
	m.rewritten(names)
	return more
}
