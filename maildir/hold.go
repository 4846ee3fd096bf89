package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

// hold implements store.Mailbox: one session's hold on the shared mailbox.
type hold struct {
	m       *mailbox
	name    store.Name
	write   bool
	wake    func()
	account *account // for the targets of Copy and Move

	gen    uint64 // the generation that it shows; guarded by m.mu
	closed bool   // guarded by m.mu
}

// hold attaches a session, after a refresh.
func (m *mailbox) hold(name store.Name, write bool, wake func(), a *account) (*hold, error) {
	h := &hold{m: m, name: name, write: write && m.writable(), wake: wake, account: a}
	m.mu.Lock()
	if err := m.dead; err != nil {
		m.mu.Unlock()
		return nil, err
	}
	m.name = name
	m.holds[h] = struct{}{}
	if h.write {
		m.writers++
	}
	m.mu.Unlock()
	if h.write && !m.unread.pending.Load() { // else when the rest is read
		m.files.Lock()
		m.cleanTmp()
		m.tidyNew(len(m.inNew))
		m.files.Unlock()
	}
	return h, nil
}

// Close implements store.Mailbox.
func (h *hold) Close() error {
	m := h.m
	m.mu.Lock()
	if h.closed {
		m.mu.Unlock()
		return nil
	}
	h.closed = true
	delete(m.holds, h)
	if h.write {
		m.writers--
	}
	m.versions.hold(h.gen, 0)
	m.mu.Unlock()
	m.st.release(m)
	return nil
}

// Info implements store.Mailbox.
func (h *hold) Info() store.Info {
	m := h.m
	m.mu.Lock()
	defer m.mu.Unlock()
	return store.Info{
		Name: h.name, ID: m.list.id(), UIDValidity: m.list.validity, ReadOnly: !h.write, NoModSeq: m.noModSeq,
		Keywords: slices.Clone(m.known), KeywordsEnd: len(m.known) >= maxKeywords,
	}
}

// View implements store.Mailbox.
func (h *hold) View() store.View { return h.m.newest() }

// FirstUnseen implements store.Mailbox.
func (h *hold) FirstUnseen() imap.UID { return h.m.firstUnseen() }

// Advance implements store.Mailbox.
func (h *hold) Advance(v store.View, expunges bool) (store.View, store.Delta, error) {
	m := h.m
	if v.UIDNext > 0 {
		m.whole()
	}
	m.mu.Lock()
	if m.dead != nil {
		m.mu.Unlock()
		return v, store.Delta{}, m.wrapped(h, "advance", m.dead)
	}
	to := m.versions.after(v, expunges)
	d := store.Delta{Exists: uint32(to.UIDs.Len()), Grown: to.UIDNext > v.UIDNext && to.UIDs.Len() > 0}
	if d.Grown {
		first, _ := to.UIDs.Find(v.UIDNext)
		d.Grown = first < to.UIDs.Len()
	}
	if to.ModSeq <= v.ModSeq && to.Gen == v.Gen && !d.Grown {
		m.mu.Unlock()
		return v, d, nil
	}
	if !h.closed {
		m.versions.hold(h.gen, to.Gen)
		h.gen = to.Gen
	}
	if d.Grown {
		d.Recent = h.claimLocked(v, to)
	}
	if v.UIDNext > 0 {
		d.Changed = m.changedLocked(v, to)
	}
	gone, exact := []imap.UID(nil), true
	if to.Gen != v.Gen && v.UIDs.Len() > 0 {
		gone, exact = m.vanished.between(v.ModSeq, to.ModSeq)
	}
	m.mu.Unlock()
	if !exact {
		d.Vanished = missing(v.UIDs, to.UIDs)
		return to, d, nil
	}
	for _, u := range gone {
		if _, ok := v.UIDs.Find(u); ok {
			d.Vanished = append(d.Vanished, u)
		}
	}
	return to, d, nil
}

