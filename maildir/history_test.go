package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// The same with real files, real events and real time.
func TestHistoryOnDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		room room
	}{
		{"events", room{disk: true}},
		{"events lost", room{disk: true, lossy: true}},
		{"polled", room{disk: true, polled: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, seed := range storetest.Seeds(t, 3) {
				room := c.room
				room.seed = seed
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					t.Parallel() // they wait for the kernel's clock
					storetest.History(t, seed, 60, room.open)
				})
			}
		})
	}
}

// room is what a history may have.
type room struct {
	seed   uint64
	disk   bool // the tree is on disk, and time is real
	polled bool // no events come
	lossy  bool // some get lost
	beside bool // another process works on the tree
}

// chamber is a tree with its stores: in memory and in a bubble, or on disk.
type chamber struct {
	t      *testing.T
	room   room
	root   string
	raw    fsys.FS // as others see it
	fs     *faultfs.FS
	kernel *watchtest.Kernel
	lossy  [2]*watchtest.Lossy // of each store
	bell   chan string         // sentinels that passed
	rung   int
	skew   time.Duration // of the store's clock
	paused atomic.Int64  // how long they waited for the next tick of the files' clock
	pid    int
	stores [2]*Store // open now
	inside bool      // a store is in the middle of a command

	mu sync.Mutex // guards r
	r  *rand.Rand
}

func (r room) open(t *testing.T) storetest.World {
	c := &chamber{t: t, room: r, root: "/Maildir", r: rand.New(rand.NewPCG(r.seed, 99))}
	settle := c.settle
	if r.disk {
		dir := t.TempDir()
		c.root = filepath.Join(dir, "Maildir")
		c.raw, c.fs, c.bell = fsys.OS, faultfs.New(fsys.OS), make(chan string, 100)
		settle = c.settleDisk
	} else {
		c.enter(faultfs.NewMem())
	}
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: c.root, Layout: store.LayoutMaildirPP, Create: true}}}
	open := func(which int) func(*testing.T) store.Store {
		return func(*testing.T) store.Store { return c.start(which) }
	}
	out := newStranger(func() fsys.FS { return c.raw }, c.root)
	out.aside = c.aside
	if r.lossy || r.disk {
		out.between = settle // some are seen at once, some later
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
		Settle:  settle,
		Closed: []storetest.Mishap{
			{Name: "roost.index is deleted", Do: func() error { return c.lose("roost.index") }, Forgets: true},
			{Name: "all that is a cache is deleted", Do: func() error { return c.lose("roost.") }, Forgets: true},
			{Name: "the clock is set back by an hour", Do: func() error { c.skew -= time.Hour; return nil }},
		},
		Faults: c,
	}
	if !r.disk {
		w.Closed = append(w.Closed, storetest.Mishap{Name: "an hour passes", Do: func() error { time.Sleep(time.Hour); return nil }})
	}
	if r.beside {
		w.Beside = &storetest.Backend{Store: c.start(1), Reopen: open(1)}
	}
	return w
}

// enter makes a tree in memory the one that is worked on.
func (c *chamber) enter(mem *faultfs.Mem) {
	mem.Now = c.now
	c.raw, c.fs, c.kernel = mem, faultfs.New(mem), &watchtest.Kernel{}
	c.fs.EachName = true
	mem.Changed = c.kernel.Changed
}

// listen is how a store hears of changes.
func (c *chamber) listen() *watchtest.Lossy {
	l := &watchtest.Lossy{Inner: c.kernel}
	if c.room.disk || c.room.polled {
		l.Inner = watch.NewSystem(watch.Options{Poll: c.room.polled})
	}
	if c.room.lossy {
		l.Lose = func() bool { return c.chance(8) }
		l.Overflow = func() (lost, later bool) { return c.chance(3), c.chance(2) }
	}
	if c.room.disk && !c.room.polled {
		l.Passed = func(_, name string) { c.bell <- name }
		d, err := c.raw.Make(c.root+".sentinels", 0o700)
		if err == nil {
			_, err = l.Add(d, "ann", func() {})
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return l
}

// chance is true once in n times. Watches ask from their own goroutines.
func (c *chamber) chance(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n) == 0
}

// start opens a store on the tree, as a process of its own.
func (c *chamber) start(which int) *Store {
	c.pid++
	c.lossy[which] = c.listen()
	s, err := New(Options{
		FS: c.fs, Clock: func() time.Time { return time.Now().Add(c.skew) }, Host: "test.example", PID: c.pid, Boot: "boot",
		Watch: c.lossy[which],
	})
	if err != nil {
		c.t.Fatal(err)
	}
	s.env.Booted = time.Time{} // the bubble's clock began long before
	if c.room.seed%2 == 1 {
		s.muffleLeast = 1
	}
	if !c.room.disk {
		// Who holds a mutex must not sleep in a bubble: others may wait for it.
		s.env.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
		s.wall, s.pause = c.now, func(d time.Duration) { c.paused.Add(int64(d) + 1) }
	}
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
	for _, l := range c.lossy {
		if l != nil {
			l.Flush()
		}
	}
	time.Sleep(pick(c.room.polled, 11*time.Second, 3*time.Second)) // two polls; or all timers of a mailbox
	synctest.Wait()
}

// settleDisk waits until the kernel has told of all that happened so far, and lets the
// mailboxes that are open come to the end of it.
func (c *chamber) settleDisk() {
	if s := c.stores[0]; s == nil || hasEnded(s) {
		return
	}
	if !c.room.polled {
		c.rung++
		name := fmt.Sprint(watchtest.Sentinel, c.rung)
		d, err := c.raw.Root(c.root + ".sentinels")
		if err == nil {
			err = makeFile(d, name)
			d.Close()
		}
		if err != nil {
			c.t.Fatal(err)
		}
		for <-c.bell != name { // one inotify queue: what was before it has come
		}
	}
	for _, s := range c.stores {
		if s == nil {
			continue
		}
		s.mu.Lock()
		var open []*mailbox
		for _, m := range s.open {
			open = append(open, m)
		}
		s.mu.Unlock()
		for _, m := range open {
			<-m.ready
			m.files.Lock()
			for range 100 {
				if m.pull(); len(m.watch.suspects) > 0 {
					m.convict()
				} else if !m.doubt || m.closed {
					break
				}
			}
			m.files.Unlock()
		}
	}
}

func hasEnded(s *Store) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
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
	root, err := c.raw.Root(c.root)
	if err != nil {
		return err
	}
	defer root.Close()
	boxes := []string{c.root}
	err = root.Names(func(name string, kind fs.FileMode) bool {
		if kind.IsDir() && name[0] == '.' {
			boxes = append(boxes, c.root+"/"+name)
		}
		return true
	})
	for _, box := range boxes {
		d, derr := c.raw.Root(box)
		if derr != nil {
			return derr
		}
		err = errors.Join(err, removeFiles(d, func(name string) bool { return strings.HasPrefix(name, prefix) }), d.Close())
	}
	return err
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
		return []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE, fs.ErrPermission}[n%4]
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
		if mem, ok := c.raw.(*faultfs.Mem); ok {
			c.enter(mem.Clone())
		} else {
			c.fs = faultfs.New(c.raw) // the old one stays stopped
		}
		return true
	}
}
