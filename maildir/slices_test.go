package maildir

import (
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// While somebody asks for news a STORE and an EXPUNGE go in small slices, and do all the
// same.
func TestSlicesWhereSomebodyWaits(t *testing.T) {
	const n = 100
	o := openOutside(t, n, Options{})
	m := o.box.(*hold).m
	m.files.wanted.Add(1) // all the time
	defer m.files.wanted.Add(-1)
	m.files.Lock()
	rest := o.v.UIDs.Slice(0, n)
	c := flagChange{FlagOp: store.FlagOp{Op: imap.StoreFlagsAdd, HasUnchangedSince: true, UnchangedSince: o.v.ModSeq}, sys: store.FlagDeleted}
	refused, k, err := m.setFlags(rest, &c)
	m.files.Unlock()
	if err != nil || k != flagLeast || len(refused) > 0 {
		t.Fatalf("%d in the first slice, %v refused, %v", k, refused, err)
	}
	// Those of the first slice have changed by now: they are refused, each once.
	rows, refused, err := o.box.SetFlags(t.Context(), rest, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, HasUnchangedSince: true, UnchangedSince: o.v.ModSeq})
	if err != nil || len(rows) != n || len(refused) != flagLeast || refused[0] != rest[0] || refused[flagLeast-1] != rest[flagLeast-1] {
		t.Fatalf("%d rows, %v refused, %v", len(rows), refused, err)
	}
	for _, r := range rows {
		if r.Flags&store.FlagDeleted == 0 {
			t.Errorf("UID %d is not deleted", r.UID)
		}
	}
	gone, _, err := o.box.Expunge(t.Context(), nil)
	if err != nil || len(gone) != n {
		t.Fatalf("%d are gone, %v", len(gone), err)
	}
}
