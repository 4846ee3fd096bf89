package workers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"sync"
	"time"

	"roost/auth"
	"roost/events"
	"roost/server/session"
	"roost/store"
)

// Users is what a Desk asks: *auth.Auth.
type Users interface {
	Mechanisms(at auth.Attempt) []string
	Passwords(at auth.Attempt) bool
	Start(mech string, at auth.Attempt) (auth.Exchange, error)
	Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error)
	OnChange(fn func())
	Stands(ctx context.Context, u auth.User) error
	Locked() []auth.Locked
	Unlock(what string) ([]auth.Locked, error)
	Gateway(addr netip.Addr)
}

// A Desk is the process that knows passwords and where mail is. It answers the front, and
// tells the parent as whom to work: for those alone who have proved to it who they are.
type Desk struct {
	Users Users
	Log   *slog.Logger

	// Place says where a user's mail is and whose it is, which is also Login.Who. settings are
	// what the worker gets with a login.
	Place func(ctx context.Context, u auth.User) (o Order, who store.Identity, settings any, err error)

	// Events gives the history of a user.
	Events func(user string, n int) ([]events.Event, error)

	// Deed takes down what a session did to mail. The deed is the word of the user's own
	// process, though short, and the client's name that of the client.
	Deed func(who Session, client string, d session.Brief)

	// Most bounds the questions that are answered at one time, and what is kept between two
	// of a login; 0 is 20,000.
	Most int

	parent *channel

	mu     sync.Mutex // guards what follows; a map operation at a time
	serial uint64
	orders map[uint64]chan placed
	newest *channel // to the front that is told of changes

	allowed map[uint32]*allowance // by uid: there are as many as users
	pause   func(time.Duration)   // time.Sleep
	now     func() time.Time      // time.Now
	listens time.Duration         // lastWords
}

type placed struct {
	ordered
	files []*os.File
}

// Serve answers until the parent closes the channel.
func (d *Desk) Serve(ctx context.Context, parent *os.File) (err error) {
	if d.Most <= 0 {
		d.Most = 20_000
	}
	if d.pause == nil {
		d.pause, d.now = time.Sleep, time.Now
	}
	d.listens = cmp.Or(d.listens, lastWords)
	ch, err := newChannel(parent)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.parent, d.orders = ch, map[uint64]chan placed{}
	d.mu.Unlock()
	d.Users.OnChange(func() {
		d.mu.Lock()
		front := d.newest
		d.mu.Unlock()
		if front != nil {
			_ = front.send(answered{Changed: true}) // one that is gone has no sessions
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { d.parent.close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		var p placed
		if p.files, err = d.parent.receive(&p.ordered, 2); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				err = nil
			}
			return err
		}
		if p.Front != 0 || p.Tells {
			if len(p.files) != 1 {
				closeAll(p.files)
				continue
			}
			if err := d.meet(ctx, &wg, &p); err != nil {
				return err
			}
			continue
		}
		d.mu.Lock()
		to := d.orders[p.ID]
		delete(d.orders, p.ID)
		d.mu.Unlock()
		if to == nil {
			closeAll(p.files)
			continue
		}
		to <- p
	}
}

// meet begins to hear a front or a worker.
func (d *Desk) meet(ctx context.Context, wg *sync.WaitGroup, p *placed) error {
	ch, err := newChannel(p.files[0])
	if err != nil {
		return err
	}
	logins, err1 := newSeal(p.Key)
	sessions, err2 := passes(p.Key)
	if err := errors.Join(err1, err2); err != nil {
		ch.close()
		return err
	}
	front, uid := p.Front, p.UID
	if p.Tells {
		// Ends with that worker, or some time after ctx.
		wg.Go(func() { d.hear(ctx, uid, sessions, ch) })
		return nil
	}
	d.mu.Lock()
	d.newest = ch
	d.mu.Unlock()
	// Ends with that front, or ctx.
	wg.Go(func() { d.serve(ctx, front, logins, sessions, ch) })
	return nil
}

// counter is what the desk knows of one front.
type counter struct {
	desk   *Desk
	front  uint64
	ch     *channel
	seals  seal // of logins
	passes seal // of sessions

	mu        sync.Mutex // guards what follows; a map operation at a time
	cancels   map[uint64]context.CancelFunc
	exchanges map[uint64]*running
	tickets   *tickets
}

// running is an exchange. Its own mutex says who may go on with it: an honest front asks
// one thing at a time.
type running struct {
	mu    sync.Mutex
	ex    auth.Exchange
	begun time.Time
}

// serve answers one front.
func (d *Desk) serve(ctx context.Context, front uint64, logins, sessions seal, ch *channel) {
	defer ch.close()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ch.close() })
	defer stop()
	c := &counter{desk: d, front: front, ch: ch, seals: logins, passes: sessions, cancels: map[uint64]context.CancelFunc{}, exchanges: map[uint64]*running{}, tickets: newTickets(d.Most)}
	places := make(chan struct{}, d.Most)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		var a asked
		if _, err := ch.receive(&a, 0); err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				d.Log.Error("the process that speaks with clients is not understood", "event", "isolation_front", "err", err)
			}
			return
		}
		switch a.Do {
		case "cancel":
			c.cancel(a.Exchange)
			continue
		case "forget":
			c.forget(a.Exchange)
			continue
		}
		places <- struct{}{}
		one, end := context.WithCancel(ctx)
		c.mu.Lock()
		c.cancels[a.ID] = end
		c.mu.Unlock()
		// Ends with its answer, or ctx.
		wg.Go(func() {
			defer end() // a front that uses a number twice takes the first one's place in cancels
			r, files := c.answer(one, &a)
			r.ID = a.ID
			c.cancel(a.ID)
			if err := ch.send(r, files...); err != nil {
				cancel() // it does not read, or is gone
			}
			closeAll(files)
			<-places
		})
	}
}

