package session

import (
	"context"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// QRESYNC: RFC 7162 section 3.2. A client that was away says what it knew, and is told
// the difference: what vanished, then what changed.

// selectParams are what may stand behind the mailbox of SELECT (RFC 4466 section 2.1).
type selectParams struct {
	condstore bool
	resync    *resync
}

// resync is the QRESYNC parameter. RFC 7162 section 3.2.5.
type resync struct {
	validity uint32
	since    store.ModSeq
	known    imap.UIDSet // nil: all

	// The client's sample of pairs, as ranges of equal length in all. RFC 7162 section 3.2.5.2.
	seqs imap.SeqSet
	uids imap.UIDSet
}

// selectParams reads "(CONDSTORE)", "(QRESYNC (...))", or nothing, to the end of the
// command.
func (s *session) selectParams() (p selectParams, err error) {
	if s.lex.AtEnd() {
		return p, s.end()
	}
	if err := s.lex.SP(); err != nil {
		return p, err
	}
	err = s.lex.List(func() error {
		name, err := s.lex.Keyword()
		switch {
		case err != nil:
			return err
		case name == "CONDSTORE":
			p.condstore = true
			return nil
		case name == "QRESYNC" && p.resync == nil:
			if !s.qresync {
				return bad("QRESYNC needs ENABLE QRESYNC first")
			}
			if err := s.lex.SP(); err != nil {
				return err
			}
			p.resync = &resync{}
			return p.resync.parse(s)
		}
		return bad("Unknown or repeated parameter %s", shown(name))
	})
	if err == nil && p == (selectParams{}) {
		err = bad("The list of parameters is empty")
	}
	if err != nil {
		return p, err
	}
	return p, s.end()
}

// parse reads "(UIDVALIDITY MODSEQ [known-uids] [(seqs uids)])".
func (r *resync) parse(s *session) (err error) {
	lex := s.lex
	if err := lex.Expect('('); err != nil {
		return err
	}
	if r.validity, err = lex.NZNumber(); err != nil {
		return err
	}
	if r.since, err = modSeqArgument(lex); err != nil {
		return err
	}
	if lex.Accept(' ') {
		c, err := lex.Peek()
		if err != nil {
			return err
		}
		more := true
		if c != '(' {
			if r.known, err = lex.UIDSet(); err != nil {
				return err
			}
			if imap.IsSearchRes(r.known) {
				return bad("$ cannot stand for the known UIDs")
			}
			more = lex.Accept(' ')
		}
		if more {
			if err := r.parseMatch(s); err != nil {
				return err
			}
		}
	}
	return lex.Expect(')')
}

// parseMatch reads "(seqs uids)", two sets of equal length, ascending, without "*".
func (r *resync) parseMatch(s *session) (err error) {
	if s.uidOnly {
		return uidRequired("The QRESYNC parameter")
	}
	if err := s.lex.Expect('('); err != nil {
		return err
	}
	if r.seqs, err = s.lex.SeqSet(); err != nil {
		return err
	}
	if err := s.lex.SP(); err != nil {
		return err
	}
	if r.uids, err = s.lex.UIDSet(); err != nil {
		return err
	}
	var pairs [2]int64
	for _, x := range r.seqs {
		if x.Stop == 0 {
			return bad("* cannot stand among known sequence numbers")
		}
		pairs[0] += int64(x.Stop) - int64(x.Start) + 1
	}
	for _, x := range r.uids {
		if x.Stop == 0 {
			return bad("* cannot stand among known UIDs")
		}
		pairs[1] += int64(x.Stop) - int64(x.Start) + 1
	}
	if pairs[0] != pairs[1] {
		return bad("%d known sequence numbers stand beside %d UIDs", pairs[0], pairs[1])
	}
	return s.lex.Expect(')')
}

// matched is the highest UID that the client has under its right sequence number.
// Then nothing below it vanished unknown to the client: messages only go, so that one
// gone would have moved it. Ranges are compared from their ends, for a range whose end
// is right is right as a whole or was wrong before.
func (r *resync) matched(view store.View) imap.UID {
	var best imap.UID
	i, j := 0, 0
	var si, sj uint32 // how much of the ranges at i and j was used
	for i < len(r.seqs) && j < len(r.uids) {
		seq, uid := r.seqs[i], r.uids[j]
		n := min(seq.Stop-seq.Start-si, uint32(uid.Stop-uid.Start)-sj) // one less than both have left
		first := int64(seq.Start) + int64(si)
		from := int64(uid.Start) + int64(sj)
		// Within both ranges numbers and UIDs rise by one together, in the view numbers by
		// one and UIDs by one or more: where they agree is a range too, so halving finds
		// its end.
		low, high := int64(0), int64(n)
		high = min(high, int64(view.UIDs.Len())-first)
		at := func(k int64) int64 { return int64(view.UIDs.At(int(first+k-1))) - (from + k) }
		for low <= high {
			mid := (low + high) / 2
			switch d := at(mid); {
			case d == 0:
				best = max(best, imap.UID(from+mid))
				low = mid + 1
			case d > 0:
				high = mid - 1
			default:
				low = mid + 1
			}
		}
		si, sj = si+n+1, sj+n+1
		if si > seq.Stop-seq.Start {
			i, si = i+1, 0
		}
		if sj > uint32(uid.Stop-uid.Start) {
			j, sj = j+1, 0
		}
	}
	return best
}

// resync tells what happened since the client was last there, as it would be told by
// UID FETCH known (FLAGS) (CHANGEDSINCE since VANISHED).
func (s *session) resync(ctx context.Context, r *resync) error {
	sel := s.sel
	if sel.noModSeq || sel.box.Info().UIDValidity != r.validity {
		return nil
	}
	known := r.known
	if known == nil {
		known = imap.UIDSet{{Start: 1}}
	}
	if err := s.writeEarlier(known, r.since, r.matched(sel.view)); err != nil {
		return err
	}
	uids, err := sel.resolveChanged(known, r.since)
	if err != nil {
		return err
	}
	for rows, err := range sel.box.Rows(ctx, uids, r.since) {
		if err != nil {
			return err
		}
		for _, row := range rows {
			s.writeFlagsFetch(sel.seq(row.UID), row, true)
			if row.ModSeq > sel.view.ModSeq {
				sel.answered(row)
			}
		}
	}
	return nil
}

// writeEarlier writes which of set were expunged after since, but for those up to
// below. RFC 7162 section 3.2.10.1. Where the store does not remember, all that are
// missing are told. "*" and what is beyond it end below UIDNEXT.
func (s *session) writeEarlier(set imap.UIDSet, since store.ModSeq, below imap.UID) error {
	view := s.sel.view
	uids, known, err := s.sel.box.Vanished(since, view)
	if err != nil {
		return err
	}
	var gone imap.UIDSet
	for _, r := range set {
		if r.Start == 0 { // "*"
			if view.UIDs.Len() == 0 {
				continue
			}
			r.Start = view.UIDs.At(view.UIDs.Len() - 1)
		}
		if r.Stop == 0 || r.Stop >= view.UIDNext {
			r.Stop = view.UIDNext - 1
		}
		r.Start = max(r.Start, 1, below+1)
		if r.Start > r.Stop {
			continue
		}
		if known {
			gone = appendListed(gone, uids, r)
		} else {
			gone = appendMissing(gone, view.UIDs, r)
		}
	}
	if len(gone) > 0 {
		s.enc.Raw("* VANISHED (EARLIER) ").Raw(gone.String()).CRLF()
	}
	return nil
}

// appendListed adds those of uids, which ascend, that lie in r. A client may name as many
// ranges as fit into a command: each costs what lies in it.
func appendListed(to imap.UIDSet, uids []imap.UID, r imap.UIDRange) imap.UIDSet {
	from, _ := slices.BinarySearch(uids, r.Start)
	for _, uid := range uids[from:] {
		if uid > r.Stop {
			break
		}
		to = appendRange(to, uid, uid)
	}
	return to
}

// appendMissing adds the ranges of r between the UIDs of have.
func appendMissing(to imap.UIDSet, have store.Column, r imap.UIDRange) imap.UIDSet {
	next := r.Start
	i, _ := have.Find(r.Start)
	for _, uid := range have.All(i) {
		if uid > r.Stop {
			break
		}
		if next < uid {
			to = appendRange(to, next, uid-1)
		}
		next = uid + 1
	}
	if next <= r.Stop {
		to = appendRange(to, next, r.Stop)
	}
	return to
}

func appendRange(to imap.UIDSet, first, last imap.UID) imap.UIDSet {
	if n := len(to); n > 0 && to[n-1].Stop+1 == first {
		to[n-1].Stop = last
		return to
	}
	return append(to, imap.UIDRange{Start: first, Stop: last})
}