// claimLocked gives the \Recent messages between two Views. Only who may write takes
// the mark away from the others (RFC 3501 section 6.3.2).
func (h *hold) claimLocked(v, to store.View) []imap.UID {
	m := h.m
	from := sort.Search(len(m.recent), func(i int) bool { return m.recent[i] >= v.UIDNext })
	end := sort.Search(len(m.recent), func(i int) bool { return m.recent[i] >= to.UIDNext })
	if from == end {
		return nil
	}
	out := slices.Clone(m.recent[from:end])
	if h.write {
		if m.recent = slices.Delete(m.recent, from, end); len(m.recent) == 0 {
			m.recent = nil // it may have been long
		}
	}
	return out
}

// changedLocked gives the rows of v whose flags or keywords changed on the way to to.
func (m *mailbox) changedLocked(v, to store.View) (rows []store.Row) {
	if uids, ok := m.changed.between(v.ModSeq, to.ModSeq); ok {
		for _, u := range uids {
			if i, ok := m.table.find(u); ok && u < v.UIDNext {
				rows = append(rows, m.rowOfLocked(i))
			}
		}
		return rows
	}
	for i := range m.table.rows.len() {
		r := m.table.rows.at(i)
		if r.uid >= v.UIDNext {
			break
		}
		if r.modSeq > v.ModSeq && r.state&rowDead == 0 {
			rows = append(rows, m.rowOfLocked(i))
		}
	}
	return rows
}

// wrapped is wrap with mu held.
func (m *mailbox) wrapped(h *hold, op string, err error) error {
	return fmt.Errorf("%s in %q: %w", op, h.name, storageError(err))
}

// Rows implements store.Mailbox. What is yielded is good until the next step.
func (h *hold) Rows(ctx context.Context, uids []imap.UID, newer store.ModSeq) iter.Seq2[[]store.Row, error] {
	return func(yield func([]store.Row, error) bool) {
		h.m.whole()
		uids := h.m.changedAmong(uids, newer)
		rows := make([]store.Row, 0, min(len(uids), 512))
		for part := range slices.Chunk(uids, 512) {
			rows, err := h.rows(ctx, rows, part, newer)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(rows) > 0 && !yield(rows, nil) {
				return
			}
		}
	}
}

// rows puts the rows of uids into buf, which has room for them.
func (h *hold) rows(ctx context.Context, buf []store.Row, uids []imap.UID, newer store.ModSeq) ([]store.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows := buf[:0]
	m := h.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		return nil, m.wrapped(h, "read rows", m.dead)
	}
	at := -1
	for _, u := range uids {
		i, ok := m.findNearLocked(at+1, u)
		if ok && m.table.rows.at(i).modSeq > newer {
			rows = append(rows, m.rowOfLocked(i))
		}
		at = i
	}
	return rows, nil
}

// Having implements store.Mailbox.
func (h *hold) Having(ctx context.Context, uids []imap.UID, mask, want store.Flags) ([]imap.UID, error) {
	const atOnce = 4096 // a lock is held for some 10 us
	m := h.m
	m.whole()
	out := uids[:0]
	for part := range slices.Chunk(uids, atOnce) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m.mu.Lock()
		if err := m.dead; err != nil {
			m.mu.Unlock()
			return nil, m.wrapped(h, "read flags", err)
		}
		out = m.havingLocked(out, part, mask, want)
		m.mu.Unlock()
	}
	return out, nil
}

// havingLocked appends to out what Having gives.
func (m *mailbox) havingLocked(out, uids []imap.UID, mask, want store.Flags) []imap.UID {
	at := -1
	for _, u := range uids {
		i, ok := m.findNearLocked(at+1, u)
		if ok && m.table.rows.at(i).flags&mask == want {
			out = append(out, u)
		}
		at = i
	}
	return out
}

// changedAmong leaves out those of uids of which it is known that their MODSEQ is not above
// newer, without a look at their rows.
func (m *mailbox) changedAmong(uids []imap.UID, newer store.ModSeq) []imap.UID {
	if newer == 0 || len(uids) < 64 {
		return uids
	}
	m.mu.Lock()
	changed, ok := m.changedSinceLocked(newer)
	ok = ok && m.dead == nil // else that is the answer
	m.mu.Unlock()
	if !ok {
		return uids
	}
	return slices.DeleteFunc(changed, func(u imap.UID) bool {
		_, asked := slices.BinarySearch(uids, u)
		return !asked
	})
}

