package session

import (
	"context"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/store"
)

// CONTEXT=SEARCH and CONTEXT=SORT: RFC 5267 section 4, with RFC 5465 section 7. A search with
// RETURN (UPDATE) stays, and the client is told what joins and leaves its results. That
// happens where the cause is told, in tellChanges; what is evaluated then are the
// messages that came or changed, and no others. RETURN (CONTEXT) is a hint that nothing
// is made of: what searching and sorting reads is kept in any case (notes.go).

const (
	// maxContexts is how many searches of one session are kept up to date.
	maxContexts = 16
	// maxContextUIDs is how many results they may have in all; the first may have more, for
	// one must be possible (RFC 5267 section 4.3.1).
	maxContextUIDs = 1 << 20
)

// searchContext is one search that is kept up to date.
type searchContext struct {
	tag    string
	uid    bool
	plan   *search.Plan
	sortBy []search.Criterion // nil: in the order of the mailbox
	told   store.Name         // of ESEARCH: the mailbox, which each answer names (RFC 7377 section 2.1)
	items  []fetchItem        // to be told of new messages that match (RFC 5465 section 7)

	results []imap.UID // as the client knows them, in their order
}

// update is what RETURN (UPDATE) asked for.
type update struct {
	wanted bool
	items  []fetchItem
}

// checkUpdate refuses a tag that is in use. RFC 5267 section 4.3.
func (s *session) checkUpdate(c call, p *searchParser) error {
	if !p.update.wanted {
		return nil
	}
	if slices.ContainsFunc(s.sel.contexts, func(x *searchContext) bool { return x.tag == c.tag }) {
		return bad("Tag reuse: an earlier search that is kept up to date has it")
	}
	return nil
}

// keepUpdated makes a context of a search that was answered, or says why not. The
// results must be all there are.
func (s *session) keepUpdated(c call, p *searchParser, plan *search.Plan, found searchResult) {
	if !p.update.wanted {
		return
	}
	total := len(found.UIDs)
	for _, x := range s.sel.contexts {
		total += len(x.results)
	}
	why := ""
	switch {
	case p.partly:
		why = "Only some of the messages were searched" // RFC 9738
	case len(s.sel.contexts) == maxContexts:
		why = "Too many contexts"
	case len(s.sel.contexts) > 0 && total > maxContextUIDs:
		why = "Contexts have too many results"
	case slices.ContainsFunc(p.sortBy, func(by search.Criterion) bool { return by.By == search.SortRelevancy }):
		why = "An order of relevancy is not kept up to date"
	}
	if why != "" {
		s.refuseUpdate(c.tag, why)
		return
	}
	x := &searchContext{tag: c.tag, uid: c.uid, plan: plan, sortBy: p.sortBy, items: p.update.items}
	if p.later != nil {
		x.told = p.later.told
	}
	x.results = make([]imap.UID, len(found.UIDs))
	for i := range x.results {
		at := i
		if found.order != nil {
			at = found.order[i]
		}
		x.results[i] = found.UIDs[at]
	}
	s.sel.contexts = append(s.sel.contexts, x)
}

// refuseUpdate writes NOUPDATE. RFC 5267 section 4.3.1.
func (s *session) refuseUpdate(tag, why string) {
	s.enc.Raw("* NO [NOUPDATE ").String(tag).Raw("] ").Raw(why).CRLF()
}

// cancelUpdate ends contexts. RFC 5267 section 4.3.5. A tag that none has, any more or
// ever, is passed over: there is nothing to end.
func (s *session) cancelUpdate(_ context.Context, _ call) (string, error) {
	var tags []string
	for first := true; first || !s.lex.AtEnd(); first = false {
		if err := s.lex.SP(); err != nil {
			return "", err
		}
		if !first && s.lex.AtEnd() {
			break
		}
		tag, err := s.lex.AString()
		if err != nil {
			return "", err
		}
		tags = append(tags, tag)
	}
	if err := s.end(); err != nil {
		return "", err
	}
	s.sel.contexts = slices.DeleteFunc(s.sel.contexts, func(x *searchContext) bool { return slices.Contains(tags, x.tag) })
	return "No further updates", nil
}

