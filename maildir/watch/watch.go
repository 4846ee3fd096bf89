package watch

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"roost/maildir/fsys"
)

// ErrMoved is returned by Add when the directory's path leads elsewhere by now.
var ErrMoved = errors.New("directory was moved or replaced")

// A Watcher gives subscriptions. Two implement it: System, and watchtest.Fake. Safe
// for concurrent use.
type Watcher interface {
	// Add subscribes to a directory, which must stay open until the Sub is closed. What
	// belongs to one user has one key. only (none: all) are the names to tell of. wake is
	// called without locks held when Pull has something to tell that it had not before; it
	// must not block. ErrMoved.
	Add(dir fsys.Dir, key string, wake func(), only ...string) (*Sub, error)

	// Close ends all subscriptions.
	Close() error
}

// maxNames is how many names a subscription holds before it says Look: as many as the
// kernel's queue. A look is not cut into slices, and goes through the whole mailbox.
const maxNames = 16384

// Report is what a Sub has to tell.
type Report struct {
	Names   []string // in the order of events; a name may come several times
	Kinds   []Kind   // of each of Names; of another length: nothing is known
	Written []string // those of Names whose bytes changed in place
	Look    bool     // names may have been missed: scan
	Lost    bool     // and nothing more will come: close, find the directory, Add anew, scan
}

// Kind says what became of a name at that moment; what came later is told behind it.
type Kind uint8

const (
	Unknown Kind = iota // something, or several things
	Came                // it was made, or a file was renamed to it
	Gone                // it was removed, or its file renamed
)

// Kind is that of a name, by its place.
func (r Report) Kind(i int) Kind {
	if len(r.Kinds) != len(r.Names) {
		return Unknown
	}
	return r.Kinds[i]
}

// A Sub is a subscription to one directory. Pull and Close may be called from any
// goroutine.
type Sub struct {
	wake   func()
	only   []string // nil: every name is of interest
	polled bool
	close  func(*Sub)            // of the Watcher
	settle func(since time.Time) // of the Watcher; nil: it cannot

	mu     sync.Mutex // guards what follows; held for an append
	report Report
	closed bool
}

// NewSub makes a subscription for an implementation of Watcher; close is called once,
// when it ends.
func NewSub(wake func(), only []string, polled bool, close func(*Sub)) *Sub {
	return &Sub{wake: wake, only: only, polled: polled, close: close}
}

// OnSettle has f do what Settle promises, for an implementation of Watcher. It is called before
// the Sub is given out.
func (s *Sub) OnSettle(f func(since time.Time)) { s.settle = f }

// Polled reports whether changes are seen only every Interval: who needs to know now
// (NOOP, CHECK) scans himself.
func (s *Sub) Polled() bool { return s.polled }

// Settle returns when what happened before since, which is now or lies behind, in all
// directories of the Sub's key, was noted for Pull to take: an event may be on its way for
// longer than a client needs to ask. It waits for a second at most, and not at all where
// somebody waited so after since.
func (s *Sub) Settle(since time.Time) {
	if s.settle != nil {
		s.settle(since)
	}
}

// Pull takes what there is to tell.
func (s *Sub) Pull() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.report
	s.report = Report{Lost: r.Lost, Look: r.Lost} // lost stays lost
	return r
}

// Close ends the subscription. wake may be called once more by an event under way.
func (s *Sub) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.report = Report{}
	s.mu.Unlock()
	if !closed {
		s.close(s)
	}
}

// Note adds names, or what else there is to tell, and wakes.
func (s *Sub) Note(r Report) {
	s.mu.Lock()
	was := s.report
	if s.closed {
		s.mu.Unlock()
		return
	}
	for i, name := range r.Names {
		if s.only != nil && !slices.Contains(s.only, name) {
			continue
		}
		if n := len(s.report.Names); n > 0 && s.report.Names[n-1] == name {
			s.report.Kinds[n-1] = Unknown
			continue // CREATE, MODIFY, CLOSE_WRITE of one file
		}
		s.report.Names = append(s.report.Names, name)
		s.report.Kinds = append(s.report.Kinds, r.Kind(i))
	}
	for _, name := range r.Written {
		// One file at a time is written, as a rule; of more than a look costs none are kept.
		if n := len(s.report.Written); n < maxNames && (n == 0 || s.report.Written[n-1] != name) {
			s.report.Written = append(s.report.Written, name)
		}
	}
	s.report.Look = s.report.Look || r.Look || r.Lost
	s.report.Lost = s.report.Lost || r.Lost
	if len(s.report.Names) > maxNames {
		s.report.Look = true
	}
	if s.report.Look {
		s.report.Names, s.report.Kinds = nil, nil // a scan finds them all
	}
	idle := len(was.Names) == 0 && !was.Look
	news := len(s.report.Names) > 0 || s.report.Look
	s.mu.Unlock()
	if idle && news || r.Lost && !was.Lost {
		s.wake()
	}
}

// Options of System; zero values are the defaults.
type Options struct {
	Shards   int           // inotify instances at most; 0 is 8
	Interval time.Duration // between polls; 0 is 5 s
	Log      *slog.Logger  // nil: slog.Default
	Poll     bool          // never ask the kernel
	Now      func() time.Time
}
