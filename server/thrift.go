package server

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// What a burst leaves: garbage, buffers in pools, and stacks that commands have made deep,
// which shrink by half at each collection. While work goes on the runtime deals with all of
// it. When work stops it does so minutes later, and gives back only a part: so once a burst
// is over, memory is given back here. Nothing runs while nothing happens.
const (
	quietFor   = 200 * time.Millisecond // how long little must be allocated before
	quietBytes = 256 << 10              // how little
	thriftMost = 2 * time.Second        // between two times, or 100 times what the last took
)

// thrift is the process's, as its memory is.
var thrift thrifty

// thrifty is a timer that runs behind a burst. The zero value is ready.
type thrifty struct {
	armed atomic.Bool // the timer is set, or look runs

	// For look alone, of which one runs at a time.
	next      time.Time // not before
	allocated uint64    // at the last look
	stacks    uint64    // when memory was given back last
}

// stir says that something is going on. It costs a load.
func (t *thrifty) stir() {
	if !t.armed.Load() && t.armed.CompareAndSwap(false, true) {
		time.AfterFunc(quietFor, t.look)
	}
}

// look gives memory back when it is quiet and that is worth while.
func (t *thrifty) look() {
	m := readMemory()
	allocated := m.allocated - t.allocated
	t.allocated = m.allocated
	switch wait := time.Until(t.next); {
	case allocated > quietBytes:
		time.AfterFunc(quietFor, t.look)
	case !m.worthwhile(t.stacks):
		t.armed.Store(false)
	case wait > 0:
		time.AfterFunc(wait, t.look)
	default:
		t.give(m)
		t.armed.Store(false)
	}
}

// give collects until the stacks are as small as they get, and returns what is free.
func (t *thrifty) give(m memoryNow) {
	begun := time.Now()
	for range 3 { // 16 KiB, 8, 4
		before := m.stacks
		runtime.GC()
		if m = readMemory(); m.stacks > before-before/16 {
			break
		}
	}
	debug.FreeOSMemory()
	m = readMemory()
	t.stacks, t.allocated = m.stacks, m.allocated
	t.next = time.Now().Add(max(thriftMost, 100*time.Since(begun)))
}

// memoryNow is what the runtime says of the memory of the process, in bytes.
type memoryNow struct {
	allocated uint64 // so far
	objects   uint64 // live ones and garbage
	live      uint64 // of them, at the last collection
	free      uint64 // neither in use nor given back
	stacks    uint64
}

func readMemory() memoryNow {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(s)
	n := func(i int) uint64 {
		if s[i].Value.Kind() != metrics.KindUint64 {
			return 0 // a runtime that knows it no more
		}
		return s[i].Value.Uint64()
	}
	return memoryNow{n(0), n(1), n(2), n(3), n(4)}
}

// worthwhile reports whether enough may come free for the work of two collections.
func (m memoryNow) worthwhile(stacks uint64) bool {
	gain := m.free
	if m.objects > m.live {
		gain += m.objects - m.live
	}
	if m.stacks > stacks {
		gain += (m.stacks - stacks) / 2
	}
	return gain > 4<<20+(m.live+m.stacks)/8
}
