package search

import (
	"runtime"
	"sync/atomic"
	"time"
)

// A search that does not wait for anything keeps a processor of the Go scheduler to itself.
// While another one is idle a thread waits there for what comes from the network, and answers
// at once. Where searches keep all of them nobody would look for it in up to 10 ms, so that
// they stop now and then.

// turnAfter is how long a search runs before it may have to.
const turnAfter = time.Millisecond

// searching and helping are how many goroutines search just now, and help those.
var searching, helping atomic.Int32

// busy counts the goroutine that calls it, until the function that it gives is called.
func busy(n *atomic.Int32) func() {
	n.Add(1)
	return func() { n.Add(-1) }
}

// turns gives others their turn.
type turns struct{ last time.Time }

func (t *turns) begin() { t.last = time.Now() }

// give is called by the goroutine of a search.
func (t *turns) give() { t.giveWhere(&searching) }

// giveHelping is called by one that helps: these leave more room.
func (t *turns) giveHelping() { t.giveWhere(&searching, &helping) }

// giveWhere sleeps where it is time to and all processors are taken. runtime.Gosched would
// not do: where no goroutine is ready it returns at once, and the network is not looked at. It
// is a millisecond mostly, for the scheduler waits in whole ones.
func (t *turns) giveWhere(taken ...*atomic.Int32) {
	if time.Since(t.last) <= turnAfter {
		return
	}
	n := 0
	for _, c := range taken {
		n += int(c.Load())
	}
	if n >= runtime.GOMAXPROCS(0) {
		time.Sleep(20 * time.Microsecond)
	}
	t.last = time.Now()
}
