package maildir

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// Who waits for news is let in after a few messages of a burst, and nothing of it is lost.
func TestBurstDoesNotHoldUpABystander(t *testing.T) {
	const n = 300
	o := openOutside(t, 0, Options{})
	m := o.box.(*hold).m
	m.files.Lock()
	for i := range n {
		o.deliver(o.base(i))
	}
	m.watch.subs[subNew].Settle(time.Now())
	var wg sync.WaitGroup
	wg.Go(func() {
		if !m.files.LockWithin(time.Hour) {
			t.Error("the lock was not had")
			return
		}
		if len(m.inNew) == 0 {
			t.Error("messages were moved to cur/ while others were not told of yet")
		}
		m.files.Unlock()
	})
	for !m.files.Wanted() {
		runtime.Gosched()
	}
	m.take(portion)
	if got := m.newest().UIDs.Len(); got != flagLeast || !m.watch.behind() {
		t.Errorf("%d messages were taken in while somebody waited, not %d", got, flagLeast)
	}
	m.files.Unlock()
	wg.Wait()
	o.until("all of the burst", func() bool { return o.v.UIDs.Len() == n })
}

// A client that asks for news in a burst gets a part of it soon, and the rest later.
func TestNewsInABurstIsAPortion(t *testing.T) {
	const n = 3 * askedAtOnce
	o := openOutside(t, 0, Options{})
	m := o.box.(*hold).m
	m.files.Lock()
	for i := range n {
		o.deliver(o.base(i))
	}
	m.watch.subs[subNew].Settle(time.Now())
	m.take(askedAtOnce)
	if got := m.newest().UIDs.Len(); got != askedAtOnce {
		t.Errorf("%d messages at once, not %d", got, askedAtOnce)
	}
	m.files.Unlock()
	o.until("all of the burst", func() bool { return o.v.UIDs.Len() == n })
}
