package auth

import (
	"fmt"
	"net/netip"
	"time"
)

// Names of what is unusual about logins. Scripts live on them: they never change.
const (
	EventNewNetwork      = "new_network"          // the first login of a user from a network
	EventManyUsers       = "many_users"           // one address fails for many users
	EventLocked          = "login_locked"         // somebody is locked after failures
	EventRevokedPassword = "app_password_revoked" // a device still has a revoked app password
)

// manyUsers is for how many users an address fails before that is told.
const manyUsers = 10

// Unusual is what somebody may want to know of.
type Unusual struct {
	Event  string
	User   string // "" for none
	Addr   netip.Addr
	Detail string // a sentence
}

// OnUnusual has f called with what is unusual from now on, on the goroutine of the login:
// it must not block.
func (a *Auth) OnUnusual(f func(Unusual)) { a.unusual.Store(&f) }

// report passes on what is unusual.
func (a *Auth) report(u Unusual) {
	if f := a.unusual.Load(); f != nil {
		(*f)(u)
	}
}

// tellOf tells what one login showed.
func (a *Auth) tellOf(d *decision, tk *ticket, at Attempt) {
	switch {
	case d.refusal == nil:
		if a.throttle.familiar.note(time.Now(), tk.user, at.Addr) {
			a.report(Unusual{EventNewNetwork, d.user.Name, at.Addr, fmt.Sprintf("the first login of %s from %v", d.user.Login, neighbourhood(at.Addr))})
		}
	case d.refusal.Event != "":
		a.report(Unusual{d.refusal.Event, d.login, at.Addr, d.refusal.Reason})
	}
}
