package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/cache"
	"roost/maildir/fsys"
	"roost/maildir/fts"
	"roost/maildir/index"
	"roost/maildir/uidlist"
	"roost/store"
)

const (
	indexLimit = 4 << 30

	changedLimit  = 4096
	vanishedLimit = 16384
)

func newMailbox(s *Store, p place) *mailbox {
	m := &mailbox{
		st: s, key: p.key, user: p.user, name: p.name, refs: 1,
		log:            s.opt.Log.With(slog.String("user", p.user), slog.String("mailbox", string(p.name))),
		newUIDValidity: p.uidvalidity,
		lendValidity:   p.lend,
		hasTwin:        p.hasTwin,
		ready:          make(chan struct{}),
		table:          newTable(),
		versions:       newVersions(1),
		holds:          map[*hold]struct{}{},
		changed:        changeLog{limit: changedLimit},
		vanished:       changeLog{limit: vanishedLimit},
		watch:          watchState{kick: make(chan struct{}, 1), stop: make(chan struct{})},
	}
	m.files.m = m
	return m
}

// load opens the mailbox: by the summary of its index where nothing changed since (the rest
// is read behind, see unread.go), from the whole index, or else by a look at its directories.
// The watches are set before the look, so that nothing falls between; where none is needed,
// or nobody has changed the directories for a while, they are set behind, and that nothing
// changed since is checked again (watchLate).
func (m *mailbox) load(p place) (err error) {
	m.files.queuedLock.Lock()
	defer m.files.Unlock()
	if m.dirs, err = p.open(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			m.unsubscribe()
			m.dropUnread()
			if m.list.file != nil {
				m.list.file.Close()
			}
			m.disown()
			m.dirs.close()
		}
	}()
	st, err := m.dirs.box.Self()
	if err == nil && m.promise != nil && m.key != (placeKey{st.Dev, st.Ino}) {
		err = store.ErrNotFound // another has its name by now
	}
	if err != nil {
		return err
	}
	_, m.fileMode = st.Modes()
	m.sealed = !m.canWrite()
	m.readOnly = p.readOnly || m.sealed
	m.list.file = uidlist.New(m.dirs.control, uidlist.DefaultLimits, m.st.env)
	m.own()
	if _, err := m.readKeywords(); err != nil {
		return err
	}
	var snap *index.Snapshot
	b := beliefLast
	if !m.openBySummary() {
		snap, b = m.readIndex()
	}
	calm := b != beliefLast && m.isCalm()
	if b != beliefLast {
		if !calm {
			m.subscribeOrPoll()
		}
		if _, err := m.readKeywords(); err != nil {
			return err
		}
		if err := m.loadFiles(snap, b); err != nil {
			return err
		}
	}
	m.metaAt, _ = m.annotationStamp()
	m.loaded = true
	if m.unread.index != nil {
		m.tellSummary(&m.unread.index.Summary)
	} else {
		m.count()
		m.learnKeywords(nil)
		m.beginLog(snap, b)
	}
	if b != beliefLast && m.writable() && !m.list.volatile {
		if err := m.letterKeywords(); err != nil {
			m.warn("keywords stay in "+extraFile+" for now", err)
		}
	}
	if !m.noModSeq {
		m.notes = cache.New(m.dirs.index, m.fileMode, m.list.validity, cache.Limits{})
		if m.st.opt.NoTextIndex {
			m.dropTextIndex()
		} else {
			m.text.index = fts.New(m.dirs.index, m.fileMode, fts.TextVersion(), m.list.validity, m.textSums)
		}
	}
	if calm {
		m.leaveWatches()
	}
	if m.watch.late != nil {
		m.watch.young.Store(true)
		time.AfterFunc(m.st.lateAfter, m.wake)
	}
	m.wg.Go(m.work) // ends by watch.stop; joined in close
	return nil
}

// canWrite reports whether flags and UIDs can be kept.
func (m *mailbox) canWrite() bool { return m.dirs.cur.Writable() && m.dirs.control.Writable() }

