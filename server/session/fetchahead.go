package session

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A FETCH that must open many messages opens the next ones while the answer to one is
// written: other cores read and take apart what comes next, and where the disk is slow
// several reads are under way. Answers stay in their order, and what is open ahead is
// bounded. While other sessions have commands a core is theirs (crowd.go).

const (
	// aheadWorkers is how many goroutines one FETCH starts at most, and at most one a core.
	aheadWorkers = 4

	// aheadMost is how many messages are open at most beside the one that is written, and
	// aheadBytes about how much of them is held, where that is more than one.
	aheadMost  = 2 * aheadWorkers
	aheadBytes = 512 << 10
)

// ahead opens the messages of a slice in order.
type ahead struct {
	need    []int // which of the rows, in the order of their answers
	next    int   // of need: the next that is taken
	started int   // of need: how many a worker was given
	size    func(k int) int64
	bytes   int64 // of those that were started and not taken

	jobs  chan int // indexes of need
	ready [aheadMost]chan loaded
	wg    sync.WaitGroup
}

// loaded is what became of one message.
type loaded struct {
	m        *opened
	err      error
	panicked string
}

// opensFor tells whether a row cannot be answered without opening its message.
func (p *fetchPlan) opensFor(row store.Row, notes *rowNotes) bool {
	return p.open || p.missing(notes) || p.size && row.Size < 0
}

// workersOf is how many goroutines read ahead on so many cores. Where others want one, the
// session itself, which then does what they did not, leaves it to them.
func workersOf(cores int, others bool) int {
	if others {
		cores = max(cores-2, 0)
	}
	return min(aheadWorkers, cores)
}

// readAhead begins to open those of rows that must be; nil where that is not worth it.
// stop must be called.
func (f *fetcher) readAhead(ctx context.Context, rows []store.Row, notes []rowNotes) *ahead {
	var need []int
	for i := range rows {
		if i = f.nth(i, len(rows)); f.plan.opensFor(rows[i], &notes[i]) {
			need = append(need, i)
		}
	}
	workers := workersOf(runtime.GOMAXPROCS(0), f.crowd.others())
	if len(need) < 4 || workers == 0 {
		return nil
	}
	a := &ahead{need: need, jobs: make(chan int, aheadMost)}
	a.size = func(k int) int64 {
		if !f.plan.sized && !f.plan.preview {
			return 0 // what is only scanned is not held
		}
		return max(rows[need[k]].Size, 0)
	}
	for i := range a.ready {
		a.ready[i] = make(chan loaded, 1)
	}
	for range workers {
		// Ends when stop closes jobs.
		a.wg.Go(func() {
			for k := range a.jobs {
				i := need[k]
				a.ready[k%aheadMost] <- f.loaded(ctx, rows[i], &notes[i])
			}
		})
	}
	a.start()
	return a
}

// loaded is load for a goroutine of which nobody would take a panic.
func (f *fetcher) loaded(ctx context.Context, row store.Row, notes *rowNotes) (l loaded) {
	defer func() {
		if v := recover(); v != nil {
			l = loaded{panicked: fmt.Sprintf("%v\n%s", v, debug.Stack())}
		}
	}()
	l.m, l.err = f.load(ctx, row, notes)
	return l
}

// start has more messages opened, as many as may be.
func (a *ahead) start() {
	for a.started < len(a.need) && a.started < a.next+aheadMost {
		size := a.size(a.started)
		if a.started > a.next && a.bytes+size > aheadBytes {
			return
		}
		a.bytes += size
		a.jobs <- a.started // never more than fit
		a.started++
	}
}

// take gives the message of row i; ok is false where it was not read ahead.
func (a *ahead) take(i int) (l loaded, ok bool) {
	if a == nil || a.next == len(a.need) || a.need[a.next] != i {
		return l, false
	}
	l = <-a.ready[a.next%aheadMost]
	a.bytes -= a.size(a.next)
	a.next++
	if l.panicked != "" {
		panic(l.panicked) // where it ends this session and no other
	}
	a.start()
	return l, true
}

// stop ends it, and closes what nobody took.
func (a *ahead) stop() {
	if a == nil {
		return
	}
	close(a.jobs)
	a.wg.Wait()
	for ; a.next < a.started; a.next++ {
		if l := <-a.ready[a.next%aheadMost]; l.m != nil {
			l.m.Close()
		}
	}
}

// open gives the message of a row, opened ahead or now.
func (f *fetcher) open(ctx context.Context, a *ahead, i int, row store.Row, notes *rowNotes) (*opened, error) {
	f.opened = true
	l, ok := a.take(i)
	if !ok {
		l.m, l.err = f.load(ctx, row, notes)
	}
	if l.err == nil {
		l.m.keepIn(f.box, row.UID)
	}
	return l.m, l.err
}

// keepIn lets the store keep what was derived, in the order of kinds, so that notes lie in
// its file as they will be asked for.
func (m *opened) keepIn(box store.Mailbox, uid imap.UID) {
	for i, b := range m.derived {
		if b != nil && len(b) <= noteLimit {
			box.Note(uid, noteKinds[i], b)
		}
	}
}
