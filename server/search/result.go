package search

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// Search finds what a SEARCH with these options must find, and no more: a client
// that asks for MIN or MAX alone spares the rest (RFC 9051 section 6.4.4). With
// none of ALL, COUNT, MIN and MAX all is found. A message that was expunged
// meanwhile does not match what its row or content would have to tell. It fails with
// the error of ctx, store.ErrReplaced, or what else keeps it from reading.
func (p *Plan) Search(ctx context.Context, src Source, opt imap.SearchOptions) (Found, error) {
	if opt.ReturnAll || opt.ReturnCount || !opt.ReturnMin && !opt.ReturnMax {
		return p.run(ctx, src, all)
	}
	var found Found
	var err error
	if opt.ReturnMin {
		found, err = p.run(ctx, src, lowest)
		if err != nil || len(found.UIDs) == 0 {
			return found, err
		}
	}
	if opt.ReturnMax {
		last, err := p.run(ctx, src, highest)
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
			last.ModSeq = max(found.ModSeq, last.ModSeq) // RFC 4731 section 3.2
		} else if len(last.UIDs) == 0 {
			last.UIDs, last.Nums, last.ModSeq = found.UIDs, found.Nums, found.ModSeq
		}
		return last, nil
	}
	return found, nil
}
