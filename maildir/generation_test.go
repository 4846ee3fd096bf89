package maildir

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Holds that move through the generations of a mailbox see what they would see if every
// version had been kept, and no more is kept than they show.
func TestGenerationsAgainstAllVersions(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		v := newVersions(1)
		type version struct {
			uids     []imap.UID
			next     imap.UID
			modSeq   store.ModSeq
			expunged bool // by the step that led here
		}
		all := []version{{next: 1}}
		type holder struct {
			view store.View
			at   int // in all
		}
		var holds []*holder
		now := func() version { return all[len(all)-1] }
		same := func(what string, got store.View, want version) {
			t.Helper()
			if !slices.Equal(got.UIDs.Slice(0, got.UIDs.Len()), want.uids) || got.UIDNext != want.next || got.ModSeq != want.modSeq {
				t.Fatalf("seed %d: %s: %v, UIDNEXT %d, MODSEQ %d, want %+v", seed, what, got.UIDs.Slice(0, got.UIDs.Len()), got.UIDNext, got.ModSeq, want)
			}
		}
		for range 300 {
			n := now()
			switch r.IntN(7) {
			case 0, 1:
				uid := n.next + imap.UID(r.IntN(3))
				n = version{append(slices.Clone(n.uids), uid), uid + 1, n.modSeq + 1, false}
				v.grow(uid, n.modSeq)
				all = append(all, n)
			case 2:
				n.modSeq, n.expunged = n.modSeq+1, false
				v.touch(n.modSeq)
				all = append(all, n)
			case 3:
				var gone []imap.UID
				for _, u := range n.uids {
					if r.IntN(4) == 0 {
						gone = append(gone, u)
					}
				}
				if len(gone) == 0 {
					continue
				}
				n.uids = slices.DeleteFunc(slices.Clone(n.uids), func(u imap.UID) bool { return slices.Contains(gone, u) })
				n.modSeq, n.expunged = n.modSeq+1, true
				v.shrink(gone, n.modSeq)
				all = append(all, n)
			case 4:
				h := &holder{at: len(all) - 1}
				h.view = v.after(store.View{}, true)
				v.hold(0, h.view.Gen)
				holds = append(holds, h)
			case 5:
				if len(holds) == 0 {
					continue
				}
				h := holds[r.IntN(len(holds))]
				expunges := r.IntN(2) == 0
				to := h.at
				for to+1 < len(all) && (expunges || !all[to+1].expunged) {
					to++
				}
				next := v.after(h.view, expunges)
				same("after", next, all[to])
				if gone := missing(h.view.UIDs, next.UIDs); !slices.Equal(gone, slices.DeleteFunc(slices.Clone(all[h.at].uids), func(u imap.UID) bool { return slices.Contains(all[to].uids, u) })) {
					t.Fatalf("seed %d: missing are %v", seed, gone)
				}
				v.hold(h.view.Gen, next.Gen)
				h.view, h.at = next, to
			case 6:
				if len(holds) == 0 {
					continue
				}
				i := r.IntN(len(holds))
				v.hold(holds[i].view.Gen, 0)
				holds = slices.Delete(holds, i, i+1)
			}
			same("the newest View", v.now, now())
			shown := map[uint64]bool{v.now.Gen: true}
			for _, h := range holds {
				same("a View that is shown", h.view, all[h.at])
				shown[h.view.Gen] = true
			}
			if len(v.gens) != len(shown) {
				t.Fatalf("seed %d: %d generations are kept, %d are shown", seed, len(v.gens), len(shown))
			}
		}
	}
}
