package store

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// Old versions stay what they were while newer ones grow and shrink.
func TestColumnVersions(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		type version struct {
			col  Column
			want []imap.UID
		}
		var c Column
		var want []imap.UID
		var old []version
		next := imap.UID(1)
		for range 200 {
			switch r.IntN(4) {
			case 0, 1:
				var add []imap.UID
				gaps := r.IntN(3) // none, in a third of all
				for range r.IntN(300) {
					next += imap.UID(1 + r.IntN(gaps+1))
					add = append(add, next)
				}
				c = c.Append(add...)
				want = slices.Concat(want, add)
			case 3:
				next += imap.UID(1 + r.IntN(2))
				n := r.IntN(200)
				if r.IntN(12) == 0 {
					n = r.IntN(3 * chunkUIDs)
				}
				c = c.AppendRun(next, n)
				want = slices.Clone(want)
				for i := range n {
					want = append(want, next+imap.UID(i))
				}
				next += imap.UID(n)
			case 2:
				var gone []imap.UID
				for range r.IntN(20) {
					gone = append(gone, imap.UID(r.IntN(int(next)+2)))
				}
				if from := r.IntN(len(want) + 1); r.IntN(4) == 0 { // neighbours: whole chunks go
					gone = append(gone, want[from:min(from+r.IntN(4000), len(want))]...)
				}
				slices.Sort(gone)
				gone = slices.Compact(gone)
				c = c.Without(gone)
				want = slices.DeleteFunc(slices.Clone(want), func(u imap.UID) bool { return slices.Contains(gone, u) })
			}
			old = append(old, version{c, want})
		}
		for _, v := range old {
			if v.col.Len() != len(v.want) || !slices.Equal(v.col.Slice(0, v.col.Len()), v.want) {
				t.Fatalf("seed %d: a version changed: has %d, want %d", seed, v.col.Len(), len(v.want))
			}
			from, to := r.IntN(len(v.want)+2)-1, r.IntN(len(v.want)+2)
			if got, want := v.col.Slice(from, to), v.want[max(from, 0):max(from, 0, min(to, len(v.want)))]; !slices.Equal(got, want) {
				t.Fatalf("seed %d: Slice(%d, %d) has %d, want %d", seed, from, to, len(got), len(want))
			}
			for i, u := range v.col.All(from) {
				if v.want[i] != u {
					t.Fatalf("seed %d: All(%d) gives %d at %d, want %d", seed, from, u, i, v.want[i])
				}
				if i > from+chunkUIDs {
					break
				}
			}
			for range 20 {
				u := imap.UID(r.IntN(int(next) + 2))
				i, ok := v.col.Find(u)
				wi, wok := slices.BinarySearch(v.want, u)
				if i != wi || ok != wok {
					t.Fatalf("seed %d: Find(%d) = %d, %v, want %d, %v", seed, u, i, ok, wi, wok)
				}
				if ok && v.col.At(i) != u {
					t.Fatalf("seed %d: At(%d) = %d, want %d", seed, i, v.col.At(i), u)
				}
			}
		}
	}
}

// UIDs without gaps, which is nearly all there are, take no memory but that of their chunks.
func TestColumnWithoutGapsIsSmall(t *testing.T) {
	const n = 100 * chunkUIDs
	allocs := testing.AllocsPerRun(10, func() { Column{}.AppendRun(1, n) })
	if c := (Column{}).AppendRun(1, n); allocs > 20 || c.Len() != n || c.At(n-1) != n {
		t.Errorf("%v allocations for %d UIDs", allocs, c.Len())
	}
	var one Column
	for u := range imap.UID(n) {
		one = one.Append(u + 1)
	}
	one = one.Without([]imap.UID{1, 5000})
	stored := 0
	for i := range one.full {
		stored += len(one.full[i].uids)
	}
	if stored != chunkUIDs-1 || one.Len() != n-2 {
		t.Errorf("%d UIDs of %d are stored, of one chunk they need be", stored, one.Len())
	}
}