// places gives where those of uids, which ascend, are in the results; ascending.
func (x *searchContext) places(uids []imap.UID) (places []int) {
	if x.sortBy != nil {
		for i, uid := range x.results {
			if _, ok := slices.BinarySearch(uids, uid); ok {
				places = append(places, i)
			}
		}
		return places
	}
	for _, uid := range uids {
		if i, ok := slices.BinarySearch(x.results, uid); ok {
			places = append(places, i)
		}
	}
	return places
}

// change is neighbouring results that come or go together.
type change struct {
	position int // of the first, counted from 1; 0 where the client puts them in order
	uids     []imap.UID
}

// remove takes messages out of the results, and gives the steps by which the client does.
func (x *searchContext) remove(uids []imap.UID) (steps []change) {
	places := x.places(uids)
	if len(places) == 0 {
		return nil
	}
	// From the end, so that the places in front stay as they are.
	for end := len(places); end > 0; {
		from := end - 1
		for from > 0 && places[from-1] == places[from]-1 {
			from--
		}
		first, last := places[from], places[end-1]
		steps = append(steps, change{first + 1, slices.Clone(x.results[first : last+1])})
		end = from
	}
	kept := x.results[:0]
	for i, uid := range x.results {
		if len(places) > 0 && places[0] == i {
			places = places[1:]
			continue
		}
		kept = append(kept, uid)
	}
	x.results = kept
	if x.sortBy == nil {
		steps = []change{inMailboxOrder(steps)}
	}
	return steps
}

// inMailboxOrder makes one step of several, for a client that keeps the order itself.
func inMailboxOrder(steps []change) (one change) {
	for _, c := range steps {
		one.uids = append(one.uids, c.uids...)
	}
	slices.Sort(one.uids)
	return one
}

// add puts messages into the results, and gives the steps as remove does; less says of two whether the first comes first, and
// is not ok where the first is gone, so that nobody knows.
func (x *searchContext) add(uids []imap.UID, less func(a, b imap.UID) (yes, ok bool)) (steps []change) {
	for _, uid := range uids {
		low, high := 0, len(x.results)
		for low < high {
			mid, yes, ok := (low+high)/2, false, false
			at := mid
			for ; at < high && !ok; at++ { // past the gone
				yes, ok = less(x.results[at], uid)
			}
			if yes {
				low = at
			} else {
				high = mid
			}
		}
		x.results = slices.Insert(x.results, low, uid)
		if k := len(steps) - 1; k >= 0 && steps[k].position+len(steps[k].uids) == low+1 {
			steps[k].uids = append(steps[k].uids, uid)
		} else {
			steps = append(steps, change{low + 1, []imap.UID{uid}})
		}
	}
	if x.sortBy == nil && len(steps) > 0 {
		steps = []change{inMailboxOrder(steps)}
	}
	return steps
}

// writeUpdate writes one ESEARCH. seq gives the number by which the client knows a
// message.
func (s *session) writeUpdate(x *searchContext, what string, steps []change, seq func(imap.UID) uint32) {
	if len(steps) == 0 {
		return
	}
	s.writeCorrelator(x.tag, s.sel, x.told)
	if x.uid {
		s.enc.Raw(" UID")
	}
	s.enc.SP().Raw(what).Raw(" (")
	for i, c := range steps {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.Number(uint64(c.position)).SP()
		if x.uid {
			s.enc.UIDs(c.uids)
			continue
		}
		nums := make([]uint32, len(c.uids))
		for k, uid := range c.uids {
			nums[k] = seq(uid)
		}
		s.enc.Nums(nums)
	}
	s.enc.Raw(")\r\n")
}

// expungeResults tells of results that are about to be expunged: before the EXPUNGE, while
// their numbers are good (RFC 5267 section 4.3.4).
func (s *session) expungeResults(old store.View, vanished []imap.UID) {
	if len(vanished) == 0 {
		return
	}
	for _, x := range s.sel.contexts {
		s.writeUpdate(x, "REMOVEFROM", x.remove(vanished), func(uid imap.UID) uint32 {
			i, _ := old.UIDs.Find(uid)
			return uint32(i) + 1
		})
	}
}

