package maildir

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/uidlist"
	"roost/store"
)

// comingAt is what a hold knew when the uidlist was about to be locked.
type comingAt struct {
	mu    sync.Mutex
	n     []int // what was Coming
	shown []int // messages in the View
}

// locking has what is known noted at each lock of the uidlist, which fails with err if
// that is not nil.
func (c *comingAt) locking(o *outside, f *faultfs.FS, err error) {
	f.FailWhere(func(_ int, call string) error {
		if op, _, _ := strings.Cut(call, " "); op != "link" && op != "create" && op != "move" || !strings.Contains(call, uidlist.LockName) {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		n, _ := o.box.Coming()
		c.n, c.shown = append(c.n, n), append(c.shown, o.box.View().UIDs.Len())
		return err
	})
}

func (o *outside) coming() int {
	n, _ := o.box.Coming()
	return n
}

// A delivery is told of before the uidlist is locked for its UID, and has it when it is
// settled.
func TestDeliveryIsComingBeforeItHasAUID(t *testing.T) {
	f := faultfs.New(fsys.OS)
	o := openOutside(t, 3, Options{FS: f})
	var at comingAt
	at.locking(o, f, nil)
	o.deliver("1800000000.M1P2.host")
	o.until("that one is coming, or came", func() bool { return o.coming() == 1 || o.v.UIDs.Len() == 4 })
	o.must(o.box.Settled(t.Context()))
	if n, len := o.coming(), o.box.View().UIDs.Len(); n != 0 || len != 4 {
		t.Errorf("settled with %d coming and %d messages", n, len)
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	if len(at.n) == 0 || at.n[0] != 1 || at.shown[0] != 3 {
		t.Errorf("when the uidlist was locked %v were coming behind %v", at.n, at.shown)
	}
}

// What was told of and can have no UID is settled: the client hears that it did not come
// after all, and once only however long the disk is full.
func TestWhatCannotComeIsNotComingForEver(t *testing.T) {
	f := faultfs.New(fsys.OS)
	o := openOutside(t, 3, Options{FS: f})
	var at comingAt
	at.locking(o, f, syscall.ENOSPC)
	o.deliver("1800000000.M1P2.host")
	tried := func() int {
		at.mu.Lock()
		defer at.mu.Unlock()
		return len(at.n)
	}
	o.until("the lock failed and nothing is coming", func() bool { return tried() > 0 && o.coming() == 0 })
	if o.v.UIDs.Len() != 3 {
		t.Errorf("%d messages are seen that have no UIDs", o.v.UIDs.Len()-3)
	}
	o.must(o.box.Settled(t.Context()))
	first := tried()
	o.deliver("1800000000.M2P2.host")
	m := o.box.(*hold).m
	m.files.Lock()
	m.watch.subs[subNew].Settle(time.Now())
	m.take(portion)
	m.files.Unlock()
	at.mu.Lock()
	for _, n := range at.n[first:] {
		if n != 0 {
			t.Errorf("%d were coming while UIDs could not be kept", n)
		}
	}
	at.mu.Unlock()
	f.Reset()
	m.wake()
	o.until("both came", func() bool { return o.v.UIDs.Len() == 5 })
}

// Of many sessions a few are told of what is coming, as each writes while files are held;
// all are told when it came.
func TestFewAreToldOfWhatIsComing(t *testing.T) {
	o := openOutside(t, 3, Options{})
	const holds = 3 * foretoldFew
	var (
		mu       sync.Mutex // guards what follows
		foretold int
		heard    = map[int]bool{}
		rung     = make(chan struct{}, 1)
	)
	for i := range holds {
		box, err := o.a.Hold(t.Context(), store.Inbox, true, func() {
			mu.Lock()
			defer mu.Unlock()
			if o.coming() > 0 {
				foretold++
			} else if o.box.View().UIDs.Len() == 4 {
				heard[i] = true
			}
			select {
			case rung <- struct{}{}:
			default:
			}
		})
		o.must(err)
		defer box.Close()
	}
	o.deliver("1800000000.M1P2.host")
	for all := false; !all; {
		<-rung
		mu.Lock()
		all = len(heard) == holds
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	if foretold > foretoldFew {
		t.Errorf("%d of %d sessions were told what is coming, not %d", foretold, holds, foretoldFew)
	}
}
