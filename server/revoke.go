package server

import (
	"context"
	"time"

	"roost/auth"
	"roost/server/session"
)

// revoke ends sessions whose login no longer stands, whenever changed says that some may
// not, until ctx ends.
func (s *Server) revoke(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		opt := &s.now.Load().opt
		// Many sessions of a user have one proof.
		known := map[proven]error{}
		for _, p := range s.on.list() {
			u, ok := p.proof()
			if !ok {
				continue
			}
			key := proven{u.Name, u.Login, u.Proof}
			why, ok := known[key]
			if !ok {
				why = opt.Auth.Stands(ctx, u)
				known[key] = why
			}
			if why == nil {
				continue
			}
			opt.Log.Warn("session ended", "event", "login_revoked", "sess", p.id, "addr", p.addr, "user", u.Name, "login", u.Login,
				"app", u.Proof.App, "reason", why)
			p.end()
			p.leave(session.Goodbye(sentence(why.Error())))
		}
	}
}

// ending has the connection end when the login of u does not count any longer; what it
// returns stops that.
func (d *door) ending(u auth.User) (stop func()) {
	if u.Proof.Ends == 0 {
		return func() {}
	}
	on, log := d.on, d.log
	timer := time.AfterFunc(time.Until(time.Unix(u.Proof.Ends, 0)), func() {
		log.Info("session ended", "event", "token_ended", "user", u.Name, "login", u.Login, "reason", auth.ErrTokenEnded)
		on.leave(session.Goodbye(sentence(auth.ErrTokenEnded.Error())))
	})
	return func() { timer.Stop() }
}

type proven struct {
	name, login string
	proof       auth.Proof
}
