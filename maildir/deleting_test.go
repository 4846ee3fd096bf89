package maildir

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"roost/store"
)

// Who opens a mailbox for the first time while it is deleted waits for the deletion, and
// the deletion for it. When they waited for each other it took the patience with which a
// lock is waited for, 20 s, nearly each time: this test then runs into the limit of go test.
func TestDeletionAndFirstOpeningDoNotWaitForEachOther(t *testing.T) {
	a := newAccount(t, store.Root{Layout: store.LayoutFS})
	who := a.who
	b, err := a.s.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 100 {
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(who.Roots[0].Mail, "x", sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		counted := make(chan error, 1)
		go func() { // ends with Status
			_, err := b.Status(context.Background(), "x", false)
			counted <- err
		}()
		if err := a.Delete(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		<-counted // counted, or gone
	}
}
