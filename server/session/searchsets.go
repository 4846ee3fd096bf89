package session

import (
	"cmp"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
)

// Sets of messages among the keys of a search: RFC 9051 section 6.4.4, RFC 5182 section 2.

// set reads a set of messages as a key. Numbers that no message has match nothing
// here: clients poll with "UID SEARCH 1:* NOT DELETED", in empty mailboxes too.
func (p *searchParser) set(uid bool) error {
	set, err := p.s.lex.NumSet(uid)
	if err != nil {
		return err
	}
	if !uid && p.s.uidOnly && !imap.IsSearchRes(set) {
		return uidRequired("A search key")
	}
	if p.later != nil {
		return p.add(p.later.key(&p.query, set))
	}
	k, err := p.s.sel.key(set, p.update.wanted)
	if err != nil {
		return err
	}
	return p.add(k)
}

// key is a set of messages as a key. Numbers that no message has match nothing. With
// grows UIDs that will be there later are in it.
func (sel *selected) key(set imap.NumSet, grows bool) (search.Key, error) {
	if imap.IsSearchRes(set) {
		return uidsKey(sel.searchResult()), nil
	}
	if seqs, ok := set.(imap.SeqSet); ok {
		set = within(seqs, uint32(sel.view.UIDs.Len()))
	}
	k := search.Key{Op: search.UIDs}
	ranges, err := sel.ranges(set)
	for _, r := range ranges {
		if r.from < r.to {
			k.Set = append(k.Set, imap.UIDRange{Start: sel.view.UIDs.At(r.from), Stop: sel.view.UIDs.At(r.to - 1)})
		}
	}
	if uids, ok := set.(imap.UIDSet); ok && grows {
		k.Set = append(k.Set, above(uids, max(sel.view.UIDNext, 1))...)
	}
	return k, err
}

// above are the ranges of a set from next on: messages that are not there yet.
func above(set imap.UIDSet, next imap.UID) (out imap.UIDSet) {
	var add imap.UIDSet
	for _, r := range set {
		switch {
		case r.Start == 0 && r.Stop == 0: // the newest, which it was
			continue
		case r.Start == 0:
			r.Start = r.Stop
			r.Stop = math.MaxUint32
		case r.Stop == 0:
			r.Stop = math.MaxUint32
		case r.Start > r.Stop:
			r.Start, r.Stop = r.Stop, r.Start
		}
		if r.Start = max(r.Start, next); r.Start <= r.Stop {
			add = append(add, r)
		}
	}
	slices.SortFunc(add, func(a, b imap.UIDRange) int { return cmp.Compare(a.Start, b.Start) })
	for _, r := range add {
		if n := len(out); n > 0 && r.Start <= out[n-1].Stop {
			out[n-1].Stop = max(out[n-1].Stop, r.Stop)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// within drops from a set what is above last. "*" is 0, and last of all.
func within(set imap.SeqSet, last uint32) imap.SeqSet {
	var out imap.SeqSet
	for _, r := range set {
		switch {
		case last == 0:
		case r.Stop == 0 && r.Start > last: // "n:*" turned round
			out = append(out, imap.SeqRange{Start: last, Stop: last})
		case r.Start <= last:
			if r.Stop > last {
				r.Stop = last
			}
			out = append(out, r)
		}
	}
	return out
}

// recent asks for the messages that are \Recent in this session.
func (p *searchParser) recent() search.Key {
	if p.later != nil {
		return p.later.key(&p.query, nil)
	}
	return uidsKey(p.s.sel.recent)
}

// uidsKey is the key of UIDs, which ascend.
func uidsKey(uids []imap.UID) search.Key {
	k := search.Key{Op: search.UIDs}
	for _, u := range uids {
		if n := len(k.Set); n > 0 && k.Set[n-1].Stop+1 == u {
			k.Set[n-1].Stop = u
		} else {
			k.Set = append(k.Set, imap.UIDRange{Start: u, Stop: u})
		}
	}
	return k
}
