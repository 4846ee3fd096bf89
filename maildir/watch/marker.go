package watch

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// settleFor is how long Settle waits. The kernel needs microseconds.
const settleFor = time.Second

// marker is a file in memory that is watched like the directories of its shard. The kernel
// keeps events in order: when a change of the marker comes out at the other end, all that
// happened before it came out too.
type marker struct {
	mu   sync.Mutex // guards what follows
	file *os.File   // nil before the first use, and where there can be none
	path string
	off  bool // there can be none, or nothing is told of it

	// One change is under way at a time, for the kernel joins two that follow each other.
	// Who comes meanwhile waits for the next.
	now, next chan struct{} // closed when it came out; nil: none

	settled time.Time // what happened before it was noted
}

// settle waits until what happened before since was noted.
func (sh *shard) settle(since time.Time) {
	begun := time.Now()
	came := sh.marker.send(sh, since)
	if came == nil {
		return
	}
	t := time.NewTimer(settleFor)
	defer t.Stop()
	select {
	case <-came:
		sh.marker.cameFrom(begun)
	case <-t.C:
		sh.marker.giveUp(sh.log)
	}
}

// giveUp ends the use of a marker of which nothing is told, until something is: no client
// shall wait for it twice.
func (m *marker) giveUp(log *slog.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return
	}
	m.off = true
	log.Warn("the kernel is slow to tell of changes; a command may miss what another program did just before it", "event", "watch_marker")
}

// cameFrom notes that a change came out which was made after begun.
func (m *marker) cameFrom(begun time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if begun.After(m.settled) {
		m.settled = begun
	}
}

// send changes the marker, now or after the change that is under way, and gives what is
// closed when that came out; nil where there is no marker, or one came out that was changed
// after since.
func (m *marker) send(sh *shard, since time.Time) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settled.After(since) {
		return nil
	}
	if m.file == nil && !m.off {
		m.mu.Unlock()
		m.make(sh)
		m.mu.Lock()
	}
	if m.file == nil || m.off {
		return nil
	}
	if m.next == nil {
		m.next = make(chan struct{})
	}
	came := m.next
	if m.now == nil {
		m.changeLocked()
	}
	return came
}

// make has the marker watched, if that was not done yet.
func (m *marker) make(sh *shard) {
	sh.setup.Lock() // before m.mu: the draining goroutine takes that, and never this
	defer sh.setup.Unlock()
	m.mu.Lock()
	made := m.file != nil || m.off
	m.mu.Unlock()
	if made || sh.done {
		return
	}
	file, path, err := newMarker()
	if err == nil {
		err = sh.watcher.Add(path)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if m.off = true; file != nil {
			file.Close()
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		sh.log.Info("a command may miss what another program did just before it", "event", "watch_marker", "err", err)
		return
	}
	m.file, m.path = file, path
}

// changeLocked makes the next change that under way.
func (m *marker) changeLocked() {
	m.now, m.next = m.next, nil
	if m.now == nil {
		return
	}
	// Not a write: of those to a file that no path led to newer kernels tell nothing.
	if err := m.file.Chmod(0o600); err != nil {
		close(m.now)
		m.now = nil
	}
}

// passed takes the event of the marker, and reports whether this is one.
func (m *marker) passed(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" || name != m.path {
		return false
	}
	m.off = false
	m.cameLocked()
	return true
}

// lost lets go of who waits for an event that may be among the lost.
func (m *marker) lost() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cameLocked()
}

func (m *marker) cameLocked() {
	if m.now != nil {
		close(m.now)
		m.now = nil
	}
	if m.file != nil {
		m.changeLocked()
	}
}

// close ends all waits. Called when nothing is drained any more.
func (m *marker) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.endLocked()
}

func (m *marker) endLocked() error {
	for _, c := range []chan struct{}{m.now, m.next} {
		if c != nil {
			close(c)
		}
	}
	m.now, m.next = nil, nil
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}
