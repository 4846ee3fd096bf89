package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/courier"
	"roost/maildir/uidlist"
	"roost/store"
)

// A mailbox that nobody ever opened has no uidlist. To be counted it needs none: the names of
// its files say how many messages it has, and which UIDs they will get. So STATUS is answered
// from one look at the names, and what it said is a promise, kept in memory: UIDVALIDITY,
// UIDNEXT, MAILBOXID and MODSEQ. When nobody has asked for a while, the mailboxes are opened
// behind the answers, and their uidlists written as was promised; who opens one before does
// that first.
//
// What may happen to a promise:
//
//   - The process is killed, or the power cut. No UID was told yet, only how far they go. The
//     UIDVALIDITY was taken durably, so that the next one is greater, and with it all that was
//     told is void (RFC 9051 section 2.3.1.1); MAILBOXID goes along with it (RFC 8474 section
//     4). CREATE, which tells an id too, does not promise: it opens.
//   - The uidlist is cut off while it is written: see uidlist.File.Begin. Its header has the
//     promised UIDNEXT, so what lost its line gets a UID above all that were told.
//   - Another program writes a uidlist first. Its UIDVALIDITY holds, and is greater.
//   - A message is delivered or removed in between. Those that were counted have the UIDs below
//     the UIDNEXT that was told, whatever their names would say now.
//   - The directory is removed, and another gets its inode: unless cur or new is unchanged, or
//     has one of the messages that were counted, nothing was promised of it.
//   - RENAME keeps the promises of its tree first; where another program renames, it may be lost.
//
// Whatever is not plain (names that need care, directories that change, files of Courier or of
// ours, a mailbox that cannot be written) is not promised: the mailbox is opened.

const (
	// promiseAfter is how long nobody must have asked before the mailboxes are opened, and
	// promiseLatest how long that can put it off.
	promiseAfter  = 200 * time.Millisecond
	promiseLatest = 5 * time.Second

	// Bounds of what is kept in memory meanwhile.
	maxPromised      = 4096    // mailboxes
	maxPromisedNames = 100_000 // their messages, in all
	maxCounted       = 4096    // of one mailbox

	// keepersAtOnce is how many mailboxes are opened at a time: they mostly wait for the disk.
	keepersAtOnce = 8
)

// promises are what was told of mailboxes that were not opened yet. Guarded by Store.mu.
type promises struct {
	of      map[placeKey]*promise
	names   int
	made    uint64 // so far
	keeping bool   // a goroutine is on its way
	ended   bool   // none is made any more
}

// promise is what was told of one mailbox.
type promise struct {
	place   place
	visited bool          // it was counted for its own sake, not for a watch
	ready   chan struct{} // closed when all that follows is set

	validity uint32
	guid     string
	modSeq   store.ModSeq
	records  []uidlist.Record // the UIDs of the messages that were counted
	seen     dirStamps
	let      func() // lets the tree go

	failed bool // it could not be kept once, by a full disk perhaps: the next failure is the last
}

func (pr *promise) isReady() bool {
	select {
	case <-pr.ready:
		return true
	default:
		return false
	}
}

