package dovecot

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roost/auth"
)

// What one client may cost.
const (
	maxConnections = 1000              // Postfix keeps one for each smtpd process, of which it has 100
	maxRequests    = 100               // of a connection at a time
	maxHeld        = 64 << 10          // bytes of responses that a connection waits for
	requestTime    = 150 * time.Second // from AUTH to the answer
	writeTime      = 30 * time.Second  // for a client to take an answer
)

// Authenticator is what a Server asks; *auth.Auth is one.
type Authenticator interface {
	Mechanisms(auth.Attempt) []string
	Start(mech string, at auth.Attempt) (auth.Exchange, error)
}

// Server answers the client side of the protocol.
type Server struct {
	auth Authenticator
	log  *slog.Logger

	connections atomic.Int64
	last        atomic.Uint32 // CUID given last
	full        atomic.Bool   // it was logged that there are too many connections
}

// NewServer makes one; its listeners share what it counts.
func NewServer(a Authenticator, log *slog.Logger) *Server { return &Server{auth: a, log: log} }

// Serve answers on l until ctx ends, closes it, and returns when all connections are
// over. Its error is that of a listener which is lost.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors: others may leave
			s.log.Error("a connection to the authentication socket was lost", "event", "auth_socket", "on", l.Addr().String(), "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if s.connections.Add(1) > maxConnections {
			s.connections.Add(-1)
			c.Close()
			if !s.full.Swap(true) {
				s.log.Warn("too many connections to the authentication socket", "event", "auth_socket", "on", l.Addr().String(), "limit", maxConnections)
			}
			continue
		}
		s.full.Store(false)
		wg.Go(func() { // ends with the connection, or with ctx
			defer s.connections.Add(-1)
			s.serve(ctx, c)
		})
	}
}

// conn is one connection.
type conn struct {
	server *Server
	ctx    context.Context // of the connection: what ends it ends all that is asked by it
	log    *slog.Logger
	id     string

	net   net.Conn
	write chan struct{} // holds one: whoever has it writes to net
	alone chan struct{} // holds one: for requests of which no address is known, one after the other

	mu       sync.Mutex // guards all below
	requests map[uint32]*request
	held     int        // bytes of responses that are looked at
	less     *sync.Cond // held became less, or the connection ended
}

// request is one exchange.
type request struct {
	id       uint32
	ctx      context.Context
	cancel   context.CancelFunc
	timer    *time.Timer
	exchange auth.Exchange
	mech     string
	at       auth.Attempt
	log      *slog.Logger
	busy     bool // a response is looked at; guarded by conn.mu

	verdict string // the answer to whatever comes next; "": Next decides
}

func (s *Server) serve(ctx context.Context, nc net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{server: s, ctx: ctx, net: nc, log: s.log, write: make(chan struct{}, 1), alone: make(chan struct{}, 1), requests: map[uint32]*request{}}
	c.less = sync.NewCond(&c.mu)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		c.mu.Lock()
		for id := range c.requests {
			c.dropLocked(id)
		}
		c.less.Broadcast()
		c.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	defer cancel()
	if err := c.greet(); err != nil {
		return
	}
	if err := c.read(&wg); ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
		c.log.Warn("connection to the authentication socket ended", "event", "auth_socket", "err", err)
	}
}

// greet says what there is to say before the client does: it does not wait for it.
func (c *conn) greet() error {
	cuid := c.server.last.Add(1)
	var cookie [16]byte
	rand.Read(cookie[:]) // never fails, says crypto/rand
	c.id = hex.EncodeToString(cookie[:4])
	var b strings.Builder
	b.WriteString(line("VERSION", "1", "2"))
	for _, m := range c.server.auth.Mechanisms(attempt("smtp", nil)) {
		b.WriteString(line(append([]string{"MECH", m}, properties(m)...)...))
	}
	b.WriteString(line("SPID", strconv.Itoa(os.Getpid())))
	b.WriteString(line("CUID", strconv.FormatUint(uint64(cuid), 10)))
	b.WriteString(line("COOKIE", hex.EncodeToString(cookie[:])))
	b.WriteString(line("DONE"))
	return c.send(b.String())
}

// properties are the words by which smtpd_sasl_security_options chooses.
func properties(mech string) []string {
	if strings.HasPrefix(mech, "SCRAM-") {
		return []string{"mutual-auth"}
	}
	return []string{"plaintext"} // a token is as good as a password
}

