package maildir

import (
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/index"
	"roost/maildir/uidlist"
	"roost/store"
)

// How far roost.index is believed when a mailbox is opened.
//
// Three things may be newer or older than one another: the index (I), the directories
// (D: names, and so flags and expunges) and the uidlist (L), and beside them stands what
// clients were told. What must hold: a client that was told of a change by MODSEQ x is
// told of every later one, so nothing that may have changed behind x may keep a MODSEQ
// up to x; and a UID that was told names no other bytes.
//
// Within one boot of the machine all that was written is there, killed or not. Changes are
// shown first and written behind, one step at a time (record.go), so I lacks at most one
// step of ours, and what others did while nobody looked; where its log is damaged it lacks
// all from there on.
//
//   - I was closed (Head.Clean), D and L as then: the last word (beliefLast). Nothing is
//     read but I.
//     Of I only the summary at its end is read before SELECT is answered, which proves itself
//     and the stamps; that the rows before it are those it was written behind is seen when
//     they are read. If they are not, I is given up as a whole, as if there were none, below a
//     client that was answered by it: see unread.go.
//   - I was closed, D or L changed: others did that. A look finds what differs, which
//     gets MODSEQs above all that I has, which is above all that was told (beliefWhole).
//   - I was not closed, D and L are as its last stamps say, and they were two seconds old
//     when those were written: each step changes one of them, so there was none
//     (beliefLast).
//   - I was not closed, D or L changed: a look finds what differs. That is not all: a
//     step that was told and not written may have been undone by another program, and then
//     all looks as I says. Such a file was renamed after I was last written, which its ctime
//     tells; its row is stamped now. A message that came and went is missed by its line in
//     L, or else by a UID below L's UIDNEXT that has none: then the list of expunges begins
//     anew, and clients are told every UID that is missing. MODSEQs were told that nobody
//     wrote down: the mark R in L, which is synced, is above them (beliefBehind).
//
// After a power cut each of I, D and L may be as it was at any time since its last sync,
// and R and roost-state alone are known to be as they were. I is never synced. So I may be
// older than what was told by any number of steps, and D may be too, so that they agree:
// the flag that was set, told, and lost with both. D's mtimes prove nothing, for two
// changes of one tick of the clock may have been parted by the cut. No row of I proves
// that it was the last: all are stamped now, above R, and the list of expunges begins anew
// (beliefHints). What remains of use, whatever is older than what:
//
//   - D older than I, or I older than D: names are compared, as ever. A file that I knew to
//     be expunged and that is back gets a new UID, for its old one was told to be gone: a UID
//     below I's UIDNEXT names what I says or nothing.
//   - L older than I: its UIDNEXT is raised to that of I; where the lines are lost, the
//     files get other UIDs. Where L is lost, I alone knows the UIDs.
//   - I older than L: the lines that I does not know are new messages. roost-state has
//     set aside the UIDs whose lines were lost with I.
//   - I torn: as if the log ended there.
//
// A reboot that was no power cut looks the same. It costs clients one FETCH of all flags;
// to know better, the first change after each open would have to wait for a sync.
//
// A backup that was put back (restored.go): as after a power cut.
//
// A clock that was set back: MODSEQs go on from the highest that is known, never from the
// clock alone. An index from the future proves nothing by ctimes: as after a power cut.
type belief int

const (
	beliefNone   belief = iota // there is no index
	beliefHints                // UIDs, sizes and dates; no MODSEQs
	beliefBehind               // what was told last may be missing
	beliefWhole                // all that was told is in it
	beliefLast                 // and nothing changed since
)

// judge says how far an index may be believed by what it and the stamps say.
func (m *mailbox) judge(snap *index.Snapshot, now index.Stamps) belief {
	h := snap.Head
	boot := m.st.bootID()
	switch {
	case boot == "" || h.Boot != boot:
		return beliefHints
	case h.Trusted(now):
		return beliefLast
	case wasPutBack(now.UIDList) && now.UIDList != h.Stamps.UIDList:
		return beliefHints // more was told since than the backup knows
	case h.Clean && !snap.Torn:
		return beliefWhole
	case snap.At > m.st.wall().UnixNano(), m.dirs.cur.Remote():
		return beliefHints // ctimes are by another clock
	}
	// Keywords change without a file being renamed.
	for _, s := range []index.Stamp{now.Letters, now.Extra} {
		if max(s.Mtime, s.Ctime) >= doubtfulSince(snap) {
			return beliefHints
		}
	}
	return beliefBehind
}