// loadFiles opens a mailbox by its uidlist and directories, with what the index still
// knows.
func (m *mailbox) loadFiles(snap *index.Snapshot, b belief) error {
	var lock *uidlist.Lock
	var err, unlocked error
	if !m.readOnly {
		ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
		defer cancel()
		if lock, unlocked = m.list.file.Lock(ctx); unlocked != nil {
			m.warn("the uidlist cannot be locked; what it knows is served", unlocked)
		}
	}
	defer func() {
		if lock != nil {
			m.unlockList(lock)
		}
	}()
	c, err := m.list.file.Refresh()
	if err != nil {
		return err
	}
	if err := m.keepPromise(&c, snap != nil, lock != nil, unlocked); err != nil {
		return err
	}
	if err := m.meetCourier(&c, snap != nil, lock != nil); err != nil {
		m.log.Warn("the mailbox stays closed until Courier's UIDs can be taken over", "event", "courier_failed", "path", m.dirs.box.Path(), "err", err)
		return err
	}
	h := m.list.file.Header()
	if c.Bad > 0 || c.Damage != nil {
		m.log.Warn("the uidlist is damaged; every UID that it still proves is kept", "event", "uidlist_damaged", "path", m.dirs.control.Path(), "lines", c.Bad, "err", c.Damage)
	}
	if snap != nil && h.Validity != 0 && h.Validity != snap.Head.Validity {
		snap, b = nil, beliefNone
		m.table, m.index.sets = newTable(), nil
	}
	if given := m.givenSince(snap); given > 0 {
		next := imap.UID(m.list.file.Next())
		if snap != nil {
			next = max(next, imap.UID(snap.Head.Next))
		}
		m.list.floor = min(next, uidlist.MaxUID-given) + given
		m.log.Warn("the uidlist was put back from a backup; UIDs that may have been given since are not given again", "event", "put_back", "path", m.dirs.control.Path(), "uidnext", m.list.floor)
	}
	if !m.beginPromised() {
		m.begin(snap, b, store.ModSeq(h.ModSeq))
	}
	m.merge(snap, b, c)
	if err := m.identify(snap, c, lock != nil); err != nil {
		return err
	}
	m.list.locked = m.list.birth != nil // it is written with the messages that are there
	if lock != nil && !m.list.locked {
		m.unlockList(lock)
		lock = nil
	}
	err = m.look()
	if m.list.birth != nil {
		if berr := m.bearList(); berr != nil {
			err = berr
		}
	}
	if errors.Is(err, errUnborn) {
		err = m.look()
	}
	if lock != nil {
		m.unlockList(lock)
		lock = nil
	}
	if err != nil {
		if !m.doubt || m.list.file.Header().Validity == 0 && !m.list.volatile {
			return err
		}
		m.warn("new mail cannot be shown; it is tried again", err)
	}
	if b == beliefBehind {
		m.stampDoubtful(snap)
	}
	return nil
}

// identify settles UIDVALIDITY, GUID, UIDNEXT and the mark, and writes the header
// where it does not say so.
func (m *mailbox) identify(snap *index.Snapshot, c uidlist.Change, locked bool) error {
	h := m.list.file.Header()
	l := &m.list
	l.validity, l.guid, l.mark = h.Validity, h.GUID, store.ModSeq(h.ModSeq)
	next := max(imap.UID(m.list.file.Next()), l.floor)
	if snap != nil {
		l.validity = snap.Head.Validity
		next = max(next, imap.UID(snap.Head.Next))
	}
	res, found, err := uidlist.ReadReserve(m.dirs.control)
	switch {
	case errors.Is(err, uidlist.ErrReserve):
		next += 2 * reserveUIDs // more than it could have set aside
	case found && res.Validity == l.validity && res.BootID != m.st.opt.Boot:
		next = max(next, imap.UID(res.Next))
	case found && res.Validity == l.validity:
		m.takeReserve(res)
	}
	upcoming := max(m.lastMod, store.ModSeq(m.st.opt.Clock().UnixMicro()))
	wantMark := l.mark
	if !m.noModSeq && upcoming+store.ModSeq(time.Minute/time.Microsecond) >= l.mark {
		wantMark = upcoming + store.ModSeq(markAhead/time.Microsecond)
	}
	fresh := l.validity == 0
	switch {
	case fresh: // a new list gets one
	case h.GUID == "":
		l.guid = m.madeGUID()
	case m.isCopied(snap, h.GUID):
		if l.guid = m.madeGUID(); locked {
			if l.guid, err = m.st.env.NewGUID(); err != nil {
				return err
			}
		}
		m.log.Info("the mailbox is a copy of another and gets an id of its own", "event", "guid", "path", m.dirs.control.Path(), "from", h.GUID, "to", l.guid)
	}
	if !fresh && !c.Missing && c.Damage == nil && (l.guid == h.GUID || !locked) && uint32(next) <= m.list.file.Next() && wantMark == l.mark {
		return nil
	}
	if !locked {
		return m.cannotRecord(c.Missing || fresh)
	}
	if fresh {
		if l.validity, err = m.newUIDValidity(); err != nil {
			m.warn("no UIDVALIDITY can be recorded", err)
			return m.cannotRecord(true)
		}
	}
	if fresh && c.Missing {
		l.birth = &uidlist.Header{Validity: l.validity, ModSeq: uint64(wantMark), Next: uint32(next)}
		return nil
	}
	old := l.mark
	l.mark = wantMark
	write := func() error {
		if c.Missing && m.table.len() > 0 {
			if err := m.restoreList(); err != nil {
				return err
			}
		}
		return l.file.Rewrite(func(h *uidlist.Header) {
			h.Validity, h.ModSeq, h.Next = l.validity, uint64(l.mark), max(h.Next, uint32(next))
			if l.guid != "" {
				h.GUID = l.guid
			}
		}, nil, nil)
	}
	if err := write(); err != nil {
		m.warn("the uidlist cannot be written", err)
		l.mark = old
		if l.guid != h.GUID {
			l.guid = ""
		}
		// What was there is known again, or nothing is.
		if _, rerr := l.file.Refresh(); rerr != nil {
			return errors.Join(err, rerr)
		}
		return m.cannotRecord(l.file.Header().Validity == 0)
	}
	l.guid = l.file.Header().GUID
	if found && res.BootID != m.st.opt.Boot {
		if err := uidlist.RemoveReserve(m.dirs.control); err != nil {
			m.warn("an old "+uidlist.ReserveName+" cannot be removed", err)
		}
	}
	return nil
}

