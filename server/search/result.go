package search

import (
	"context"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Search finds what a SEARCH with these options must find, and no more: a client
// that asks for MIN or MAX alone spares the rest (RFC 9051 section 6.4.4). With
// none of ALL, COUNT, MIN and MAX all is found. A message that was expunged
// meanwhile does not match what its row or content would have to tell. It fails with
// the error of ctx, store.ErrReplaced, or what else keeps it from reading.
func (p *Plan) Search(ctx context.Context, src Source, opt imap.SearchOptions) (Found, error) {
	if opt.ReturnAll || opt.ReturnCount || !opt.ReturnMin && !opt.ReturnMax {
		return p.run(ctx, src, all, 0)
	}
	var found Found
	var err error
	if opt.ReturnMin {
		found, err = p.run(ctx, src, lowest, 1)
		if err != nil || len(found.UIDs) == 0 {
			return found, err
		}
	}
	if opt.ReturnMax {
		last, err := p.run(ctx, src, highest, 1)
		if err != nil {
			return last, err
		}
		last.Unread += found.Unread
		if found.Err != nil {
			last.Err = found.Err
		}
		if len(found.UIDs) > 0 && len(last.UIDs) > 0 && found.UIDs[0] != last.UIDs[0] {
			last.UIDs = append(found.UIDs, last.UIDs...)
			last.Nums = append(found.Nums, last.Nums...)
			last.modSeqs = append(found.modSeqs, last.modSeqs...)
			last.ModSeq = max(found.ModSeq, last.ModSeq) // RFC 4731 section 3.2
		} else if len(last.UIDs) == 0 {
			last.UIDs, last.Nums, last.ModSeq, last.modSeqs = found.UIDs, found.Nums, found.ModSeq, found.modSeqs
		}
		return last, nil
	}
	return found, nil
}

// Last gives the index of the lowest of the n highest messages which are looked at for
// this query, that is which its UIDs do not rule out. more tells that there are others below.
func (p *Plan) Last(view store.View, n int) (low int, more bool) {
	r := &run{plan: p, depth: byUID, match: matcher{found: make([]bool, len(p.keys))}}
	for i := view.UIDs.Len() - 1; i >= 0; i-- {
		r.uid = view.UIDs.At(i)
		if r.hold(p.pieces) == no {
			continue
		}
		if n == 0 {
			return low, true
		}
		n, low = n-1, i
	}
	return low, false
}

// A Range names results by their places, the first being 1: RFC 9394 section 3.1. The zero
// Range names none.
type Range struct {
	First, Last uint32 // First <= Last
	FromEnd     bool   // counted from the last result backwards
}

// Of gives the places, from from to to, that the range names among n results.
func (r Range) Of(n int) (from, to int) {
	if r.First == 0 {
		return 0, 0
	}
	from, to = int(min(int64(r.First)-1, int64(n))), int(min(int64(r.Last), int64(n)))
	if r.FromEnd {
		from, to = n-to, n-from
	}
	return from, to
}

// SearchPartial finds the messages in a range of what matches, and looks no farther
// than it must, from the end where the range is counted from there. It fails as Search
// does.
func (p *Plan) SearchPartial(ctx context.Context, src Source, part Range) (Found, error) {
	want := lowest
	if part.FromEnd {
		want = highest
	}
	limit := int(min(int64(part.Last), int64(src.View.UIDs.Len())+1))
	found, err := p.run(ctx, src, want, limit)
	if part.FromEnd {
		slices.Reverse(found.UIDs)
		slices.Reverse(found.Nums)
		slices.Reverse(found.modSeqs)
	}
	from, to := part.Of(len(found.UIDs))
	found.UIDs, found.Nums = found.UIDs[from:to], found.Nums[from:to]
	if found.modSeqs != nil {
		found.modSeqs = found.modSeqs[from:to]
		found.ModSeq = found.Highest(nil)
	}
	return found, err
}

// Highest gives the highest MODSEQ of those of the messages found whose indexes are
// given, nil for all; 0 where the query did not ask for MODSEQs.
func (f *Found) Highest(of []int) (m store.ModSeq) {
	if of == nil {
		for _, x := range f.modSeqs {
			m = max(m, x)
		}
		return m
	}
	for _, i := range of {
		if i < len(f.modSeqs) {
			m = max(m, f.modSeqs[i])
		}
	}
	return m
}
