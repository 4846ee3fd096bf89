package server

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/auth"
)

// entering counts those who have asked to log in.
type entering struct {
	*auth.Auth
	n    atomic.Int32
	want int32
	all  chan struct{} // closed when so many have
}

func (e *entering) Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error) {
	if e.n.Add(1) == e.want {
		close(e.all)
	}
	return e.Auth.Login(ctx, user, password, at)
}

// Over sockets too the connections of an address have one budget, whatever their number.
func TestManyConnectionsGuess(t *testing.T) {
	guess := &entering{want: 20, all: make(chan struct{})}
	s := startServer(t, func(o *Options) {
		guess.Auth = o.Auth.(*auth.Auth)
		guess.Auth.Tune(auth.ThrottleOptions{Guesses: 3}, nil) // one at once, then two a minute
		o.Auth = guess
	}, Spec{"127.0.0.1:0", Implicit})
	begun := time.Now()
	answered := make(chan string, 20)
	for i := range 20 {
		c := s.dial(t, 0)
		go func() { // ends when the server does
			fmt.Fprintf(c, "a LOGIN ann guess%d\r\n", i)
			line, _ := c.r.ReadString('\n')
			answered <- line
		}()
	}
	<-guess.all
	if line := <-answered; !strings.HasPrefix(line, "a NO [AUTHENTICATIONFAILED]") {
		t.Errorf("the first answer is %q", line)
	}
	s.stop()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	most := 1 + int(time.Since(begun)/(30*time.Second))
	if n := strings.Count(s.log.String(), `reason="wrong password"`); n < 1 || n > most {
		t.Errorf("%d passwords were looked at, %d are allowed:\n%s", n, most, s.log.String())
	}
}
