package maildir

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A queuedLock is a lock for work that takes milliseconds: it is had in the order in which it
// was asked for. A command that goes through a mailbox in slices so lets everybody in who
// came meanwhile; a sync.Mutex would mostly be its own again before they wake. The zero
// value is free.
type queuedLock struct {
	mu    sync.Mutex // guards both
	held  bool
	queue []chan struct{} // closed when it is theirs

	wanted atomic.Int32 // how many are in LockWithin
}

func (l *queuedLock) Lock() {
	if c := l.enter(); c != nil {
		<-c
	}
}

// enter takes the lock, or gives what tells when it is had.
func (l *queuedLock) enter() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		l.held = true
		return nil
	}
	c := make(chan struct{})
	l.queue = append(l.queue, c)
	return c
}

func (l *queuedLock) TryLock() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return false
	}
	l.held = true
	return true
}

// LockWithin is Lock that gives up after d, and reports whether it has the lock.
func (l *queuedLock) LockWithin(d time.Duration) bool {
	c := l.enter()
	if c == nil {
		return true
	}
	l.wanted.Add(1)
	defer l.wanted.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, c)
	if i < 0 {
		return true // given at this moment
	}
	l.queue = slices.Delete(l.queue, i, i+1)
	return false
}

// Wanted reports whether somebody waits who will not wait for long: who holds the lock for
// many things in a row should give it back between two of them.
func (l *queuedLock) Wanted() bool { return l.wanted.Load() > 0 }

func (l *queuedLock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		panic("a lock is given back that nobody has")
	}
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	close(l.queue[0])
	l.queue = slices.Delete(l.queue, 0, 1)
}
