package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// pipeClient is the client's end of a session over net.Pipe, for what dialogues cannot
// do: time, and a client that does not read.
type pipeClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	done chan Outcome
}

func pipeSession(t *testing.T, ctx context.Context, st store.Store, opt Options) *pipeClient {
	t.Helper()
	return pipeSessionOver(t, ctx, func(c net.Conn) net.Conn { return c }, st, opt)
}

// pipeSessionOver is pipeSession where the session's end is made by stream.
func pipeSessionOver(t *testing.T, ctx context.Context, stream func(net.Conn) net.Conn, st store.Store, opt Options) *pipeClient {
	t.Helper()
	ours, theirs := net.Pipe()
	theirs = stream(theirs)
	p := &pipeClient{t: t, conn: ours, r: bufio.NewReader(ours), done: make(chan Outcome, 1)}
	opt.Log = quiet()
	go func() { // ends with the session
		out, _ := Serve(ctx, theirs, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}, Tag: "l"}, st, &opt)
		theirs.Close()
		p.done <- *out
	}()
	return p
}

func (p *pipeClient) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeClient) want(prefix string) string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("got %q, %v; want %q", line, err, prefix)
	}
	return line
}

// until reads to the line that begins with prefix.
func (p *pipeClient) until(prefix string) {
	p.t.Helper()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%v before %q", err, prefix)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
	}
}

func TestSilentClientIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipeSession(t, t.Context(), memstore.New(nil), Options{})
		p.want("l OK")
		start := time.Now()
		p.want("* BYE Disconnected for inactivity")
		if took := time.Since(start); took != 30*time.Minute {
			t.Errorf("after %v", took)
		}
		if out := <-p.done; out.Reason != "Disconnected for inactivity" || out.Out == 0 {
			t.Errorf("%+v", out)
		}
	})
}

// An idling client hears from us every two minutes and is never sent away.
func TestIdleKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New(nil)
		p := pipeSession(t, t.Context(), st, Options{})
		p.want("l OK")
		p.send("a SELECT INBOX\r\n")
		p.until("a OK")
		p.send("b IDLE\r\n")
		p.want("+ idling")
		start := time.Now()
		for range 30 {
			p.want("* OK Still here")
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("30 lines after %v", took)
		}
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
		p.want("* 1 EXISTS")
		p.want("* 1 RECENT")
		p.send("DONE\r\n")
		p.want("b OK")
		p.send("c LOGOUT\r\n")
		p.until("c OK")
		if out := <-p.done; out.Reason != "logout" {
			t.Errorf("%+v", out)
		}
		time.Sleep(time.Hour) // no timer is left that would write to the closed pipe
	})
}

// A client that idles and stops reading ends, and holds up nobody before that.
func TestStuckClientEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New(nil)
		p := pipeSession(t, t.Context(), st, Options{})
		p.want("l OK")
		p.send("a SELECT INBOX\r\n")
		p.until("a OK")
		p.send("b IDLE\r\n")
		p.want("+ idling")
		start := time.Now()
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "x"}) // does not block
		if out := <-p.done; !strings.Contains(out.Reason, "not read") {
			t.Errorf("%+v", out)
		}
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("after %v", took)
		}
	})
}

func TestShutdownSaysBye(t *testing.T) {
	for _, tc := range []struct {
		cause error
		want  string
		idle  bool
	}{
		{nil, "* BYE Server is shutting down", false},
		{Goodbye("Too many connections"), "* BYE Too many connections", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			p := pipeSession(t, ctx, memstore.New(nil), Options{})
			p.want("l OK")
			if tc.idle {
				p.send("a IDLE\r\n")
				p.want("+ idling")
			}
			synctest.Wait()
			cancel(tc.cause)
			p.want(tc.want)
			<-p.done
		})
	}
}

func TestClientHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipeSession(t, t.Context(), memstore.New(nil), Options{})
		p.want("l OK")
		p.send("a APPEND INBOX {100+}\r\nhalf of it")
		p.conn.Close()
		if out := <-p.done; out.Reason != "client closed the connection" || out.In != 33 {
			t.Errorf("%+v", out)
		}
	})
}

// oneAccount is a store with one account, or one error.
type oneAccount struct {
	store.Store
	acct store.Account
	err  error
}

func (o oneAccount) Account(context.Context, store.Identity) (store.Account, error) {
	return o.acct, o.err
}

func TestAccountThatCannotBeOpened(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { // ends with the Read
		line, _ := bufio.NewReader(ours).ReadString('\n')
		if !strings.HasPrefix(line, "l NO [UNAVAILABLE] ") || strings.Contains(line, "/secret") {
			t.Errorf("got %q", line)
		}
	}()
	st := oneAccount{err: fmt.Errorf("open /secret/path: %w", store.ErrUnavailable)}
	out, err := Serve(t.Context(), theirs, &Login{Tag: "l", Input: []byte("a NOOP\r\n")}, st, &Options{Log: quiet()})
	if !errors.Is(err, store.ErrUnavailable) || !out.Unauthenticated || string(out.Input) != "a NOOP\r\n" {
		t.Errorf("%+v, %v", out, err)
	}
}

// What a bug in one session does: that session ends, with a word.
func TestPanicEndsTheSession(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go io.WriteString(ours, "a SELECT INBOX\r\n") // ends when it is read
	said := make(chan string, 1)
	go func() { // ends with the session
		b, _ := io.ReadAll(ours)
		said <- string(b)
	}()
	_, err := Serve(t.Context(), theirs, &Login{Tag: "l"}, oneAccount{acct: panicking{}}, &Options{Log: quiet()})
	theirs.Close()
	if err == nil || !strings.Contains(<-said, "* BYE Internal server error") {
		t.Errorf("%v", err)
	}
}

type panicking struct{ store.Account }

func (panicking) Hold(context.Context, store.Name, bool, func()) (store.Mailbox, error) {
	panic("a bug")
}
func (panicking) Close() error { return nil }

// status lets no path out, and gives what it does not know an id.
func TestStatusKeepsSecrets(t *testing.T) {
	s := &session{log: quiet()}
	for _, err := range []error{
		fmt.Errorf("open /home/ann/x: %w", store.ErrOverQuota),
		errors.New("open /home/ann/x: input/output error"),
	} {
		r := s.status(err)
		if r.kind != "NO" || r.code == "" || strings.Contains(r.text, "/home") {
			t.Errorf("%v becomes %+v", err, r)
		}
	}
	for _, c := range codes {
		if r := s.status(fmt.Errorf("deep: %w", c.err)); r.code != c.code {
			t.Errorf("%v becomes %+v", c.err, r)
		}
	}
}
