package maildir

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/index"
	"roost/maildir/uidlist"
	"roost/store"
)

// What is shown is written to roost.index right behind: the sessions are woken first,
// under mailbox.files comes then one append for all that one command, look or handful
// of events changed. So a killed process leaves at most its last step unwritten. When
// nothing has changed for a while, the stamps of the directories follow, by which the
// next open can tell that nothing has changed since either.

const (
	// settleAfter is how long a mailbox must be left alone before its stamps are believed:
	// what changed two seconds ago can be told from what changes now (index.Head.Trusted).
	settleAfter = 2200 * time.Millisecond

	// settleTries bounds the attempts after one change, where somebody goes on changing
	// the files and nobody looks.
	settleTries = 10

	// retryIndexAfter is when a file that could not be written is tried again.
	retryIndexAfter = time.Minute
)

// indexState is what is known of roost.index, and what it is to be told. Guarded by
// mailbox.files.
type indexState struct {
	log     *index.Log                // nil: the file is not there or cannot be continued
	numbers map[store.Keywords]uint32 // keyword sets in the file
	last    index.Head                // at the end of the file; zero after a change
	retry   time.Time

	timer     *time.Timer // of settle; nil before the first change
	armed     bool
	tries     int
	due       atomic.Bool // the timer is up
	candidate dirStamps   // of the last try

	loadMod store.ModSeq     // of loadModSeq
	sets    []store.Keywords // those of the file that was loaded, by number

	// Guarded by mailbox.mu.
	changed []imap.UID // shown rows that the file does not know like that
	gone    []change   // expunged
	sizes   bool       // sizes were learned: nothing that must be kept
}

// keepsIndex reports whether roost.index is ours to write. Called with files held.
func (m *mailbox) keepsIndex() bool {
	return m.owner != nil && !m.noModSeq && !m.readOnly && !m.list.volatile
}

// record adds to the log what was shown since. Called with files held, after the
// sessions were woken.
func (m *mailbox) record() {
	x := &m.index
	if !m.loaded {
		return // load does, when it is through
	}
	m.mu.Lock()
	changed, gone, dead := x.changed, x.gone, m.dead
	x.changed, x.gone = nil, nil
	m.mu.Unlock()
	if len(changed)+len(gone) == 0 || dead != nil || !m.keepsIndex() {
		return
	}
	// The goroutines of the idling sessions are next in this thread's queue: they write
	// first.
	runtime.Gosched()
	x.last = index.Head{}
	if x.log == nil {
		m.wake() // for the snapshot, which knows all
		return
	}
	b := new(index.Batch)
	for _, uid := range changed {
		if i, ok := m.table.find(uid); ok {
			b.Put(m.indexRow(i, b.Set))
		}
	}
	for _, c := range gone {
		b.Gone(index.Vanished{UID: uint32(c.uid), ModSeq: uint64(c.modSeq)})
	}
	m.append(b)
	m.settleLater()
}

// unclean takes back that all that was shown is in the file, before that is no longer
// so: once after a mailbox was opened. Called with files held.
func (m *mailbox) unclean() {
	x := &m.index
	if !x.last.Clean || x.log == nil || !m.keepsIndex() {
		return
	}
	x.last.Clean = false
	b := new(index.Batch)
	b.Head(m.head(false, x.last.Stamps, x.last.At))
	m.append(b)
}

// append writes to the log. A file that cannot be continued is removed: what it says
// is no longer all.
func (m *mailbox) append(b *index.Batch) error {
	x := &m.index
	err := x.log.Append(m.st.wall().UnixNano(), uint64(m.lastMod), uint32(m.versions.now.UIDNext), b)
	if err == nil {
		if x.log.Wasteful() {
			m.wake()
		}
		return nil
	}
	m.giveUpLog(err)
	return err
}

func (m *mailbox) giveUpLog(err error) {
	x := &m.index
	m.warn("changes cannot be added to "+index.Name+"; it is written anew when that is possible", err)
	x.log, x.last = nil, index.Head{}
	// A full disk, or somebody who removes the mailbox, and whom a new file would stop.
	x.retry = time.Now().Add(retryIndexAfter)
	if rerr := index.Remove(m.dirs.index); rerr != nil && !isNotExist(rerr) {
		m.warn("an old "+index.Name+" cannot be removed", rerr)
	}
}

// indexRow is a row as the log has it; set is told of keyword sets that it lacks.
func (m *mailbox) indexRow(i int, set func([]string)) index.Row {
	r := m.table.rows.at(i)
	kw := m.table.keywords(i)
	n, ok := m.index.numbers[kw]
	if !ok {
		n = uint32(len(m.index.numbers))
		m.index.numbers[kw] = n
		set(kw.Names())
	}
	return index.Row{
		UID: uint32(r.uid), ModSeq: uint64(r.modSeq), Size: r.size(), Internal: r.internal, Flags: uint8(r.flags),
		InNew: r.inNew(), Keywords: n, Base: m.table.names.get(r.base), Info: m.table.info(i),
	}
}