// errUnborn says that a uidlist could not be made, and that the mailbox goes on without.
var errUnborn = errors.New("no uidlist could be made")

// bearWith is enqueue of messages with whose lines the uidlist is born: the one waits for the
// disk, the other for the processor.
func (m *mailbox) bearWith(list []newcomer, records []uidlist.Record) (*arrival, error) {
	h := *m.list.birth
	written := make(chan error, 1)
	go func() { written <- m.list.file.Begin(h, records) }() // joined below
	a := m.enqueue(list)
	err := <-written
	if err != nil {
		m.mu.Lock()
		m.table, m.queue, m.inNew = newTable(), nil, nil // as it was
		m.mu.Unlock()
	}
	return a, m.bornList(h, err)
}

// bearList writes a uidlist where none was, for no message, in one durable step. Called with
// the dotlock held, while the mailbox is opened.
func (m *mailbox) bearList() error {
	h := *m.list.birth
	return m.bornList(h, m.list.file.Begin(h, nil))
}

// bornList is told how the writing of the first uidlist went.
func (m *mailbox) bornList(h uidlist.Header, err error) error {
	l := &m.list
	l.birth = nil
	if err != nil {
		m.warn("the uidlist cannot be written", err)
		// What was there is known again, or nothing is.
		if _, rerr := l.file.Refresh(); rerr != nil {
			return errors.Join(err, rerr)
		}
		if err := m.cannotRecord(l.file.Header().Validity == 0); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errUnborn, err)
	}
	l.mark, l.guid = store.ModSeq(h.ModSeq), l.file.Header().GUID
	return nil
}

// cannotRecord goes on with a mailbox whose uidlist cannot be written. With a list
// its messages are served, and new ones stay unseen until their UIDs can be kept,
// since a UID that was shown must never be given again. With none, all are served
// under a UIDVALIDITY that nobody uses again: the second at which this began.
func (m *mailbox) cannotRecord(noList bool) error {
	m.noModSeq = true
	if noList {
		m.list.volatile = true
		m.list.validity = m.lendValidity()
		m.list.next = m.nextKnown()
	}
	if m.list.guid == "" {
		m.list.guid = m.madeGUID()
	}
	return nil
}

// tryToRecord ends a volatile mailbox as soon as its UIDs could be kept: who opens it
// again finds it as it will stay.
func (m *mailbox) tryToRecord() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lock, err := m.list.file.Lock(ctx)
	if err != nil {
		return
	}
	err = lock.Unlock()
	if err == nil {
		m.log.Info("UIDs can be recorded again; the mailbox is opened anew", "event", "recorded", "path", m.dirs.control.Path())
		m.abandon()
	}
}

// count makes the first View, and what is counted beside it.
func (m *mailbox) count() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inNew, m.recent, m.counts = nil, nil, counts{}
	var column store.Column
	part := make([]imap.UID, 0, rowChunk)
	for _, chunk := range m.table.rows.chunks {
		part = part[:0]
		for i := range chunk {
			r := &chunk[i]
			if r.state&rowDead != 0 {
				continue
			}
			r.state &^= rowListed
			part = append(part, r.uid)
			m.counts.add(r.flags, 1)
			if r.inNew() {
				m.inNew = append(m.inNew, r.uid)
				m.recent = append(m.recent, r.uid)
			}
		}
		column = column.Append(part...)
	}
	next := m.list.nextUID()
	for _, uid := range m.list.claims {
		next = min(next, uid) // it is yet to come
	}
	if n := column.Len(); n > 0 {
		next = max(next, column.At(n-1)+1)
	}
	m.versions = newVersions(next)
	m.versions.now.UIDs = column
	m.versions.now.ModSeq = m.lastMod
	m.changed.since = m.lastMod // what was stamped while it was loaded is not in there
	if m.table.wasteful() {
		m.table = m.table.compacted()
	}
}