// updateResults evaluates the messages that came or changed, and tells what joins and
// leaves each context. It notes in fresh what UPDATE wants to be told of new ones.
func (s *session) updateResults(ctx context.Context, changed []imap.UID, fresh *arrived) func() {
	sel := s.sel
	if len(sel.contexts) == 0 || len(changed)+len(fresh.uids) == 0 {
		return func() {}
	}
	look := slices.Concat(changed, fresh.uids)
	slices.Sort(look)
	type result struct {
		x            *searchContext
		gone, joined []change
	}
	var results []result
	for _, x := range slices.Clone(sel.contexts) {
		r := result{x: x}
		match, err := s.matching(ctx, x, look)
		if err == nil {
			r.gone, r.joined, err = s.replaceResults(ctx, x, look, match)
		}
		if err != nil {
			if ctx.Err() != nil {
				return func() {}
			}
			s.log.Warn("a search cannot be kept up to date", "event", "context_failed", "mailbox", sel.name, "err", err)
			sel.contexts = slices.DeleteFunc(sel.contexts, func(y *searchContext) bool { return x == y })
			s.refuseUpdate(x.tag, "The results are kept up to date no longer")
			continue
		}
		results = append(results, r)
		if len(x.items) > 0 {
			for i, uid := range fresh.uids {
				if _, ok := slices.BinarySearch(match, uid); ok {
					fresh.want(i, x.items)
				}
			}
		}
	}
	return func() {
		for _, r := range results {
			s.writeUpdate(r.x, "REMOVEFROM", r.gone, sel.seq)
			s.writeUpdate(r.x, "ADDTO", r.joined, sel.seq)
		}
	}
}

// matching gives those of uids that the search finds, ascending.
func (s *session) matching(ctx context.Context, x *searchContext, uids []imap.UID) ([]imap.UID, error) {
	found, err := x.plan.Search(ctx, s.contextSource(uids), imap.SearchOptions{})
	return found.UIDs, err
}

// contextSource is the selected mailbox with these messages and no others.
func (s *session) contextSource(uids []imap.UID) search.Source {
	view := s.sel.view
	view.UIDs = store.ColumnOf(slices.Clone(uids))
	return s.source(s.sel.box, view)
}

// replaceResults brings the results of a context up to date: of the messages that were
// looked at, match are found now.
func (s *session) replaceResults(ctx context.Context, x *searchContext, look, match []imap.UID) (gone, joined []change, err error) {
	var had, out, in []imap.UID
	for _, i := range x.places(look) {
		had = append(had, x.results[i])
	}
	slices.Sort(had)
	for _, uid := range look {
		_, now := slices.BinarySearch(match, uid)
		_, was := slices.BinarySearch(had, uid)
		switch {
		case was && !now:
			out = append(out, uid)
		case now && !was:
			in = append(in, uid)
		}
	}
	gone = x.remove(out)
	if x.sortBy == nil || len(in) == 0 {
		return gone, x.add(in, func(a, b imap.UID) (bool, bool) { return a < b, true }), nil
	}
	if in, err = s.sorted(ctx, x, in); err != nil {
		return nil, nil, err
	}
	joined = x.add(in, func(a, b imap.UID) (bool, bool) {
		if err != nil {
			return false, true
		}
		pair := []imap.UID{min(a, b), max(a, b)}
		var rows []store.Row
		if rows, err = s.rowsOf(ctx, pair, 0); err != nil || len(rows) < 2 {
			return false, err != nil
		}
		if pair, err = s.sorted(ctx, x, pair); err != nil {
			return false, true
		}
		return pair[0] == a, true
	})
	return gone, joined, err
}

// sorted puts messages, which ascend, in the order of a context.
func (s *session) sorted(ctx context.Context, x *searchContext, uids []imap.UID) ([]imap.UID, error) {
	order, err := search.Sort(ctx, s.contextSource(uids), &search.Found{UIDs: uids}, x.sortBy)
	if err != nil {
		return nil, err
	}
	out := make([]imap.UID, len(uids))
	for i, at := range order {
		out[i] = uids[at]
	}
	return out, nil
}
