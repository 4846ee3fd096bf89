package workers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/events"
	"roost/server/session"
	"roost/server/wire"
	"roost/store"
)

// users has ann, whose password is right.
type users struct {
	blocking chan struct{} // closed: Login of "slow" has begun
	ended    chan error
}

func (u *users) Mechanisms(at auth.Attempt) []string { return []string{"PLAIN"} }
func (u *users) Passwords(at auth.Attempt) bool      { return true }
func (u *users) Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error) {
	if user == "slow" {
		close(u.blocking)
		<-ctx.Done()
		u.ended <- ctx.Err()
		return auth.User{}, ctx.Err()
	}
	if user != "ann" || password != "right" {
		return auth.User{}, &auth.Refusal{Err: auth.ErrDenied, User: user, Reason: "wrong password"}
	}
	return auth.User{Name: user, Login: user, Proof: auth.Proof{App: "phone", Secret: secret}}, nil
}

var secret = [32]byte{1, 2, 3}

func (u *users) Start(mech string, at auth.Attempt) (auth.Exchange, error) {
	if mech != "PLAIN" {
		return nil, auth.ErrMechanism
	}
	return &twoSteps{users: u}, nil
}
func (u *users) OnChange(fn func()) {}
func (u *users) Stands(ctx context.Context, w auth.User) error {
	if w.Name != "ann" || w.Proof.Secret != secret {
		return auth.ErrPasswordChanged
	}
	return nil
}
func (u *users) Locked() []auth.Locked                     { return nil }
func (u *users) Unlock(what string) ([]auth.Locked, error) { return nil, nil }
func (u *users) Gateway(addr netip.Addr)                   {}

// twoSteps wants "ann right" as its second response.
type twoSteps struct {
	users *users
	asked bool
	user  auth.User
}

func (e *twoSteps) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if !e.asked {
		e.asked = true
		return []byte("who?"), false, nil
	}
	name, password, _ := strings.Cut(string(response), " ")
	if password == "expired" { // a token
		return []byte("another"), false, &auth.Refusal{Err: auth.ErrExpired}
	}
	e.user, err = e.users.Login(ctx, name, password, auth.Attempt{})
	return nil, err == nil, err
}
func (e *twoSteps) User() auth.User { return e.user }

// table is a desk between a front and a parent that the test is.
type table struct {
	t       *testing.T
	users   *users
	desk    *Desk
	answers chan func(net.Conn)
	front   *channel // the test is the front
	parent  *channel // and the parent
	orders  chan Order
	deeds   chan string
	key     []byte
	stop    context.CancelFunc // ends the desk
	serial  uint64
}

