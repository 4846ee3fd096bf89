package search

import (
	"github.com/emersion/go-imap/v2"

	"roost/message"
)

// The store may know which messages cannot hold a text. That a key does not hold for those
// needs no look at them: it is false where it would be maybe, and all that joins keys goes on
// from there, NOT as well. What is not ruled out is looked at as ever.

const (
	// narrowAfter is how many messages are looked into before the store is asked: most
	// searches end before, and it costs more than a few messages do.
	narrowAfter = 1

	// maxNarrowed is for how many keys it is asked. Where there are more, which is where
	// webmails ask for one Message-ID or another, it is for those alone that must hold.
	maxNarrowed = 64

	// narrowest is the shortest text, folded, for which it is.
	narrowest = 3
)

// candidates are the indexes of a view's messages for which a key may hold, a bit each.
type candidates []uint64

func (c candidates) has(i int) bool { return c[i/64]>>(i%64)&1 != 0 }

// narrow asks the store for the keys of the query.
func (r *run) narrow() error {
	r.narrowed = true
	if !r.src.Limits.Covers(message.Common) {
		return nil
	}
	n := r.src.View.UIDs.Len()
	var ask []int
	for i, text := range r.plan.folded {
		if len(text) >= narrowest {
			ask = append(ask, i)
		}
	}
	if len(ask) > maxNarrowed {
		ask = ask[:0]
		for _, p := range r.plan.pieces {
			if p.to == p.from+1 && len(r.plan.folded[p.from]) >= narrowest && len(ask) < maxNarrowed {
				ask = append(ask, p.from)
			}
		}
	}
	same := map[string]candidates{} // FUZZY asks for a text more than once
	for _, i := range ask {
		text := r.plan.folded[i]
		may, known := same[string(text)]
		if !known {
			uids, ok, err := r.src.Box.Candidates(r.ctx, r.src.View, text)
			if err != nil {
				return err
			}
			if ok {
				may = r.bits(uids, n)
			}
			same[string(text)] = may
		}
		if may != nil {
			if r.may == nil {
				r.may = make([]candidates, len(r.plan.keys))
			}
			r.may[i] = may
		}
	}
	return nil
}

// bits gives the bits of messages of the view, whose UIDs ascend.
func (r *run) bits(uids []imap.UID, n int) candidates {
	may := make(candidates, (n+63)/64)
	if len(uids) == 0 {
		return may
	}
	from, _ := r.src.View.UIDs.Find(uids[0])
	for i, u := range r.src.View.UIDs.All(from) {
		if u == uids[0] {
			may[i/64] |= 1 << (i % 64)
			if uids = uids[1:]; len(uids) == 0 {
				break
			}
		}
	}
	return may
}

// ruledOut tells that key i does not hold for the message at hand.
func (r *run) ruledOut(i int) bool {
	return r.may != nil && r.may[i] != nil && !r.may[i].has(r.at)
}
