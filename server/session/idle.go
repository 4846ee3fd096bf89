package session

import (
	"context"
	"strings"
)

// idle waits for the client while the pusher writes. RFC 9051 section 6.3.13,
// RFC 2177. What the client sends ends it, DONE or not: a client that sends a new
// command instead is told so, and goes on.
func (s *session) idle(ctx context.Context, _ call) (string, error) {
	if err := s.end(); err != nil {
		return "", err
	}
	s.enc.Raw("+ idling\r\n")
	if err := s.tellChanges(ctx, tellAll); err != nil {
		return "", err
	}
	s.tellAnnotated(ctx)
	s.readWithin(0) // an idling client may be silent as long as it is there
	s.idling = true
	s.notice() // before the client knows
	if err := s.enc.Flush(); err != nil {
		return "", err
	}
	s.startPush(ctx)
	s.packed.rest(true)
	err := s.lex.Wait()
	s.packed.rest(false)
	s.push.stop()
	s.idling = false
	if err != nil {
		return "", err
	}
	line, err := s.lex.Line()
	if err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	if !strings.EqualFold(strings.TrimSpace(line), "DONE") {
		return "", bad("Expected DONE, got %s; no longer idling", shown(line))
	}
	return "IDLE completed", nil
}
