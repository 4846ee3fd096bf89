package session

import (
	"context"
	"time"
)

// watchAfter is how long a command runs before it is worth knowing whether its
// client is still there.
const watchAfter = time.Second

// watched gives a context for a command that may take long: it ends when the
// client is gone. What the client sends meanwhile is kept for the next commands.
// Nothing may use the lexer until stop was called.
func (s *session) watched(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.readWithin(0)
	done := make(chan struct{})
	// Ends when ReadAhead does: on an error of the stream, a full buffer, or stop.
	timer := time.AfterFunc(watchAfter, func() {
		defer close(done)
		for ctx.Err() == nil {
			more, err := s.lex.ReadAhead()
			if err != nil && !timedOut(err) {
				cancel()
			}
			if !more {
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		if timer.Stop() {
			return
		}
		s.stream.SetReadDeadline(time.Unix(1, 0)) // ends its Read; fill sets the next one anew
		<-done
	}
}
