package session

import (
	"context"

	"roost/store"
)

// move moves messages. RFC 9051 section 6.4.8, RFC 6851. COPYUID comes untagged,
// in front of the EXPUNGEs that follow when the command ends.
func (s *session) move(ctx context.Context, c call) (string, error) {
	uids, to, err := s.copyArguments(ctx, c)
	if err != nil {
		return "", err
	}
	if s.sel.readOnly {
		return "", store.ErrReadOnly
	}
	// To where they are: clients that do this want no new UIDs, and repeat for ever what
	// is refused.
	if len(uids) == 0 || to == s.sel.name {
		return "Nothing to move", nil
	}
	uids, limit := s.limited(uids)
	progress := s.waiting()
	moved, err := s.sel.box.Move(ctx, uids, to)
	progress.stop()
	s.expunged = len(moved.From) > 0
	s.did(Deed{What: "move", Mailbox: s.sel.name, To: to, UIDs: moved.From})
	s.addedOwn(to, moved)
	if len(moved.To) > 0 {
		s.enc.Raw("* OK [").Raw(copyUID(moved)).Raw("] Moved\r\n")
	}
	if err != nil {
		return "", toTarget(err)
	}
	if len(moved.From) < len(uids) && !c.uid {
		if limit != "" {
			s.writeLimit(limit)
			return "", reply{"OK", "EXPUNGEISSUED", "Some of the messages were expunged"}
		}
		return "", store.ErrGone
	}
	if limit != "" {
		return "", partly(limit)
	}
	return "", nil
}
