package maildir

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

// INTERNALDATE is a file's mtime, and the sizes in its name are believed by its own. To ask
// 100,000 files for both takes longer than to read their names, and SELECT needs neither: a
// mailbox that is opened without an index leaves them unknown until somebody asks. What was
// asked for once is in the table, and in roost.index when the mailbox is closed.

// unknownTime marks a row whose file's date and size were not asked for yet.
const unknownTime = store.Unmeasured

const (
	_ = uint64(unknownTime - math.MinInt64) // it is no date

	// measurers bounds those who ask for one caller; measureEach is what one of them is worth.
	measurers   = 4
	measureEach = 64
)

// measurement is what a file says of one row.
type measurement struct {
	uid imap.UID
	at  sighting
	st  fsys.Stat
	err error
}

// Measure implements store.Mailbox.
func (h *hold) Measure(ctx context.Context, rows []store.Row) error {
	h.m.whole()
	var uids []imap.UID
	for i := range rows {
		if rows[i].Internal == unknownTime {
			uids = append(uids, rows[i].UID)
		}
	}
	if len(uids) == 0 {
		h.m.findSaved(rows)
		return nil
	}
	list, err := h.m.measure(ctx, uids)
	if err != nil {
		return h.m.wrapped(h, "measure messages", err)
	}
	now := h.m.st.opt.Clock()
	for i := range rows {
		r := &rows[i]
		if r.Internal != unknownTime {
			continue
		}
		m := &list[0]
		list = list[1:]
		base := baseOf(m.at.name)
		switch {
		case m.err == nil:
			r.Internal = unixSeconds(m.st.Mtime)
			if r.Size < 0 {
				r.Size = believedSize(m.at.name, m.st.Size)
			}
		default: // gone, or not to be had now: nothing that is kept
			r.Internal = h.m.savedAt(base, now.Unix(), now)
		}
	}
	h.m.findSaved(rows)
	return nil
}

// findSaved tells rows when their messages came into the mailbox; of the gone it is their
// date.
func (m *mailbox) findSaved(rows []store.Row) {
	now := m.st.opt.Clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	at := -1
	for i := range rows {
		r := &rows[i]
		r.Saved = r.Internal
		var ok bool
		if at, ok = m.findNearLocked(at+1, r.UID); ok {
			base := m.table.names.get(m.table.rows.at(at).base)
			base = base[:min(len(base), 24)] // the second stands in front; no more, so that nothing is allocated
			r.Saved = m.savedAt(string(base), r.Internal, now)
		}
	}
}

// measure asks the files of uids for their dates and sizes, where these are not known, and
// keeps what they say. It gives one measurement for each of uids, in order; those of rows
// that were measured meanwhile or are gone say so by err.
func (m *mailbox) measure(ctx context.Context, uids []imap.UID) ([]measurement, error) {
	list := make([]measurement, len(uids))
	m.mu.Lock()
	for i, uid := range uids {
		list[i] = measurement{uid: uid, err: store.ErrGone}
		if at, ok := m.table.find(uid); ok {
			list[i].at, list[i].err = sighting{m.table.fileName(at), m.table.rows.at(at).inNew()}, nil
		}
	}
	dead := m.dead
	m.mu.Unlock()
	if dead != nil {
		return nil, dead
	}
	if err := m.statAll(ctx, list); err != nil {
		return nil, err
	}
	for i := range list {
		if e := &list[i]; isNotExist(e.err) { // renamed meanwhile
			m.files.Lock()
			if at, ok := m.locate(e.uid); ok {
				e.at = at
				e.st, e.err = m.statMessage(at)
			}
			m.files.Unlock()
		}
	}
	m.keepMeasured(list)
	return list, nil
}

// statAll asks on several threads, for each call waits for the disk or the kernel.
func (m *mailbox) statAll(ctx context.Context, list []measurement) error {
	var next atomic.Int64
	work := func() {
		for ctx.Err() == nil {
			to := int(next.Add(measureEach))
			if to-measureEach >= len(list) {
				return
			}
			part := list[to-measureEach : min(to, len(list))]
			for i := range part {
				if e := &part[i]; e.err == nil {
					e.st, e.err = m.statMessage(e.at)
				}
			}
		}
	}
	n := min(measurers, runtime.GOMAXPROCS(0), (len(list)+measureEach-1)/measureEach)
	var wg sync.WaitGroup
	for range n - 1 {
		wg.Go(work) // ends with the list
	}
	work()
	wg.Wait()
	return ctx.Err()
}

// keepMeasured puts measurements into the table. Where somebody is at the files for longer it
// is not worth waiting: who asks again measures again.
func (m *mailbox) keepMeasured(list []measurement) {
	if !m.tryFiles() {
		return
	}
	defer m.files.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range list {
		e := &list[i]
		if e.err != nil {
			continue
		}
		at, ok := m.table.find(e.uid)
		if !ok {
			continue
		}
		r := m.table.rows.at(at)
		if r.internal != unknownTime || m.hotLocked(e.uid) {
			continue
		}
		r.internal = unixSeconds(e.st.Mtime)
		if r.bytes == unknownSize {
			r.setSize(believedSize(e.at.name, e.st.Size))
		}
		m.index.sizes = true
	}
}

// unmeasuredOf are those of uids (nil: all) whose rows were not measured.
func (m *mailbox) unmeasuredOf(uids []imap.UID) (out []imap.UID) {
	m.whole()
	m.mu.Lock()
	defer m.mu.Unlock()
	if uids == nil {
		for i := range m.table.rows.len() {
			if r := m.table.rows.at(i); r.internal == unknownTime && r.state&rowDead == 0 {
				out = append(out, r.uid)
			}
		}
		return out
	}
	for _, uid := range uids {
		if i, ok := m.findShownLocked(uid); ok && m.table.rows.at(i).internal == unknownTime {
			out = append(out, uid)
		}
	}
	return out
}

// measurements are those of some messages whose rows do not say it.
type measurements map[imap.UID]*measurement

// measureNow is measure for those of uids (nil: all) whose rows were not measured, by UID.
// What cannot be measured is not among them.
func (m *mailbox) measureNow(ctx context.Context, uids []imap.UID) (measurements, error) {
	left := m.unmeasuredOf(uids)
	if len(left) == 0 {
		return nil, nil
	}
	list, err := m.measure(ctx, left)
	if err != nil {
		return nil, err
	}
	all := make(measurements, len(list))
	for i := range list {
		if list[i].err == nil {
			all[list[i].uid] = &list[i]
		}
	}
	return all, nil
}
