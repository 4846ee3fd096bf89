package session

import (
	"sync/atomic"
	"testing"
	"time"
)

// A command knows of others while they come, and a while after the last one.
func TestCrowd(t *testing.T) {
	var begun atomic.Uint64
	begun.Add(5)
	c := newCrowd(&begun)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, step := range []struct {
		begin  uint64
		pass   time.Duration
		others bool
	}{
		{0, 0, false},
		{0, time.Hour, false},
		{1, 0, true},
		{0, crowdFor - 1, true},
		{3, 0, true},
		{0, crowdFor - 1, true},
		{0, 1, false},
		{1, time.Hour, true},
	} {
		begun.Add(step.begin)
		now = now.Add(step.pass)
		if got := c.othersAt(now); got != step.others {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

// A core is left to others, and one taken by the session itself.
func TestCoresLeftToOthers(t *testing.T) {
	for _, c := range []struct {
		cores  int
		others bool
		want   int
	}{{1, false, 1}, {1, true, 0}, {2, false, 2}, {2, true, 0}, {4, true, 2}, {64, false, aheadWorkers}, {64, true, aheadWorkers}} {
		if got := workersOf(c.cores, c.others); got != c.want {
			t.Errorf("%d cores, others %v: %d", c.cores, c.others, got)
		}
	}
}

// Long messages are opened ahead as far as memory allows, and one however long it is.
func TestBytesOpenAheadAreBounded(t *testing.T) {
	for _, c := range []struct {
		size    int64
		started int // beside the one that is taken next
	}{{0, aheadMost}, {1000, aheadMost}, {200 << 10, 2}, {aheadBytes, 1}, {1 << 40, 1}} {
		a := &ahead{need: make([]int, 20), jobs: make(chan int, aheadMost), size: func(int) int64 { return c.size }}
		for i := range a.need {
			a.need[i] = i
		}
		for i := range a.ready {
			a.ready[i] = make(chan loaded, 1)
		}
		a.start()
		for i := range a.need {
			if got := a.started - a.next; got != min(c.started, len(a.need)-i) {
				t.Fatalf("of %d bytes each %d are open before message %d", c.size, got, i)
			}
			a.ready[<-a.jobs%aheadMost] <- loaded{}
			if _, ok := a.take(i); !ok {
				t.Fatalf("message %d was not read ahead", i)
			}
		}
		if a.bytes != 0 {
			t.Errorf("%d bytes are held of nothing", a.bytes)
		}
	}
}