// changedSinceLocked gives all whose MODSEQ is above since, ascending; false where that is not
// known. What a client that was away for a while asks costs what changed, and not the mailbox.
func (m *mailbox) changedSinceLocked(since store.ModSeq) (changed []imap.UID, known bool) {
	changed, known = m.changed.between(since, m.lastMod)
	// Messages got their MODSEQs in the order of their UIDs, as they were shown; what has a
	// higher one behind the last that is not above since was changed.
	for i := m.table.rows.len() - 1; known && i >= 0; i-- {
		r := m.table.rows.at(i)
		if r.state&rowDead != 0 || m.hiddenLocked(r.uid) {
			continue
		}
		if r.modSeq <= since {
			break
		}
		changed = append(changed, r.uid)
	}
	slices.Sort(changed)
	return slices.Compact(changed), known
}

// Changed implements store.Mailbox.
func (h *hold) Changed(since store.ModSeq, _ store.View) ([]imap.UID, bool, error) {
	m := h.m
	m.whole()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		return nil, false, m.wrapped(h, "list changes", m.dead)
	}
	uids, known := m.changedSinceLocked(since)
	return uids, known, nil
}

// Vanished implements store.Mailbox.
func (h *hold) Vanished(since store.ModSeq, v store.View) ([]imap.UID, bool, error) {
	m := h.m
	m.whole()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		return nil, false, m.wrapped(h, "list expunges", m.dead)
	}
	uids, known := m.vanished.between(since, v.ModSeq)
	return uids, known, nil
}

// findShownLocked is table.find without messages that were not shown to anybody yet.
func (m *mailbox) findShownLocked(uid imap.UID) (int, bool) {
	if m.hiddenLocked(uid) {
		return 0, false
	}
	return m.table.find(uid)
}

// findNearLocked is findShownLocked where the row is most likely i.
func (m *mailbox) findNearLocked(i int, uid imap.UID) (int, bool) {
	if !m.hiddenLocked(uid) && i < m.table.rows.len() {
		if r := m.table.rows.at(i); r.uid == uid {
			return i, r.state&rowDead == 0
		}
	}
	return m.findShownLocked(uid)
}

// Message implements store.Mailbox. The file may have been renamed since its name
// was learned: then it is looked for.
func (h *hold) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.m.st.read.Add(1)
	c, err := h.m.openMessage(uid)
	if err != nil {
		return nil, h.m.wrapped(h, fmt.Sprintf("open UID %d", uid), err)
	}
	return &message{content: c, m: h.m, uid: uid}, nil
}

// openMessage opens a message; shelf.put must be called for it.
func (m *mailbox) openMessage(uid imap.UID) (*content, error) {
	f, st, err := m.openFile(uid)
	if err != nil {
		m.tellUnreadable(uid, err)
		return nil, err
	}
	c, err := m.st.shelf.open(f, st, m.st.opt.MaxUnpacked)
	if err != nil {
		f.Close()
		m.tellUnreadable(uid, err)
	}
	return c, err
}

// openFile opens the file of a message, wherever it is now.
func (m *mailbox) openFile(uid imap.UID) (fsys.File, fsys.Stat, error) {
	m.whole()
	for try := range 10 {
		m.mu.Lock()
		if m.dead != nil {
			m.mu.Unlock()
			return nil, fsys.Stat{}, m.dead
		}
		i, ok := m.findShownLocked(uid)
		if !ok {
			m.mu.Unlock()
			return nil, fsys.Stat{}, store.ErrGone
		}
		name := m.table.fileName(i)
		dir := m.dirs.of(m.table.rows.at(i).inNew())
		m.mu.Unlock()
		f, st, err := dir.OpenStat(name)
		if err == nil {
			return f, st, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fsys.Stat{}, fmt.Errorf("%w: %w: %w", store.ErrUnreadable, store.ErrNoPermission, err)
		}
		if !isNotExist(err) && !isClosed(err) {
			return nil, fsys.Stat{}, fmt.Errorf("%w: %w", store.ErrUnreadable, err)
		}
		m.files.Lock()
		if try == 0 {
			m.take(askedAtOnce) // events may know
		}
		_, ok = m.locate(uid)
		m.files.Unlock()
		if !ok {
			return nil, fsys.Stat{}, store.ErrGone
		}
	}
	return nil, fsys.Stat{}, fmt.Errorf("%w: another program renames it all the time", store.ErrUnreadable)
}

