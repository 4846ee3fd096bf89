package maildir

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// A mailbox of n messages that nobody opened, with the file system's calls counted.
func unopened(t *testing.T, n int) (*lab, dirs) {
	t.Helper()
	mem := faultfs.NewMem()
	mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	l := newLab(t, mem)
	d := makeMaildir(t, mem)
	for i := range n {
		name := fmt.Sprintf("17955%05d.M1P1.mta,S=%d:2,S", i, 10)
		l.must(makeFile(d.cur, name))
		l.must(d.cur.SetTime(name, time.Unix(1_700_000_000+int64(i), 0)))
	}
	return l, d
}

// asked counts how often messages' files are asked for what is not in their names.
func asked(l *lab, f func()) int {
	var n atomic.Int64
	l.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "stat cur/1") {
			n.Add(1)
		}
		return nil
	})
	defer l.fs.FailWhere(nil)
	f()
	return int(n.Load())
}

// SELECT needs no date, and asks no file for it; who wants dates gets them, once, and the
// next opening knows them.
func TestDatesAreAskedForWhenWanted(t *testing.T) {
	const n = 700
	l, _ := unopened(t, n)
	l.must(l.open("boot"))
	defer func() { l.close() }()
	hold := func() store.Mailbox {
		box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
		l.must(err)
		if got := box.View().UIDs.Len(); got != n {
			t.Fatalf("%d messages", got)
		}
		return box
	}
	read := func(box store.Mailbox) {
		for rows, err := range box.Rows(t.Context(), box.View().UIDs.Slice(0, n), 0) {
			l.must(err)
			l.must(box.Measure(t.Context(), rows))
			for _, r := range rows {
				if want := 1_700_000_000 + int64(r.UID) - 1; r.Internal != want || r.Saved == store.Unmeasured {
					t.Fatalf("UID %d has date %d, want %d, saved %d", r.UID, r.Internal, want, r.Saved)
				}
			}
		}
	}
	var box store.Mailbox
	if k := asked(l, func() { box = hold() }); k > 0 {
		t.Errorf("to open the mailbox %d files were asked", k)
	}
	if k := asked(l, func() { read(box) }); k != n {
		t.Errorf("for the dates of %d messages %d files were asked", n, k)
	}
	for asked(l, func() { read(box) }) != 0 {
		// What is told while another is at the files is not kept.
	}
	l.must(box.Close())
	l.close()
	l.must(l.open("boot"))
	if k := asked(l, func() { box = hold(); read(box) }); k != 0 {
		t.Errorf("after a restart %d files were asked", k)
	}
	l.must(box.Close())
}

// What is copied takes its date and sizes along, asked for or not.
func TestUnmeasuredMessagesAreCopiedWithTheirDates(t *testing.T) {
	l, _ := unopened(t, 3)
	l.must(l.open("boot"))
	defer l.close()
	l.must(l.a.Create(t.Context(), "b", nil))
	box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
	l.must(err)
	defer box.Close()
	_, err = box.Copy(t.Context(), []imap.UID{1, 2, 3}, "b")
	l.must(err)
	to, err := l.a.Hold(t.Context(), "b", true, nil)
	l.must(err)
	defer to.Close()
	for rows, err := range to.Rows(t.Context(), []imap.UID{1, 2, 3}, 0) {
		l.must(err)
		if k := asked(l, func() { l.must(to.Measure(t.Context(), rows)) }); k > 0 {
			t.Errorf("%d copies were asked for their dates", k)
		}
		for i, r := range rows {
			if r.Internal != 1_700_000_000+int64(i) {
				t.Errorf("UID %d has date %d", r.UID, r.Internal)
			}
		}
	}
}

// A file that was renamed, or went, between the row and the question.
func TestMeasureOfAFileThatMoved(t *testing.T) {
	l, d := unopened(t, 3)
	l.must(l.open("boot"))
	defer l.close()
	box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
	l.must(err)
	defer box.Close()
	rows, err := box.(*hold).rows(t.Context(), nil, []imap.UID{1, 2, 3}, 0)
	l.must(err)
	l.must(d.cur.Rename("1795500000.M1P1.mta,S=10:2,S", d.cur, "1795500000.M1P1.mta,S=10:2,FS"))
	l.must(d.cur.Remove("1795500001.M1P1.mta,S=10:2,S"))
	l.must(box.Measure(t.Context(), rows))
	dates := []int64{rows[0].Internal, rows[1].Internal, rows[2].Internal}
	if want := []int64{1_700_000_000, 1795500001, 1_700_000_002}; !slices.Equal(dates, want) {
		t.Errorf("dates %v, want %v", dates, want)
	}
	// A failure that is not the message's is not kept.
	l.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "stat cur/") {
			return syscall.EIO
		}
		return nil
	})
	rows[2].Internal = store.Unmeasured
	m := box.(*hold).m
	m.mu.Lock()
	m.table.rows.at(2).internal = unknownTime
	m.mu.Unlock()
	l.must(box.Measure(t.Context(), rows))
	l.fs.FailWhere(nil)
	rows[2].Internal = store.Unmeasured
	if l.must(box.Measure(t.Context(), rows)); rows[2].Internal != 1_700_000_002 {
		t.Errorf("after a failure the date is %d", rows[2].Internal)
	}
}

// The first opening writes the uidlist once, whole, and has it on the disk before a UID is
// told; where it cannot be written the messages are served all the same.
func TestFirstOpeningWritesTheUIDListOnce(t *testing.T) {
	l, _ := unopened(t, 5)
	l.must(l.open("boot"))
	l.fs.Reset()
	box, err := l.a.Hold(t.Context(), store.Inbox, false, nil)
	l.must(err)
	var calls []string
	for _, call := range strings.Split(l.fs.Transcript(), "\n") {
		if strings.Contains(call, "uidlist") && !strings.HasPrefix(call, "stat") && !strings.HasPrefix(call, "open") || strings.HasPrefix(call, "sync") || strings.Contains(call, "roost-state") {
			calls = append(calls, call)
		}
	}
	golden(t, "testdata/first_opening.txt", strings.Join(calls, "\n")+"\n")
	l.must(box.Close())
	l.close()

	l, _ = unopened(t, 5)
	l.must(l.open("boot"))
	defer l.close()
	full := false
	l.fs.FailWhere(func(_ int, call string) error {
		if full = full || strings.HasPrefix(call, "create dovecot-uidlist.tmp"); full && (strings.HasPrefix(call, "create") || strings.HasPrefix(call, "link")) {
			return syscall.EIO
		}
		return nil
	})
	box, err = l.a.Hold(t.Context(), store.Inbox, false, nil)
	l.must(err)
	defer box.Close()
	if n, info := box.View().UIDs.Len(), box.Info(); n != 5 || !info.NoModSeq {
		t.Errorf("%d messages, %+v", n, info)
	}
}