// head is what holds now.
func (m *mailbox) head(clean bool, s index.Stamps, at int64) index.Head {
	return index.Head{
		Validity: m.list.validity, Next: uint32(m.versions.now.UIDNext), ModSeq: uint64(m.lastMod),
		Lines: uint32(m.list.file.Lines()), Last: m.list.file.Next() - 1, Since: uint64(m.vanished.since),
		Boot: m.st.bootID(), Clean: clean, Stamps: s, At: at,
	}
}

// tend writes what can wait. Called by the worker, with files held.
func (m *mailbox) tend() {
	x := &m.index
	if !m.loaded || !m.keepsIndex() || m.alive() != nil {
		return
	}
	if (x.log == nil || x.log.Wasteful()) && !time.Now().Before(x.retry) {
		if err := m.writeSnapshot(false); err != nil {
			m.warn(index.Name+" cannot be written; if this process is killed the mailbox opens slowly next time", err)
			x.retry = time.Now().Add(retryIndexAfter)
		}
		m.settleLater()
	}
	if x.due.Swap(false) {
		x.armed = false
		m.settle()
	}
}

// settleLater has settle tried when the mailbox was left alone for a while.
func (m *mailbox) settleLater() {
	x := &m.index
	x.tries = 0
	m.armSettle()
}

func (m *mailbox) armSettle() {
	x := &m.index
	if x.armed {
		return
	}
	x.armed = true
	if x.timer == nil {
		x.timer = time.AfterFunc(m.st.settleAfter, func() { x.due.Store(true); m.wake() })
		return
	}
	x.timer.Reset(m.st.settleAfter)
}

// settle notes the stamps under which the file tells all there is. Where events come,
// stamps that were the same a while ago are those of the table: what had changed the
// directories before was told since, for it is waited for.
func (m *mailbox) settle() {
	x := &m.index
	unsaid := func() bool { return x.log != nil && x.last.Stamps == (index.Stamps{}) }
	if !unsaid() {
		return
	}
	m.settleEvents(time.Now())
	m.take(portion)
	if m.alive() != nil || !unsaid() {
		return
	}
	s, at, ok := m.standing()
	if m.watch.behind() {
		ok = false
	}
	if now := dirsIn(s); !m.unchanged(now) {
		ok = ok && now == x.candidate && !m.watch.polled.Load()
		x.candidate = now
	}
	if !ok {
		if x.tries++; x.tries < settleTries {
			m.armSettle()
		}
		return
	}
	b := new(index.Batch)
	h := m.head(false, s, at)
	b.Head(h)
	if m.append(b) == nil {
		x.last, m.seen, m.seenAt = h, dirsIn(s), at
		x.log.Release() // an idle mailbox keeps no descriptor for it
	}
}

// standing gives the stamps of the mailbox and when they were taken. ok is false while
// the table cannot be that of the files, and while the stamps are too young to be
// believed; else it is when the directories are known to be as m.seen.
func (m *mailbox) standing() (s index.Stamps, at int64, ok bool) {
	at = m.st.wall().UnixNano()
	s, list, err := m.indexStamps()
	if err != nil || m.doubt || !m.watch.muffled.since.IsZero() || len(m.watch.suspects)+len(m.list.claims) > 0 || !m.watch.astray.IsZero() {
		return s, at, false
	}
	m.mu.Lock()
	hidden := len(m.queue) > 0
	m.mu.Unlock()
	known, listed := m.list.file.Stat()
	k := &m.keywords
	ok = !hidden && listed && index.StampOf(known) == index.StampOf(list) &&
		k.letterAt == fileStampIn(s.Letters) && k.extraAt == fileStampIn(s.Extra) &&
		index.Head{Stamps: s, At: at}.Trusted(s)
	return s, at, ok
}

// seenStamps are those of standing where the last look was at these directories, else
// none.
func (m *mailbox) seenStamps() (s index.Stamps, at int64) {
	s, at, ok := m.standing()
	if !ok || !m.unchanged(dirsIn(s)) {
		return index.Stamps{}, at
	}
	return s, at
}

func dirsIn(s index.Stamps) dirStamps {
	return dirStamps{dirStamp{s.Cur.Ino, s.Cur.Mtime, s.Cur.Ctime}, dirStamp{s.New.Ino, s.New.Mtime, s.New.Ctime}}
}

func fileStampIn(s index.Stamp) fileStamp { return fileStamp{s.Ino, s.Size, s.Mtime, s.Ctime} }

