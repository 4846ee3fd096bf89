package session

import (
	"context"
	"errors"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/store"
)

// SEARCH and UID SEARCH: RFC 9051 section 6.4.4, RFC 3501 section 6.4.4, RFC 4731
// (RETURN), RFC 5182 (SAVE and "$"), RFC 5032 (OLDER, YOUNGER), RFC 7162 section 3.1.5
// (MODSEQ), RFC 9394 (PARTIAL), RFC 8474 section 6 (EMAILID, THREADID), RFC 6203 (FUZZY,
// RELEVANCY), RFC 5255 section 4.3 (I18NLEVEL=1: strings are compared by
// i;unicode-casemap). The arguments are read in searchkeys.go, sets of messages in
// searchsets.go. SORT and THREAD (sort.go, thread.go) go the same way.

// search runs both forms.
func (s *session) search(ctx context.Context, c call) (string, error) {
	p := searchParser{s: s, filters: s.filtersFrom(ctx)}
	return "", s.answerSearch(ctx, c, &p, p.parse())
}

// answerSearch does what was asked. err is that of the parser.
func (s *session) answerSearch(ctx context.Context, c call, p *searchParser, err error) error {
	if err == nil {
		err = s.find(ctx, c, p)
	} else if r := (reply{}); !errors.As(err, &r) || r.kind == "BAD" {
		return err
	}
	if err != nil && p.opt.ReturnSave {
		s.sel.saved = nil // RFC 9051 section 6.4.4.1: after NO, "$" is empty
	}
	if err == nil && p.limit != "" {
		return partly(p.limit)
	}
	return err
}

// searchResult is what a search found.
type searchResult struct {
	search.Found
	order   []int           // of SORT: the indexes of Found, in order; nil: as they are
	threads *search.Threads // of THREAD
}

// uids are the numbers of an answer that goes by UIDs.
func (r searchResult) uids() []uint32 {
	nums := make([]uint32, len(r.UIDs))
	for i, uid := range r.UIDs {
		nums[i] = uint32(uid)
	}
	return nums
}

// find does what was asked and writes the answer.
func (s *session) find(ctx context.Context, c call, p *searchParser) error {
	plan, err := search.NewPlan(p.query)
	if err != nil {
		return err
	}
	if err := s.checkUpdate(c, p); err != nil {
		return err
	}
	if p.asksModSeq {
		if err := s.needsModSeq("MODSEQ"); err != nil {
			return err
		}
	}
	ctx, stop := s.watched(ctx)
	progress := s.waiting()
	found, err := s.lookFor(ctx, p, s.sel, plan, &progress.counted)
	progress.stop()
	stop()
	if err != nil {
		return err
	}
	s.noteUnread(s.sel, found.Found)
	nums := found.Nums
	if c.uid {
		nums = found.uids()
	}
	if found.threads != nil {
		s.writeThreads(found.threads, nums)
		return nil
	}
	name := "SEARCH"
	if p.sortBy != nil {
		name = "SORT"
		sorted := make([]uint32, len(nums))
		for i, at := range found.order {
			sorted[i] = nums[at]
		}
		nums = sorted
	}
	if s.rev2 && p.sortBy == nil || p.extended {
		s.writeESearch(c, p, s.sel, found, nums)
		s.keepUpdated(c, p, plan, found)
		return nil
	}
	s.enc.Raw("* ").Raw(name)
	for _, n := range nums {
		s.enc.SP().Number(uint64(n))
	}
	if found.ModSeq > 0 {
		s.enc.SP().Raw("(MODSEQ ").Number(uint64(found.ModSeq)).Raw(")")
		s.sel.shown = max(s.sel.shown, found.ModSeq)
	}
	s.enc.CRLF()
	return nil
}

// noteUnread logs what could not be searched. The store has told of each, once.
func (s *session) noteUnread(sel *selected, found search.Found) {
	if found.Unread > 0 {
		s.log.Debug("messages could not be searched", "event", "search_unread", "mailbox", sel.name, "messages", found.Unread, "err", found.Err)
	}
}

// lookFor searches, and sorts or threads what was found.
func (s *session) lookFor(ctx context.Context, p *searchParser, sel *selected, plan *search.Plan, progress *search.Progress) (r searchResult, err error) {
	src := s.source(sel.box, sel.view)
	src.Progress = progress
	if p.sortBy == nil && p.threads == nil { // these read what was found again
		progress.Of(src.View.UIDs.Len())
	}
	if n := s.messageLimit(); n > 0 {
		low, more := plan.Last(src.View, n)
		switch {
		case more && (p.sortBy != nil || p.threads != nil): // RFC 9738 section 3.3
			return r, no(limitCode(n, 0), "At most %d messages can be sorted or threaded at once", n)
		case more:
			src.Low, p.partly = low, true
			p.limit = limitCode(n, src.View.UIDs.At(low))
			defer func() {
				if p.satisfied(&r.Found) {
					p.limit = ""
				}
			}()
		}
	}
	switch {
	case p.sortBy != nil:
		if r.Found, err = plan.Search(ctx, src, imap.SearchOptions{}); err == nil {
			r.order, err = search.Sort(ctx, src, &r.Found, p.sortBy)
		}
	case p.threads != nil:
		if r.Found, err = plan.Search(ctx, src, imap.SearchOptions{}); err == nil {
			r.threads, err = p.threads(ctx, src, &r.Found)
		}
	case p.onlyPartial() && p.later == nil: // else it must be known whether there is any
		r.Found, err = plan.SearchPartial(ctx, src, p.partial.Range)
	case p.partial.text != "" || p.relevancy || p.update.wanted:
		r.Found, err = plan.Search(ctx, src, imap.SearchOptions{})
	default:
		r.Found, err = plan.Search(ctx, src, p.opt)
	}
	return r, err
}

