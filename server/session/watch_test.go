package session

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A long command learns that its client is gone, and loses nothing of what the
// client sends meanwhile.
func TestWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := newSession(theirs, &Login{}, &Options{Log: quiet()})

		ctx, stop := s.watched(t.Context())
		stop() // before anything was read
		if ctx.Err() == nil {
			t.Error("the context lives on after stop")
		}

		ctx, stop = s.watched(t.Context())
		time.Sleep(2 * watchAfter)
		io.WriteString(ours, "a NOOP\r\n")
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("the context ended though the client is there")
		}
		stop()
		if err := s.lex.Wait(); err != nil {
			t.Fatal(err)
		}
		if line, err := s.lex.Line(); line != "a NOOP" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		s.lex.End()

		ctx, stop = s.watched(t.Context())
		time.Sleep(2 * watchAfter)
		ours.Close()
		<-ctx.Done()
		stop()
		if err := s.lex.Wait(); err == nil {
			t.Error("the lexer reads on")
		}
	})
}
