package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"roost/auth"
	"roost/server/control"
	"roost/server/session"
	"roost/server/trace"
	"roost/server/wire"
)

// Control gives the answers for a control socket (package control). about is what the
// program knows of itself; the server adds who is on. It is called from several
// goroutines.
func (s *Server) Control(about func() control.Status) control.Handler {
	return func(ctx context.Context, q control.Request, send func(control.Reply) error) (done string, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.now.Load().opt.Log.Error("control panicked", "event", "panic", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
				err = errors.New("internal error; the server's log has it")
			}
		}()
		switch q.Do {
		case "status":
			return s.status(about(), send)
		case "who":
			return s.who(send)
		case "kick":
			return s.kick(q, send)
		case "trace":
			return s.trace(ctx, q, send)
		case "locked":
			return s.locked(send)
		case "unlock":
			return s.unlock(q, send)
		case "events":
			return s.events(q, send)
		}
		return "", fmt.Errorf("the server does not know %.40q: it is of another version; restart it", q.Do)
	}
}

func (s *Server) status(st control.Status, send func(control.Reply) error) (string, error) {
	for _, p := range s.on.list() {
		st.Connections++
		if p.describe().User != "" {
			st.Sessions++
		}
	}
	return "", send(control.Reply{Status: &st})
}

// who lists connections by user and time.
func (s *Server) who(send func(control.Reply) error) (string, error) {
	var list []control.Session
	for _, p := range s.on.list() {
		list = append(list, p.describe())
	}
	slices.SortFunc(list, func(a, b control.Session) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Connected.Compare(b.Connected), cmp.Compare(a.ID, b.ID))
	})
	for _, one := range list {
		if err := send(control.Reply{Session: &one}); err != nil {
			return "", err
		}
	}
	return plural(len(list), "connection"), nil
}

// kick ends connections: all of a user, or one.
func (s *Server) kick(q control.Request, send func(control.Reply) error) (string, error) {
	if (q.User == "") == (q.Session == "") {
		return "", errors.New("whom? a user, or one session")
	}
	n := 0
	for _, p := range s.on.list() {
		if q.User != "" && !p.isUser(q.User) || q.Session != "" && p.id != q.Session {
			continue
		}
		n++
		about := p.describe()
		s.now.Load().opt.Log.Info("connection ended by an admin", "event", "kick", "sess", p.id, "user", about.User, "addr", about.Addr, "by", q.By)
		p.note("ended by an admin")
		p.leave(session.Goodbye("Closed by the administrator"))
		if err := send(control.Reply{Session: &about}); err != nil {
			return "", err
		}
	}
	if n == 0 {
		return "", fmt.Errorf("%s is not on", trace.Printable(cmp.Or(q.User, q.Session)))
	}
	return plural(n, "connection"), nil
}

// locked lists who is locked or slowed down for failed logins.
func (s *Server) locked(send func(control.Reply) error) (string, error) {
	guard := s.now.Load().opt.Guard
	if guard == nil {
		return "", errors.New("this server keeps no count of failed logins")
	}
	n := 0
	for _, l := range guard.Locked() {
		if n++; n > maxLocked {
			return fmt.Sprintf("%d of more", maxLocked), nil
		}
		if err := send(lockedReply(l)); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(n), nil
}

// maxLocked are listed at most: those that are locked come first.
const maxLocked = 10_000

func lockedReply(l auth.Locked) control.Reply {
	one := control.Locked{What: l.What, User: l.User, Failures: l.Failures, Last: l.Last, Until: l.Until, Locks: l.Locks}
	if l.Network.IsValid() {
		one.Network = l.Network.String()
	}
	return control.Reply{Locked: &one}
}

// events gives the history of a user.
func (s *Server) events(q control.Request, send func(control.Reply) error) (string, error) {
	of := s.now.Load().opt.Events
	if of == nil {
		return "", errors.New("no history is kept: state_dir is off, or cannot be written")
	}
	list, err := of(q.User, 500)
	if err != nil {
		return "", err
	}
	for _, e := range list {
		one := control.Event(e)
		if err := send(control.Reply{Event: &one}); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(len(list)), nil
}

// unlock forgets what is counted of a user, an address or a network.
func (s *Server) unlock(q control.Request, send func(control.Reply) error) (string, error) {
	now := s.now.Load()
	if now.opt.Guard == nil || q.User == "" {
		return "", errors.New("whom? a user, an address or a network")
	}
	list, err := now.opt.Guard.Unlock(q.User)
	if err != nil {
		return "", errors.New(trace.Printable(err.Error()))
	}
	now.opt.Log.Info("failed logins are forgotten", "event", "login_unlocked", "what", q.User, "by", q.By)
	for _, l := range list {
		if err := send(lockedReply(l)); err != nil {
			return "", err
		}
	}
	return "", nil
}

// Notice takes down what a session is doing; session.Options.Notice.
func (s *Server) Notice(id string, doing session.Activity) {
	if p := s.on.find(id); p != nil {
		p.does(doing)
	}
}

// Tap gives the place where the protocol of a session can be looked at;
// session.Options.Tap.
func (s *Server) Tap(id string) *wire.Tap {
	if p := s.on.find(id); p != nil {
		return &p.tap
	}
	return nil
}
