package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/store"
)

// Options are what a Store is made with. Each zero value is a sensible default.
type Options struct {
	FS    fsys.FS     // fsys.OS
	Clock store.Clock // time.Now
	Host  string      // in the names of new files and in locks; the kernel's host name
	PID   int         // os.Getpid()
	Boot  string      // tells one boot of the machine from the next; the kernel's boot id
	Log   *slog.Logger

	// Linger is how long a mailbox stays open after its last session; 0 is 5 minutes.
	Linger time.Duration
	// MaxOpen bounds the mailboxes that linger; 0 follows from RLIMIT_NOFILE.
	MaxOpen int

	// MaxUnpacked bounds the bytes that a compressed message may have when it is unpacked;
	// 0 is 256 MiB.
	MaxUnpacked int64

	// NoTextIndex turns roost.fts off: each search of text reads all messages.
	NoTextIndex bool

	// Watch tells of changes; nil is fsnotify. Poll turns events off: mailboxes are
	// looked at instead, every PollEvery, as on a network filesystem; 0 is 5 seconds.
	Watch     watch.Watcher
	Poll      bool
	PollEvery time.Duration
}

// Store serves Maildir trees: store.Store. Safe for concurrent use.
type Store struct {
	opt   Options
	names *namer
	trees trees // roots in use, by the accounts: layout.go
	watch watch.Watcher
	env   *uidlist.Env
	shelf shelf // big messages that are read in pieces

	annotated annotationWatches

	mu       sync.Mutex // guards what follows down to indexer, and refs to closing of each mailbox
	open     map[placeKey]*mailbox
	sentries map[placeKey]*sentry
	glimpsed []*mailbox // open only because they were counted for a watch, the longest first
	opened   uint64     // mailboxes so far
	graves   []*mailbox // replaced while nobody held them: to be closed
	closed   bool
	promises promises
	indexer  indexer

	read atomic.Uint64 // how often sessions opened messages

	settleAfter time.Duration       // immutable
	lateAfter   time.Duration       // immutable
	muffleLeast int                 // immutable
	wall        func() time.Time    // the clock that stamps files; immutable
	pause       func(time.Duration) // until its next tick; immutable

	stop chan struct{} // ends housekeep
	wg   sync.WaitGroup
}

// sweepEvery is how many mailboxes are opened, where there are too many, between two looks
// for those that can go: a look costs as many steps as there are mailboxes.
const sweepEvery = 16

// unknownBoot stands for a boot id that cannot be had.
const unknownBoot = "unknown"

// New makes the store of the Maildirs of this machine.
func New(opt Options) (*Store, error) {
	if opt.FS == nil {
		opt.FS = fsys.OS
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("find the name of this host: %w", err)
		}
		opt.Host = host
	}
	if opt.PID == 0 {
		opt.PID = os.Getpid()
	}
	if opt.Boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err == nil {
			opt.Boot = strings.TrimSpace(string(b))
		} else {
			opt.Boot = unknownBoot // as if it always were the same boot: the syncs remain
		}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Linger == 0 {
		opt.Linger = 5 * time.Minute
	}
	if opt.MaxUnpacked == 0 {
		opt.MaxUnpacked = 256 << 20
	}
	if opt.MaxOpen == 0 {
		opt.MaxOpen = lingerBound()
	}
	s := &Store{opt: opt, names: newNamer(opt.Host, opt.PID), open: map[placeKey]*mailbox{}, sentries: map[placeKey]*sentry{}, stop: make(chan struct{}), watch: opt.Watch, settleAfter: settleAfter, lateAfter: lateAfter, muffleLeast: muffleLeast, wall: time.Now, pause: time.Sleep}
	s.env = uidlist.System()
	s.env.Host, s.env.PID, s.env.BootID = opt.Host, opt.PID, opt.Boot
	s.trees.env = s.env
	if s.watch == nil {
		s.watch = watch.NewSystem(watch.Options{Log: opt.Log, Poll: opt.Poll, Interval: opt.PollEvery})
	}
	s.wg.Go(s.housekeep) // ends by stop; joined in Close
	return s, nil
}

// lingerBound spends half of the descriptors on mailboxes that nobody holds.
func lingerBound() int {
	const each = 9 // four to six directories, roost.lock, the uidlist, roost.index
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 100
	}
	return int(min(max(lim.Cur/2/each, 8), 10_000))
}

// Close implements store.Store.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.promises.ended = true
	s.mu.Unlock()
	s.keep(func(*promise) bool { return true })
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.wg.Wait()
	s.mu.Lock()
	var rest []*mailbox
	for _, m := range s.open {
		rest = append(rest, m)
	}
	s.mu.Unlock()
	var errs []error
	for _, m := range rest {
		errs = append(errs, s.evict(m, true))
	}
	s.bury()
	errs = append(errs, s.shelf.close(), s.watch.Close())
	return errors.Join(errs...)
}

