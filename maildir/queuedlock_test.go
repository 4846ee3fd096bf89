package maildir

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who waits is next, before the one that gives the lock back and asks again.
func TestTurnsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x queuedLock
		var order []int
		var wg sync.WaitGroup
		x.Lock()
		for i := range 5 {
			wg.Go(func() {
				x.Lock()
				order = append(order, i)
				x.Unlock()
			})
			synctest.Wait()
		}
		if x.TryLock() {
			t.Error("had while another has it")
		}
		x.Unlock()
		x.Lock()
		order = append(order, 5)
		x.Unlock()
		wg.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("order %v", order)
		}
	})
}

// Who gave up waiting is not given the lock, and those behind it are.
func TestTurnGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x queuedLock
		x.Lock()
		var wg sync.WaitGroup
		wg.Go(func() {
			if x.LockWithin(time.Second) {
				t.Error("had while another has it")
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if !x.LockWithin(time.Hour) {
				t.Error("not had")
			}
			x.Unlock()
		})
		time.Sleep(2 * time.Second)
		x.Unlock()
		wg.Wait()
		if !x.TryLock() {
			t.Error("nobody has it, and it is not had")
		}
	})
}

// The lock excludes, also where waiting ends as it is given.
func TestTurnExcludes(t *testing.T) {
	var x queuedLock
	n, taken := 0, 0
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 2000 {
				if i%2 == 0 {
					x.Lock()
				} else if !x.LockWithin(time.Duration(k%50) * time.Microsecond) {
					continue
				}
				n++
				taken++
				if n != 1 {
					t.Error("two have it")
				}
				n--
				x.Unlock()
			}
		})
	}
	wg.Wait()
	if taken < 8000 || !x.TryLock() {
		t.Errorf("had %d times, or not free in the end", taken)
	}
}
