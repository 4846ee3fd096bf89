package session

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// deleteMailbox removes a mailbox and its messages. RFC 9051 section 6.3.5.
func (s *session) deleteMailbox(ctx context.Context, _ call) (string, error) {
	n, err := s.onlyMailbox(ctx)
	if err != nil {
		return "", err
	}
	progress := s.waiting()
	err = s.acct.Delete(ctx, n.name)
	progress.stop()
	if err != nil {
		return "", err
	}
	s.did(Deed{What: "delete_mailbox", Mailbox: n.name})
	s.didOwn(ownChange{n.name, store.InterestNames, false})
	s.writeOldName(n, imap.MailboxAttrNonExistent)
	// Our own hold is dead then; other sessions learn of it by themselves.
	if s.sel != nil && s.sel.name == n.name {
		return "", s.deselect()
	}
	return "", nil
}
