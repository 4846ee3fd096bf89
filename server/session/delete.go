package session

import "context"

// deleteMailbox removes a mailbox and its messages. RFC 9051 section 6.3.5.
func (s *session) deleteMailbox(ctx context.Context, _ call) (string, error) {
	name, err := s.onlyMailbox()
	if err != nil {
		return "", err
	}
	if err := s.acct.Delete(ctx, name); err != nil {
		return "", err
	}
	// Our own hold is dead then; other sessions learn of it by themselves.
	if s.sel != nil && s.sel.name == name {
		return "", s.deselect()
	}
	return "", nil
}
