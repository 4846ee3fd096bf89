package maildir

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// Where no events come, a look and a delivery within one tick of the filesystem's clock
// leave one mtime. The next look sees the message, however late it comes.
func TestDeliveryInTheTickOfALookIsSeen(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second, 3 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			mem := faultfs.NewMem()
			s, err := New(Options{FS: mem, Host: "test.example", PID: 7, Boot: "boot", Watch: &watchtest.Fake{Polled: true}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(context.Background())
			s.env.Booted = time.Time{}
			a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true}}})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			appendOne(t, a, nil)
			box, err := a.Hold(t.Context(), store.Inbox, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			if err := box.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			d, err := mem.Root("/Maildir/new")
			if err != nil {
				t.Fatal(err)
			}
			f, err := d.Create("1795500001.M1P1.mta", 0o600)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			time.Sleep(wait)
			if err := box.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := box.View().UIDs.Len(); n != 2 {
				t.Errorf("%d messages after a look %v later, want 2", n, wait)
			}
		})
	}
}