// glance counts a mailbox by its names alone; false where it must be opened for that.
func (s *Store) glance(p place, visited bool) (st store.Status, ok bool) {
	if p.readOnly || p.retain == nil {
		return st, false
	}
	pr := &promise{place: p, visited: visited, ready: make(chan struct{})}
	s.mu.Lock()
	q := &s.promises
	if s.closed || q.ended || s.open[p.key] != nil || q.of[p.key] != nil || len(q.of) >= maxPromised || q.names >= maxPromisedNames {
		s.mu.Unlock()
		return st, false
	}
	if q.of == nil {
		q.of = map[placeKey]*promise{}
	}
	q.of[p.key] = pr // who opens the mailbox now waits for us
	s.mu.Unlock()
	st, ok = pr.count(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(pr.ready)
	if !ok {
		delete(q.of, p.key)
		return st, false
	}
	pr.let = p.retain()
	q.made++
	q.names += len(pr.records)
	s.keepLaterLocked()
	return st, true
}

func (s *Store) keepLaterLocked() {
	if q := &s.promises; !q.keeping && !q.ended {
		q.keeping = true
		s.wg.Go(s.keepPromises) // ends when all are kept, or by stop; joined in Close
	}
}

// count looks at the names.
func (pr *promise) count(s *Store) (st store.Status, ok bool) {
	p := pr.place
	d, err := p.unlisted()
	if err != nil {
		return st, false
	}
	defer d.close()
	if box, err := d.box.Self(); err != nil || (placeKey{box.Dev, box.Ino}) != p.key {
		return st, false
	}
	if d.cur.Remote() || !d.cur.Writable() || !d.control.Writable() || !d.untouched() {
		return st, false
	}
	if pr.seen, err = d.stamps(); err != nil || s.wall().UnixNano()-pr.seen.newest() <= int64(localTick) {
		return st, false
	}
	v := new(survey)
	var c counts
	plain := true
	for _, inNew := range []bool{true, false} {
		err := d.of(inNew).NamesOnce(func(name string, kind fs.FileMode) bool {
			if name[0] == '.' {
				return true
			}
			base := baseOf(name)
			if _, needs := needsName(base); needs || kind != 0 || !isMessageName(name) || len(v.fresh) == maxCounted {
				plain = false
				return false
			}
			v.fresh = append(v.fresh, unlisted{sighting{name, inNew}, true, int32(len(base))})
			flags, _ := flagsOf(name)
			c.add(flags, 1)
			if inNew {
				st.Recent++
			}
			return true
		})
		if err != nil || !plain {
			return st, false
		}
	}
	if after, err := d.stamps(); err != nil || after != pr.seen {
		return st, false
	}
	pr.records = make([]uidlist.Record, 0, len(v.fresh))
	for i, turn := range v.sorted() {
		base := v.fresh[turn.number].base()
		if i > 0 && base == pr.records[i-1].Base {
			return st, false // two files of one base
		}
		pr.records = append(pr.records, uidlist.Record{UID: uint32(i + 1), Base: base})
	}
	if pr.guid, err = s.env.NewGUID(); err != nil {
		return st, false
	}
	if pr.validity, err = p.uidvalidity(); err != nil {
		return st, false
	}
	pr.modSeq = store.ModSeq(s.opt.Clock().UnixMicro())
	st.Messages, st.Unseen, st.Deleted = uint32(len(pr.records)), uint32(c.unseen), uint32(c.deleted)
	st.UIDValidity, st.UIDNext = pr.validity, imap.UID(len(pr.records)+1)
	st.HighestModSeq, st.ID = pr.modSeq, (&uidState{guid: pr.guid}).id()
	return st, true
}

// untouched reports whether no server kept anything here yet. It is asked once.
func (d dirs) untouched() bool {
	free := true
	look := func(name string, _ fs.FileMode) bool {
		free = name != courier.UIDsName && !strings.HasPrefix(name, "roost") && !strings.HasPrefix(name, uidlist.Name)
		return free
	}
	err := d.box.NamesOnce(look)
	if err == nil && free && d.control != d.box {
		err = d.control.NamesOnce(look)
	}
	if err == nil && free && d.index != d.box && d.index != d.control {
		err = d.index.NamesOnce(look)
	}
	return err == nil && free
}

// keepPromises opens the mailboxes of which something was promised, a while after the last.
func (s *Store) keepPromises() {
	var made uint64
	pause := time.NewTimer(promiseAfter)
	defer pause.Stop()
	for since := time.Now(); ; pause.Reset(promiseAfter) {
		select {
		case <-s.stop:
			return // Close keeps the rest
		case <-pause.C:
		}
		s.mu.Lock()
		q := &s.promises
		if len(q.of) == 0 {
			q.keeping = false
			s.mu.Unlock()
			return
		}
		more := q.made != made
		made = q.made
		s.mu.Unlock()
		if more && time.Since(since) < promiseLatest {
			continue
		}
		s.keep(func(*promise) bool { return true })
		since = time.Now()
	}
}

// keep opens the mailboxes of some promises, and returns when those are kept.
func (s *Store) keep(which func(*promise) bool) {
	s.mu.Lock()
	var list []*promise
	for _, pr := range s.promises.of {
		if pr.isReady() && which(pr) {
			list = append(list, pr)
		}
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	turn := make(chan struct{}, keepersAtOnce)
	for _, pr := range list {
		turn <- struct{}{}
		wg.Go(func() { // joined below
			defer func() { <-turn }()
			s.keepOne(pr)
		})
	}
	wg.Wait()
}

func (s *Store) keepOne(pr *promise) {
	// Whoever opens it keeps what was promised: here it is counted as it was then.
	count := s.glimpse
	if pr.visited {
		count = func(ctx context.Context, p place) (store.Status, error) { return s.status(ctx, p, false, time.Now()) }
	}
	count(context.Background(), pr.place) // a failure was told, or is tried again
}

// takePromiseLocked gives what was promised of a mailbox that is about to be opened.
func (s *Store) takePromiseLocked(key placeKey) *promise {
	pr := s.promises.of[key]
	if pr != nil {
		delete(s.promises.of, key)
		s.promises.names -= len(pr.records)
	}
	return pr
}

// endPromiseLocked is told how opening went of a mailbox of which something was promised.
// What could not be kept just now is tried once more.
func (s *Store) endPromiseLocked(pr *promise, err error) {
	again := err != nil && !isGone(err) && !pr.failed
	if !again {
		pr.let()
		if err != nil {
			s.opt.Log.Warn("a mailbox that was counted cannot be opened; what was told of its UIDs is void", "event", "uidvalidity",
				"user", pr.place.user, "mailbox", pr.place.name, "path", pr.place.path, "from", pr.validity, "err", err)
		}
		return
	}
	pr.failed = true
	s.promises.of[pr.place.key] = pr
	s.promises.names += len(pr.records)
	s.keepLaterLocked()
}

// dropPromiseLocked forgets what was promised of a mailbox.
func (s *Store) dropPromiseLocked(key placeKey) {
	if pr := s.promises.of[key]; pr != nil && pr.isReady() {
		s.takePromiseLocked(key)
		pr.let()
	}
}

// errOnceMore is a promise that could not be kept for a reason that need not last; who waits
// for the mailbox tries again at once, and then serves it without.
var errOnceMore = errors.New("the uidlist cannot be locked")

// keepPromise writes the uidlist that was promised, where there still is none. c is what the
// uidlist said, and is changed to what it says now. Called with the dotlock held, if it was
// had; unlocked says why it was not.
func (m *mailbox) keepPromise(c *uidlist.Change, snapshot, locked bool, unlocked error) error {
	pr := m.promise
	if pr == nil {
		return nil
	}
	same, err := m.isPromised(pr)
	switch {
	case err != nil:
		return err
	case !locked && !m.readOnly && !pr.failed && (errors.Is(unlocked, uidlist.ErrBusy) || errors.Is(unlocked, context.DeadlineExceeded)):
		return fmt.Errorf("%w: the uidlist cannot be locked", store.ErrInUse)
	case !locked && !m.readOnly && !pr.failed:
		return fmt.Errorf("%w: %w", errOnceMore, unlocked)
	case !c.Missing, snapshot, !locked, !same:
		m.log.Warn("the mailbox was counted and then changed by another program; what was told of its UIDs is void", "event", "uidvalidity",
			"path", m.dirs.control.Path(), "from", pr.validity, "to", m.list.file.Header().Validity)
		m.promise = nil
		return nil
	}
	err = m.list.file.Begin(uidlist.Header{
		Validity: pr.validity, GUID: pr.guid, Next: uint32(len(pr.records) + 1),
		ModSeq: uint64(pr.modSeq) + uint64(markAhead/time.Microsecond),
	}, pr.records)
	switch {
	case err == nil:
	case !pr.failed:
		return err
	default: // the mailbox is served as if nothing had been promised
		m.warn("the uidlist cannot be written", err)
		m.promise = nil
		*c, err = m.list.file.Refresh()
		return err
	}
	*c = uidlist.Change{Whole: true, Records: pr.records}
	return nil
}

// isPromised reports whether these are the files that were counted. An inode alone proves
// little: the next directory that is made may have that of one that was removed.
func (m *mailbox) isPromised(pr *promise) (yes bool, err error) {
	now, err := m.stamps()
	if err != nil || now.cur == pr.seen.cur || now.new == pr.seen.new { // a delivery changes one of them
		return err == nil, err
	}
	counted := make(map[string]bool, len(pr.records))
	for _, r := range pr.records {
		counted[r.Base] = true
	}
	for _, inNew := range []bool{true, false} {
		if err := m.dirs.of(inNew).Names(func(name string, _ fs.FileMode) bool {
			yes = yes || counted[baseOf(name)]
			return !yes
		}); err != nil {
			return false, err
		}
	}
	return yes, nil
}

// beginPromised has MODSEQs go on where they were promised to be; false where none were. Who
// was told of the mailbox as it is now is told of no change.
func (m *mailbox) beginPromised() bool {
	pr := m.promise
	if pr == nil {
		return false
	}
	m.lastMod = pr.modSeq
	m.changed.since, m.vanished.since = m.lastMod, m.lastMod
	if now, err := m.stamps(); err == nil && now == pr.seen {
		m.index.loadMod = m.lastMod
	}
	return true
}
