package session

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/store"
)

// SEARCH and UID SEARCH: RFC 9051 section 6.4.4, RFC 3501 section 6.4.4, RFC 4731
// (RETURN), RFC 5182 (SAVE and "$"), RFC 5032 (OLDER, YOUNGER), RFC 7162 section 3.1.5
// (MODSEQ). The arguments are read in searchkeys.go.

// search runs both forms.
func (s *session) search(ctx context.Context, c call) (string, error) {
	p := searchParser{s: s}
	err := p.parse()
	if err == nil {
		err = s.find(ctx, c, p)
	} else if r := (reply{}); !errors.As(err, &r) || r.kind == "BAD" {
		return "", err
	}
	if err != nil && p.opt.ReturnSave {
		s.sel.saved = nil // RFC 9051 section 6.4.4.1: after NO, "$" is empty
	}
	return "", err
}

// find does what was asked and writes the answer.
func (s *session) find(ctx context.Context, c call, p searchParser) error {
	plan, err := search.NewPlan(p.query)
	if err != nil {
		return err
	}
	if p.asksModSeq {
		if err := s.needsModSeq("MODSEQ"); err != nil {
			return err
		}
	}
	ctx, stop := s.watched(ctx)
	found, err := plan.Search(ctx, search.Source{
		Box: s.sel.box, View: s.sel.view,
		Parts: noteParts, Fields: noteFields, Common: allCommon,
		Limits: s.opt.Limits.MIME,
	}, p.opt)
	stop()
	if err != nil {
		return err
	}
	if found.Unread > 0 { // the store has told of each, once
		s.log.Debug("messages could not be searched", "event", "search_unread", "mailbox", s.sel.name, "messages", found.Unread, "err", found.Err)
	}
	if p.opt.ReturnSave {
		s.sel.saved = found.UIDs
	}
	nums := found.Nums
	if c.uid {
		nums = make([]uint32, len(found.UIDs))
		for i, uid := range found.UIDs {
			nums[i] = uint32(uid)
		}
	}
	if s.rev2 || p.extended {
		s.writeESearch(c, p.opt, nums, found.ModSeq)
		return nil
	}
	s.enc.Raw("* SEARCH")
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

// writeESearch writes the answer of RFC 9051 section 7.3.4. nums are ascending. Of
// SAVE alone there is none.
func (s *session) writeESearch(c call, opt imap.SearchOptions, nums []uint32, modSeq store.ModSeq) {
	if opt.ReturnSave && !opt.ReturnMin && !opt.ReturnMax && !opt.ReturnAll && !opt.ReturnCount {
		return
	}
	s.enc.Raw("* ESEARCH (TAG ").String(c.tag).Raw(")")
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
	if opt.ReturnCount {
		s.enc.Raw(" COUNT ").Number(uint64(len(nums)))
	}
	if modSeq > 0 { // RFC 4731 section 3.2
		s.enc.Raw(" MODSEQ ").Number(uint64(modSeq))
		s.sel.shown = max(s.sel.shown, modSeq)
	}
	s.enc.CRLF()
}