// forget takes a mailbox out of the registry that was replaced. It is closed when its
// last hold is, or soon where there is none.
func (s *Store) forget(m *mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[m.key] == m {
		delete(s.open, m.key)
	}
	if m.refs == 0 {
		s.graves = append(s.graves, m)
	}
}

// bury closes what was forgotten.
func (s *Store) bury() {
	s.mu.Lock()
	graves := s.graves
	s.graves = nil
	s.mu.Unlock()
	for _, m := range graves {
		m.close(false) // nothing to save: it was replaced
	}
}

// acquire gives the open mailbox of a place, opened if need be. Every acquire has
// its release.
func (s *Store) acquire(ctx context.Context, p place) (*mailbox, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, fmt.Errorf("open %q: the store is closed: %w", p.name, store.ErrUnavailable)
		}
		m := s.open[p.key]
		if pr := s.promises.of[p.key]; m == nil && pr != nil && !pr.isReady() {
			s.mu.Unlock()
			select {
			case <-pr.ready:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if m == nil {
			m = newMailbox(s, p)
			pr := s.takePromiseLocked(p.key)
			m.promise = pr
			m.sentry.Store(s.sentries[p.key])
			s.open[p.key] = m
			s.opened++
			crowded := len(s.open) > s.opt.MaxOpen && s.opened%sweepEvery == 0
			s.mu.Unlock()
			if crowded {
				s.sweep() // before descriptors are used up; who opens many waits for it
			}
			err := m.load(p)
			s.mu.Lock()
			if m.err = err; err != nil {
				delete(s.open, p.key)
			}
			if m.promise = nil; pr != nil {
				s.endPromiseLocked(pr, err)
			}
			close(m.ready)
			s.mu.Unlock()
			if errors.Is(err, errOnceMore) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("open %q: %w", p.name, storageError(err))
			}
			return m, nil
		}
		if m.closing != nil {
			closing := m.closing
			s.mu.Unlock()
			select {
			case <-closing:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		m.refs++
		s.mu.Unlock()
		select {
		case <-m.ready:
		case <-ctx.Done():
			s.release(m)
			return nil, ctx.Err()
		}
		if errors.Is(m.err, errOnceMore) {
			continue
		}
		if m.err != nil {
			// The opener's failure is not necessarily ours: its context may have ended.
			return nil, fmt.Errorf("open %q: %w", p.name, storageError(m.err))
		}
		return m, nil
	}
}

// release gives a mailbox back. It lingers, unless it is dead.
func (s *Store) release(m *mailbox) {
	dead := m.alive() != nil
	s.mu.Lock()
	m.refs--
	last := m.refs == 0
	m.idle = time.Now()
	if last && dead && s.open[m.key] == m {
		delete(s.open, m.key)
	}
	s.mu.Unlock()
	switch {
	case last && dead:
		m.close(false)
	case last && m.notes != nil:
		m.notes.Release() // only memory and a descriptor: what fails here fails again in close
		m.closeText()     // likewise
	}
}

// housekeep lets mailboxes go that nobody used for a while, and looks at those of
// which no events tell.
func (s *Store) housekeep() {
	sweep := time.NewTicker(max(min(s.opt.Linger/4, 30*time.Second), 10*time.Millisecond))
	defer sweep.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-sweep.C:
			s.bury()
			s.shelf.sweep(keptFor) // read only: nothing can be lost
			s.sweep()
		}
	}
}

// sweep closes the mailboxes that lingered long enough, and the oldest of too many.
func (s *Store) sweep() {
	for _, m := range s.overdue() {
		s.drop(m)
	}
}

// drop evicts a mailbox that nobody needs now.
func (s *Store) drop(m *mailbox) {
	if err := s.evict(m, false); err != nil {
		s.opt.Log.Warn("a mailbox was closed with a failure; nothing is lost, but it opens slowly next time", "event", "close_mailbox", "path", m.path(), "err", err)
	}
}

// overdue are the mailboxes that lingered long enough, and the oldest of too many.
func (s *Store) overdue() []*mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	var idle []*mailbox
	for _, m := range s.open {
		if m.refs == 0 && m.closing == nil {
			idle = append(idle, m)
		}
	}
	slices.SortFunc(idle, func(a, b *mailbox) int { return a.idle.Compare(b.idle) })
	n := max(len(idle)-s.opt.MaxOpen, 0)
	for n < len(idle) && time.Since(idle[n].idle) > s.opt.Linger {
		n++
	}
	return idle[:n]
}

// evict closes a mailbox that nobody uses, or, with force, whoever does.
func (s *Store) evict(m *mailbox, force bool) error {
	s.mu.Lock()
	if m.closing != nil || m.refs > 0 && !force {
		s.mu.Unlock()
		return nil
	}
	m.closing = make(chan struct{})
	s.mu.Unlock()
	err := m.close(true)
	s.mu.Lock()
	if s.open[m.key] == m {
		delete(s.open, m.key)
	}
	s.mu.Unlock()
	close(m.closing)
	return err
}

