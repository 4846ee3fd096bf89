package maildir

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"roost/maildir/index"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// The first SELECT of a mailbox waited while roost.index was written, and for the kernel to go
// through all files of a directory to watch it.
func TestFirstSelectWaitsForWhatOthersNeed(t *testing.T) {
	l, d := unopened(t, 50)
	l.must(l.open("boot"))
	defer l.close()
	l.s.lateAfter = time.Hour
	box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
	l.must(err)
	defer box.Close()
	fake := l.s.watch.(*watchtest.Fake)
	if _, err := d.box.Stat(index.Name); !isNotExist(err) || fake.Watching("/Maildir/cur") > 0 {
		t.Errorf("when SELECT is answered %s is there (%v), or %d watches", index.Name, err, fake.Watching("/Maildir/cur"))
	}

	// What others do until the watches are set is found.
	l.must(makeFile(d.new, "1795600000.M1P1.mta"))
	l.must(d.cur.Remove("1795500000.M1P1.mta,S=10:2,S"))
	m := box.(*hold).m
	m.files.Lock()
	m.take(portion) // as the worker does behind the answer
	m.tendNow()
	m.files.Unlock()
	if _, err := d.box.Stat(index.Name); err != nil || fake.Watching("/Maildir/cur") != 1 || fake.Watching("/Maildir/new") != 1 {
		t.Errorf("behind the answer: %v, %d watches", err, fake.Watching("/Maildir/cur"))
	}
	if v := box.View(); v.UIDs.Len() != 50 || v.UIDs.At(0) != 2 || v.UIDNext != 52 {
		t.Errorf("%d messages, UIDNEXT %d", v.UIDs.Len(), v.UIDNext)
	}
}

// A change between the look and the end of the opening is not taken for part of the look.
func TestDeliveryWhileAMailboxIsOpenedFirst(t *testing.T) {
	l, d := unopened(t, 50)
	l.must(l.open("boot"))
	defer l.close()
	l.s.lateAfter = time.Hour
	delivered := false
	l.fs.FailWhere(func(_ int, call string) error {
		if call == "remove dovecot-uidlist.lock" && !delivered {
			delivered = true
			return makeFile(d.new, "1795600000.M1P1.mta")
		}
		return nil
	})
	box, err := l.a.Hold(t.Context(), store.Inbox, false, nil)
	l.must(err)
	defer box.Close()
	m := box.(*hold).m
	m.files.Lock()
	late := m.watch.late != nil
	m.take(portion)
	m.files.Unlock()
	if v := box.View(); late || !delivered || v.UIDs.Len() != 51 {
		t.Errorf("%d messages; watches late: %v", v.UIDs.Len(), late)
	}
}

// Mail that came a moment ago had each file looked at before SELECT was answered.
func TestFirstSelectOfYoungMailAsksNoFile(t *testing.T) {
	l, d := unopened(t, 50)
	l.mem.Now = time.Now
	l.must(makeFile(d.cur, "1795600000.M1P1.mta:2,S"))
	l.must(l.open("boot"))
	defer l.close()
	var box store.Mailbox
	n := asked(l, func() {
		var err error
		box, err = l.a.Hold(t.Context(), store.Inbox, true, nil)
		l.must(err)
	})
	defer box.Close()
	if n > 0 || box.View().UIDs.Len() != 51 {
		t.Errorf("%d files were asked; %d messages", n, box.View().UIDs.Len())
	}
	if n := l.s.watch.(*watchtest.Fake).Watching("/Maildir/cur"); n != 1 {
		t.Errorf("%d watches of a directory whose stamps prove nothing yet", n)
	}
}

// UIDs that a first SELECT showed are the same after a kill or a power cut at any of its calls.
func TestFirstSelectStoppedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		l := newCountLab(t)
		l.fs.Stop(n)
		shown, told, err := l.contents("Archive")
		l.stopped(n, 4, func(what string, again *lab) {
			texts, validity, cerr := again.contents("Archive")
			again.must(cerr)
			if len(texts) != 2 {
				t.Errorf("%s: messages %v", what, texts)
			}
			if err == nil && (validity != told || !maps.Equal(texts, shown)) {
				t.Errorf("%s: UIDVALIDITY %d, messages %v; told were %d, %v", what, validity, texts, told, shown)
			}
		})
		if t.Failed() {
			return
		}
		if err == nil && n > 40 {
			return
		}
	}
}

// Rows that were entered while their lines could not be written are taken back.
func TestFirstUIDListOnAFullDisk(t *testing.T) {
	for n := 1; ; n++ {
		l := newCountLab(t)
		l.fs.Fail(n, syscall.ENOSPC)
		texts, validity, err := l.contents("Archive")
		calls := l.fs.Calls()
		l.fs.Reset()
		in := slices.Sorted(maps.Keys(texts))
		if err == nil && (len(in) != 2 || texts[in[0]] != "one" || texts[in[1]] != "two" || validity == 0) {
			t.Errorf("call %d fails: UIDVALIDITY %d, messages %v", n, validity, texts)
		}
		l.s.mu.Lock()
		for _, m := range l.s.open {
			m.mu.Lock()
			if len(m.queue) > 0 {
				t.Errorf("call %d failed: messages wait to be shown for ever", n)
			}
			m.mu.Unlock()
		}
		l.s.mu.Unlock()
		st, serr := l.a.Status(context.Background(), "Archive", false)
		if serr != nil || st.Messages != 2 {
			t.Errorf("call %d failed: then %+v, %v", n, st, serr)
		}
		l.close()
		if t.Failed() || n > calls {
			return
		}
	}
}
