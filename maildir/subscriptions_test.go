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

// A process was killed while it held subscriptions.lock, and then the clock was set back,
// so that the lock is from the future: it is taken over all the same.
func TestSubscribeWhereALockFromTheFutureWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := faultfs.NewMem()
		d := makeMaildir(t, mem)
		if err := makeFile(d.box, "subscriptions.lock"); err != nil {
			t.Fatal(err)
		}
		if err := d.box.SetTime("subscriptions.lock", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{FS: mem, Host: "test.example", Boot: "boot", Watch: &watchtest.Fake{}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := a.Subscribe(t.Context(), "x", true); err != nil {
			t.Error(err)
		}
	})
}
