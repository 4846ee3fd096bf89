package session

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"roost/message"
	"roost/server/wire"
	"roost/store"
)

// Stream is the connection behind TLS. net.Conn is one. SetReadDeadline must
// interrupt a Read that blocks. One that is a wire.Rester too is asked to wait by that
// before the Read of a command: Rest returns when a Read would not block, or sooner, and
// is interrupted as Read is. One that has Ready() bool is asked by that whether a Read would
// not block; where it is not known, false.
type Stream interface {
	io.Reader
	io.Writer
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// Prompt is a Stream that can take a little without waiting for anybody: so an idling client
// is told of a delivery by the goroutine that saw it (pushNow).
type Prompt interface {
	Stream

	// Gather has Writes go into memory, where no deadline holds, until Send; they may be of
	// some hundred bytes together. It reports false where that cannot be: then nothing changed.
	Gather() bool

	// Send sends what was gathered as far as that does not wait, and reports whether all
	// went. Where it did not, Finish must be called before anything else is written.
	Send() (all bool, err error)

	// Finish sends what Send left, or what was gathered, and may wait as Write does.
	Finish() error
}

// Login is all that a session is told of how it came to be. It is plain data: for
// a worker process it is the first message, as JSON.
type Login struct {
	Who        store.Identity
	Tag        string     // of LOGIN or AUTHENTICATE; its tagged answer is the session's first word
	Mechanism  string     // for the log
	ID         string     // of the session in the log
	Addr       netip.Addr // of the client
	Client     string     // what ID told before the login; ClientName
	ServerName string     // asked for in TLS
	Secure     bool       // TLS, or a connection that needs none
	Input      []byte     // what the client already sent behind its login: the next commands
	Ticket     string     // auth.User.Ticket; to a worker, what the desk knows the session by
}

// Outcome says how a session ended.
type Outcome struct {
	// Unauthenticated: the stream is good and nobody is logged in: the client asked for that,
	// or the account could not be opened, and the client was told so. Input is what it had
	// already sent, Output what it must be sent first, as it is, when nothing of the session
	// is left.
	Unauthenticated bool
	Input, Output   []byte
	Client          string // what ID told; ClientName

	Reason  string // for the log: "logout", "client closed the connection", ...
	In, Out int64  // bytes of the stream, after TLS
}

// Options are the same for all sessions of a server. The zero value of a field is
// its default. But for what must be set in the process that uses them they are plain data.
type Options struct {
	Log *slog.Logger `json:"-"` // slog.Default()

	Limits       Limits
	Idle         time.Duration // silence outside IDLE after which the session ends; 30 min
	Keepalive    time.Duration // between lines sent to an idling client; 2 min, below 0 none
	WriteTimeout time.Duration // for one write that the client does not take; 2 min

	// Product is what ID answers (RFC 2971), in pairs: "name", "Roost", "version", ...
	Product []string

	// Shared are the annotations of the server that all users see and none changes
	// (RFC 5464 section 3.2.1.1), by their names in lower case.
	Shared []store.Annotation

	// Clients are those of whom mistakes are known.
	Clients []ClientRule

	// Notice is told what the session of an ID is doing, each time that this changes; it
	// must not block. Tap gives the place where somebody may look at its protocol. Each
	// may be nil.
	Notice func(id string, doing Activity) `json:"-"`
	Tap    func(id string) *wire.Tap       `json:"-"`

	// Audit is told what a session did to mail, and what its client calls itself; nil:
	// nobody wants to know. It must not block.
	Audit func(in *Login, client string, d Deed) `json:"-"`

	whole bool // defaults are filled in
}

// Limits bound what one client can ask for.
type Limits struct {
	CommandBytes int64 // one command without APPEND's messages; 1 MiB
	AppendBytes  int64 // one message of APPEND; 64 MiB

	Watched int // mailboxes of one NOTIFY; 20,000

	// Messages bounds what one command is for, Saved what one COPY or APPEND adds
	// (RFC 9738); 0 is no limit.
	Messages, Saved int

	MIME message.Limits // what of a message is taken apart
}

// WithDefaults fills in what is not set. A caller of many sessions does that once.
func (o *Options) WithDefaults() *Options {
	if o.whole {
		return o
	}
	all := *o
	all.fillIn()
	return &all
}

func (o *Options) fillIn() {
	o.whole = true
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Limits.CommandBytes <= 0 {
		o.Limits.CommandBytes = 1 << 20
	}
	if o.Limits.AppendBytes <= 0 {
		o.Limits.AppendBytes = 64 << 20
	}
	if o.Limits.Watched <= 0 {
		o.Limits.Watched = 20_000
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Minute
	}
	if o.Keepalive == 0 {
		o.Keepalive = 2 * time.Minute
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 2 * time.Minute
	}
	if o.Product == nil {
		o.Product = []string{"name", "Roost"}
	}
}

// Goodbye is a cause with which the context of Serve can be cancelled; the client
// is sent its text in BYE. Other causes say that the server is shutting down.
type Goodbye string

func (g Goodbye) Error() string { return string(g) }

var _ error = Goodbye("")

// Serve runs the session of a user who has just logged in, until the client or ctx
// ends it. It answers the command that logged in. The stream is not closed; after
// Outcome.Unauthenticated it may be used on, and must be closed else. An error says
// that the session failed for a reason that an admin should see; a client that
// hung up is none.
//
// What goes in and out are pointers because the frames from the goroutine's start to where
// it waits for the client are what an idle session costs: below 1.2 KiB in all its stack
// shrinks to 4 KiB (server.TestIdleSessionMemory).
func Serve(ctx context.Context, stream Stream, in *Login, st store.Store, opt *Options) (*Outcome, error) {
	s, out := newSession(stream, in, opt), new(Outcome)
	stop := context.AfterFunc(ctx, s.interrupt)
	entered, err := s.enter(ctx, st, out)
	if entered {
		err = s.serve(ctx, out)
	}
	stop()
	out.In, out.Out = s.in.Load(), s.out
	return out, err
}
