package store

import (
	"fmt"
	"runtime"
	"testing"
)

// A client that sets one subset of its keywords after the other fills no memory: what
// nobody holds is let go, and what somebody holds stays one value.
func TestKeywordSetsThatNobodyHoldsAreLetGo(t *testing.T) {
	held := KeywordsOf("held", "Work")
	const many = 20_000
	for i := range many {
		KeywordsOf("many", fmt.Sprint("k", i))
	}
	size := func() int {
		interned.mu.RLock()
		defer interned.mu.RUnlock()
		return len(interned.sets)
	}
	for try := 0; size() > many/10; try++ {
		if try == 1000 {
			t.Fatalf("%d sets are kept", size())
		}
		runtime.GC()
	}
	if again := KeywordsOf("Work", "held"); again != held {
		t.Error("a set that is held was made twice")
	}
	if got := fmt.Sprint(held.Names()); got != "[held Work]" {
		t.Error(got)
	}
}
