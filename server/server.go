package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roost/auth"
	"roost/events"
	"roost/server/session"
	"roost/store"
)

// Options say how a Server works. What is nil or zero is the default.
type Options struct {
	Hostname string   // in greetings
	Product  []string // what ID answers (RFC 2971), in pairs: "name", "Roost", ...
	Auth     Authenticator
	Events   func(user string, n int) ([]events.Event, error) // the history of a user; nil: none is kept
	Guard    Guard                                            // nil: nobody is locked
	Gateways []netip.Addr                                     // of this machine's default routes; New looks at it
	Identity func(auth.User) (store.Identity, error)          // where the mail of a user is
	Runner   Runner
	TLS      *tls.Config          // nil: no TLS, no STARTTLS
	Ends     func() [][]byte      // Certificates.EndPoints, for channel binding; nil: none
	Clients  []session.ClientRule // whom the Runner's sessions are told of too
	Limits   Limits
	Log      *slog.Logger // slog.Default()
}

// Authenticator is what a gate asks of those who want to log in. *auth.Auth is one; where
// users have processes of their own the gate's is the way to another process, and what it
// asks crosses that: an Attempt and a User as plain data. Safe for concurrent use.
type Authenticator interface {
	Mechanisms(at auth.Attempt) []string
	Passwords(at auth.Attempt) bool
	Start(mech string, at auth.Attempt) (auth.Exchange, error)
	Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error)

	// OnChange has fn called when Stands may answer otherwise than before: whether a user
	// who is logged in would be let in again.
	OnChange(fn func())
	Stands(ctx context.Context, u auth.User) error
}

// Guard is what keeps count of failed logins; *auth.Auth is one. Safe for concurrent use.
type Guard interface {
	Locked() []auth.Locked
	Unlock(what string) ([]auth.Locked, error)

	// Gateway notes that nearly all clients come from an address.
	Gateway(addr netip.Addr)
}

// Limits bound what connections cost.
type Limits struct {
	LoginTime      time.Duration  // from accept through TLS, and from greeting to login; 30 s
	Line           int64          // bytes of a line before login; 8 KiB
	AuthLine       int64          // bytes of an answer in AUTHENTICATE; 24 KiB
	Literal        int64          // bytes of a literal before login; 4 KiB
	BadCommands    int            // before login; 3
	Connections    int            // in all; 20,000
	PerAddress     int            // from one address, not logged in; 50
	PerUserAddress int            // of one user from one address; 20
	PerUser        int            // of one user; 100
	MakeRoom       time.Duration  // silent for so long, a connection makes room for a new one; 30 min
	Trusted        []netip.Prefix // networks to which PerAddress does not apply
	Shutdown       time.Duration  // for commands to end; 10 s
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	l := &o.Limits
	l.LoginTime = cmp.Or(l.LoginTime, 30*time.Second)
	l.Connections = cmp.Or(l.Connections, 20000)
	l.PerAddress = cmp.Or(l.PerAddress, 50)
	l.PerUserAddress = cmp.Or(l.PerUserAddress, 20)
	l.PerUser = cmp.Or(l.PerUser, 100)
	l.MakeRoom = cmp.Or(l.MakeRoom, 30*time.Minute)
	l.Shutdown = cmp.Or(l.Shutdown, 10*time.Second)
	return o // the gate has its own
}

// Server serves IMAP on any number of listeners.
type Server struct {
	now    atomic.Pointer[generation]
	places *places
	on     registry
	crowd  crowd
	traces tracer
}

// generation is what a connection lives under: the options that were in force when
// it came.
type generation struct {
	opt  Options
	gate *gate
}

// New makes a server that has no listeners yet.
func New(opt Options) *Server {
	s := &Server{places: newPlaces(placeLimits{}), crowd: crowd{gateways: opt.Gateways}}
	s.Reconfigure(opt)
	return s
}

// Reconfigure puts options in force for connections that come from now on.
func (s *Server) Reconfigure(opt Options) {
	opt = opt.withDefaults()
	l := opt.Limits
	s.places.setLimits(placeLimits{
		Total: l.Connections, PerAddress: l.PerAddress, PerUserAddress: l.PerUserAddress,
		PerUser: l.PerUser, Trusted: l.Trusted, MakeRoom: l.MakeRoom,
	})
	s.now.Store(&generation{opt, &gate{
		hostname:  opt.Hostname,
		product:   opt.Product,
		auth:      opt.Auth,
		places:    s.places,
		traces:    &s.traces,
		log:       opt.Log,
		identity:  opt.Identity,
		clients:   opt.Clients,
		trusted:   l.Trusted,
		crowd:     &s.crowd,
		guard:     opt.Guard,
		endPoints: opt.Ends,
		runner:    opt.Runner,
		limits:    gateLimits{Line: l.Line, AuthLine: l.AuthLine, Literal: l.Literal, Time: l.LoginTime, BadCommands: l.BadCommands},
	}})
}

