package maildir

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

const (
	// reserveUIDs is how many UIDs roost-state sets aside at once.
	reserveUIDs = 1000

	// markAhead is how far the uidlist's mark R runs ahead of the MODSEQs shown.
	markAhead = 24 * time.Hour

	// syncLater is how long after the last delivery the lines that only announce
	// deliveries are synced, and syncLatest how long after the first of them. A sync under
	// way holds up whoever delivers next: the filesystem has one journal.
	syncLater  = time.Second
	syncLatest = 15 * time.Second

	// lockPatience is how long a command waits for another program's dotlock.
	lockPatience = 20 * time.Second
)

// uidState is what is known of dovecot-uidlist. Guarded by mailbox.files, but
// validity and guid, which do not change once the mailbox was loaded.
type uidState struct {
	file     *uidlist.File
	validity uint32
	guid     string
	mark     store.ModSeq // no MODSEQ above it was shown without the file saying so

	claims   map[string]imap.UID // bases that others gave UIDs, and that were not found yet
	sought   bool                // a look is on its way that finds all of them
	floor    imap.UID            // no UID below it is given: restored.go
	locked   bool                // we hold the dotlock
	beside   bool                // a Dovecot may be reading the directories: beside.go
	left     bool                // it could not be removed: to be taken and released again
	birth    *uidlist.Header     // of a list that is not there yet: it is written with its first lines
	foreign  bool                // another program writes the file: it must not see less than was shown
	reserve  imap.UID            // UIDs below it are set aside in roost-state; 0: no file of ours
	unsynced bool                // lines were appended and not synced

	// volatile: UIDs are given in memory only, under a UIDVALIDITY that ends with the
	// mailbox, for nothing can be written. Messages are readable that way.
	volatile bool
	next     imap.UID // UIDNEXT when volatile

	commits committer
}

// id is the MAILBOXID (RFC 8474).
func (l *uidState) id() string { return "F" + l.guid }

// nextUID is UIDNEXT.
func (l *uidState) nextUID() imap.UID {
	if l.volatile {
		return l.next
	}
	return imap.UID(l.file.Next())
}

// withListLock runs f with the uidlist locked against all other writers, and after
// learning what they wrote. Called with files held.
func (m *mailbox) withListLock(f func() error) error {
	if m.list.volatile {
		return fmt.Errorf("%w: its UIDs cannot be recorded", store.ErrReadOnly)
	}
	if m.list.locked {
		return f()
	}
	lock, err := m.lockList()
	if err != nil {
		return err
	}
	defer m.unlockList(lock)
	return f()
}

// unlockList releases the dotlock. What was done under it stands.
func (m *mailbox) unlockList(lock *uidlist.Lock) {
	m.list.locked = false
	err := lock.Unlock()
	if err != nil {
		m.warn("the uidlist's lock could not be released", err)
	}
	if m.list.left = err != nil && !errors.Is(err, uidlist.ErrBusy); m.list.left {
		m.later() // others wait for it
	}
	if m.alive() != nil {
		m.disown() // which abandon left to us
	}
}

// lockList takes the dotlock and learns what others wrote.
func (m *mailbox) lockList() (*uidlist.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	lock, err := m.list.file.Lock(ctx)
	if err != nil {
		if errors.Is(err, uidlist.ErrBusy) || errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", store.ErrInUse, err)
		}
		return nil, err
	}
	m.list.locked = true
	if err := m.learnList(); err != nil {
		m.unlockList(lock)
		return nil, err
	}
	return lock, nil
}

