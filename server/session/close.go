package session

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// close expunges what is \Deleted without saying so, and leaves the mailbox.
// Under EXAMINE it expunges nothing. RFC 9051 section 6.4.1. mbsync, mutt and
// getmail always leave by CLOSE.
func (s *session) close(ctx context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	var gone []imap.UID
	var err error
	if !s.sel.readOnly {
		gone, _, err = s.sel.box.Expunge(ctx, nil)
	}
	s.did(Deed{What: "expunge", Mailbox: s.sel.name, UIDs: gone})
	cerr := s.sel.box.Close()
	s.leaves(s.sel, len(gone))
	s.sel = nil
	if err != nil {
		return "", err
	}
	return "", cerr
}

// unselect leaves the mailbox and expunges nothing. RFC 9051 section 6.4.2, RFC 3691.
func (s *session) unselect(_ context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	err := s.sel.box.Close()
	s.leaves(s.sel, 0)
	s.sel = nil
	return "", err
}
