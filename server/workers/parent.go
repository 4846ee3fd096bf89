package workers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Role is what a process is there for.
type Role string

const (
	RoleFront  Role = "front"  // speaks with clients; knows neither passwords nor mail
	RoleDesk   Role = "desk"   // knows passwords, and where mail is
	RoleWorker Role = "worker" // has the mail of one uid
	RoleIssuer Role = "issuer" // asks an authority for certificates
)

// A Parent starts the other processes, and is the one that may. It does nothing that is
// not needed for that: of the front it reads a single byte, of workers a number, and of the
// desk orders.
type Parent struct {
	Log *slog.Logger

	// Start starts a process. files are its descriptors from 3 on.
	Start func(role Role, as *syscall.Credential, files []*os.File) (*os.Process, error)

	MinUID, MinGID uint32        // nobody below works
	Most           int           // workers; 0 is 20,000
	Idle           time.Duration // how long a worker stays without a session
	Patience       time.Duration // for a process to end
	Listeners      []*os.File    // of the front
	AuthListeners  []*os.File    // of the desk
	Challenges     *os.File      // listener of the issuer; nil: nobody asks for certificates

	mu      sync.Mutex // guards what follows; a map operation at a time
	front   uint64     // the newest
	fronts  *child
	desk    *child
	issuer  *child // nil: there is none
	workers map[string]*worker
	serial  uint64
	ended   bool
	wg      sync.WaitGroup

	key []byte // of what each desk seals for the front
}

// child is the front, the desk or the issuer.
type child struct {
	role   Role
	number uint64
	proc   *os.Process
	ch     *channel
	gone   chan struct{} // closed when it has ended
	err    error         // readable after gone
}

// worker is one process of a uid.
type worker struct {
	uid    uint32
	number uint64
	ready  chan struct{} // closed when it was started, or failed
	err    error         // readable after ready
	proc   *os.Process
	ch     *channel
	gone   chan struct{} // closed when it has ended

	starting sync.Mutex // one message to it at a time, so that the link comes first
	linked   uint64     // the front that has the other end of its link
	tells    uint64     // the desk that has the other end of its word of deeds

	// Guarded by Parent.mu.
	sessions int
	ending   bool
	timer    *time.Timer
}

const (
	// restartAfter is how long a process that ended at once is left alone.
	restartAfter = time.Second

	// issuerAfter is how long the issuer is left alone at most.
	issuerAfter = 10 * time.Minute
)

// issuerPause is how long an issuer that ended is left alone, which nobody waits for: twice
// as long as the last time, unless it lived for long.
func issuerPause(last, lived time.Duration) time.Duration {
	if lived > issuerAfter {
		last = 0
	}
	return min(max(2*last, restartAfter), issuerAfter)
}

