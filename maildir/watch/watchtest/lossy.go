package watchtest

import (
	"strings"
	"sync"

	"roost/maildir/fsys"
	"roost/maildir/watch"
)

// Sentinel begins the names by which a test finds out how far events have come: who
// makes such a file in a watched directory is told by Passed when all that happened
// before it was passed on.
const Sentinel = ".sentinel-"

// Lossy is a watch.Watcher that passes on what another one tells, and loses some of it,
// as the kernel does when its queue is full: then sooner or later it says so.
type Lossy struct {
	Inner watch.Watcher
	// Lose says whether the next name is lost; nil: none is.
	Lose func() bool
	// Overflow says, after a loss, whether all are Lost, as the kernel has it, or one
	// directory must be looked at, as after a list that was full. Either is put off while
	// it says later.
	Overflow func() (lost, later bool)
	// Passed is called for each sentinel.
	Passed func(path, name string)

	mu   sync.Mutex // guards what follows
	subs map[*lossySub]struct{}
	owed bool // something was lost, and it was not said
}

// lossySub joins a subscription of the inner watch to the one that was given out.
type lossySub struct {
	path  string
	outer *watch.Sub
	inner *watch.Sub // nil: not known yet
	look  bool       // it lost something
	lost  bool       // nothing more comes
}

// Add subscribes.
func (l *Lossy) Add(dir fsys.Dir, key string, wake func(), only ...string) (*watch.Sub, error) {
	s := &lossySub{path: dir.Path()}
	inner, err := l.Inner.Add(dir, key, func() { l.pass(s) })
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	s.inner = inner
	s.outer = watch.NewSub(wake, only, inner.Polled(), func(*watch.Sub) { l.remove(s) })
	if l.subs == nil {
		l.subs = map[*lossySub]struct{}{}
	}
	l.subs[s] = struct{}{}
	l.mu.Unlock()
	l.pass(s) // what came until here
	return s.outer, nil
}

func (l *Lossy) remove(s *lossySub) {
	l.mu.Lock()
	delete(l.subs, s)
	l.mu.Unlock()
	s.inner.Close()
}

// Close closes the inner watch.
func (l *Lossy) Close() error { return l.Inner.Close() }

// pass hands on what one subscription has to tell.
func (l *Lossy) pass(s *lossySub) {
	l.mu.Lock()
	if s.inner == nil {
		l.mu.Unlock()
		return
	}
	r := s.inner.Pull()
	var kept, passed []string
	for _, name := range r.Names {
		switch {
		case strings.HasPrefix(name, Sentinel):
			passed = append(passed, name)
		case s.lost:
		case l.Lose != nil && l.Lose():
			s.look, l.owed = true, true
		default:
			kept = append(kept, name)
		}
	}
	r.Names = kept
	told := l.sayLocked(len(passed) > 0)
	if s.lost {
		r = watch.Report{Lost: true}
	}
	l.mu.Unlock()
	for _, say := range told {
		say()
	}
	if len(r.Names) > 0 || r.Look || r.Lost {
		s.outer.Note(r)
	}
	for _, name := range passed {
		if l.Passed != nil {
			l.Passed(s.path, name)
		}
	}
}

// sayLocked gives what says that something was lost, where that is due; to be called without
// the lock.
func (l *Lossy) sayLocked(now bool) (told []func()) {
	if !l.owed {
		return nil
	}
	lost, later := false, false
	if l.Overflow != nil {
		lost, later = l.Overflow()
	}
	if later && !now {
		return nil
	}
	l.owed = false
	for s := range l.subs {
		if lost || s.look {
			s.look, s.lost = false, s.lost || lost
			r := watch.Report{Look: true, Lost: s.lost} // another may lose more meanwhile
			told = append(told, func() { s.outer.Note(r) })
		}
	}
	return told
}

// Flush says what is owed, as the kernel does when its queue is read to the end.
func (l *Lossy) Flush() {
	l.mu.Lock()
	told := l.sayLocked(true)
	l.mu.Unlock()
	for _, say := range told {
		say()
	}
}