// message is store.Message. It learns the true size of a message that is read, and
// tells the log of one that cannot be.
type message struct {
	content *content
	m       *mailbox
	uid     imap.UID
	closed  atomic.Bool
}

// Size implements store.Message.
func (g *message) Size() (int64, error) {
	n, err := g.content.Size()
	if err != nil {
		g.m.tellUnreadable(g.uid, err)
		return n, err
	}
	g.m.learnSize(g.uid, n)
	return n, nil
}

// ReadAt implements io.ReaderAt.
func (g *message) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.content.ReadAt(p, off)
	g.m.tellUnreadable(g.uid, err)
	return n, err
}

// WriteRange implements store.Message.
func (g *message) WriteRange(w io.Writer, off, n int64) (int64, error) {
	n, err := g.content.WriteRange(w, off, n)
	g.m.tellUnreadable(g.uid, err)
	return n, err
}

// Stream implements store.Message.
func (g *message) Stream(w io.Writer) error {
	err := g.content.Stream(w)
	g.m.tellUnreadable(g.uid, err)
	return err
}

// Close implements store.Message.
func (g *message) Close() error {
	if g.closed.Swap(true) {
		return nil
	}
	return g.m.st.shelf.put(g.content)
}

// tellUnreadable logs, once a message, that it cannot be read.
func (m *mailbox) tellUnreadable(uid imap.UID, err error) {
	if !errors.Is(err, store.ErrUnreadable) && !errors.Is(err, store.ErrUnsupported) {
		return
	}
	const limit = 1000
	m.mu.Lock()
	_, told := m.unreadable[uid]
	told = told || len(m.unreadable) >= limit
	if !told {
		if m.unreadable == nil {
			m.unreadable = map[imap.UID]struct{}{}
		}
		m.unreadable[uid] = struct{}{}
	}
	path := ""
	if i, ok := m.table.find(uid); ok {
		path = m.dirs.of(m.table.rows.at(i).inNew()).Path() + "/" + m.table.fileName(i)
	}
	m.mu.Unlock()
	if !told {
		m.log.Warn("a message cannot be read; the others are served", "event", "unreadable_message", "uid", uid, "path", path, "err", err)
	}
}

// learnSize corrects the size of a row. While somebody changes files it is not worth
// waiting: the next read learns it again.
func (m *mailbox) learnSize(uid imap.UID, size int64) {
	m.mu.Lock()
	i, ok := m.table.find(uid)
	known := !ok || m.table.rows.at(i).bytes == keptSize(size)
	m.mu.Unlock()
	if known {
		return
	}
	if !m.files.TryLock() {
		return
	}
	defer m.files.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.table.find(uid); ok && m.table.rows.at(i).bytes != keptSize(size) && !m.hotLocked(uid) {
		m.table.rows.at(i).setSize(size)
		m.index.sizes = true
	}
}

// totalSize is the sum of all sizes; files whose size is not known are read.
func (m *mailbox) totalSize(ctx context.Context) (int64, error) {
	var total int64
	var unknown []imap.UID
	if _, err := m.measureNow(ctx, nil); err != nil {
		return 0, err
	}
	m.mu.Lock()
	for i := range m.table.rows.len() {
		r := m.table.rows.at(i)
		if r.state&rowDead != 0 {
			continue
		}
		if r.bytes == unknownSize {
			unknown = append(unknown, r.uid)
		} else if !m.hiddenLocked(r.uid) {
			total += int64(r.bytes)
		}
	}
	m.mu.Unlock()
	for _, uid := range unknown {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		c, err := m.openMessage(uid)
		if err != nil {
			continue // gone, or unreadable: no size to count
		}
		n, err := c.Size()
		m.tellUnreadable(uid, err)
		if m.st.shelf.put(c); err == nil {
			m.learnSize(uid, n)
			total += n
		}
	}
	return total, nil
}

// Look implements store.Mailbox.
func (h *hold) Look(ctx context.Context) error {
	if err := h.m.refresh(time.Now()); err != nil {
		return fmt.Errorf("look at %q: %w", h.name, storageError(err))
	}
	return nil
}