func (c *counter) cancel(id uint64) {
	c.mu.Lock()
	end := c.cancels[id]
	delete(c.cancels, id)
	c.mu.Unlock()
	if end != nil {
		end()
	}
}

// forget ends an exchange that the client has broken off.
func (c *counter) forget(exchange uint64) {
	c.mu.Lock()
	delete(c.exchanges, exchange)
	c.mu.Unlock()
}

// mostLocked are told of at once: a message has a bound.
const mostLocked = 300

// answer does what was asked.
func (c *counter) answer(ctx context.Context, a *asked) (r answered, files []*os.File) {
	users, at := c.desk.Users, a.At.attempt()
	switch a.Do {
	case "mechanisms":
		r.Names = users.Mechanisms(at)
	case "passwords":
		r.Yes = users.Passwords(at)
	case "login":
		u, err := users.Login(ctx, a.User, a.Password, at)
		c.admit(&r, u, err)
	case "start":
		ex, err := users.Start(a.Mech, at)
		if err == nil {
			r.Exchange, err = c.keep(a.ID, ex)
		}
		if err != nil {
			r.explain(err)
		}
	case "next":
		c.next(ctx, &r, a)
	case "enter":
		files = c.enter(ctx, &r, a)
	case "locked":
		list := users.Locked()
		r.Locked = list[:min(len(list), mostLocked)]
	case "unlock":
		list, err := users.Unlock(a.User)
		if err != nil {
			r.Failed = err.Error()
		}
		r.Locked = list[:min(len(list), mostLocked)]
	case "stands":
		u, err := c.seals.open(a.Seal)
		if err == nil {
			err = users.Stands(ctx, u)
		}
		if err != nil {
			r.Failed = err.Error()
		}
	case "events":
		if c.desk.Events == nil {
			r.Failed = "no history of events is kept"
			break
		}
		list, err := c.desk.Events(a.User, min(max(a.N, 0), mostLocked))
		if err != nil {
			r.Failed = err.Error()
		}
		r.Events = list[:min(len(list), mostLocked)]
	case "gateway":
		users.Gateway(a.Addr)
	default:
		r.Failed = "the desk does not know what is asked"
	}
	return r, files
}