// Serve accepts on all listeners until ctx ends, then stops in order and returns
// nil. It also stops when a listener fails, with that error. On return the
// listeners are closed and no connection and no goroutine of it is left.
func (s *Server) Serve(ctx context.Context, listeners ...Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var accepting, talking sync.WaitGroup

	for _, l := range listeners {
		// Ends when the listener is closed below.
		accepting.Go(func() {
			if err := s.accept(ctx, l, &talking); err != nil {
				stop(fmt.Errorf("listener on %s: %w", l.Addr(), err))
			}
		})
	}
	changed := make(chan struct{}, 1)
	s.now.Load().opt.Auth.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	// Ends with ctx.
	accepting.Go(func() { s.revoke(ctx, changed) })
	<-ctx.Done() // every connection's context ends with it: each says BYE

	for _, l := range listeners {
		l.Close()
	}
	accepting.Wait()

	gone := make(chan struct{})
	go func() { // ends when the last connection is gone, which closeAll brings about
		talking.Wait()
		close(gone)
	}()
	opt := &s.now.Load().opt
	patience := time.NewTimer(opt.Limits.Shutdown)
	defer patience.Stop()
	select {
	case <-gone:
	case <-patience.C:
		n := s.on.closeAll()
		opt.Log.Warn("connections were cut off", "event", "shutdown_cut", "connections", n)
		<-gone
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, l Listener, talking *sync.WaitGroup) error {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			// Others will go, and their descriptors with them.
			if wait == 0 {
				s.now.Load().opt.Log.Error("no connection can be accepted", "event", "accept_failed", "addr", l.Addr().String(), "err", err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		default:
			return err
		}
		// Ends with the connection, which ends when ctx does.
		talking.Add(1)
		go s.serveConn(ctx, resting(nc), &l, talking)
	}
}

// serveConn carries one connection from its first byte to its last. Its frame lies under
// a session, as gate.serve's does.
func (s *Server) serveConn(ctx context.Context, nc net.Conn, l *Listener, talking *sync.WaitGroup) {
	a, ctx := s.arrive(ctx, nc, l.Mode)
	defer s.depart(a, talking)
	if s.welcome(ctx, a, l) {
		a.now.gate.serve(ctx, a)
	}
}

// arrive makes a connection that was just accepted known.
func (s *Server) arrive(ctx context.Context, nc net.Conn, mode Mode) (*arrival, context.Context) {
	now := s.now.Load()
	a := &arrival{conn: nc, plaintext: mode == Plaintext, tls: now.opt.TLS, now: now}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		a.addr = ap.Addr().Unmap()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a.on = &presence{conn: nc, addr: a.addr.String(), connected: time.Now(), leave: func(why session.Goodbye) { cancel(why) }}
	s.on.add(a.on)
	a.id = a.on.id
	if s.traces.running.Load() > 0 {
		a.on.hold()
		a.on.note("connection from %s, %v", a.addr, mode)
	}
	return a, ctx
}

// welcome reports whether the client may be talked to.
func (s *Server) welcome(ctx context.Context, a *arrival, l *Listener) bool {
	if l.Proxies != nil && !s.introduced(ctx, a, l) {
		return false
	}
	return s.seated(a, l.Mode, a.now) && (l.Mode != Implicit || a.encrypt(ctx, a.now))
}

// depart ends a connection, also one that panicked. Deferred by serveConn.
func (s *Server) depart(a *arrival, talking *sync.WaitGroup) {
	if p := recover(); p != nil {
		a.panicked(a.now.opt.Log, p)
	}
	if a.seat != nil {
		a.seat.leave()
	}
	s.on.remove(a.on)
	a.on.leave("")
	a.on.conn.Close()
	talking.Done()
}

// logger names the connection in each line.
func (a *arrival) logger(log *slog.Logger) *slog.Logger {
	return log.With("sess", a.id, "addr", a.addr.String())
}

// panicked logs a bug that ends this connection, and only it.
func (a *arrival) panicked(log *slog.Logger, p any) {
	a.logger(log).Error("connection panicked", "event", "panic", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// seated finds room for the connection, or sends it away.
func (s *Server) seated(a *arrival, mode Mode, now *generation) bool {
	seat, err := s.places.connect(a.addr)
	if err != nil {
		a.logger(now.opt.Log).Warn("connection refused", "event", "connection_limit", "err", err)
		if mode != Implicit { // a handshake only to say no is too dear
			a.conn.SetDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(a.conn, "* BYE [LIMIT] %s\r\n", sentence(err.Error())) // RFC 5530 section 3
		}
		return false
	}
	a.seat = seat
	return true
}

// encrypt begins TLS on a connection that starts with it.
func (a *arrival) encrypt(ctx context.Context, now *generation) bool {
	conn, err := handshake(ctx, a.conn, a.tls, now.opt.Limits.LoginTime)
	if err != nil {
		var header tls.RecordHeaderError
		if errors.As(err, &header) && unexpectedProxy(header.RecordHeader[:]) {
			a.logger(now.opt.Log).Warn("connection refused", "event", "proxy_refused", "err", errProxy)
		}
		a.logger(now.opt.Log).Debug("no TLS", "event", "tls_failed", "err", err)
		return false
	}
	a.conn, a.secure = conn, true
	return true
}
