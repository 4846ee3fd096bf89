package session

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// expunge removes what is \Deleted: all, or with UID those of a set.
// RFC 9051 section 6.4.3, RFC 9051 section 6.4.9, RFC 4315 section 2.1. The EXPUNGE responses
// are written when the command ends, by the view.
func (s *session) expunge(ctx context.Context, c call) (string, error) {
	var uids []imap.UID // nil: all
	limit := ""
	if c.uid {
		if err := s.lex.SP(); err != nil {
			return "", err
		}
		set, err := s.lex.UIDSet()
		if err != nil {
			return "", err
		}
		if err := s.end(); err != nil {
			return "", err
		}
		if uids, err = s.sel.resolve(set); err != nil {
			return "", err
		}
		if len(uids) == 0 {
			return "", nil
		}
		if s.messageLimit() > 0 {
			rows, err := s.rowsOf(ctx, uids, 0)
			if err != nil {
				return "", err
			}
			uids, limit = s.limitedDeleted(uids, rows)
		}
	} else if err := s.end(); err != nil {
		return "", err
	}
	if s.sel.readOnly {
		return "", store.ErrReadOnly
	}
	progress := s.waiting()
	gone, _, err := s.sel.box.Expunge(ctx, uids)
	progress.stop()
	s.expunged = len(gone) > 0
	s.did(Deed{What: "expunge", Mailbox: s.sel.name, UIDs: gone})
	if err == nil && limit != "" {
		return "", partly(limit)
	}
	return "", err
}