// Serve starts front and desk, and whoever they need, until ctx ends, or one of them cannot
// be started. ready is called when clients can connect.
func (p *Parent) Serve(ctx context.Context, ready func()) error {
	p.workers, p.key = map[string]*worker{}, newKey()
	if p.Most <= 0 {
		p.Most = 20_000
	}
	if p.Patience <= 0 {
		p.Patience = 20 * time.Second
	}
	defer p.stop()
	desk, err := p.startDesk()
	if err != nil {
		return err
	}
	front, heard, err := p.startFront()
	if err != nil {
		return err
	}
	if err := p.introduce(front, desk); err != nil {
		return err
	}
	var asking <-chan struct{} // closed when the issuer has ended
	var again <-chan time.Time // when it is started anew
	var asked time.Time        // when it was started
	var pause time.Duration    // before that
	if p.Challenges != nil {
		if asking, err = p.startIssuer(front); err != nil {
			return err
		}
		asked = time.Now()
	}
	begun := time.Now()
	for {
		var dead *child
		select {
		case <-heard:
			heard = nil
			ready()
			continue
		case <-ctx.Done():
			return nil
		case <-desk.gone:
			dead = desk
		case <-front.gone:
			dead = front
		case <-asking:
			dead = p.issuer
		case <-again:
			if asking, err = p.startIssuer(front); err != nil {
				return err
			}
			again, asked = nil, time.Now()
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if heard != nil { // the configuration, a port: it has told why
			return fmt.Errorf("the %s process cannot start: %w", dead.role, dead.err)
		}
		p.Log.Error("a process ended and is started anew", "event", "isolation_died", "role", dead.role, "pid", dead.proc.Pid, "err", dead.err)
		if dead == p.issuer {
			pause = issuerPause(pause, time.Since(asked))
			asking, again = nil, time.After(pause)
			continue
		}
		if time.Since(begun) < restartAfter {
			select {
			case <-time.After(restartAfter):
			case <-ctx.Done():
				return nil
			}
		}
		begun = time.Now()
		if dead == desk {
			desk, err = p.startDesk()
		} else if front, _, err = p.startFront(); err == nil && p.issuer != nil {
			err = p.acquaintIssuer(front)
		}
		if err == nil {
			err = p.introduce(front, desk)
		}
		if err != nil {
			return err
		}
	}
}

// child starts one of those.
func (p *Parent) child(role Role, files ...*os.File) (*child, error) {
	ours, theirs, err := pair(unix.SOCK_SEQPACKET, string(role))
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	ch, err := newChannel(ours)
	if err != nil {
		return nil, err
	}
	proc, err := p.Start(role, nil, append([]*os.File{theirs}, files...))
	if err != nil {
		ch.close()
		return nil, fmt.Errorf("start the %s process: %w", role, err)
	}
	p.mu.Lock()
	p.serial++
	c := &child{role: role, number: p.serial, proc: proc, ch: ch, gone: make(chan struct{})}
	p.mu.Unlock()
	// Ends with the process.
	p.wg.Go(func() {
		state, err := proc.Wait()
		if err == nil {
			err = errors.New(state.String())
		}
		c.err = err
		ch.close()
		close(c.gone)
	})
	return c, nil
}

func (p *Parent) startDesk() (*child, error) {
	c, err := p.child(RoleDesk, p.AuthListeners...)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.desk = c
	workers := slices.Collect(maps.Values(p.workers))
	p.mu.Unlock()
	for _, w := range workers {
		p.wg.Go(func() { // ends when it has started
			if <-w.ready; w.err == nil {
				p.acquaint(w)
			}
		})
	}
	// Ends with the desk.
	p.wg.Go(func() {
		for {
			var o Order
			if _, err := c.ch.receive(&o, 0); err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					p.Log.Error("the desk process is not understood", "event", "isolation_desk", "err", err)
					c.proc.Kill()
				}
				return
			}
			p.wg.Go(func() { p.fill(c, o) })
		}
	})
	return c, nil
}

// startFront starts the process that speaks with clients. heard is closed when it does.
func (p *Parent) startFront() (c *child, heard chan struct{}, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	c, err = p.child(RoleFront, append([]*os.File{w}, p.Listeners...)...)
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	p.mu.Lock()
	p.fronts, p.front = c, c.number
	p.mu.Unlock()
	heard = make(chan struct{})
	// Ends with the first byte, or the front.
	p.wg.Go(func() {
		defer r.Close()
		if n, _ := r.Read(make([]byte, 1)); n == 1 {
			close(heard)
		}
	})
	return c, heard, nil
}

// startIssuer starts the process that asks for certificates.
func (p *Parent) startIssuer(front *child) (gone <-chan struct{}, err error) {
	c, err := p.child(RoleIssuer, p.Challenges)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.issuer = c
	p.mu.Unlock()
	return c.gone, p.acquaintIssuer(front)
}

// acquaintIssuer gives the issuer a channel to a front.
func (p *Parent) acquaintIssuer(front *child) error {
	return join("certificates", p.issuer.ch, toIssuer{Front: front.number}, front.ch, toFront{Issuer: p.issuer.number})
}

// introduce gives front and desk a channel between them.
func (p *Parent) introduce(front, desk *child) error {
	return join("desk", desk.ch, ordered{Front: front.number, Key: p.key}, front.ch, toFront{Desk: desk.number})
}

// join gives two processes the ends of a new channel, each with word of the other. One that
// has just ended hears nothing, and is seen to by who waits for it.
func join(name string, a *channel, toA any, b *channel, toB any) error {
	endA, endB, err := pair(unix.SOCK_SEQPACKET, name)
	if err != nil {
		return err
	}
	defer endA.Close()
	defer endB.Close()
	_ = a.send(toA, endA)
	_ = b.send(toB, endB)
	return nil
}

