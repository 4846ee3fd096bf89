package session

import "context"

// An idling client is told EXISTS as soon as the store has seen the message, and before it
// has a UID (store.Mailbox.Coming): half of what a delivery takes comes after. The view stays
// where it is meanwhile, and the client's next command waits until it has caught up.
// RFC 9051 section 7.4.1 asks for no more than the size of the mailbox.

// foretold is what was told beyond the view.
type foretold struct{ messages, recent int }

// foretells reports whether an idling client is told so. Where it could not be taken back
// message by message it is not done.
func (s *session) foretells() bool {
	return s.sel != nil && s.idling && s.notify == nil && !s.qresync && !s.uidOnly
}

// isForetold reports whether there is something to foretell, and nothing to tell before.
func (s *session) isForetold() bool {
	if !s.foretells() {
		return false
	}
	sel := s.sel
	if n, _ := sel.box.Coming(); n <= sel.foretold.messages {
		return false
	}
	now, told := sel.box.View(), &sel.view
	return now.ModSeq == told.ModSeq && now.Gen == told.Gen && now.UIDNext == told.UIDNext
}

// foretell tells an idling client of what is coming, behind what the view has.
func (s *session) foretell() {
	if !s.foretells() {
		return
	}
	sel := s.sel
	n, recent := sel.box.Coming()
	if n <= sel.foretold.messages {
		return
	}
	sel.foretold = foretold{messages: n}
	s.enc.Untagged(uint32(sel.view.UIDs.Len() + n)).Raw("EXISTS\r\n")
	if recent && !s.rev2 {
		sel.foretold.recent = n
		s.enc.Untagged(uint32(len(sel.recent) + n)).Raw("RECENT\r\n")
	}
}

// writeGrown tells that the view has so many more messages, as far as it was not foretold.
func (s *session) writeGrown(messages, recent int) {
	sel := s.sel
	before := sel.foretold
	sel.foretold.messages = max(before.messages-messages, 0)
	sel.foretold.recent = 0
	if messages > before.messages {
		s.enc.Untagged(uint32(sel.view.UIDs.Len())).Raw("EXISTS\r\n")
	}
	if before.messages == 0 || recent != before.recent {
		s.writeRecent()
	}
}

// takeBack tells that what was foretold did not come after all.
func (s *session) takeBack() {
	sel := s.sel
	if sel.foretold.messages == 0 {
		return
	}
	for n := sel.foretold.messages; n > 0; n-- {
		s.enc.Untagged(uint32(sel.view.UIDs.Len() + n)).Raw("EXPUNGE\r\n")
	}
	if sel.foretold.recent > 0 {
		s.writeRecent()
	}
	sel.foretold = foretold{}
}

// catchUp waits until the view has what the client was told of, at the end of an IDLE.
func (s *session) catchUp(ctx context.Context) {
	if s.sel == nil || s.sel.foretold.messages == 0 {
		return
	}
	if err := s.sel.box.Settled(ctx); err != nil {
		return // the session ends
	}
	if err := s.tellChanges(ctx, tellAll); err != nil {
		s.sel.foretold = foretold{} // as it is not told either what became of the others
	}
}