// source is where a search looks.
func (s *session) source(box store.Mailbox, view store.View) search.Source {
	return search.Source{
		Box: box, View: view,
		Parts: noteParts, Fields: noteFields, Common: allKept, CommonOf: keptHeader, Keys: noteKeys, Digest: noteDigest,
		Limits: s.opt.Limits.MIME, Others: asked.Load,
	}
}

// satisfied tells that what was found is all that was asked for, whatever the limit kept
// from being looked at.
func (p *searchParser) satisfied(found *search.Found) bool {
	o := p.opt
	switch {
	case p.onlyPartial():
		from, to := p.partial.Of(int(p.partial.Last))
		return p.partial.FromEnd && len(found.UIDs) == to-from
	case p.partial.text == "" && !p.relevancy && o.ReturnMax && !o.ReturnMin && !o.ReturnAll && !o.ReturnCount:
		return len(found.UIDs) > 0
	}
	return false
}

// writeESearch writes the answer of RFC 9051 section 7.3.4, and does what SAVE asks. nums are
// in the order of the answer. Of SAVE alone there is none.
func (s *session) writeESearch(c call, p *searchParser, sel *selected, found searchResult, nums []uint32) {
	opt := p.opt
	from, to := p.partial.Of(len(nums))
	if p.onlyPartial() && p.sortBy == nil && p.later == nil { // no more was looked for
		from, to = 0, len(nums)
	}
	told := found.told(opt, p.partial.text != "", from, to)
	if opt.ReturnSave {
		sel.saved = found.UIDs
		if told != nil {
			sel.saved = nil
			for _, i := range told {
				sel.saved = append(sel.saved, found.UIDs[i])
			}
		}
		if !opt.ReturnMin && !opt.ReturnMax && !opt.ReturnAll && !opt.ReturnCount && p.partial.text == "" && !p.relevancy {
			return
		}
	}
	mailbox := store.Name("")
	if p.later != nil {
		mailbox = p.later.told
	}
	s.writeCorrelator(c.tag, sel, mailbox)
	if c.uid {
		s.enc.Raw(" UID")
	}
	if len(nums) > 0 {
		if opt.ReturnMin {
			s.enc.Raw(" MIN ").Number(uint64(nums[0]))
		}
		if opt.ReturnMax {
			s.enc.Raw(" MAX ").Number(uint64(nums[len(nums)-1]))
		}
		if opt.ReturnAll {
			s.enc.Raw(" ALL ").Nums(nums)
		}
	}
	if p.partial.text != "" {
		p.partial.write(s.enc, nums[from:to])
	}
	if p.relevancy {
		if p.partial.text == "" {
			from, to = 0, len(nums)
		}
		s.writeScores(found, from, to)
	}
	if opt.ReturnCount {
		s.enc.Raw(" COUNT ").Number(uint64(len(nums)))
	}
	if m := found.Highest(told); m > 0 { // RFC 4731 section 3.2
		s.enc.Raw(" MODSEQ ").Number(uint64(m))
		sel.shown = max(sel.shown, m)
	}
	s.enc.CRLF()
}

// writeCorrelator begins an answer. told names the mailbox where the command was ESEARCH,
// else it is "".
func (s *session) writeCorrelator(tag string, sel *selected, told store.Name) {
	s.enc.Raw("* ESEARCH (TAG ").String(tag)
	if told != "" {
		s.enc.Raw(" MAILBOX ").Mailbox(string(told)).Raw(" UIDVALIDITY ").Number(uint64(sel.box.Info().UIDValidity))
	}
	s.enc.Raw(")")
}

// writeScores writes the scores of the results from from to to, in their order.
func (s *session) writeScores(found searchResult, from, to int) {
	s.enc.Raw(" RELEVANCY (")
	for place := from; place < to; place++ {
		at := place
		if found.order != nil {
			at = found.order[place]
		}
		if place > from {
			s.enc.SP()
		}
		s.enc.Number(uint64(found.Scores[at]))
	}
	s.enc.Raw(")")
}

// told gives the indexes of the messages that the answer names, ascending, each once; nil
// where it speaks of all. RFC 5182 section 2.1 and RFC 9394 section 3.2 have them saved, RFC 4731
// section 3.2 has the highest of their MODSEQs told.
func (r *searchResult) told(opt imap.SearchOptions, partial bool, from, to int) []int {
	if opt.ReturnAll || opt.ReturnCount || !opt.ReturnMin && !opt.ReturnMax && !partial {
		return nil
	}
	told := []int{}
	add := func(place int) {
		if r.order != nil {
			place = r.order[place]
		}
		told = append(told, place)
	}
	if n := len(r.UIDs); n > 0 {
		if opt.ReturnMin {
			add(0)
		}
		if opt.ReturnMax {
			add(n - 1)
		}
	}
	for i := from; i < to; i++ {
		add(i)
	}
	slices.Sort(told)
	return slices.Compact(told)
}
