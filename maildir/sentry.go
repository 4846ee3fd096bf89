package maildir

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/watch"
	"roost/store"
)

// A sentry stands at one mailbox for all accounts that watch it (accountWatch) and do not
// hold it. It costs two inotify watches, which an open mailbox shares, and no descriptor
// but where the directories must be polled. What happened it does not know: who is told
// counts the mailbox.
type sentry struct {
	st   *Store
	key  placeKey
	refs int // guarded by Store.mu

	setup sync.Mutex // guards what follows; held over file calls, never by hear
	path  string     // by which it watches
	dirs  []fsys.Dir // of subs that are polled

	mu   sync.Mutex // guards what follows; a leaf but for the subs
	subs []*watch.Sub
	lost bool // some watch ended, or was not had yet: set them anew
	ears map[*accountWatch]struct{}
}

// sentry gives the one at a place; dismiss must be called for each.
func (s *Store) sentry(key placeKey) *sentry {
	s.mu.Lock()
	defer s.mu.Unlock()
	y := s.sentries[key]
	if y == nil {
		y = &sentry{st: s, key: key, lost: true, ears: map[*accountWatch]struct{}{}}
		s.sentries[key] = y
		if m := s.open[key]; m != nil {
			m.sentry.Store(y)
		}
	}
	y.refs++
	return y
}

// dismiss gives a sentry back for one account.
func (s *Store) dismiss(y *sentry, w *accountWatch) {
	y.mu.Lock()
	delete(y.ears, w)
	y.mu.Unlock()
	s.mu.Lock()
	y.refs--
	last := y.refs == 0
	if last {
		delete(s.sentries, y.key)
		if m := s.open[y.key]; m != nil {
			m.sentry.CompareAndSwap(y, nil)
		}
	}
	s.mu.Unlock()
	if last {
		y.setup.Lock()
		y.unsubscribe()
		y.setup.Unlock()
	}
}

// hear wakes all who watch: by an event, or by an open mailbox that shows something. It
// is called by the goroutine that drains the kernel's queue, too.
func (y *sentry) hear() {
	y.mu.Lock()
	for _, sub := range y.subs {
		y.lost = sub.Pull().Lost || y.lost
	}
	ears := slices.Collect(maps.Keys(y.ears))
	y.mu.Unlock()
	for _, w := range ears {
		w.heard(y)
	}
}

// attend makes sure that the watches stand. again says that they did not: something may
// have happened that nobody told of.
func (y *sentry) attend(p spot, w *accountWatch) (again bool, err error) {
	y.setup.Lock()
	defer y.setup.Unlock()
	y.mu.Lock()
	y.ears[w] = struct{}{}
	again, y.lost = y.lost, false
	old := y.subs
	stands := !again && y.path == p.path
	if !stands {
		y.subs = nil
	}
	y.mu.Unlock()
	if stands {
		return false, nil
	}
	dirs := y.dirs
	y.path, y.dirs = p.path, nil
	if err = y.subscribe(p); err != nil {
		y.unsubscribe()
		y.mu.Lock()
		y.lost = true
		y.mu.Unlock()
	}
	// Only now: in between nothing may be missed.
	closeSubs(old, dirs)
	return again, err
}

// subscribe watches new and cur; where one is not there yet, until it is.
func (y *sentry) subscribe(p spot) error {
	box, err := p.openBox()
	if err != nil {
		return err
	}
	missing := false
	for _, name := range []string{"new", "cur"} {
		d, err := box.Sub(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing = true
			continue
		}
		if err == nil {
			err = y.add(p, d, y.hear)
		}
		if err != nil {
			box.Close()
			return err
		}
	}
	if !missing {
		return box.Close()
	}
	// A mailbox that is being made: mkdir of the directory, then of those in it. They may
	// have come before the watch was set.
	again := func() {
		y.mu.Lock()
		y.lost = true
		y.mu.Unlock()
		y.hear()
	}
	if err := y.add(p, box, again, "new", "cur"); err != nil {
		return err
	}
	if box, err = p.openBox(); err != nil {
		return err
	}
	defer box.Close()
	_, errNew := box.Stat("new")
	_, errCur := box.Stat("cur")
	if errNew == nil && errCur == nil {
		again()
	}
	return nil
}

// add watches one directory, which it takes over.
func (y *sentry) add(p spot, d fsys.Dir, wake func(), only ...string) error {
	sub, err := y.st.watch.Add(d, p.tree.user, wake, only...)
	if err != nil {
		d.Close()
		return err
	}
	y.mu.Lock()
	y.subs = append(y.subs, sub)
	y.mu.Unlock()
	if r := sub.Pull(); len(r.Names) > 0 || r.Look {
		wake() // an event was faster
	}
	if sub.Polled() {
		y.dirs = append(y.dirs, d)
		return nil
	}
	return d.Close()
}

func (y *sentry) unsubscribe() {
	y.mu.Lock()
	subs := y.subs
	y.subs = nil
	y.mu.Unlock()
	closeSubs(subs, y.dirs)
	y.dirs = nil
}

func closeSubs(subs []*watch.Sub, dirs []fsys.Dir) {
	for _, sub := range subs {
		sub.Close()
	}
	for _, d := range dirs {
		d.Close()
	}
}

// maxGlimpsed is how many mailboxes stay open only because they were counted for a watch.
const maxGlimpsed = 64

// glimpse is status for those who watch: of many mailboxes that are counted in turn few
// stay open.
func (s *Store) glimpse(ctx context.Context, p place) (store.Status, error) {
	if st, ok := s.glance(p, false); ok {
		return st, nil
	}
	m, st, err := s.count(ctx, p, time.Now())
	if err != nil {
		return st, err
	}
	s.release(m)
	var surplus *mailbox
	s.mu.Lock()
	if !m.visited && m.refs == 0 {
		kept := s.glimpsed[:0]
		for _, x := range s.glimpsed {
			if x != m && !x.visited && s.open[x.key] == x {
				kept = append(kept, x)
			}
		}
		s.glimpsed = append(kept, m)
		if len(s.glimpsed) > maxGlimpsed {
			surplus = s.glimpsed[0]
			s.glimpsed = append(s.glimpsed[:0], s.glimpsed[1:]...)
		}
	}
	s.mu.Unlock()
	if surplus != nil {
		s.drop(surplus)
	}
	return st, nil
}

// visit notes that a mailbox is open for its own sake.
func (s *Store) visit(m *mailbox) {
	s.mu.Lock()
	m.visited = true
	s.mu.Unlock()
}
