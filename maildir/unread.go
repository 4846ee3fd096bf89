package maildir

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/index"
	"roost/store"
)

// A mailbox that nothing has changed since it was closed is opened by the summary at the end
// of roost.index: what SELECT and STATUS tell is in it. Rows and names, a hundred bytes a
// message, are read behind the answer by the worker, or by whoever needs them first.
//
// Until then the table is empty, and two doors keep everybody from taking it for the table:
// whoever locks mailbox.files has it read, and what reads under mailbox.mu alone asks whole
// first. What the summary said stays true meanwhile: nothing changes without files, and
// the watches and the second look at the stamps (watchLate) come behind the rows.
//
// What may turn out when they are read:
//
//   - All is as was told: the summary, made anew of the rows, is the same.
//   - It is not, or cannot be read, or a checksum is wrong: the summary proved itself and its
//     stamps are those of the directories, so counts and UIDs are most likely right, and
//     nothing else is known. The mailbox is opened anew by uidlist and directories,
//     in place: UIDs that are still there keep their numbers, what differs is told as expunges
//     and arrivals, and all messages are stamped above every MODSEQ that was told, as
//     wherever an index was lost (trust.go).
//   - What was told cannot be kept (another UIDVALIDITY, a UID among those that were told), or
//     the mailbox cannot be read at all: its holds end as if it had been replaced, and who
//     opens it again opens it anew.
//
// The file is held open between the two, so that one that is removed or replaced meanwhile
// changes nothing.

// filesLock is mailbox.files: who has it finds the table whole.
type filesLock struct {
	queuedLock
	m *mailbox
}

func (l *filesLock) Lock() {
	l.queuedLock.Lock()
	l.m.readRest()
}

func (l *filesLock) TryLock() bool {
	if !l.queuedLock.TryLock() {
		return false
	}
	l.m.readRest()
	return true
}

func (l *filesLock) LockWithin(d time.Duration) bool {
	if !l.queuedLock.LockWithin(d) {
		return false
	}
	l.m.readRest()
	return true
}

// unreadState is what of the index is yet to be read.
type unreadState struct {
	pending atomic.Bool
	index   *index.Unread // not nil while pending; guarded by mailbox.files
}

// whole makes sure that the table is there. Called without files and mu.
func (m *mailbox) whole() {
	if m.unread.pending.Load() {
		m.files.Lock() // to have had it is enough
		defer m.files.Unlock()
	}
}

// openBySummary opens a mailbox by the end of its index, where nothing changed since that was
// written; false where it must be read.
func (m *mailbox) openBySummary() bool {
	if m.noModSeq {
		return false
	}
	u, err := index.Peek(m.dirs.index, indexLimit)
	if err != nil {
		return false
	}
	snap := &index.Snapshot{Head: u.Summary.Head, At: u.Summary.Head.At}
	now, list, err := m.indexStamps()
	if err != nil || m.judge(snap, now) != beliefLast || !m.resume(snap, now, list) {
		m.list.file.Forget()
		u.Close()
		return false
	}
	m.unread.index = u
	m.unread.pending.Store(true)
	return true
}

// dropUnread lets go of a rest that nobody needs any more, and reports whether there was one.
func (m *mailbox) dropUnread() bool {
	u := m.unread.index
	if u == nil {
		return false
	}
	u.Close() // it was only read
	m.unread.index = nil
	m.unread.pending.Store(false)
	return true
}

// tellSummary makes the first View by a summary. Called with files held.
func (m *mailbox) tellSummary(s *index.Summary) {
	m.mu.Lock()
	defer m.mu.Unlock()
	column := columnOf(s.UIDs)
	next := m.list.nextUID()
	if n := column.Len(); n > 0 {
		next = max(next, column.At(n-1)+1)
	}
	m.versions = newVersions(next)
	m.versions.now.UIDs, m.versions.now.ModSeq = column, m.lastMod
	m.counts = counts{int(s.Unseen), int(s.Deleted)}
	m.unseen = imap.UID(s.FirstUnseen)
	m.recent = uidsIn(s.InNew)
	m.inNew = slices.Clone(m.recent)
	m.known = s.Keywords
}

func columnOf(runs []index.Run) (c store.Column) {
	for _, r := range runs {
		c = c.AppendRun(imap.UID(r.First), int(r.Count))
	}
	return c
}

func uidsIn(runs []index.Run) (uids []imap.UID) {
	for _, r := range runs {
		for i := range r.Count {
			uids = append(uids, imap.UID(r.First+i))
		}
	}
	return uids
}

// summary is what a table says as a whole, and the keywords that FLAGS tells.
func (t *table) summary(h index.Head, keywords []string) index.Summary {
	s := index.Summary{Head: h, Keywords: keywords}
	for _, chunk := range t.rows.chunks {
		for i := range chunk {
			r := &chunk[i]
			if r.state&rowDead != 0 {
				continue
			}
			s.UIDs = index.AppendUID(s.UIDs, uint32(r.uid))
			if r.inNew() {
				s.InNew = index.AppendUID(s.InNew, uint32(r.uid))
			}
			if r.flags&store.FlagDeleted != 0 {
				s.Deleted++
			}
			if r.flags&store.FlagSeen == 0 {
				if s.Unseen++; s.FirstUnseen == 0 {
					s.FirstUnseen = uint32(r.uid)
				}
			}
		}
	}
	return s
}

