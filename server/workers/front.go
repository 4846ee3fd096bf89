package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"roost/auth"
	"roost/events"
	"roost/server/session"
	"roost/server/wire"
	"roost/store"
)

// A Front is how a process that speaks with clients reaches those that know passwords and
// mail: a server.Authenticator, a server.Guard and a server.Runner. Safe for concurrent use.
type Front struct {
	opt FrontOptions

	mu      sync.Mutex // guards what follows; a map operation at a time
	desk    *channel   // nil: there is none now
	serial  uint64     // of the last question
	waiting map[uint64]*question
	links   map[uint64]*workerLink
	first   chan struct{} // closed when a desk was there
	opened  sync.Once

	changed atomic.Pointer[func()]
}

// FrontOptions say whom a Front tells of its sessions.
type FrontOptions struct {
	Log          *slog.Logger
	Notice       func(id string, doing session.Activity)
	Tap          func(id string) *wire.Tap
	Certificate  func(name string, chain, key []byte) error // takes one that was issued; nil: none is
	Orphaned     func()                                     // called when the parent is gone
	WriteTimeout time.Duration                              // for one write that the client does not take; 2 min
}

type question struct {
	desk *channel
	done chan reply
}

type reply struct {
	answered
	files []*os.File
	err   error
}

// NewFront begins to listen to the parent.
func NewFront(parent *os.File, opt FrontOptions) (*Front, error) {
	ch, err := newChannel(parent)
	if err != nil {
		return nil, err
	}
	if opt.WriteTimeout <= 0 {
		opt.WriteTimeout = 2 * time.Minute
	}
	f := &Front{opt: opt, waiting: map[uint64]*question{}, links: map[uint64]*workerLink{}, first: make(chan struct{})}
	// Ends when the parent does.
	go func() {
		for {
			var m toFront
			files, err := ch.receive(&m, 1)
			if err != nil {
				opt.Orphaned()
				return
			}
			switch {
			case len(files) != 1:
			case m.Issuer != 0:
				go f.take(files[0]) // ends with the issuer
			default:
				f.attach(files[0])
			}
		}
	}()
	return f, nil
}

