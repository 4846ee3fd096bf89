package server

import (
	"context"
	"time"

	"roost/server/session"
)

// visit is a session that was let in.
type visit struct {
	conn  *heardConn
	login *session.Login
	begun time.Time
	leave func() // more than once harms nothing
}

// admit makes what a session needs, or says why there is none.
func (d *door) admit(e *entry) *visit {
	g := d.gate
	v := &visit{conn: &heardConn{d.conn, d.on}, begun: time.Now()}
	d.on.entered(e.user, d.client, d.conn)
	g.traces.claims(d.on, e.user.Name, e.user.Login)
	refuse := func(code, text string) *visit {
		d.on.left()
		d.enc.Raw(e.tag).Raw(" NO [").Raw(code).Raw("] ").Raw(ascii(text)).CRLF()
		return nil
	}
	// What was changed since the password was looked at, nobody will ask about again.
	if err := g.auth.Stands(context.Background(), e.user); err != nil {
		d.log.Warn("login refused", "event", "login_refused", "user", e.user.Login, "method", e.mech, "reason", err.Error(), "client", d.client)
		return refuse("AUTHENTICATIONFAILED", "Authentication failed")
	}
	who, err := g.identity(e.user)
	if err != nil {
		d.log.Error("login cannot be served", "event", "login_error", "user", e.user.Name, "err", err)
		return refuse("UNAVAILABLE", "The mail of this user cannot be opened now; the administrator's log has the reason")
	}
	release, err := g.places.enter(e.user.Name, d.addr,
		func() time.Time { return time.Unix(0, d.on.heard.Load()) },
		func() { d.on.leave("Closed to make room for a new connection") })
	if err != nil {
		d.log.Warn("login refused", "event", "login_limit", "user", e.user.Name, "err", err)
		return refuse("LIMIT", sentence(err.Error()))
	}
	d.seat.login(true)
	ending := d.ending(e.user)
	v.leave = func() {
		ending()
		d.seat.login(false)
		d.on.left()
		g.traces.claims(d.on) // what follows is nobody's
		release()
	}
	v.login = &session.Login{
		Who: who, Tag: e.tag, Mechanism: e.mech, ID: d.id, Addr: d.addr, Secure: d.secure, Input: d.lex.Buffered(),
		Client: d.client, ServerName: d.serverName(), Ticket: e.user.Ticket,
	}
	if g.crowd.note(d.addr, e.user.Name) {
		d.log.Warn("nearly all clients come from one private address: is it a gateway with everybody behind it? "+
			"Nobody is locked or limited by it; limits.trusted_networks, listen.proxy or the host's network tell clients apart",
			"event", "one_address")
		if g.guard != nil {
			g.guard.Gateway(d.addr)
		}
	}
	d.log.Info("login", "event", "login", "user", e.user.Name, "login", e.user.Login, "method", e.mech,
		"tls", d.secure, "client", d.client, "app", e.user.Proof.App)
	return v
}

// over is the end of a session. It reports whether the connection goes on.
func (d *door) over(ctx context.Context, out *session.Outcome, err error) bool {
	v := d.visit
	user := v.login.Who.User
	if err != nil {
		d.log.Error("session failed", "event", "session_error", "user", user, "err", err)
	}
	d.on.note("session ended: %s", out.Reason)
	d.log.Info("logout", "event", "logout", "user", user, "reason", out.Reason,
		"in", out.In, "out", out.Out, "dur", time.Since(v.begun).Round(time.Millisecond))
	v.leave()
	d.visit = nil
	if !out.Unauthenticated || ctx.Err() != nil {
		return false
	}
	d.bad, d.client = 0, out.Client
	d.start(out.Input)
	return d.resume(out.Output)
}