// errOtherRows says that rows are not those that were told.
var errOtherRows = errors.New("its messages are not those that its summary tells")

// readRest reads what the summary spared. Called with files held.
func (m *mailbox) readRest() {
	if !m.unread.pending.Load() {
		return
	}
	u := m.unread.index
	m.unread.index = nil
	ld := tableLoader{t: newTable()}
	snap, err := u.Load(&ld)
	if err == nil {
		ld.change(snap)
		told := u.Summary
		if now := ld.t.summary(told.Head, told.Keywords); !slices.Equal(now.UIDs, told.UIDs) || !slices.Equal(now.InNew, told.InNew) ||
			now.Unseen != told.Unseen || now.Deleted != told.Deleted || now.FirstUnseen != told.FirstUnseen {
			err = errOtherRows
		}
	}
	if err == nil {
		m.takeRest(snap, &ld)
		m.unread.pending.Store(false)
	} else {
		m.log.Warn("roost.index was damaged behind what was told by it; the mailbox is read anew", "event", "index_damaged", "path", m.dirs.index.Path(), "err", err)
		if rerr := m.readAnew(); rerr != nil {
			m.log.Warn("the mailbox cannot be read anew; its sessions end", "event", "mailbox_failed", "path", m.dirs.box.Path(), "err", rerr)
			m.mu.Lock()
			m.dead = store.ErrReplaced // before somebody takes what there is for a table
			m.unread.pending.Store(false)
			m.mu.Unlock()
			m.abandon()
		}
	}
	if m.alive() == nil && m.hasWriter() {
		m.cleanTmp() // hold has left it to us
		m.tidyNew(len(m.inNew))
	}
}

// takeRest puts what was read in its place.
func (m *mailbox) takeRest(snap *index.Snapshot, ld *tableLoader) {
	if ld.t.wasteful() {
		ld.t = ld.t.compacted()
	}
	m.mu.Lock()
	m.table, m.index.sets = ld.t, ld.sets
	m.fromSnapshot(snap)
	m.mu.Unlock()
	m.useLetters()
	m.beginLog(snap, beliefLast)
}

// readAnew makes the state of a mailbox that is told already by its uidlist and directories.
// Called with files held.
func (m *mailbox) readAnew() error {
	told, validity, guid := m.newest(), m.list.validity, m.list.guid
	if err := index.Remove(m.dirs.index); err != nil && !isNotExist(err) {
		m.warn("a damaged "+index.Name+" cannot be removed", err)
	}
	if m.watch.late != nil {
		m.watch.late = nil
		m.watch.young.Store(false)
		m.subscribeOrPoll()
	}
	m.mu.Lock()
	m.table, m.index.sets, m.inNew = newTable(), nil, nil
	m.mu.Unlock()
	m.loaded = false
	m.list.file.Forget()
	if err := m.loadFiles(nil, beliefNone); err != nil {
		return err
	}
	if m.list.validity != validity || m.list.guid != guid || m.list.volatile {
		return fmt.Errorf("UIDVALIDITY %d was told: %w", validity, store.ErrReplaced)
	}
	for i := range m.table.rows.len() {
		m.table.rows.at(i).state &^= rowListed
	}
	now := m.table.summary(index.Head{}, nil)
	column := columnOf(now.UIDs)
	gone, come := missing(told.UIDs, column), missing(column, told.UIDs)
	if len(come) > 0 && come[0] < told.UIDNext {
		return fmt.Errorf("UID %d is among those that were told: %w", come[0], store.ErrReplaced)
	}
	m.mu.Lock()
	mod := m.nextModSeqLocked()
	gone = slices.DeleteFunc(gone, func(u imap.UID) bool { // the look has told some
		_, there := m.versions.now.UIDs.Find(u)
		return !there
	})
	if len(gone) > 0 {
		m.vanished.add(mod, gone...)
		m.versions.shrink(gone, mod)
	}
	for _, uid := range come {
		m.versions.grow(uid, mod)
	}
	m.versions.touch(mod)
	m.changed = changeLog{limit: m.changed.limit, since: mod}
	m.counts, m.unseen = counts{int(now.Unseen), int(now.Deleted)}, imap.UID(now.FirstUnseen)
	m.inNew = uidsIn(now.InNew)
	m.recent = slices.DeleteFunc(slices.Clone(m.inNew), func(u imap.UID) bool { // who was told has them
		_, unclaimed := slices.BinarySearch(m.recent, u)
		return u < told.UIDNext && !unclaimed
	})
	m.unread.pending.Store(false)
	wakes := m.wakesLocked(true)
	m.mu.Unlock()
	m.learnKeywords(nil)
	m.loaded = true
	wakeAll(wakes)
	m.beginLog(nil, beliefNone)
	return nil
}
