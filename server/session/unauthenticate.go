package session

import (
	"context"
	"fmt"

	"roost/server/deflate"
)

// unauthenticate ends the session and leaves the connection to another login. RFC 8437.
// All that a session knows goes with it: what was enabled, selected, saved, compressed.
// A mailbox is left as by UNSELECT, and nothing is told of it. There is no NO: a client
// may have sent its next login already.
func (s *session) unauthenticate(_ context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	if s.sel != nil {
		if err := s.sel.box.Close(); err != nil {
			s.log.Warn("mailbox does not close", "event", "mailbox_failed", "err", err)
		}
		s.sel = nil
	}
	s.closing, s.reason, s.after = true, "unauthenticated", s.letGo
	return "Nobody is logged in any more", nil
}

// departure is how a session leaves a stream that goes on without it.
type departure struct {
	input  []byte // what was read by then
	output []byte // what is not sent any more, but left to who goes on
	done   bool
}

// letGo hands the stream back as it was before the session. The answer is not sent yet:
// who has it may count on the place of this session being free. Compression ends behind the
// answer in one direction and behind the command in the other (RFC 8437 section 4.1).
func (s *session) letGo() error {
	p := s.packed
	if p != nil {
		p.last = true
	}
	d := new(departure)
	s.departs = d
	if err := s.enc.Flush(); err != nil {
		return err
	}
	rest := s.lex.Take()
	if p != nil {
		if len(rest) > 0 {
			return fmt.Errorf("commands behind UNAUTHENTICATE: %w", deflate.ErrCorrupt)
		}
		s.readWithin(s.opt.WriteTimeout) // a few bytes, which are on their way
		var err error
		if rest, err = p.in.End(); err != nil {
			return err
		}
		s.packed = nil
	}
	d.input, d.done = rest, true
	return nil
}