// learnList takes in what others wrote to the uidlist since. Called with the dotlock held.
func (m *mailbox) learnList() error {
	c, err := m.list.file.Refresh()
	if err != nil {
		return err
	}
	if !c.Missing && len(c.Records) == 0 && !c.Whole {
		return nil
	}
	h := m.list.file.Header()
	switch {
	case c.Missing || h.Validity == 0:
		// Somebody took the file away: all of it is still known here.
		m.log.Warn("the uidlist was missing or damaged and was written anew", "event", "uidlist_repaired", "path", m.dirs.control.Path(), "err", c.Damage)
		return m.restoreList()
	case h.Validity != m.list.validity:
		m.log.Warn("another program gave the mailbox a new UIDVALIDITY", "event", "uidvalidity", "path", m.dirs.control.Path(), "from", m.list.validity, "to", h.Validity)
		m.abandon()
		return store.ErrReplaced
	}
	m.list.foreign = true
	if c.Bad > 0 {
		m.log.Warn("damaged lines in the uidlist", "event", "uidlist_damaged", "path", m.dirs.control.Path(), "lines", c.Bad)
	}
	if m.list.mark = store.ModSeq(h.ModSeq); m.list.mark == 0 {
		m.list.mark = 1 // lost by somebody: written again before the next MODSEQ
	}
	shown := m.newest().UIDNext
	var gone []imap.UID
	for _, r := range c.Records {
		uid := imap.UID(r.UID)
		if i, ok := m.table.byBase(r.Base); ok {
			if m.table.rows.at(i).uid >= uid {
				continue
			}
			gone = append(gone, m.table.rows.at(i).uid) // it was given a new UID: the higher holds
			m.doubt = true
		}
		if uid >= shown {
			m.claim(r.Base, uid)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.apply(step{gone: gone})
	}
	return nil
}

// restoreList writes a uidlist from what is known here.
func (m *mailbox) restoreList() error {
	var records []uidlist.Record
	for i := range m.table.rows.len() {
		if r := m.table.rows.at(i); r.state&rowDead == 0 {
			records = append(records, uidlist.Record{UID: uint32(r.uid), Base: m.table.base(i)})
		}
	}
	return m.list.file.Restore(uidlist.Header{
		Validity: m.list.validity, Next: uint32(max(m.nextKnown(), 1)), GUID: m.list.guid, ModSeq: uint64(m.list.mark),
	}, records)
}

// nextKnown is UIDNEXT by what was shown or given here.
func (m *mailbox) nextKnown() imap.UID {
	next := max(m.newest().UIDNext, m.list.floor)
	if n := m.table.rows.len(); n > 0 {
		next = max(next, m.table.rows.at(n-1).uid+1)
	}
	return next
}

// adopt gives files that were found their UIDs and shows them. Called with files held.
func (m *mailbox) adopt(list []newcomer) error {
	if m.list.volatile {
		if m.loaded && m.list.file != nil && m.list.file.Header().Validity == m.list.validity {
			return nil // they could not be told apart from others' later: hidden
		}
		m.callByName(list)
		for i := range list {
			list[i].uid = m.list.next
			m.list.next++
		}
		m.show(m.enqueue(list))
		return nil
	}
	var a *arrival
	settle := func() error {
		if err := m.settleLines(); err != nil {
			m.drop(a)
			return err
		}
		m.show(a)
		return nil
	}
	shown := false
	err := m.withListLock(func() (err error) {
		if m.list.foreign {
			list = m.present(list)
		}
		found, lost := m.withClaimed(list)
		if lost && !m.list.sought {
			m.list.sought = true
			shown = true // by the look, list too
			err := m.look()
			if m.list.sought = false; err == nil {
				clear(m.list.claims)
			}
			return err
		}
		clear(m.list.claims) // what was not found now is not there
		if len(found) == 0 {
			shown = true
			return nil
		}
		m.callByName(found)
		if a, err = m.assign(found, false); err != nil || m.list.foreign {
			return err
		}
		shown = true // the lines stand: nobody needs to wait until the lock is gone
		if err := settle(); err != nil {
			return err
		}
		// The idling sessions' goroutines are next in this thread's queue. They write before
		// the lock goes; else another thread would have to be woken for them.
		runtime.Gosched()
		return nil
	})
	if err == nil && !shown {
		err = settle() // syncs, which another program should not wait for
	}
	if err != nil {
		m.doubt = true // they stay unseen until their UIDs can be kept
		return fmt.Errorf("give UIDs to %d new messages: %w", len(list), err)
	}
	return nil
}

// present leaves out the files that went, or got another name, while the lock was waited
// for. Who works beside us moves messages under that lock. One that has a UID already
// stays: left out, and found under its other name, it would get a second.
func (m *mailbox) present(list []newcomer) []newcomer {
	return slices.DeleteFunc(list, func(n newcomer) bool {
		_, err := m.dirs.of(n.inNew()).Stat(n.baseName + n.info)
		m.doubt = m.doubt || err != nil // under another name it is found by a look
		return err != nil && m.list.claims[n.baseName] == 0
	})
}

// assign gives UIDs to those that have none, in the order of the list, and writes their
// lines; with durable the caller syncs them. Called with the dotlock held.
func (m *mailbox) assign(list []newcomer, durable bool) (*arrival, error) {
	next := max(imap.UID(m.list.file.Next()), m.nextKnown())
	records := make([]uidlist.Record, 0, len(list))
	for i := range list {
		n := &list[i]
		if n.uid == 0 {
			n.uid = next
			next++
			records = append(records, uidlist.Record{UID: uint32(n.uid), Base: n.baseName})
		}
	}
	if m.list.birth != nil {
		return m.bearWith(list, records)
	}
	if len(records) > 0 {
		if err := m.list.file.Append(records); err != nil {
			if errors.Is(err, uidlist.ErrUsedUp) {
				err = fmt.Errorf("%w: %w", store.ErrLimit, err)
			}
			return nil, err
		}
		m.list.unsynced = m.list.unsynced || !durable
	}
	return m.enqueue(list), nil
}

// settleLines makes sure that UIDs that are about to be shown are not given again
// after a power cut: their lines are synced, or roost-state sets them aside.
func (m *mailbox) settleLines() error {
	if !m.list.unsynced {
		return nil
	}
	if m.list.foreign {
		if err := m.list.file.Sync(); err != nil {
			return err
		}
		m.list.unsynced = false
		return nil
	}
	if err := m.ensureReserve(m.list.nextUID()); err != nil {
		return err
	}
	m.later()
	return nil
}

// ensureReserve sets UIDs below next aside in roost-state.
func (m *mailbox) ensureReserve(next imap.UID) error {
	if next <= m.list.reserve {
		return nil
	}
	upTo := next + reserveUIDs
	if err := uidlist.WriteReserve(m.dirs.control, uidlist.Reserve{BootID: m.st.opt.Boot, Validity: m.list.validity, Next: uint32(upTo)}); err != nil {
		return fmt.Errorf("write %s: %w", uidlist.ReserveName, err)
	}
	m.list.reserve = upTo
	return nil
}

// ensureMark keeps the uidlist's mark R above the MODSEQs that are about to be shown.
// It is written a day ahead, so that this costs a write a day. Called with files held
// and without the dotlock.
func (m *mailbox) ensureMark() {
	m.watchLate()
	if m.list.volatile || m.noModSeq {
		return
	}
	m.mu.Lock()
	upcoming := max(m.lastMod, store.ModSeq(m.st.opt.Clock().UnixMicro()))
	m.mu.Unlock()
	const margin = store.ModSeq(time.Minute / time.Microsecond)
	if upcoming+margin < m.list.mark {
		return
	}
	err := m.withListLock(func() error { return m.writeMark(upcoming) })
	if err != nil {
		m.log.Warn("the mark of MODSEQs was not written; if the clock is set back clients may miss changes", "event", "modseq_mark", "path", m.dirs.control.Path(), "err", err)
	}
}

// writeMark writes the header with a new mark. Called with the dotlock held.
func (m *mailbox) writeMark(upcoming store.ModSeq) error {
	mark := upcoming + store.ModSeq(markAhead/time.Microsecond)
	var live func(uidlist.Record) bool
	if m.loaded && m.list.file.Wasteful(m.table.len()) {
		live = func(r uidlist.Record) bool {
			_, ok := m.table.byBase(r.Base)
			return ok || imap.UID(r.UID) >= m.nextKnown()
		}
	}
	if err := m.list.file.Rewrite(func(h *uidlist.Header) { h.ModSeq = uint64(mark) }, live, nil); err != nil {
		return err
	}
	m.list.mark = mark
	m.list.guid = m.list.file.Header().GUID
	m.list.unsynced = false
	return nil
}

// A committer makes many waiters share one sync: those who come while one is under
// way wait for the next, which covers them all.
type committer struct {
	mu      sync.Mutex // guards both
	running bool
	next    *commitRound
}

type commitRound struct {
	steps []syncStep
	lead  chan struct{} // to the one waiter who is to run it
	done  chan struct{}
	err   error
}

// syncStep is one thing to sync; steps of one name are the same.
type syncStep struct {
	name string
	sync func() error
}

// run does each step, in no order, at least once after run was called, and gives an error
// of one that failed. in is any directory of the filesystem.
func (c *committer) run(in fsys.Dir, steps ...syncStep) error {
	c.mu.Lock()
	if c.next == nil {
		c.next = &commitRound{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	round := c.next
	for _, s := range steps {
		if !slices.ContainsFunc(round.steps, func(have syncStep) bool { return have.name == s.name }) {
			round.steps = append(round.steps, s)
		}
	}
	if c.running {
		c.mu.Unlock()
		select {
		case <-round.done:
			return round.err
		case <-round.lead:
		}
		c.mu.Lock()
	}
	c.running = true
	c.next = nil // who comes from now on is not covered
	c.mu.Unlock()
	calls := make([]func() error, len(round.steps))
	for i, s := range round.steps {
		calls[i] = s.sync
	}
	round.err = in.Together(calls...)
	close(round.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		c.next.lead <- struct{}{}
	} else {
		c.running = false
	}
	return round.err
}
