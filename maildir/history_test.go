package maildir

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
	"roost/store/memstore"
	"roost/store/storetest"
)

// Random histories of several sessions, of other programs that change the files, of
// calls that fail and processes that are killed end alike on a Maildir and on the model.
// The tree lies in memory and time is a bubble's: what takes seconds to be sure of
// takes none, and a seed repeats itself.
func TestHistory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // goroutines take turns, in each run alike
	for _, c := range []struct {
		name  string
		seeds uint64
		room  room
	}{
		{"events", 25, room{}},
		{"events lost", 25, room{lossy: true}},
		{"polled", 15, room{polled: true}},
		{"beside another process", 15, room{beside: true}},
		{"beside another process, polled", 10, room{beside: true, polled: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, seed := range storetest.Seeds(t, c.seeds) {
				c.room.seed = seed
				synctest.Test(t, func(t *testing.T) { storetest.History(t, seed, 120, c.room.open) })
			}
		})
	}
}

// room is what a history may have.
type room struct {
	seed   uint64
	polled bool // no events come
	lossy  bool // some get lost
	beside bool // another process works on the tree
}

// chamber is a tree in memory with its stores, in a bubble.
type chamber struct {
	t      *testing.T
	room   room
	mem    *faultfs.Mem
	fs     *faultfs.FS
	kernel *watchtest.Kernel
	lossy  *watchtest.Lossy
	skew   time.Duration // of the store's clock
	paused atomic.Int64  // how long they waited for the next tick of the files' clock
	pid    int
	stores [2]*Store // open now
	inside bool      // a store is in the middle of a command
	r      *rand.Rand
}

func (r room) open(t *testing.T) storetest.World {
	c := &chamber{t: t, room: r, mem: faultfs.NewMem(), r: rand.New(rand.NewPCG(r.seed, 99))}
	c.enter(c.mem)
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: "/Maildir", Layout: store.LayoutMaildirPP, Create: true}}}
	open := func(which int) func(*testing.T) store.Store {
		return func(*testing.T) store.Store { return c.start(which) }
	}
	out := newStranger(func() fsys.FS { return c.mem }, "/Maildir")
	out.aside = c.aside
	if r.lossy {
		out.between = c.settle // some are seen at once, some after a look
	}
	w := storetest.World{
		Real: storetest.Backend{Store: c.start(0), Who: who, Reopen: open(0)},
		Model: func() storetest.Model {
			s := memstore.New(nil)
			return storetest.Model{
				Backend: storetest.Backend{Store: s, Who: who, Reopen: func(*testing.T) store.Store { return s }},
				SkipTo:  func(n store.Name, next imap.UID) { s.SkipTo(who.User, n, next) },
			}
		},
		Outside: out,
		Settle:  c.settle,
		Closed: []storetest.Mishap{
			{Name: "roost.index is deleted", Do: func() error { return c.lose("roost.index") }, Forgets: true},
			{Name: "all that is a cache is deleted", Do: func() error { return c.lose("roost.") }, Forgets: true},
			{Name: "the clock is set back by an hour", Do: func() error { c.skew -= time.Hour; return nil }},
			{Name: "an hour passes", Do: func() error { time.Sleep(time.Hour); return nil }},
		},
		Faults: c,
	}
	if r.beside {
		w.Beside = &storetest.Backend{Store: c.start(1), Reopen: open(1)}
	}
	return w
}

// enter makes a tree the one that is worked on.
func (c *chamber) enter(mem *faultfs.Mem) {
	c.mem, c.fs, c.kernel = mem, faultfs.New(mem), &watchtest.Kernel{}
	mem.Now = c.now
	mem.Changed = c.kernel.Changed
	c.lossy = &watchtest.Lossy{Inner: c.kernel}
	if c.room.lossy {
		c.lossy.Lose = func() bool { return c.r.IntN(8) == 0 }
		c.lossy.Overflow = func() (lost, later bool) { return c.r.IntN(3) == 0, c.r.IntN(2) == 0 }
	}
}

// start opens a store on the tree, as a process of its own.
func (c *chamber) start(which int) *Store {
	c.pid++
	var w watch.Watcher = c.lossy
	if c.room.polled {
		w = watch.NewSystem(watch.Options{Poll: true})
	}
	s, err := New(Options{
		FS: c.fs, Clock: func() time.Time { return time.Now().Add(c.skew) }, Host: "test.example", PID: c.pid, Boot: "boot", Watch: w,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	s.env.Booted = time.Time{} // the bubble's clock began long before
	// Who holds a mutex must not sleep in a bubble: others may wait for it.
	s.env.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	s.wall, s.pause = c.now, func(d time.Duration) { c.paused.Add(int64(d) + 1) }
	s.env.Alive = func(pid int) bool {
		return slices.ContainsFunc(c.stores[:], func(s *Store) bool { return s != nil && s.opt.PID == pid })
	}
	c.stores[which] = s
	return s
}

// now is the clock that stamps files. It stands still while a store works.
func (c *chamber) now() time.Time { return time.Now().Add(time.Duration(c.paused.Load())) }

// settle lets all that waits for a while come to its end.
func (c *chamber) settle() {
	synctest.Wait()
	c.lossy.Flush()
	time.Sleep(pick(c.room.polled, 11*time.Second, 3*time.Second)) // two polls; or all timers of a mailbox
	synctest.Wait()
}

func pick[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

// aside runs do while no store looks at a mailbox.
func (c *chamber) aside(box fsys.Dir, do func() error) error {
	if c.inside {
		return do()
	}
	st, err := box.Self()
	if err != nil {
		return err
	}
	for _, s := range c.stores {
		if s == nil {
			continue
		}
		s.mu.Lock()
		m := s.open[placeKey{st.Dev, st.Ino}]
		s.mu.Unlock()
		if m != nil {
			m.files.Lock()
			defer m.files.Unlock()
		}
	}
	return do()
}

// lose deletes the files in all mailboxes whose names begin with prefix.
func (c *chamber) lose(prefix string) error {
	for p := range c.mem.Tree() {
		dir, name := p[:strings.LastIndexByte(p, '/')], p[strings.LastIndexByte(p, '/')+1:]
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		d, err := c.mem.Root(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Remove(name), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Before implements storetest.Faults.
func (c *chamber) Before(n int, do func()) func() bool {
	met := false
	c.fs.Reset()
	c.fs.FailWhere(func(k int, _ string) error {
		if k == n {
			met, c.inside = true, true
			do()
			c.inside = false
		}
		return nil
	})
	return func() bool { c.fs.FailWhere(nil); return met }
}

// Fail implements storetest.Faults.
func (c *chamber) Fail(n int) func() bool {
	met := false
	c.fs.Reset()
	c.fs.FailWhere(func(k int, _ string) error {
		if k != n {
			return nil
		}
		met = true
		return []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE, fs.ErrPermission}[c.r.IntN(4)]
	})
	return func() bool { c.fs.FailWhere(nil); return met }
}

// Kill implements storetest.Faults.
func (c *chamber) Kill(n int) func() bool {
	c.fs.Reset()
	c.fs.Stop(n)
	return func() bool {
		if c.fs.Calls() < n {
			c.fs.FailWhere(nil)
			return false
		}
		c.enter(c.mem.Clone())
		return true
	}
}