// Wait waits until there is somebody who knows passwords.
func (f *Front) Wait(ctx context.Context) error {
	select {
	case <-f.first:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attach makes a desk the one that is asked.
func (f *Front) attach(file *os.File) {
	ch, err := newChannel(file)
	if err != nil {
		f.opt.Log.Error("the process that knows passwords cannot be asked", "event", "isolation_desk", "err", err)
		return
	}
	f.mu.Lock()
	f.desk = ch
	f.mu.Unlock()
	f.opened.Do(func() { close(f.first) })
	go f.hear(ch) // ends with the desk
	f.tellChange()
}

// hear takes the answers of one desk.
func (f *Front) hear(ch *channel) {
	for {
		var r reply
		r.files, r.err = ch.receive(&r.answered, 2)
		f.mu.Lock()
		if r.err != nil {
			for id, q := range f.waiting {
				if q.desk == ch {
					delete(f.waiting, id)
					q.done <- reply{err: errDesk}
				}
			}
			if f.desk == ch {
				f.desk = nil
			}
			f.mu.Unlock()
			ch.close()
			return
		}
		if r.Changed {
			f.mu.Unlock()
			closeAll(r.files)
			f.tellChange()
			continue
		}
		q := f.waiting[r.ID]
		delete(f.waiting, r.ID)
		f.mu.Unlock()
		if q == nil { // whoever asked is gone
			closeAll(r.files)
			continue
		}
		q.done <- r
	}
}

// errDesk is told to those who wanted to log in.
var errDesk = &auth.Refusal{Err: auth.ErrUnavailable, Text: "Users cannot be looked up now, try again later", Reason: "the process that knows passwords is gone; it is started anew"}

// ask asks the desk and waits for its answer, or for the end of ctx.
func (f *Front) ask(ctx context.Context, a asked) reply {
	q := &question{done: make(chan reply, 1)}
	f.mu.Lock()
	if f.desk == nil {
		f.mu.Unlock()
		return reply{err: errDesk}
	}
	f.serial++
	a.ID, q.desk = f.serial, f.desk
	f.waiting[a.ID] = q
	f.mu.Unlock()
	if err := q.desk.send(a); err != nil {
		f.mu.Lock()
		delete(f.waiting, a.ID)
		f.mu.Unlock()
		return reply{err: errDesk}
	}
	select {
	case r := <-q.done:
		if r.err == nil {
			r.err = r.answered.err()
		}
		return r
	case <-ctx.Done():
		f.mu.Lock()
		_, mine := f.waiting[a.ID]
		delete(f.waiting, a.ID)
		f.mu.Unlock()
		if !mine { // it came just now
			closeAll((<-q.done).files)
		}
		q.desk.send(asked{Do: "cancel", Exchange: a.ID})
		return reply{err: context.Cause(ctx)}
	}
}

// askTime is what a question may take that needs no looking up.
const askTime = 5 * time.Second

func (f *Front) quick(a asked) reply {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return f.ask(ctx, a)
}

// Mechanisms is auth.Auth's; none while nobody can be asked.
func (f *Front) Mechanisms(at auth.Attempt) []string {
	return f.quick(asked{Do: "mechanisms", At: attemptOf(at)}).Names
}

// Passwords is auth.Auth's.
func (f *Front) Passwords(at auth.Attempt) bool {
	return f.quick(asked{Do: "passwords", At: attemptOf(at)}).Yes
}

// Login is auth.Auth's. Of the User only names and the ticket are known here.
func (f *Front) Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error) {
	r := f.ask(ctx, asked{Do: "login", User: user, Password: password, At: attemptOf(at)})
	return r.user(), r.err
}

func (r *reply) user() auth.User {
	if r.Who == nil {
		return auth.User{}
	}
	u := auth.User{Name: r.Who.Name, Login: r.Who.Login, Proof: r.Who.Proof, Ticket: r.Ticket}
	u.Proof.Sealed = string(r.Who.Seal)
	return u
}

// OnChange is auth.Auth's. A desk that was started anew has changed.
func (f *Front) OnChange(fn func()) { f.changed.Store(&fn) }

// Stands is auth.Auth's. While nobody can be asked, users stay.
func (f *Front) Stands(ctx context.Context, u auth.User) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r := f.ask(ctx, asked{Do: "stands", Seal: []byte(u.Proof.Sealed)})
	if r.Failed == "" {
		return nil
	}
	return r.err
}

func (f *Front) tellChange() {
	if fn := f.changed.Load(); fn != nil {
		(*fn)()
	}
}

// Start is auth.Auth's.
func (f *Front) Start(mech string, at auth.Attempt) (auth.Exchange, error) {
	r := f.quick(asked{Do: "start", Mech: mech, At: attemptOf(at)})
	if r.err != nil {
		return nil, r.err
	}
	return &exchange{front: f, id: r.Exchange}, nil
}

// exchange is one that the desk has.
type exchange struct {
	front *Front
	id    uint64
	user  auth.User
	over  bool // the desk has forgotten it
}

func (e *exchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	r := e.front.ask(ctx, asked{Do: "next", Exchange: e.id, Response: response, None: response == nil})
	e.over = r.err != nil || r.Done
	if r.err != nil {
		return r.Challenge, false, r.err
	}
	if r.Done {
		e.user = r.user()
	}
	return r.Challenge, r.Done, nil
}

func (e *exchange) User() auth.User { return e.user }

// Close has the desk forget an exchange that was broken off; its room is bounded.
func (e *exchange) Close() error {
	if e.over {
		return nil
	}
	e.over = true
	e.front.mu.Lock()
	desk := e.front.desk
	e.front.mu.Unlock()
	if desk == nil {
		return nil
	}
	return desk.send(asked{Do: "forget", Exchange: e.id})
}

// Locked is auth.Auth's; not all of a long list.
func (f *Front) Locked() []auth.Locked { return f.quick(asked{Do: "locked"}).Locked }