// permits is what the parent does not leave to the desk.
func (p *Parent) permits(o *Order) error {
	switch {
	case o.UID == 0 || o.UID < p.MinUID:
		return fmt.Errorf("uid %d is below isolation.min_uid, which is %d: its mail is not served", o.UID, p.MinUID)
	case o.GID == 0 || o.GID < p.MinGID:
		return fmt.Errorf("gid %d is below isolation.min_gid, which is %d: the mail of uid %d is not served", o.GID, p.MinGID, o.UID)
	case len(o.Dirs) == 0:
		return errors.New("an order without directories")
	}
	// What opens devices and logs has nothing to do with mail.
	o.Groups = slices.DeleteFunc(o.Groups, func(g uint32) bool { return g == 0 || g < p.MinGID })
	return nil
}

// fill does what the desk ordered, and answers.
func (p *Parent) fill(desk *child, o Order) {
	answer := ordered{ID: o.ID}
	w, files, linked, err := p.session(&o)
	if err != nil {
		p.Log.Error("no process for a user", "event", "isolation_worker", "uid", o.UID, "err", err)
		answer.Failed = err.Error()
	} else {
		answer.Worker, answer.Linked = w.number, linked
	}
	_ = desk.ch.send(answer, files...) // a desk that is gone takes the login with it
	closeAll(files)
}

// session gives a worker its job, and the front's ends of what is between them.
func (p *Parent) session(o *Order) (w *worker, files []*os.File, linked bool, err error) {
	if err := p.permits(o); err != nil {
		return nil, nil, false, err
	}
	w, err = p.worker(o)
	if err != nil {
		return nil, nil, false, err
	}
	theirs, ours, err := pair(unix.SOCK_STREAM, "session")
	if err != nil {
		p.over(w, 1)
		return nil, nil, false, err
	}
	defer theirs.Close()
	files = append(files, ours)
	give := []*os.File{theirs}
	w.starting.Lock()
	defer w.starting.Unlock()
	if linked = !o.Note && w.linked != o.Front; linked {
		a, b, err := pair(unix.SOCK_SEQPACKET, "link")
		if err != nil {
			closeAll(files)
			p.over(w, 1)
			return nil, nil, false, err
		}
		defer a.Close()
		give, files = append(give, a), append(files, b)
	}
	if err := w.ch.send(toWorker{Job: o.Job, Link: linked}, give...); err != nil {
		closeAll(files)
		w.proc.Kill() // it does not read, or is gone
		return nil, nil, false, fmt.Errorf("the process of uid %d takes no session: %w", o.UID, err)
	}
	if !o.Note {
		w.linked = o.Front
	}
	return w, files, linked, nil
}

// worker finds or starts the worker for an order, with a session of its own counted.
func (p *Parent) worker(o *Order) (*worker, error) {
	key := fmt.Sprint(o.UID, " ", o.GID, " ", o.Groups, " ", strings.Join(o.Dirs, "\x00"))
	for {
		p.mu.Lock()
		if p.ended || !o.Note && o.Front != p.front {
			p.mu.Unlock()
			return nil, errors.New("nobody wants the session any more")
		}
		w := p.workers[key]
		if w != nil && w.ending {
			// Two of them on one mailbox would not share what they know.
			p.mu.Unlock()
			<-w.gone
			continue
		}
		if w != nil {
			w.sessions++
			if w.timer != nil {
				w.timer.Stop()
			}
			p.mu.Unlock()
			<-w.ready
			return w, w.err
		}
		if len(p.workers) >= p.Most {
			p.mu.Unlock()
			return nil, errors.New("too many workers")
		}
		p.serial++
		w = &worker{uid: o.UID, number: p.serial, ready: make(chan struct{}), gone: make(chan struct{}), sessions: 1}
		p.workers[key] = w
		p.mu.Unlock()
		w.err = p.start(key, w, o)
		close(w.ready)
		return w, w.err
	}
}