// indexStamps are what an index's trust hangs on.
func (m *mailbox) indexStamps() (s index.Stamps, list fsys.Stat, err error) {
	for _, d := range []struct {
		dir fsys.Dir
		to  *index.Stamp
	}{{m.dirs.cur, &s.Cur}, {m.dirs.new, &s.New}} {
		st, err := d.dir.Self()
		if err != nil {
			return s, list, err
		}
		*d.to = index.StampOf(st)
	}
	for _, f := range []struct {
		name string
		to   *index.Stamp
	}{{uidlist.Name, &s.UIDList}, {lettersFile, &s.Letters}, {extraFile, &s.Extra}} {
		st, err := m.dirs.control.Stat(f.name)
		switch {
		case err == nil:
			*f.to = index.StampOf(st)
		case !isNotExist(err) || f.name == uidlist.Name:
			return s, list, err
		}
		if f.name == uidlist.Name {
			list = st
		}
	}
	return s, list, nil
}

// writeSnapshot puts a new roost.index in place. clean: nothing will be shown any more.
func (m *mailbox) writeSnapshot(clean bool) error {
	x := &m.index
	if m.table.namesWasteful() {
		m.compact()
	}
	s, at := m.seenStamps()
	t := m.table
	x.numbers = map[store.Keywords]uint32{{}: 0}
	c := index.Contents{Head: m.head(clean, s, at), Names: t.names.chunks}
	sets, infos := make([]uint32, len(t.sets.all)+1), make([]uint32, len(t.infos.all)+1) // their numbers in the file
	// Rows that were not shown yet have the highest UIDs.
	shown := func(r *row) bool { return r.state&rowDead == 0 && r.uid < m.versions.now.UIDNext }
	for i := range t.rows.len() {
		r := t.rows.at(i)
		if !shown(r) {
			continue
		}
		c.Count++
		if r.set != 0 && sets[r.set] == 0 {
			kw := t.sets.get(r.set)
			c.Sets = append(c.Sets, kw.Names())
			sets[r.set] = uint32(len(c.Sets))
			x.numbers[kw] = sets[r.set]
		}
		if r.info != 0 && infos[r.info] == 0 {
			c.Infos = append(c.Infos, t.infos.get(r.info))
			infos[r.info] = uint32(len(c.Infos))
		}
	}
	c.Rows = func(yield func(index.Entry) bool) {
		for i := range t.rows.len() {
			r := t.rows.at(i)
			if !shown(r) {
				continue
			}
			if !yield(index.Entry{
				ModSeq: uint64(r.modSeq), Internal: r.internal, UID: uint32(r.uid), Size: r.bytes, Name: r.base,
				Info: infos[r.info], Keywords: sets[r.set], Flags: uint8(r.flags), InNew: r.inNew(),
			}) {
				return
			}
		}
	}
	for _, e := range m.vanished.entries {
		c.Vanished = append(c.Vanished, index.Vanished{UID: uint32(e.uid), ModSeq: uint64(e.modSeq)})
	}
	if x.log != nil {
		x.log.Release()
	}
	log, err := index.Write(m.dirs.index, m.fileMode, c)
	if err != nil {
		return err
	}
	x.log, x.last = log, c.Head
	m.mu.Lock()
	x.changed, x.gone, x.sizes = nil, nil, false
	m.mu.Unlock()
	return nil
}

// saveIndex makes roost.index the last word on the mailbox, which is about to be closed.
func (m *mailbox) saveIndex() error {
	x := &m.index
	if !m.keepsIndex() {
		return nil
	}
	now, err := m.stamps()
	if err != nil {
		return err
	}
	if !m.unchanged(now) || m.doubt {
		// Our own changes moved the mtimes too. A last look tells whether others' are
		// among them, and costs less than a scan at the next open.
		if err := m.lookAll(); err != nil {
			return err
		}
	}
	s, at := m.seenStamps()
	m.mu.Lock()
	sizes := x.sizes
	m.mu.Unlock()
	if x.log == nil || x.log.Wasteful() || sizes {
		if err := m.writeSnapshot(true); err != nil || s == (index.Stamps{}) {
			return err
		}
	} else if x.last.Clean && x.last.Stamps == s {
		return nil
	}
	if m.finishLog(s, at) != nil {
		return m.writeSnapshot(true)
	}
	return nil
}

// finishLog ends the file: with the summary by which the mailbox is opened next, where stamps
// will tell that it is the last word.
func (m *mailbox) finishLog(s index.Stamps, at int64) error {
	x := &m.index
	h := m.head(true, s, at)
	if s == (index.Stamps{}) {
		b := new(index.Batch)
		b.Head(h)
		return m.append(b)
	}
	err := x.log.Finish(at, m.table.summary(h, m.known))
	if err != nil {
		m.giveUpLog(err)
	}
	return err
}
