package session

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/store"
)

// ESEARCH: RFC 7377, a search in several mailboxes, none of which is selected by it. It is
// UID SEARCH in each, one after the other, and answers for those in which it finds something.

// maxSearched is how many mailboxes one command may search.
const maxSearched = 10_000

// laterSets are the sets of messages in the keys, which name others in each mailbox, and
// which that is.
type laterSets struct {
	at   []int // as search.Query.WithSets has it
	sets []imap.NumSet
	told store.Name // of the mailbox at hand

	limited bool // MESSAGELIMIT was met in some mailbox
}

// key gives the key for a set, which is to be added to q at once; nil is \Recent.
func (l *laterSets) key(q *search.Query, set imap.NumSet) search.Key {
	l.at, l.sets = append(l.at, q.Len()), append(l.sets, set)
	return search.Key{Op: search.UIDs}
}

// in gives the query for one mailbox; grows as selected.key has it.
func (l *laterSets) in(sel *selected, q *search.Query, grows bool) (search.Query, error) {
	if len(l.at) == 0 {
		return *q, nil
	}
	sets := make([]imap.UIDSet, len(l.sets))
	for i, set := range l.sets {
		k := uidsKey(sel.recent)
		if set != nil {
			var err error
			if k, err = sel.key(set, grows); err != nil {
				return search.Query{}, err
			}
		}
		sets[i] = k.Set
	}
	return q.WithSets(l.at, sets), nil
}

// multiSearch runs ESEARCH.
func (s *session) multiSearch(ctx context.Context, c call) (string, error) {
	c.uid = true
	p := searchParser{s: s, filters: s.filtersFrom(ctx), later: new(laterSets)}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	word, err := p.word()
	if err != nil {
		return "", err
	}
	filters := []mailboxFilter{{kind: filterSelected}}
	if word == "IN" {
		if filters, err = s.sources(ctx); err != nil {
			return "", err
		}
		if word, err = p.next(); err != nil {
			return "", err
		}
	}
	if err := p.parseFrom(word); err != nil {
		if r := (reply{}); p.opt.ReturnSave && s.sel != nil && errors.As(err, &r) && r.kind == "NO" {
			s.sel.saved = nil // as after SEARCH
		}
		return "", err
	}
	list, err := s.searched(ctx, c, &p, filters)
	if err != nil {
		return "", err
	}
	err = s.searchAll(ctx, c, &p, list)
	if err != nil && p.opt.ReturnSave {
		s.sel.saved = nil
	}
	if err == nil && p.later.limited {
		return "", partly(limitCode(s.messageLimit(), 0))
	}
	return "", err
}

// sources reads "(" filter-mailboxes ... ")" behind IN. RFC 7377 section 2.2.
func (s *session) sources(ctx context.Context) (filters []mailboxFilter, err error) {
	if err := s.lex.SP(); err != nil {
		return nil, err
	}
	if err := s.lex.Expect('('); err != nil {
		return nil, err
	}
	for {
		f, err := s.mailboxFilter(ctx)
		if err != nil {
			return nil, err
		}
		if f.kind == filterSelectedDelayed {
			return nil, bad("SELECTED-DELAYED is for NOTIFY only")
		}
		filters = append(filters, f)
		if s.lex.Accept(')') {
			return filters, nil
		}
		if err := s.lex.SP(); err != nil {
			return nil, err
		}
		if c, err := s.lex.Peek(); err == nil && c == '(' {
			return nil, bad("No scope option is known")
		}
	}
}

