// Package watchtest has a Watcher without a kernel, for tests that must not wait.
package watchtest

import (
	"sync"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/watch"
)

// Fake is a watch.Watcher whose events the test makes itself. The zero value is
// ready.
type Fake struct {
	Polled bool // of the subscriptions made from now on

	// Settle is called by the Settle of those subscriptions, unless it is nil: what was on its
	// way is told there.
	Settle func(since time.Time)

	mu   sync.Mutex // guards subs
	subs map[*watch.Sub]string
}

// Add subscribes.
func (f *Fake) Add(dir fsys.Dir, _ string, wake func(), only ...string) (*watch.Sub, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subs == nil {
		f.subs = map[*watch.Sub]string{}
	}
	s := watch.NewSub(wake, only, f.Polled, f.remove)
	if f.Settle != nil {
		s.OnSettle(f.Settle)
	}
	f.subs[s] = dir.Path()
	return s, nil
}

func (f *Fake) remove(s *watch.Sub) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subs, s)
}

// Close does nothing.
func (f *Fake) Close() error { return nil }

// Note tells those who watch a path, or all with path "".
func (f *Fake) Note(path string, r watch.Report) {
	f.mu.Lock()
	var subs []*watch.Sub
	for s, p := range f.subs {
		if path == "" || p == path {
			subs = append(subs, s)
		}
	}
	f.mu.Unlock()
	for _, s := range subs {
		s.Note(r)
	}
}

// Watching is how many subscriptions a path has.
func (f *Fake) Watching(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.subs {
		if p == path {
			n++
		}
	}
	return n
}