// doubtfulSince is from when on a ctime may be that of a change which the index lacks.
func doubtfulSince(snap *index.Snapshot) int64 { return snap.At - int64(remoteTick) }

// bootID is the boot of the machine; "" when it is not known.
func (s *Store) bootID() string {
	if s.opt.Boot == unknownBoot {
		return ""
	}
	return s.opt.Boot
}

// readIndex fills the table from roost.index, where that is ours, and says how far it
// is to be believed.
func (m *mailbox) readIndex() (*index.Snapshot, belief) {
	if m.noModSeq {
		return nil, beliefNone
	}
	ld := tableLoader{t: newTable()}
	snap, err := index.Load(m.dirs.index, indexLimit, &ld)
	if err != nil {
		return nil, beliefNone
	}
	ld.change(snap)
	m.table, m.index.sets = ld.t, ld.sets
	now, list, err := m.indexStamps()
	if err != nil {
		return snap, beliefHints // the uidlist is missing, or cannot be had: then loading fails
	}
	b := m.judge(snap, now)
	if b == beliefLast && !m.resume(snap, now, list) {
		m.list.file.Forget()
		b = beliefBehind
		if snap.Head.Clean && !snap.Torn {
			b = beliefWhole
		}
	}
	return snap, b
}

// resume opens a mailbox as its index has it, without a look; false when something
// speaks against it.
func (m *mailbox) resume(snap *index.Snapshot, now index.Stamps, list fsys.Stat) bool {
	res, reserved, err := uidlist.ReadReserve(m.dirs.control)
	if err != nil || reserved && (res.BootID != m.st.opt.Boot || res.Validity != snap.Head.Validity) {
		return false
	}
	ok, err := m.list.file.Resume(list, snap.Head.Last, int(snap.Head.Lines))
	h := m.list.file.Header()
	if !ok || err != nil || h.Validity != snap.Head.Validity || h.GUID == "" || h.ModSeq < snap.Head.ModSeq || m.list.file.Next() < snap.Head.Next {
		return false
	}
	m.list.validity, m.list.guid, m.list.mark = h.Validity, h.GUID, store.ModSeq(h.ModSeq)
	if reserved {
		m.takeReserve(res)
	}
	m.useLetters()
	m.fromSnapshot(snap)
	m.seen, m.seenAt = dirsIn(now), snap.Head.At
	m.watch.late = &now
	return true
}

// useLetters notes the letters that stand in file names.
func (m *mailbox) useLetters() {
	for _, info := range m.table.infos.all {
		_, letters := flagsOf(info)
		m.keywords.used |= letters
	}
}

// takeReserve goes on with the UIDs that a killed process of this boot had set aside:
// its lines are not synced yet.
func (m *mailbox) takeReserve(res uidlist.Reserve) {
	if m.owner != nil {
		m.list.reserve, m.list.unsynced = imap.UID(res.Next), true
	}
}

// fromSnapshot takes over the history of MODSEQs.
func (m *mailbox) fromSnapshot(snap *index.Snapshot) {
	m.lastMod = store.ModSeq(snap.Head.ModSeq)
	m.changed.since = m.lastMod
	m.vanished.since = store.ModSeq(snap.Head.Since)
	for _, v := range snap.Vanished {
		if store.ModSeq(v.ModSeq) > m.vanished.since {
			m.vanished.add(store.ModSeq(v.ModSeq), imap.UID(v.UID))
		}
	}
}

// beginLog goes on with the file's log, where that can be added to, and tells it what
// was found. Called at the end of load.
func (m *mailbox) beginLog(snap *index.Snapshot, b belief) {
	x := &m.index
	if !m.keepsIndex() {
		m.record() // forgets
		return
	}
	if b < beliefBehind || snap.Torn || snap.Head.Validity != m.list.validity {
		x.retry = time.Now().Add(m.st.lateAfter) // the snapshot has time until SELECT was answered
		time.AfterFunc(m.st.lateAfter, m.wake)
		return
	}
	x.log = snap.Log()
	x.numbers = map[store.Keywords]uint32{{}: 0}
	for i, kw := range x.sets[1:] {
		x.numbers[kw] = uint32(i + 1)
	}
	x.sets = nil
	switch {
	case b == beliefLast:
		x.last = snap.Head
	case snap.Head.Clean:
		x.last.Clean = true
	}
	if uint64(m.vanished.since) > snap.Head.Since {
		b := new(index.Batch)
		b.Head(m.head(false, index.Stamps{}, 0))
		if m.append(b) != nil {
			return
		}
	}
	m.record()
	m.settleLater()
}