// start starts a worker.
func (p *Parent) start(key string, w *worker, o *Order) error {
	forget := func() {
		p.mu.Lock()
		delete(p.workers, key)
		p.mu.Unlock()
		close(w.gone)
	}
	ours, theirs, err := pair(unix.SOCK_SEQPACKET, "worker")
	if err != nil {
		forget()
		return err
	}
	defer theirs.Close()
	if w.ch, err = newChannel(ours); err != nil {
		forget()
		return err
	}
	w.proc, err = p.Start(RoleWorker, &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}, []*os.File{theirs})
	if err != nil {
		w.ch.close()
		forget()
		return fmt.Errorf("start a process of uid %d: %w", o.UID, err)
	}
	// Ends with the process.
	p.wg.Go(func() {
		state, err := w.proc.Wait()
		p.mu.Lock()
		meant := w.ending
		w.ending = true
		if w.timer != nil {
			w.timer.Stop()
		}
		p.mu.Unlock()
		w.ch.close()
		forget()
		switch {
		case !meant:
			p.Log.Error("the process of a user ended", "event", "isolation_worker_died", "uid", w.uid, "pid", w.proc.Pid, "err", fmt.Sprint(state, err))
		default:
			p.Log.Debug("the process of a user ended", "event", "isolation_worker_end", "uid", w.uid, "pid", w.proc.Pid)
		}
	})
	// Ends with the process.
	p.wg.Go(func() {
		for {
			var m fromWorker
			if _, err := w.ch.receive(&m, 0); err != nil {
				return
			}
			p.over(w, 1) // whatever it says
		}
	})
	p.Log.Debug("a process for a user", "event", "isolation_worker_start", "uid", w.uid, "pid", w.proc.Pid)
	if err := w.ch.send(toWorker{Begin: &Begin{Dirs: o.Dirs}}); err != nil {
		w.proc.Kill()
		return fmt.Errorf("the process of uid %d does not listen: %w", o.UID, err)
	}
	p.acquaint(w)
	return nil
}

// acquaint gives a worker and the desk that is there now a channel, once.
func (p *Parent) acquaint(w *worker) {
	w.starting.Lock()
	defer w.starting.Unlock()
	p.mu.Lock()
	desk := p.desk
	p.mu.Unlock()
	if w.tells == desk.number {
		return
	}
	// Of a worker that is gone nothing is lost, and the next desk gets another.
	if err := join("deeds", w.ch, toWorker{Desk: true}, desk.ch, ordered{Tells: true, UID: w.uid, Key: p.key}); err != nil {
		p.Log.Error("what a user does to mail is not told", "event", "isolation_worker", "uid", w.uid, "err", err)
		return
	}
	w.tells = desk.number
}

// over counts sessions that have ended. A worker without any is told to go after a while.
func (p *Parent) over(w *worker, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.sessions = max(w.sessions-n, 0); w.sessions > 0 || w.ending || p.ended {
		return
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(p.Idle, func() {
		p.mu.Lock()
		idle := w.sessions == 0 && !w.ending && !p.ended
		w.ending = w.ending || idle
		p.mu.Unlock()
		if idle {
			p.dismiss(w)
		}
	})
}

// dismiss has a worker end, by itself or not.
func (p *Parent) dismiss(w *worker) {
	w.ch.close() // it writes what it knows, and goes
	t := time.AfterFunc(p.Patience, func() { w.proc.Kill() })
	p.wg.Go(func() { // ends with the process
		<-w.gone
		t.Stop()
	})
}

// Reload has front and desk read the configuration again.
func (p *Parent) Reload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []*child{p.desk, p.fronts} {
		if c != nil {
			c.proc.Signal(syscall.SIGHUP)
		}
	}
}

// stop ends everybody: the front first, which tells the clients; then the workers, which
// have nobody left; then the issuer, and the desk.
func (p *Parent) stop() {
	p.mu.Lock()
	front, desk, issuer := p.fronts, p.desk, p.issuer
	p.mu.Unlock()
	p.end(front)
	p.mu.Lock()
	p.ended = true
	var list []*worker
	for _, w := range p.workers {
		list = append(list, w)
		if w.timer != nil {
			w.timer.Stop()
		}
		w.ending = true
	}
	p.mu.Unlock()
	for _, w := range list {
		<-w.ready
		if w.err == nil {
			p.dismiss(w)
		}
	}
	for _, w := range list { // the desk hears their last words
		<-w.gone
	}
	p.end(issuer)
	p.end(desk)
	p.wg.Wait()
}

// end has a child end.
func (p *Parent) end(c *child) {
	if c == nil {
		return
	}
	c.proc.Signal(syscall.SIGTERM)
	select {
	case <-c.gone:
	case <-time.After(p.Patience):
		c.proc.Kill()
		<-c.gone
	}
}
