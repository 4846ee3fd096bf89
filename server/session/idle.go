package session

import (
	"context"
	"strings"
)

// idle begins to tell the client what is new. RFC 9051 section 6.3.13, RFC 2177. The
// waiting is await's, on less stack; endIdle answers.
func (s *session) idle(ctx context.Context, c call) (string, error) {
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
	s.idled = c
	return "", nil
}

// endIdle reads what the client sent, which ends it, DONE or not: a client that sends a
// new command instead is told so, and goes on.
func (s *session) endIdle() (string, error) {
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