// admit gives whoever proved who they are a ticket.
func (c *counter) admit(r *answered, u auth.User, err error) {
	if err != nil {
		r.explain(err)
		return
	}
	shown := u.Proof
	shown.Secret = [len(shown.Secret)]byte{}
	r.Done, r.Who = true, &proven{Name: u.Name, Login: u.Login, Proof: shown}
	if r.Who.Seal, err = c.seals.close(u); err != nil {
		r.explain(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Ticket = c.tickets.give(u, time.Now()) // without it will not be let in
}

// room reports whether m may have one more, and where it is full lets go of what is old.
func room[K comparable, V any](m map[K]V, most int, old func(V) bool) bool {
	if len(m) >= most {
		maps.DeleteFunc(m, func(_ K, v V) bool { return old(v) })
	}
	return len(m) < most
}

// exchangeTime is how long an exchange is kept without an answer from the client, where room
// is needed: longer than the time to log in.
const exchangeTime = 5 * time.Minute

// keep remembers an exchange by the number of the question that began it.
func (c *counter) keep(id uint64, ex auth.Exchange) (uint64, error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !room(c.exchanges, c.desk.Most, func(r *running) bool { return now.Sub(r.begun) > exchangeTime }) {
		return 0, errors.New("too many logins are under way")
	}
	c.exchanges[id] = &running{ex: ex, begun: now}
	return id, nil
}

// next goes on with an exchange.
func (c *counter) next(ctx context.Context, r *answered, a *asked) {
	c.mu.Lock()
	run := c.exchanges[a.Exchange]
	c.mu.Unlock()
	if run == nil || !run.mu.TryLock() {
		r.Failed = "there is no such exchange"
		return
	}
	defer run.mu.Unlock()
	response := a.Response
	if !a.None && response == nil {
		response = []byte{}
	}
	challenge, done, err := run.ex.Next(ctx, response)
	r.Challenge = challenge // beside an error too
	if err != nil || done {
		c.mu.Lock()
		delete(c.exchanges, a.Exchange)
		c.mu.Unlock()
	}
	if err != nil || done {
		var u auth.User
		if err == nil {
			u = run.ex.User()
		}
		c.admit(r, u, err)
	}
}

// idSize bounds what the front calls a session, in bytes.
const idSize = 64

// enter makes a login a session.
func (c *counter) enter(ctx context.Context, r *answered, a *asked) []*os.File {
	c.mu.Lock()
	u, ok := c.tickets.take(a.Ticket, time.Now())
	c.mu.Unlock()
	if !ok || a.Login == nil || len(a.Login.ID) > idSize {
		r.Failed = "nobody has logged in"
		return nil
	}
	o, who, settings, err := c.desk.Place(ctx, u)
	if err == nil {
		in := *a.Login
		in.Who, in.Addr = who, in.Addr.WithZone("") // a zone can be any text
		in.Ticket, err = c.passes.pass(Session{ID: in.ID, User: who.User, Login: who.Login, Addr: in.Addr, UID: o.UID})
		if err == nil {
			o.Job, err = jobFor(in, settings, nil)
		}
	}
	if err == nil {
		o.Front = c.front
		var p placed
		if p, err = c.desk.order(ctx, o); err == nil {
			r.Worker, r.Linked = p.Worker, p.Linked
			return p.files
		}
	}
	r.Failed = err.Error()
	return nil
}

// order has the parent make a session.
func (d *Desk) order(ctx context.Context, o Order) (placed, error) {
	done := make(chan placed, 1)
	d.mu.Lock()
	if d.orders == nil {
		d.mu.Unlock()
		return placed{}, errors.New("nobody can be asked yet")
	}
	d.serial++
	o.ID = d.serial
	d.orders[o.ID] = done
	d.mu.Unlock()
	if err := d.parent.send(o); err != nil {
		d.mu.Lock()
		delete(d.orders, o.ID)
		d.mu.Unlock()
		return placed{}, err
	}
	select {
	case p := <-done:
		if p.Failed != "" {
			closeAll(p.files)
			return placed{}, errors.New(p.Failed)
		}
		return p, nil
	case <-ctx.Done():
		d.mu.Lock()
		_, mine := d.orders[o.ID]
		delete(d.orders, o.ID)
		d.mu.Unlock()
		if !mine {
			closeAll((<-done).files)
		}
		return placed{}, context.Cause(ctx)
	}
}

// jobFor makes what a worker gets. settings are the program's, note is nil for a session.
func jobFor(in session.Login, settings any, note []byte) (json.RawMessage, error) {
	b, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Job{Login: in, Settings: b, Note: note})
}
