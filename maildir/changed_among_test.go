package maildir

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// What changed since a client was last there is found without a look at what did not, and
// is all that changed, whatever happened in between.
func TestRowsNewerThanAnyMoment(t *testing.T) {
	const n = 300
	root := filepath.Join(t.TempDir(), "Maildir")
	fill(t, root, n)
	s, err := New(Options{Host: "test.example", Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	box, err := a.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	m := box.(*hold).m
	m.mu.Lock()
	m.changed.limit = 100 // so that it forgets
	m.mu.Unlock()
	r := rand.New(rand.NewPCG(1, 2))
	moments := []store.ModSeq{0, 1}
	few := 0
	for step := range 400 {
		uids := box.View().UIDs.Slice(0, n)
		some := []imap.UID{uids[r.IntN(len(uids))], uids[len(uids)-1-r.IntN(3)]}
		slices.Sort(some)
		some = slices.Compact(some)
		op := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}
		switch step % 10 {
		case 3:
			op.Flags = []imap.Flag{imap.FlagDeleted}
			if _, _, err := box.SetFlags(t.Context(), some, op); err != nil {
				t.Fatal(err)
			}
			if _, _, err := box.Expunge(t.Context(), some); err != nil {
				t.Fatal(err)
			}
		case 7:
			if _, err := box.Copy(t.Context(), some, store.Inbox); err != nil {
				t.Fatal(err)
			}
		default:
			if r.IntN(2) == 0 {
				op.Op = imap.StoreFlagsDel
			}
			if _, _, err := box.SetFlags(t.Context(), some, op); err != nil {
				t.Fatal(err)
			}
		}
		moments = append(moments, box.View().ModSeq)
		since := moments[len(moments)-1-r.IntN(min(len(moments), 60))]
		all := box.View().UIDs.Slice(0, 1<<20)
		var got, want []store.Row
		for rows, err := range box.Rows(t.Context(), all, since) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rows...)
		}
		for rows, err := range box.Rows(t.Context(), all, 0) {
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if row.ModSeq > since {
					want = append(want, row)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: newer than %d: %+v, want %+v", step, since, got, want)
		}
		if len(m.changedAmong(all, since)) < len(all) {
			few++
		}
	}
	if few < 300 {
		t.Errorf("only %d times of 400 what did not change was left out", few)
	}
}
