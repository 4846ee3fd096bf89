package maildir

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A change log answers as a list that forgets nothing, or says that it has forgotten;
// and it forgets only where more than half its limit has happened since.
func TestChangeLogAgainstList(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		l := changeLog{limit: 1 + r.IntN(40), since: store.ModSeq(r.IntN(5))}
		began := l.since
		var all []change
		m := l.since
		for range 200 {
			m += store.ModSeq(r.IntN(3)) // 0: more of the same moment
			if m == began {
				m++
			}
			var uids []imap.UID
			for range r.IntN(4) + r.IntN(2)*r.IntN(50) { // now and then more than fits
				uids = append(uids, imap.UID(1+r.IntN(60)))
			}
			before := l.since
			l.add(m, uids...)
			for _, u := range uids {
				all = append(all, change{m, u})
			}
			if l.since < before || len(l.entries) > l.limit {
				t.Fatalf("seed %d: since went from %d to %d; %d entries, limit %d", seed, before, l.since, len(l.entries), l.limit)
			}
			from, to := store.ModSeq(r.IntN(int(m)+2)), store.ModSeq(r.IntN(int(m)+2))
			var want []imap.UID
			above := 0
			for _, c := range all {
				if c.modSeq > from && c.modSeq <= to {
					want = append(want, c.uid)
				}
				if c.modSeq > from {
					above++
				}
			}
			slices.Sort(want)
			want = slices.Compact(want)
			got, ok := l.between(from, to)
			switch {
			case ok && from < began:
				t.Fatalf("seed %d: %d is before the log began at %d, and it says that it knows", seed, from, began)
			case ok && !slices.Equal(got, want):
				t.Fatalf("seed %d: between %d and %d: %v, want %v", seed, from, to, got, want)
			case !ok && from >= began && above <= l.limit/2:
				t.Fatalf("seed %d: only %d changes since %d, limit %d, and they are forgotten", seed, above, from, l.limit)
			}
		}
	}
}
