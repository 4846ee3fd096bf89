package maildir

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// Lines that announce deliveries are synced a while after the last of them, and now and
// then though deliveries never pause.
func TestDeliveredLinesAreSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, faultfs.NewMem())
		l.must(l.open("boot"))
		box, err := l.a.Hold(t.Context(), store.Inbox, true, func() {})
		l.must(err)
		arrivals, err := l.fs.Root("/Maildir/new")
		l.must(err)
		n := 0
		deliver := func() {
			n++
			name := fmt.Sprintf("1795500000.M%dP1.mta", n)
			f, err := arrivals.Create(name, 0o600)
			l.must(err)
			_, err = f.Write([]byte("Subject: x\n\nx\n"))
			l.must(err)
			l.must(f.Close())
			l.s.watch.(*watchtest.Fake).Note("/Maildir/new", watch.Report{Names: []string{name}})
			synctest.Wait()
			if got := box.View().UIDs.Len(); got != n {
				t.Fatalf("%d of %d messages are shown", got, n)
			}
		}
		syncs := func() int { return strings.Count(l.fs.Transcript(), "sync dovecot-uidlist\n") }

		l.fs.Reset()
		deliver()
		if syncs() != 0 {
			t.Error("the client waited for a sync")
		}
		time.Sleep(syncLater + time.Millisecond)
		synctest.Wait()
		if got := syncs(); got != 1 {
			t.Errorf("%d syncs after a single delivery, want 1", got)
		}
		l.fs.Reset()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := syncs(); got != 0 {
			t.Errorf("%d syncs of nothing", got)
		}
		for range 4 * syncLatest / (syncLater / 2) {
			deliver()
			time.Sleep(syncLater / 2)
		}
		if got := syncs(); got < 3 || got > 5 {
			t.Errorf("%d syncs in %v of steady deliveries, want one every %v", got, 4*syncLatest, syncLatest)
		}
		arrivals.Close()
		l.must(box.Close())
		l.close()
	})
}