// Unlock is auth.Auth's.
func (f *Front) Unlock(what string) ([]auth.Locked, error) {
	r := f.quick(asked{Do: "unlock", User: what})
	return r.Locked, r.err
}

// Events gives the history of a user; not all of a long one.
func (f *Front) Events(user string, n int) ([]events.Event, error) {
	r := f.quick(asked{Do: "events", User: user, N: n})
	return r.answered.Events, r.err
}

// Gateway is auth.Auth's.
func (f *Front) Gateway(addr netip.Addr) { f.quick(asked{Do: "gateway", Addr: addr}) }

// Identity is all that is known here of where somebody's mail is: nothing.
func Identity(u auth.User) (store.Identity, error) {
	return store.Identity{User: u.Name, Login: u.Login}, nil
}

// workerLink is a link with the sessions over it.
type workerLink struct {
	*link
	mu       sync.Mutex // guards sessions
	sessions map[string]*visit
	lost     bool
}

// linkTo gives the link to a worker; file is a new one, or nil. Both may come in any order,
// for logins race.
func (f *Front) linkTo(ctx context.Context, worker uint64, file *os.File) (*workerLink, error) {
	if file != nil {
		w := &workerLink{sessions: map[string]*visit{}}
		l, err := newLink(file, func(m linked) { f.heard(w, m) }, func() { f.lose(worker, w) })
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		w.link = l
		f.links[worker] = w
		f.mu.Unlock()
		w.mu.Lock()
		lost := w.lost
		w.mu.Unlock()
		if lost { // before it was known here
			f.lose(worker, w)
			return nil, errLost
		}
		return w, nil
	}
	for {
		f.mu.Lock()
		w := f.links[worker]
		f.mu.Unlock()
		if w != nil {
			return w, nil
		}
		// Another login has it in hand.
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lose ends all sessions of a worker that is gone.
func (f *Front) lose(worker uint64, w *workerLink) {
	f.mu.Lock()
	if f.links[worker] == w {
		delete(f.links, worker)
	}
	f.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = true
	for id, v := range w.sessions {
		delete(w.sessions, id)
		close(v.outcome)
	}
}

// heard takes what a worker tells of one of its sessions. Of others it tells nothing.
func (f *Front) heard(w *workerLink, m linked) {
	w.mu.Lock()
	v := w.sessions[m.ID]
	w.mu.Unlock()
	if v == nil {
		return
	}
	switch {
	case m.Notice != nil:
		v.compressed.Store(m.Notice.Compressed)
		if f.opt.Notice != nil {
			f.opt.Notice(m.ID, *m.Notice)
		}
	case m.Seen != nil:
		if watch := v.tap.Watching(); watch != nil {
			m.Seen.show(watch)
		}
	case m.Input != nil:
		if v.input = append(v.input, m.Input...); len(v.input) > maxLeft {
			v.input = v.input[:maxLeft]
		}
	case m.Outcome != nil:
		w.mu.Lock()
		delete(w.sessions, m.ID)
		w.mu.Unlock()
		v.outcome <- m.Outcome
	}
}

// maxLeft is what a client may have sent behind UNAUTHENTICATE: what the sockets hold.
const maxLeft = 1 << 20

// Run is server.Runner's. The session is a worker's; here its bytes are passed on.
func (f *Front) Run(ctx context.Context, stream conn, in *session.Login) (*session.Outcome, error) {
	v, err := f.enter(ctx, stream, in)
	if err != nil {
		return f.refuse(stream, in, err)
	}
	return v.carry(ctx)
}

// refuse answers a login that found no worker: the client may try again.
func (f *Front) refuse(stream conn, in *session.Login, err error) (*session.Outcome, error) {
	out := &session.Outcome{Unauthenticated: true, Input: in.Input, Client: in.Client, Reason: "there is no process for the user",
		Output: fmt.Appendf(nil, "%s NO [UNAVAILABLE] The mail of this user cannot be opened now; the administrator's log has the reason\r\n", in.Tag)}
	if errors.Is(err, context.Canceled) {
		return out, nil
	}
	return out, err
}
