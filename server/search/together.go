package search

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Messages that must be opened are opened by several goroutines at once, a batch at a
// time: other cores read and take apart too, and where the disk is slow several reads are
// under way. What the store keeps is asked for and given by the goroutine of the search
// alone. The others help only while nobody else wants anything of the server: they would
// take the core on which it is answered.

const (
	// maxReaders is how many goroutines one search has at most, and at most one a core.
	maxReaders = 4

	// batch is how many messages are handed out at once; of each a header may be held
	// until all are done.
	batch = 128

	// standBack is for how long nobody helps after another session asked for something.
	standBack = 5 * time.Millisecond
)

// crew are the goroutines of one search.
type crew struct {
	others func() uint64 // Source.Others
	turns  turns         // of who calls each

	mu       sync.Mutex // guards what follows
	some     sync.Cond  // there is something to do, or nothing will be
	all      sync.Cond  // all was done
	do       func(reader, i int)
	n        int // how much there is to do
	next     int // what is taken next
	done     int
	helpers  int
	closing  bool
	panicked string

	wg sync.WaitGroup
}

func newCrew(others func() uint64) *crew {
	if others == nil {
		others = func() uint64 { return 0 }
	}
	c := &crew{others: others}
	c.some.L, c.all.L = &c.mu, &c.mu
	c.turns.begin()
	return c
}

// each calls do once for each index below n, several at once where n is worth it: those
// with the same reader, which is below maxReaders, one after the other. It returns when all
// are done. One goroutine calls it, and close in the end.
func (c *crew) each(n int, do func(reader, i int)) {
	if n < 4 {
		for i := range n {
			c.turns.give()
			do(0, i)
		}
		return
	}
	c.mu.Lock()
	c.do, c.n, c.next, c.done = do, n, 0, 0
	for c.helpers+1 < min(maxReaders, runtime.GOMAXPROCS(0)) {
		c.helpers++
		reader := c.helpers
		c.wg.Go(func() { c.help(reader) }) // ends when close says so
	}
	c.some.Broadcast()
	for c.next < c.n {
		c.take(0)
		c.mu.Unlock()
		c.turns.give()
		c.mu.Lock()
	}
	for c.done < c.n {
		c.all.Wait()
	}
	panicked := c.panicked
	c.mu.Unlock()
	if panicked != "" {
		panic(panicked) // where it ends this session and no other
	}
}

// take does the next of what is left, with the lock held before and after.
func (c *crew) take(reader int) {
	i, do := c.next, c.do
	c.next++
	c.mu.Unlock()
	defer func() {
		v := recover()
		c.mu.Lock()
		if v != nil {
			c.panicked = fmt.Sprintf("%v\n%s", v, debug.Stack())
		}
		if c.done++; c.done == c.n {
			c.all.Signal()
		}
	}()
	do(reader, i)
}

// help does what is left until close.
func (c *crew) help(reader int) {
	defer busy(&helping)()
	var t turns
	t.begin()
	before := c.others()
	for {
		c.mu.Lock()
		for c.next == c.n && !c.closing {
			c.some.Wait()
		}
		if c.closing {
			c.mu.Unlock()
			return
		}
		c.take(reader)
		c.mu.Unlock()
		if now := c.others(); now != before {
			time.Sleep(standBack)
			before = c.others()
			continue
		}
		t.giveHelping()
	}
}

// close ends the goroutines.
func (c *crew) close() {
	c.mu.Lock()
	c.closing = true
	c.some.Broadcast()
	c.mu.Unlock()
	c.wg.Wait()
}
