package maildir

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"roost/store"
)

// Who looks at thousands of mailboxes in a row (LIST with STATUS, an import that makes
// them) opened each of them, and all stayed open until the next sweep: others got no
// descriptor.
func TestManyMailboxesInARowLeaveDescriptorsToOthers(t *testing.T) {
	const most, boxes = 8, 60
	s, err := New(Options{Host: "test.example", Poll: true, MaxOpen: most})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	who := store.Identity{User: "ann", Roots: []store.Root{{Mail: filepath.Join(t.TempDir(), "Maildir"), Create: true}}}
	open := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open)
	}
	a, err := s.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	held, err := a.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ids := map[string]bool{}
	for i := range boxes {
		n := store.Name(fmt.Sprintf("b%d", i))
		if err := a.Create(t.Context(), n, nil); err != nil {
			t.Fatal(err)
		}
		st, err := a.Status(t.Context(), n, false)
		if err != nil {
			t.Fatal(err)
		}
		ids[st.ID] = true
		if k := open(); k > most+2+sweepEvery { // with the one that is held, and the one that was opened last
			t.Fatalf("%d mailboxes are open after %d were looked at", k, i+1)
		}
	}
	// At once too, and each is the same again.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			a, err := s.Account(context.Background(), who)
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Close()
			for i := range boxes {
				st, err := a.Status(context.Background(), store.Name(fmt.Sprintf("b%d", i)), false)
				if err != nil || !ids[st.ID] {
					t.Errorf("%+v, %v", st, err)
				}
			}
		})
	}
	wg.Wait()
	if k := open(); k > most+5+sweepEvery {
		t.Errorf("%d mailboxes are open", k)
	}
	if err := held.Look(t.Context()); err != nil {
		t.Errorf("the held one: %v", err)
	}
}