// begin settles where MODSEQs go on.
func (m *mailbox) begin(snap *index.Snapshot, b belief, mark store.ModSeq) {
	above := max(store.ModSeq(m.st.opt.Clock().UnixMicro()), mark)
	switch b {
	case beliefWhole, beliefBehind:
		m.fromSnapshot(snap)
		if b == beliefWhole {
			return
		}
	case beliefHints:
		above = max(above, store.ModSeq(snap.Head.ModSeq))
	}
	m.lastMod = max(m.lastMod, above)
	m.changed.since = m.lastMod
	if b != beliefBehind {
		m.vanished.since = m.lastMod
	}
}

// merge makes the table, which is as the index has it, that of the uidlist's records.
// Where the list is missing, the index alone knows the UIDs.
func (m *mailbox) merge(snap *index.Snapshot, b belief, c uidlist.Change) {
	records := c.Records
	var next uint32
	if snap != nil {
		next = snap.Head.Next
		var gone []imap.UID
		for i := range m.table.rows.len() {
			r := m.table.rows.at(i)
			if r.state&rowDead != 0 {
				continue
			}
			for len(records) > 0 && imap.UID(records[0].UID) < r.uid {
				records = records[1:] // gone when the index was written, or put back since: it gets the next UID
			}
			listed := len(records) > 0 && imap.UID(records[0].UID) == r.uid && m.table.names.equal(r.base, records[0].Base)
			if listed {
				records = records[1:]
			} else if !c.Missing {
				m.table.remove(i)
				gone = append(gone, r.uid) // the list no longer knows it: its file gets another UID
				continue
			}
			flags, letters := flagsOf(m.table.info(i))
			keywords := m.keywords.of(m.table.base(i), letters)
			if b == beliefHints || flags != r.flags || keywords != m.table.keywords(i) {
				r.flags, r.modSeq = flags, m.loadModSeq()
				m.table.setKeywords(i, keywords)
				m.index.changed = append(m.index.changed, r.uid)
			}
		}
		if len(gone) > 0 {
			mod := m.loadModSeq()
			m.vanished.add(mod, gone...)
			for _, uid := range gone {
				m.index.gone = append(m.index.gone, change{mod, uid})
			}
		}
	}
	told := 0 // records that may have been told of after the index was written
	for _, rec := range records {
		if rec.UID < next {
			continue
		}
		told++
		m.table.add(row{uid: imap.UID(rec.UID), modSeq: m.loadModSeq(), bytes: unknownSize, internal: unknownTime, state: rowListed}, rec.Base, "", store.Keywords{})
		m.index.changed = append(m.index.changed, imap.UID(rec.UID))
	}
	if b == beliefBehind && !c.Missing && int64(told) < int64(m.list.file.Next())-int64(next) {
		m.vanished = changeLog{limit: m.vanished.limit, since: m.lastMod}
	}
}

// loadModSeq is the MODSEQ of all that is found to have changed while the mailbox is
// loaded.
func (m *mailbox) loadModSeq() store.ModSeq {
	if m.index.loadMod == 0 {
		m.mu.Lock()
		m.index.loadMod = m.nextModSeqLocked()
		m.mu.Unlock()
	}
	return m.index.loadMod
}

// stampDoubtful stamps the rows whose files were renamed after the index was last written.
func (m *mailbox) stampDoubtful(snap *index.Snapshot) {
	since := doubtfulSince(snap)
	for i := range m.table.rows.len() {
		r := m.table.rows.at(i)
		if r.state&rowDead != 0 || r.modSeq > store.ModSeq(snap.Head.ModSeq) {
			continue
		}
		st, err := m.dirs.of(r.inNew()).Stat(m.table.fileName(i))
		if err == nil && st.Ctime < since {
			continue
		}
		r.modSeq = m.loadModSeq()
		m.index.changed = append(m.index.changed, r.uid)
	}
}
