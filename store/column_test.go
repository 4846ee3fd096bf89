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
			switch r.IntN(3) {
			case 0, 1:
				var add []imap.UID
				for range r.IntN(300) {
					next += imap.UID(1 + r.IntN(3))
					add = append(add, next)
				}
				c = c.Append(add...)
				want = slices.Concat(want, add)
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
			for i := 0; i < len(v.want); {
				run := v.col.Run(i)
				if len(run) == 0 || !slices.Equal(run, v.want[i:min(i+len(run), len(v.want))]) {
					t.Fatalf("seed %d: Run(%d) has %d UIDs, and not those", seed, i, len(run))
				}
				i += len(run)
			}
			if run := v.col.Run(len(v.want)); len(run) > 0 {
				t.Fatalf("seed %d: behind the end is %d", seed, run[0])
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