// fresh runs f on a mailbox as it is now: one that proves to have been replaced since it
// was opened, or that may be written or owned by now, is opened anew. "Now" may be any time
// after since. f keeps the mailbox where it succeeds.
func (s *Store) fresh(ctx context.Context, p place, write bool, since time.Time, f func(*mailbox) error) error {
	const tries = 3
	for try := 1; ; try++ {
		m, err := s.acquire(ctx, p)
		if err != nil {
			return err
		}
		if write && m.sealed && m.canWrite() {
			m.files.Lock()
			m.abandon()
			m.files.Unlock()
		}
		s.reown(m)
		if err = m.refresh(since); err == nil {
			err = f(m)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, store.ErrReplaced) {
			m.files.Lock() // whoever gives it up takes it out of the registry before this is free
			err = m.alive()
			m.files.Unlock()
		}
		s.release(m)
		if try == tries || !errors.Is(err, store.ErrReplaced) {
			return fmt.Errorf("open %q: %w", p.name, storageError(err))
		}
	}
}

// toWrite opens a mailbox that messages go to: anew, where nothing could be written when
// it was opened and now can.
func (s *Store) toWrite(ctx context.Context, p place) (*mailbox, error) {
	m, err := s.acquire(ctx, p)
	if err != nil {
		return nil, err
	}
	if m.sealed && m.canWrite() {
		s.release(m)
		if err := s.fresh(ctx, p, true, time.Now(), func(now *mailbox) error { m = now; return nil }); err != nil {
			return nil, err
		}
	}
	s.visit(m)
	if !m.writable() {
		s.release(m)
		return nil, fmt.Errorf("add to %q: %w", p.name, store.ErrNoPermission)
	}
	return m, nil
}

// hold opens a mailbox for one session; see store.Account.Hold.
func (s *Store) hold(ctx context.Context, p place, write bool, wake func(), a *account) (store.Mailbox, error) {
	var h *hold
	err := s.fresh(ctx, p, write, time.Now(), func(m *mailbox) (err error) {
		s.visit(m)
		h, err = m.hold(p.name, write, wake, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// status counts a mailbox, with all that happened before since; see store.Account.Status.
func (s *Store) status(ctx context.Context, p place, exact bool, since time.Time) (st store.Status, err error) {
	if !exact {
		if st, ok := s.glance(p, true); ok {
			return st, nil
		}
	} else if since.IsZero() {
		since = time.Now() // sizes are asked for too
	}
	m, st, err := s.count(ctx, p, since)
	if err != nil {
		return st, err
	}
	s.visit(m)
	defer s.release(m)
	if exact {
		st.Size, err = m.totalSize(ctx)
	}
	return st, m.wrap("status of", err)
}

// count gives a mailbox, to be released, and its counts.
func (s *Store) count(ctx context.Context, p place, since time.Time) (m *mailbox, st store.Status, err error) {
	err = s.fresh(ctx, p, false, since, func(fresh *mailbox) (err error) {
		m = fresh
		st, err = m.status()
		return err
	})
	return m, st, err
}

// replaced ends all holds of a mailbox with store.ErrReplaced: it was deleted.
func (s *Store) replaced(key placeKey) {
	s.mu.Lock()
	m := s.open[key]
	if m != nil {
		delete(s.open, key) // who opens this inode again opens another mailbox
	}
	s.dropPromiseLocked(key)
	s.mu.Unlock()
	if m == nil {
		return
	}
	<-m.ready
	if m.err != nil {
		return
	}
	m.files.Lock()
	m.abandon()
	m.files.Unlock()
	s.bury()
}

// moved tells that a mailbox directory has another path now, with all in it: its
// holds live on, its watches are set anew.
func (s *Store) moved(key placeKey, path string) {
	s.mu.Lock()
	m := s.open[key]
	if m != nil {
		m.refs++
	}
	s.mu.Unlock()
	if m == nil {
		return
	}
	<-m.ready
	if m.err == nil {
		m.movedTo(path)
	}
	s.release(m)
}

// storageError adds what the protocol decides on to what the system said.
func storageError(err error) error {
	if err == nil || isKnown(err) {
		return err
	}
	for _, e := range []struct {
		errno error
		means error
	}{
		{syscall.ENOSPC, store.ErrOverQuota}, {syscall.EDQUOT, store.ErrOverQuota},
		{syscall.EROFS, store.ErrReadOnly},
		{fs.ErrPermission, store.ErrNoPermission},
		{syscall.EMFILE, store.ErrLimit}, {syscall.ENFILE, store.ErrLimit},
		{syscall.EFBIG, store.ErrTooBig},
	} {
		if errors.Is(err, e.errno) {
			return fmt.Errorf("%w: %w", e.means, err)
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// isExist, isNotExist and isClosed name the outcomes that calls on names decide on.
func isExist(err error) bool    { return errors.Is(err, fs.ErrExist) }
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
func isClosed(err error) bool   { return errors.Is(err, fs.ErrClosed) }