func newTable(t *testing.T, change ...func(*table, *Desk)) *table {
	t.Helper()
	tb := &table{t: t, users: &users{blocking: make(chan struct{}), ended: make(chan error, 1)}, orders: make(chan Order, 10), deeds: make(chan string, 100_000), key: newKey()}
	ours, theirs := mustPair(t, unix.SOCK_SEQPACKET)
	var err error
	if tb.parent, err = newChannel(ours); err != nil {
		t.Fatal(err)
	}
	d := &Desk{Users: tb.users, Log: slog.New(slog.DiscardHandler), Most: 20,
		Place: func(_ context.Context, u auth.User) (Order, store.Identity, any, error) {
			return Order{UID: 1000, GID: 1000, Dirs: []string{"/home/" + u.Name}}, store.Identity{User: u.Name, Login: u.Login}, nil, nil
		},
		Deed: func(who Session, client string, d session.Brief) {
			tb.deeds <- fmt.Sprint(who.User, " ", who.Addr, " ", who.ID, " ", client, ": ", d.What, " ", d.Mailbox, " ", d.Messages)
		},
		Events: func(_ string, n int) ([]events.Event, error) { return make([]events.Event, 3)[3-min(n, 3):], nil }}
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	tb.desk, tb.stop = d, stop
	for _, f := range change {
		f(tb, d)
	}
	go func() { done <- d.Serve(ctx, theirs) }()
	a, b := mustPair(t, unix.SOCK_SEQPACKET)
	if err := tb.parent.send(ordered{Front: 7, Key: tb.key}, a); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if tb.front, err = newChannel(b); err != nil {
		t.Fatal(err)
	}
	go func() { // the parent; ends with the channel
		for {
			var o Order
			if _, err := tb.parent.receive(&o, 0); err != nil {
				return
			}
			tb.orders <- o
			x, y, err := pair(unix.SOCK_STREAM, "session")
			if err != nil {
				return
			}
			tb.parent.send(ordered{ID: o.ID, Worker: 1}, x)
			x.Close()
			select {
			case answer := <-tb.answers: // of the worker
				far, err := socket(y)
				if err != nil {
					return
				}
				answer(far)
				t.Cleanup(func() { far.Close() })
			default:
				y.Close()
			}
		}
	}()
	t.Cleanup(func() {
		tb.front.close()
		tb.parent.close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return tb
}

func mustPair(t *testing.T, kind int) (a, b *os.File) {
	t.Helper()
	a, b, err := pair(kind, "test")
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// ask is one question with its answer.
func (tb *table) ask(a asked) (r answered, files []*os.File) {
	tb.t.Helper()
	tb.serial++
	a.ID = tb.serial
	if err := tb.front.send(a); err != nil {
		tb.t.Fatal(err)
	}
	files, err := tb.front.receive(&r, 2)
	if err != nil || r.ID != a.ID {
		tb.t.Fatalf("%+v, %v", r, err)
	}
	return r, files
}

// refused tries to become somebody.
func (tb *table) refused(what string, a asked) {
	tb.t.Helper()
	r, files := tb.ask(a)
	if r.err() == nil || len(files) > 0 || r.Ticket != "" {
		tb.t.Errorf("%s: %+v", what, r)
	}
	select {
	case o := <-tb.orders:
		tb.t.Errorf("%s: the parent got the order %+v", what, o)
	default:
	}
}

// A front that was taken over can become nobody who has not proved to the desk who they are.
func TestDeskBelievesNobody(t *testing.T) {
	tb := newTable(t)
	login := &session.Login{ID: "x", Tag: "a"}
	login.Who.User = "ben"
	tb.refused("no ticket", asked{Do: "enter", Login: login})
	tb.refused("a guess", asked{Do: "enter", Ticket: "AAAAAAAAAAAAAAAAAAAAAAAAAA", Login: login})
	tb.refused("a wrong password", asked{Do: "login", User: "ann", Password: "wrong"})
	tb.refused("an exchange that never was", asked{Do: "next", Exchange: 99, Response: []byte("ann right")})
	tb.refused("a mechanism that is not", asked{Do: "start", Mech: "EXTERNAL"})
	tb.refused("a question that is none", asked{Do: "become", User: "ann"})
	tb.refused("an event of its own", asked{Do: "note", User: "ann"})

	r, _ := tb.ask(asked{Do: "start", Mech: "PLAIN"})
	id := r.Exchange
	if r, _ = tb.ask(asked{Do: "next", Exchange: id, None: true}); string(r.Challenge) != "who?" {
		t.Fatalf("%+v", r)
	}
	tb.refused("an exchange that failed", asked{Do: "next", Exchange: id, Response: []byte("ann wrong")})
	tb.refused("and is gone on with", asked{Do: "next", Exchange: id, Response: []byte("ann right")})

	// What a client is told beside a refusal is not lost on the way.
	r, _ = tb.ask(asked{Do: "start", Mech: "PLAIN"})
	id = r.Exchange
	tb.ask(asked{Do: "next", Exchange: id, None: true})
	if r, _ = tb.ask(asked{Do: "next", Exchange: id, Response: []byte("ann expired")}); string(r.Challenge) != "another" || !errors.Is(r.err(), auth.ErrExpired) || r.Done {
		t.Errorf("%+v", r)
	}

	// Who logged in is who logged in, whatever the front says of them.
	r, _ = tb.ask(asked{Do: "login", User: "ann", Password: "right"})
	if r.Ticket == "" || r.Who.Name != "ann" {
		t.Fatalf("%+v", r)
	}
	ticket := r.Ticket
	r, files := tb.ask(asked{Do: "enter", Ticket: ticket, Login: login})
	if r.err() != nil || len(files) != 1 {
		t.Fatalf("%+v", r)
	}
	closeAll(files)
	o := <-tb.orders
	var job Job
	if err := json.Unmarshal(o.Job, &job); err != nil || job.Login.Who.User != "ann" || o.Front != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	tb.refused("a ticket again", asked{Do: "enter", Ticket: ticket, Login: login})
	r, _ = tb.ask(asked{Do: "login", User: "ann", Password: "right"})
	tb.refused("a ticket without a login", asked{Do: "enter", Ticket: r.Ticket})

	// Who gives up is not looked for any longer.
	if err := tb.front.send(asked{ID: 1000, Do: "login", User: "slow"}); err != nil {
		t.Fatal(err)
	}
	<-tb.users.blocking
	if err := tb.front.send(asked{Do: "cancel", Exchange: 1000}); err != nil {
		t.Fatal(err)
	}
	if err := <-tb.users.ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var late answered
	if _, err := tb.front.receive(&late, 0); err != nil || late.ID != 1000 {
		t.Errorf("%+v, %v", late, err)
	}

	// What it keeps has a bound.
	for range 20 {
		r, _ = tb.ask(asked{Do: "start", Mech: "PLAIN"})
	}
	tb.refused("exchanges without end", asked{Do: "start", Mech: "PLAIN"})
	// And what it does not understand ends that front alone.
	if _, err := tb.front.conn.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.front.receive(&r, 0); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// Whether a login still stands a front may ask of those who logged in by it, and cannot try
// secrets so: nothing would count them.
func TestDeskIsNoOracleOfSecrets(t *testing.T) {
	tb := newTable(t)
	r, _ := tb.ask(asked{Do: "login", User: "ann", Password: "right"})
	if r.Who == nil || r.Who.Proof.App != "phone" || r.Who.Proof.Secret != [32]byte{} || bytes.Contains(r.Who.Seal, secret[:3]) {
		t.Fatalf("the front is told %+v", r.Who)
	}
	mine := r.Who.Seal
	if r, _ = tb.ask(asked{Do: "stands", Seal: mine}); r.err() != nil {
		t.Error(r.err())
	}
	for i := range mine {
		other := bytes.Clone(mine)
		other[i] ^= 1
		if r, _ = tb.ask(asked{Do: "stands", Seal: other}); r.Failed != errSeal.Error() {
			t.Fatalf("byte %d changed: %+v", i, r)
		}
	}
	own, err := newSeal(newKey())
	if err != nil {
		t.Fatal(err)
	}
	forged, err := own.close(auth.User{Name: "ann", Login: "ann", Proof: auth.Proof{Secret: secret}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{nil, {1}, forged, []byte(`{"Name":"ann","Proof":{}}`)} {
		if r, _ = tb.ask(asked{Do: "stands", Seal: s}); r.Failed != errSeal.Error() {
			t.Errorf("%q: %+v", s, r)
		}
	}
	if again, _ := tb.ask(asked{Do: "login", User: "ann", Password: "right"}); !bytes.Equal(again.Who.Seal, mine) {
		t.Error("sessions of one user have each a seal of their own")
	}
	if r, _ = tb.ask(asked{Do: "events", User: "ann", N: -1}); len(r.Events) != 0 || r.err() != nil {
		t.Errorf("%+v", r)
	}
}

// Exchanges that clients begin and break off take no room: else one client could keep
// everybody from logging in.
func TestExchangesBrokenOffAreForgotten(t *testing.T) {
	tb := newTable(t)
	for range 200 {
		r, _ := tb.ask(asked{Do: "start", Mech: "PLAIN"})
		if r.err() != nil {
			t.Fatal(r.err())
		}
		tb.ask(asked{Do: "next", Exchange: r.Exchange, None: true})
		if err := tb.front.send(asked{Do: "forget", Exchange: r.Exchange}); err != nil {
			t.Fatal(err)
		}
	}
}

// Logins that do not become sessions, for there are too many of the user, take no room from
// others.
func TestTicketsOfOneUserAreBounded(t *testing.T) {
	now := time.Now()
	k := newTickets(1000)
	var list []string
	for range 5000 {
		list = append(list, k.give(auth.User{Login: "mallory"}, now))
	}
	if len(k.all) != 50 || len(k.of["mallory"]) != 50 {
		t.Fatalf("%d tickets of one user", len(k.all))
	}
	ann := k.give(auth.User{Login: "ann"}, now)
	if u, ok := k.take(ann, now.Add(ticketTime)); !ok || u.Login != "ann" {
		t.Error("ann is not let in")
	}
	if _, ok := k.take(ann, now); ok {
		t.Error("a ticket counts twice")
	}
	if _, ok := k.take(list[0], now); ok {
		t.Error("the oldest counts still")
	}
	if _, ok := k.take(list[4999], now.Add(ticketTime+1)); ok {
		t.Error("a ticket counts for ever")
	}
	for i := range 2000 {
		k.give(auth.User{Login: fmt.Sprint(i)}, now)
	}
	if len(k.all) != 1000 || k.give(auth.User{Login: "ben"}, now) != "" {
		t.Errorf("%d tickets", len(k.all))
	}
	if k.give(auth.User{Login: "ben"}, now.Add(ticketTime+1)) == "" || len(k.all) != 1 || len(k.of) != 1 {
		t.Errorf("%d of %d users are left", len(k.all), len(k.of))
	}
}

// What the parent does not leave to the desk.
func TestParentPermits(t *testing.T) {
	p := &Parent{MinUID: 1000, MinGID: 100}
	ok := Order{UID: 1000, GID: 100, Groups: []uint32{0, 4, 42, 100, 2000}, Dirs: []string{"/home/ann"}}
	if err := p.permits(&ok); err != nil || fmt.Sprint(ok.Groups) != "[100 2000]" {
		t.Errorf("%v, %v", ok.Groups, err)
	}
	for _, o := range []Order{{UID: 0, GID: 1000}, {UID: 999, GID: 1000}, {UID: 1000, GID: 0}, {UID: 1000, GID: 99}, {UID: 1000, GID: 1000}} {
		if len(o.Dirs) == 0 && o.UID >= 1000 && o.GID >= 1000 {
			// without directories
		} else {
			o.Dirs = []string{"/home/ann"}
		}
		if err := p.permits(&o); err == nil {
			t.Errorf("%+v is permitted", o)
		}
	}
	open := Parent{}
	if open.permits(&Order{UID: 0, GID: 1000, Dirs: []string{"/"}}) == nil || open.permits(&Order{UID: 1000, GID: 0, Dirs: []string{"/"}}) == nil {
		t.Error("root works")
	}
}

// A worker may tell of its own sessions only, and not without end.
func TestFrontAndAWorkerTakenOver(t *testing.T) {
	told := make(chan string, 10)
	f := &Front{opt: FrontOptions{Log: slog.New(slog.DiscardHandler), Notice: func(id string, _ session.Activity) { told <- id }}, waiting: map[uint64]*question{}, links: map[uint64]*workerLink{}}
	ours, theirs := mustPair(t, unix.SOCK_SEQPACKET)
	w, err := f.linkTo(t.Context(), 1, ours)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := newChannel(theirs)
	if err != nil {
		t.Fatal(err)
	}
	mine := &visit{in: &session.Login{ID: "mine"}, link: w, outcome: make(chan *outcome, 1)}
	w.mu.Lock()
	w.sessions["mine"] = mine
	w.mu.Unlock()
	for _, id := range []string{"another", "", "mine"} {
		if err := worker.send(linked{ID: id, Notice: &session.Activity{Mailbox: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if id := <-told; id != "mine" || len(told) > 0 {
		t.Errorf("told of %q", id)
	}
	for range 40 {
		if err := worker.send(linked{ID: "mine", Input: bytes.Repeat([]byte("x"), 64<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := worker.send(linked{ID: "mine", Outcome: &outcome{Reason: "first"}}); err != nil {
		t.Fatal(err)
	}
	if err := worker.send(linked{ID: "mine", Outcome: &outcome{Reason: "second"}}); err != nil {
		t.Fatal(err)
	}
	if out := <-mine.outcome; out.Reason != "first" || len(mine.input) > maxLeft {
		t.Errorf("%+v, %d bytes", out, len(mine.input))
	}
	// One that goes takes what was left with it.
	last := &visit{in: &session.Login{ID: "last"}, link: w, outcome: make(chan *outcome, 1)}
	w.mu.Lock()
	w.sessions["last"] = last
	w.mu.Unlock()
	worker.close()
	if out := <-last.outcome; out != nil {
		t.Errorf("%+v", out)
	}
	w.wg.Wait()
}

// A client that takes nothing does not hold up its worker for ever, nor the end.
func TestClientThatDoesNotRead(t *testing.T) {
	client, far := net.Pipe()
	defer far.Close()
	a, b := mustPair(t, unix.SOCK_STREAM)
	sa, err1 := socket(a)
	sb, err2 := socket(b)
	front, err3 := newStream(sa)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	l, err := newLinkPair(t)
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{client: client, worker: front, link: l, in: &session.Login{ID: "x"}, outcome: make(chan *outcome, 1), timeout: time.Millisecond, silence: time.Minute}
	v.tap = new(wire.Tap)
	go func() { // the worker: it writes until it is told that nobody listens
		for {
			if _, err := sb.Write(make([]byte, 1<<20)); err != nil {
				v.outcome <- &outcome{Reason: "deaf"}
				return
			}
		}
	}()
	out, err := v.carry(t.Context())
	if err != nil || out.Reason != "deaf" {
		t.Errorf("%+v, %v", out, err)
	}
}

func newLinkPair(t *testing.T) (*workerLink, error) {
	a, b := mustPair(t, unix.SOCK_SEQPACKET)
	t.Cleanup(func() { b.Close() })
	w := &workerLink{sessions: map[string]*visit{}}
	l, err := newLink(a, func(linked) {}, func() {})
	w.link = l
	if err == nil {
		t.Cleanup(func() { l.end(); l.wg.Wait() })
	}
	return w, err
}

// A worker that its user has stopped holds nobody who goes.
func TestWorkerThatSaysNothing(t *testing.T) {
	client, far := net.Pipe()
	a, b := mustPair(t, unix.SOCK_STREAM)
	defer b.Close()
	sa, err := socket(a)
	if err != nil {
		t.Fatal(err)
	}
	front, err := newStream(sa)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLinkPair(t)
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{client: client, worker: front, link: l, in: &session.Login{ID: "x"}, outcome: make(chan *outcome, 1), tap: new(wire.Tap), timeout: time.Minute, silence: time.Millisecond}
	l.sessions["x"] = v
	far.Close()
	if out, err := v.carry(t.Context()); err == nil || out.Unauthenticated || len(l.sessions) > 0 {
		t.Errorf("%+v, %v", out, err)
	}
}