// searched lists the mailboxes to search, each once. Those that are not there, or cannot
// be selected, are none (RFC 7377 section 2.2).
func (s *session) searched(ctx context.Context, c call, p *searchParser, filters []mailboxFilter) (list []searchedMailbox, err error) {
	seen := map[store.Name]bool{}
	add := func(n, told store.Name) error {
		if len(list) == maxSearched && !seen[n] {
			return no("LIMIT", "More than %d mailboxes would be searched", maxSearched) // RFC 7377 section 2.4
		}
		if !seen[n] {
			seen[n], list = true, append(list, searchedMailbox{n, told})
		}
		return nil
	}
	var wide []mailboxFilter
	others := false
	for _, f := range filters {
		others = others || f.kind != filterSelected
		switch f.kind {
		case filterSelected:
			if s.sel == nil {
				return nil, bad("ESEARCH of the selected mailbox needs one; IN names others")
			}
			err = add(s.sel.name, s.told(s.sel.name))
		case filterMailboxes:
			for _, n := range f.names {
				if err = add(n.name, n.asked); err != nil {
					break
				}
			}
		default:
			wide = append(wide, f)
		}
		if err != nil {
			return nil, err
		}
	}
	if p.update.wanted { // RFC 7377 section 2.2: of the selected mailbox, whatever else is searched
		if s.sel == nil {
			return nil, bad("UPDATE needs a selected mailbox")
		}
		if err := s.checkUpdate(c, p); err != nil {
			return nil, err
		}
	}
	if others && p.opt.ReturnSave {
		return nil, bad("SAVE is for a search of the selected mailbox alone")
	}
	if len(wide) == 0 {
		return list, nil
	}
	for e, err := range s.acct.List(ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err != nil {
			return nil, err
		}
		for i := range wide {
			if canSelect(e.Attrs) && wide[i].covers(e.Name, e.Subscribed, s.sep) {
				if err := add(e.Name, s.told(e.Name)); err != nil {
					return nil, err
				}
				break
			}
		}
	}
	return list, nil
}

// searchedMailbox is one that is searched, and its name as the client is told it.
type searchedMailbox struct{ name, told store.Name }

// searchAll searches one mailbox after the other and writes what it finds. One that fails
// does not keep the others from being searched; the command then ends with its error.
func (s *session) searchAll(ctx context.Context, c call, p *searchParser, list []searchedMailbox) (failed error) {
	if p.asksModSeq {
		s.condstoreOn()
	}
	if p.update.wanted && !slices.ContainsFunc(list, func(m searchedMailbox) bool { return m.name == s.sel.name }) {
		s.refuseUpdate(c.tag, "Only the selected mailbox is kept up to date, and it is not searched")
		p.update.wanted = false
	}
	ctx, stop := s.watched(ctx)
	defer stop()
	progress := s.waiting() // of mailboxes
	defer progress.stop()
	progress.counted.Of(len(list))
	for i, n := range list {
		progress.counted.At(i)
		p.later.told = n.told
		err := s.searchOne(ctx, c, p, n.name, progress)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoSelect), errors.Is(err, store.ErrNoPermission):
		case err != nil && failed == nil:
			failed = err
		}
		runtime.Gosched()
	}
	return failed
}

// searchOne searches one mailbox.
func (s *session) searchOne(ctx context.Context, c call, p *searchParser, n store.Name, progress *progress) error {
	sel := s.sel
	if sel == nil || sel.name != n {
		box, err := s.acct.Hold(ctx, n, false, func() {})
		if err != nil {
			return err
		}
		defer box.Close()
		view, _, err := box.Advance(store.View{}, true)
		if err != nil {
			return err
		}
		sel = &selected{name: n, box: box, view: view, noModSeq: box.Info().NoModSeq}
	}
	if p.asksModSeq && sel.noModSeq {
		return nil // none of its messages has one
	}
	stays := p.update.wanted && sel == s.sel
	query, err := p.later.in(sel, &p.query, stays)
	if err != nil {
		return err
	}
	plan, err := search.NewPlan(query)
	if err != nil {
		return err
	}
	p.partly, p.limit = false, ""
	found, err := s.lookFor(ctx, p, sel, plan, nil)
	if err != nil {
		return err
	}
	p.later.limited = p.later.limited || p.limit != ""
	s.noteUnread(sel, found.Found)
	if len(found.UIDs) == 0 && p.opt.ReturnSave {
		sel.saved = nil
	}
	nums := found.uids()
	progress.between(func() {
		if len(nums) > 0 {
			s.writeESearch(c, p, sel, found, nums)
		}
		if stays {
			s.keepUpdated(c, p, plan, found)
		}
	})
	return nil
}
