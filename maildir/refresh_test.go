package maildir

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// lateNews is an account whose events are on their way until somebody waits for them.
type lateNews struct {
	*testing.T
	mem   *faultfs.Mem
	watch *watchtest.Fake
	a     store.Account
	stamp atomic.Int64 // what files are stamped with; 0: the time

	mu      sync.Mutex              // guards what follows
	pending map[string]watch.Report // by directory
	waited  int
}

// openLate opens INBOX, with two messages and left alone for a while.
func openLate(t *testing.T) *lateNews {
	l := &lateNews{T: t, mem: faultfs.NewMem(), pending: map[string]watch.Report{}}
	l.mem.Now = func() time.Time {
		if ns := l.stamp.Load(); ns != 0 {
			return time.Unix(0, ns)
		}
		return time.Now()
	}
	l.watch = &watchtest.Fake{Settle: func(time.Time) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waited++
		for path, r := range l.pending {
			delete(l.pending, path)
			l.watch.Note(path, r)
		}
	}}
	s, err := New(Options{FS: l.mem, Host: "test.example", PID: 7, Boot: "boot", Watch: l.watch})
	l.must(err)
	t.Cleanup(func() { s.Close(context.Background()) })
	s.env.Booted = time.Time{}
	l.a, err = s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true}}})
	l.must(err)
	t.Cleanup(func() { l.a.Close() })
	appendOne(t, l.a, nil)
	appendOne(t, l.a, nil)
	l.count(2, 2)
	time.Sleep(10 * time.Second)
	return l
}

func (l *lateNews) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// count is a STATUS that must say so, and reports whether it waited for events.
func (l *lateNews) count(messages, unseen uint32) (waited bool) {
	l.Helper()
	before := l.waits()
	st, err := l.a.Status(l.Context(), store.Inbox, false)
	l.must(err)
	if st.Messages != messages || st.Unseen != unseen {
		l.Errorf("%d messages, %d unseen, want %d and %d", st.Messages, st.Unseen, messages, unseen)
	}
	return l.waits() > before
}

func (l *lateNews) waits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waited
}

// late has something be on its way from a directory, in place of what was.
func (l *lateNews) late(path string, r watch.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[path] = r
}

func (l *lateNews) dir(path string) fsys.Dir {
	l.Helper()
	d, err := l.mem.Root(path)
	l.must(err)
	l.Cleanup(func() { d.Close() })
	return d
}

// deliver is what an MTA does; the event is on its way.
func (l *lateNews) deliver(name string) {
	l.Helper()
	f, err := l.dir("/Maildir/new").Create(name, 0o600)
	l.must(err)
	l.must(f.Close())
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.pending["/Maildir/new"]
	r.Names = append(r.Names, name)
	l.pending["/Maildir/new"] = r
}

// Each STATUS waited until the kernel's queue had come through, though nobody had touched
// the mailbox.
func TestStatusOfAMailboxLeftAloneWaitsForNoEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLate(t)
		for range 3 {
			if l.count(2, 2) {
				t.Error("STATUS waits for events where the stamps say that there are none")
			}
			time.Sleep(time.Hour)
		}
	})
}

// What happened before STATUS is in it, though no event has told of it yet.
func TestStatusCountsWhatNoEventToldOfYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLate(t)
		l.deliver("1795500001.M1P1.mta")
		l.count(3, 3)
		l.deliver("1795500001.M2P1.mta") // in the same tick of the clock
		l.count(4, 4)
		time.Sleep(10 * time.Second)
		l.deliver("1795500001.M3P1.mta")
		l.count(5, 5)

		time.Sleep(10 * time.Second)
		fresh, cur, name := l.dir("/Maildir/new"), l.dir("/Maildir/cur"), "1795500001.M1P1.mta"
		l.must(fresh.Rename(name, cur, name+":2,S"))
		l.late("/Maildir/new", watch.Report{Names: []string{name}})
		l.late("/Maildir/cur", watch.Report{Names: []string{name + ":2,S"}})
		l.count(5, 4)

		time.Sleep(10 * time.Second)
		if l.count(5, 4) {
			t.Error("STATUS waits for events when all was told")
		}
		l.must(cur.Remove(name + ":2,S"))
		l.late("/Maildir/cur", watch.Report{Names: []string{name + ":2,S"}})
		if !l.count(5, 4) { // it may have another name by now: see suspectFor
			t.Error("STATUS does not hear of a message that is gone")
		}
		time.Sleep(time.Second)
		l.count(4, 4)
	})
}

// A look and a delivery within one tick of the filesystem's clock leave the same stamps. How
// long a tick can be is seen by whether stamps have fractions of a second.
func TestStatusCountsADeliveryInTheTickOfALook(t *testing.T) {
	for _, c := range []struct{ at, late time.Duration }{ // of the second; the look and the next delivery
		{0, 0}, {0, time.Second}, {time.Millisecond, 0}, {time.Millisecond, 15 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := openLate(t)
			time.Sleep(c.at)
			l.stamp.Store(time.Now().UnixNano())
			l.deliver("1795500001.M1P1.mta")
			time.Sleep(c.late)
			l.late("/Maildir/new", watch.Report{Look: true})
			l.count(3, 3)
			l.deliver("1795500001.M2P1.mta")
			time.Sleep(time.Second)
			l.count(4, 4)
		})
	}
}

// A folder was filled a moment before it was first opened: its STATUS waited for events until
// it was two seconds old.
func TestStatusOfAYoungMailboxWaitsForNoEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLate(t)
		time.Sleep(time.Millisecond)
		l.deliver("1795500001.M1P1.mta")
		time.Sleep(localTick)
		l.late("/Maildir/new", watch.Report{Look: true})
		l.count(3, 3)
		if l.count(3, 3) {
			t.Error("STATUS waits for events where the stamps say that there are none")
		}
	})
}

// An event that is on its way for long, because the machine is busy, was taken for told when the
// stamps were noted behind a change of our own.
func TestStatusCountsWhatIsOnItsWayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLate(t)
		appendOne(t, l.a, nil)
		l.deliver("1795500001.M1P1.mta")
		time.Sleep(10 * time.Second)
		l.count(4, 4)
		if time.Sleep(10 * time.Second); l.count(4, 4) {
			t.Error("STATUS waits for events when all was told")
		}
	})
}

// The stamps of the directories say nothing of the uidlist, nor of a message that was written
// in place.
func TestStatusHearsOfOtherChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLate(t)
		waited := l.waits()
		was, err := l.a.Status(t.Context(), store.Inbox, true)
		l.must(err)
		if l.waits() == waited {
			t.Error("a STATUS of the size does not wait")
		}
		box := l.dir("/Maildir")
		list, err := fsys.ReadFile(box, uidlist.Name, 1<<20)
		l.must(err)
		l.must(box.Remove(uidlist.Name))
		f, err := box.Create(uidlist.Name, 0o600)
		l.must(err)
		_, err = f.Write([]byte(strings.Replace(string(list), fmt.Sprint("V", was.UIDValidity), fmt.Sprint("V", was.UIDValidity+7), 1)))
		l.must(err)
		l.must(f.Close())
		l.late("/Maildir", watch.Report{Names: []string{uidlist.Name}})
		now, err := l.a.Status(t.Context(), store.Inbox, false)
		l.must(err)
		if now.UIDValidity != was.UIDValidity+7 {
			t.Errorf("UIDVALIDITY is told as %d, the uidlist says %d", now.UIDValidity, was.UIDValidity+7)
		}
	})
}
