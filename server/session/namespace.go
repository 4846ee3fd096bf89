package session

import (
	"context"

	"roost/server/wire"
)

// namespace tells the prefixes of the user's mailboxes: all are personal.
// RFC 9051 section 6.3.10, RFC 2342.
func (s *session) namespace(_ context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	s.enc.Raw("* NAMESPACE (")
	for _, r := range s.login.Who.Roots {
		prefix := r.Prefix
		if !s.utf8 {
			prefix = wire.EncodeMailbox(prefix)
		}
		s.enc.Raw("(").String(prefix).SP().String(string(s.sep)).Raw(")")
	}
	s.enc.Raw(") NIL NIL\r\n")
	return "", nil
}
