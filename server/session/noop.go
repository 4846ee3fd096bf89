package session

import "context"

// noop does nothing but tell what is new. RFC 9051 section 6.1.2.
func (s *session) noop(ctx context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	if s.sel == nil {
		return "", nil
	}
	return "", s.sel.box.Look(ctx)
}

// check is NOOP that asks for a checkpoint; all that was answered is as durable as it
// gets already. RFC 3501 section 6.4.1.
func (s *session) check(ctx context.Context, c call) (string, error) { return s.noop(ctx, c) }

// logout ends the session. RFC 9051 section 6.1.3.
func (s *session) logout(_ context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	s.closing, s.reason = true, "logout"
	s.enc.Line("BYE Logging out")
	return "", nil
}
