package server

import (
	"context"
	"net"
	"sync/atomic"

	"roost/server/session"
	"roost/store"
)

// A Runner carries sessions: it is the process boundary. Everything behind it
// knows a user and a stream, and nothing of sockets, passwords and TLS.
type Runner interface {
	// Run returns when the session is over; the Outcome is never nil. The stream stays open. ctx ends it; the cause,
	// when a session.Goodbye, is what the client is told.
	Run(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error)
}

// Local is the Runner that works in this process.
type Local struct {
	Store   store.Store
	Options session.Options

	whole atomic.Pointer[session.Options] // with the defaults
}

// Run is session.Serve.
func (l *Local) Run(ctx context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
	return session.Serve(ctx, stream, in, l.Store, l.options())
}

func (l *Local) options() *session.Options {
	opt := l.whole.Load()
	if opt == nil {
		opt = l.Options.WithDefaults()
		l.whole.Store(opt)
	}
	return opt
}