// attempt is what a client says of a connection of its own. Whether that is encrypted is
// for the client to judge: Postfix has smtpd_tls_auth_only.
func attempt(service string, params map[string]string) auth.Attempt {
	at := auth.Attempt{Secure: true, Protocol: service}
	if a, err := netip.ParseAddr(params["rip"]); err == nil {
		at.Addr = a.Unmap()
	}
	return at
}

// send writes lines. A client that does not take them loses its connection.
func (c *conn) send(lines string) error {
	c.write <- struct{}{}
	defer func() { <-c.write }()
	c.net.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := io.WriteString(c.net, lines)
	if err != nil {
		c.net.Close()
	}
	return err
}

// read takes the client's lines until the connection is over. Dovecot ends a connection
// that breaks the protocol too: its client is a program that is wrong.
func (c *conn) read(wg *sync.WaitGroup) error {
	r := bufio.NewReader(c.net)
	for first := true; ; first = false {
		text, err := readLine(r)
		if err != nil {
			return err
		}
		fields := strings.Split(text, "\t")
		verb, rest := fields[0], fields[1:]
		if first && (verb != "VERSION" || len(rest) < 1 || rest[0] != "1") {
			return fmt.Errorf("the client begins with %.20q instead of VERSION 1", text)
		}
		switch verb {
		case "AUTH":
			err = c.auth(wg, rest)
		case "CONT":
			err = c.cont(wg, rest)
		case "CANCEL":
			if len(rest) > 0 {
				if id, err := parseID(rest[0]); err == nil {
					c.mu.Lock()
					c.dropLocked(id)
					c.mu.Unlock()
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

// auth begins an exchange.
func (c *conn) auth(wg *sync.WaitGroup, fields []string) error {
	a, err := parseAuth(fields)
	if err != nil {
		return err
	}
	r := &request{id: a.id, mech: strings.ToUpper(a.mech), at: attempt(a.service, a.params)}
	addr := ""
	if r.at.Addr.IsValid() {
		addr = r.at.Addr.String()
	}
	r.log = c.log.With("sess", c.id, "addr", addr)
	c.mu.Lock()
	if c.requests[r.id] != nil {
		c.mu.Unlock()
		return fmt.Errorf("the number %d is in use", r.id)
	}
	if len(c.requests) >= maxRequests {
		c.mu.Unlock()
		return c.send(fail(r.id, "temp", "code=temp_fail", "reason=Too many requests at one time"))
	}
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	r.timer = time.AfterFunc(requestTime, func() {
		c.finish(r, fail(r.id, "temp", "code=temp_fail", "reason=Authentication request timed out"))
	})
	c.requests[r.id] = r
	c.mu.Unlock()

	if r.exchange, err = c.server.auth.Start(r.mech, r.at); err != nil {
		c.finish(r, fail(r.id, "reason=Unsupported authentication mechanism"))
		return nil
	}
	return c.step(wg, r, a.resp, a.hasResp, "Invalid base64 data in initial response")
}

// cont goes on with one.
func (c *conn) cont(wg *sync.WaitGroup, fields []string) error {
	if len(fields) != 2 {
		return errors.New("CONT wants a number and base64")
	}
	id, err := parseID(fields[0])
	if err != nil {
		return err
	}
	c.mu.Lock()
	r := c.requests[id]
	if r != nil && r.busy {
		c.dropLocked(id)
		r = nil
	}
	c.mu.Unlock()
	if r == nil {
		return c.send(fail(id, "reason=Unexpected continuation"))
	}
	return c.step(wg, r, fields[1], true, "Invalid base64 data in continued response")
}

// step lets an exchange look at a response, beside others. It waits while the connection
// has as much looked at as it may.
func (c *conn) step(wg *sync.WaitGroup, r *request, text string, given bool, wrong string) error {
	var response []byte
	if given {
		var err error
		if response, err = decode(text); err != nil {
			c.finish(r, fail(r.id, "code=invalid_base64", param("reason", wrong)))
			return nil
		}
	}
	size := len(text)
	c.mu.Lock()
	for c.held > 0 && c.held+size > maxHeld && c.ctx.Err() == nil {
		c.less.Wait()
	}
	c.held += size
	r.busy = true
	c.mu.Unlock()
	wg.Go(func() { // ends with the exchange's step, which ends with the request's ctx
		c.run(r, response)
		c.mu.Lock()
		c.held -= size
		c.less.Broadcast()
		c.mu.Unlock()
	})
	return c.ctx.Err()
}

// run is one step of an exchange.
func (c *conn) run(r *request, response []byte) {
	if !r.at.Addr.IsValid() {
		// Nothing can be counted against an address, so the connection guesses one by one.
		select {
		case c.alone <- struct{}{}:
			defer func() { <-c.alone }()
		case <-r.ctx.Done():
			return // it was answered, or nobody waits for it
		}
	}
	if r.verdict != "" { // was told already why, and what is said to that does not count
		c.finish(r, r.verdict)
		return
	}
	challenge, done, err := r.exchange.Next(r.ctx, response)
	switch {
	case err != nil:
		c.refused(r, err, challenge)
	case done:
		u := r.exchange.User()
		fields := []string{"OK", number(r.id), param("user", u.Name)}
		if u.Login != u.Name {
			fields = append(fields, param("original_user", u.Login))
		}
		if c.finish(r, line(fields...)) {
			r.log.Info("login", "event", "login", "user", u.Name, "login", u.Login, "method", r.mech, "service", r.at.Protocol)
		}
	default:
		c.goOn(r, challenge)
	}
}

// goOn asks for the next response.
func (c *conn) goOn(r *request, challenge []byte) {
	c.mu.Lock()
	r.busy = false
	gone := c.requests[r.id] != r
	c.mu.Unlock()
	if !gone {
		c.send(line("CONT", number(r.id), base64.StdEncoding.EncodeToString(challenge)))
	}
}

// refused answers a login that did not happen, and logs it in the form that fail2ban
// reads.
func (c *conn) refused(r *request, err error, challenge []byte) {
	var refusal *auth.Refusal
	if !errors.As(err, &refusal) {
		c.finish(r, fail(r.id, "temp", "code=temp_fail"))
		return
	}
	var fields []string
	if refusal.User != "" {
		fields = append(fields, param("user", refusal.User))
	}
	switch {
	case errors.Is(refusal, auth.ErrUnauthorized):
		fields = append(fields, "code=authzfailed", "authz")
	case errors.Is(refusal, auth.ErrMalformed), errors.Is(refusal, auth.ErrMechanism):
		fields = append(fields, param("reason", refusal.Error()))
	case refusal.Disabled:
		fields = append(fields, "code=user_disabled", "user_disabled", param("reason", refusal.Error()))
	case errors.Is(refusal, auth.ErrExpired), errors.Is(refusal, auth.ErrNoToken):
		fields = append(fields, "code=pass_expired", param("reason", refusal.Error()))
	case !errors.Is(refusal, auth.ErrDenied): // later it may be let in: 454, and no new password is asked for
		fields = append(fields, "code=temp_fail", "temp", param("reason", refusal.Error()))
	}
	answer := fail(r.id, fields...)
	if challenge != nil {
		r.verdict = answer
		c.goOn(r, challenge)
	} else if !c.finish(r, answer) || errors.Is(refusal, auth.ErrMalformed) {
		return
	}
	reason := refusal.Reason
	if reason == "" {
		reason = refusal.Error()
	}
	if refusal.Event != "" {
		r.log.Warn("login to look at", "event", refusal.Event, "user", refusal.User, "method", r.mech, "reason", reason, "service", r.at.Protocol)
	}
	level, event := refusal.LoggedAs()
	args := []any{"event", event, "user", refusal.User, "method", r.mech, "reason", reason, "service", r.at.Protocol}
	if !refusal.Guess() {
		args = append(args, "guess", false)
	}
	r.log.Log(context.Background(), level, "login refused", args...)
}

// finish ends a request with its answer; false when it was over.
func (c *conn) finish(r *request, answer string) bool {
	c.mu.Lock()
	if c.requests[r.id] != r {
		c.mu.Unlock()
		return false
	}
	c.dropLocked(r.id)
	c.mu.Unlock()
	c.send(answer)
	return true
}

// dropLocked ends a request without an answer.
func (c *conn) dropLocked(id uint32) {
	if r := c.requests[id]; r != nil {
		delete(c.requests, id)
		r.timer.Stop()
		r.cancel()
	}
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

func fail(id uint32, fields ...string) string {
	return line(append([]string{"FAIL", number(id)}, fields...)...)
}