// close ends the mailbox: its worker, its watches, its descriptors. With save it
// leaves a snapshot and no unsynced line.
func (m *mailbox) close(save bool) error {
	m.files.queuedLock.Lock()
	if m.closed {
		m.files.Unlock()
		return nil
	}
	m.closed = true
	m.files.Unlock()
	close(m.watch.stop)
	m.wg.Wait()
	m.files.queuedLock.Lock()
	defer m.files.Unlock()
	if m.dropUnread() {
		save = false // all is as it was found
	}
	if t := m.index.timer; t != nil {
		t.Stop()
	}
	var errs []error
	if save && m.alive() == nil {
		if m.watch.late == nil {
			m.pull()
		}
		for m.checkWritten(portion) {
		}
		if err := m.saveIndex(); !isNotExist(err) { // a directory that is gone has nothing to save
			errs = append(errs, err)
		}
	}
	if !m.list.volatile && m.alive() == nil {
		var err error
		if m.list.unsynced {
			err = m.list.file.Sync()
		}
		if err == nil && m.list.reserve != 0 {
			err = uidlist.RemoveReserve(m.dirs.control)
		}
		errs = append(errs, err)
	}
	errs = append(errs, m.closeNotes(save && m.alive() == nil), m.closeText())
	m.unsubscribe()
	m.watch.closePaths()
	m.list.file.Close() // nothing is in it that could be lost
	m.disown()
	m.dirs.close()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close mailbox: %w", err)
	}
	return nil
}

// abandon gives a mailbox up that was replaced; who opens its directory again opens
// it anew. Called with files held.
func (m *mailbox) abandon() {
	m.kill(store.ErrReplaced)
	m.unsubscribe()
	if !m.list.locked { // else when it is unlocked: only an owner may hold such a lock
		m.disown()
	}
	m.st.forget(m)
}

// movedTo sets the watches by the new path of the directory. All else goes by
// descriptors, which went along.
func (m *mailbox) movedTo(path string) {
	m.files.Lock()
	defer m.files.Unlock()
	if m.closed || m.alive() != nil {
		return
	}
	if err := m.openWatched(path); err != nil {
		m.warn("watches could not be set; the mailbox is looked at instead", err)
		m.watch.polled.Store(true)
	}
	m.doubt = true
	m.wake()
}

// openWatched opens the directories by a path to watch them by.
func (m *mailbox) openWatched(path string) error {
	box, err := m.st.opt.FS.Root(path)
	if err != nil {
		return err
	}
	st, err := box.Self()
	if err == nil && (placeKey{st.Dev, st.Ino}) != m.key {
		err = store.ErrReplaced
	}
	var at [3]fsys.Dir
	at[subBox] = box
	if err == nil {
		at[subCur], err = box.Sub("cur")
	}
	if err == nil {
		at[subNew], err = box.Sub("new")
	}
	if err != nil {
		for _, d := range at {
			if d != nil {
				d.Close()
			}
		}
		return err
	}
	m.unsubscribe()
	m.watch.closePaths()
	m.watch.paths = at
	m.watch.astray = time.Time{}
	return m.subscribe()
}

// tmpAge is after what time a file in tmp/ belongs to no delivery any more.
const tmpAge = 36 * time.Hour

// cleanTmp removes what deliveries left behind that died, once. Called with files held.
func (m *mailbox) cleanTmp() {
	if m.cleaned || m.readOnly {
		return
	}
	m.cleaned = true
	var old []string
	m.dirs.tmp.Names(func(name string, kind fs.FileMode) bool {
		if kind.Type() == 0 && name[0] != '.' {
			if st, err := m.dirs.tmp.Stat(name); err == nil && st.Mode.IsRegular() && m.st.wall().UnixNano()-max(st.Ctime, st.Mtime) > int64(tmpAge) {
				old = append(old, name)
			}
		}
		return true
	})
	for _, name := range old {
		if err := m.dirs.tmp.Remove(name); err == nil {
			m.log.Info("a file that a delivery left behind was removed", "event", "tmp_cleaned", "path", m.dirs.tmp.Path()+"/"+name)
		}
	}
}
