package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// Proof is by what a user logged in, so that it can be asked later whether it still holds.
// Plain data.
// The zero value holds as long as the user does.
type Proof struct {
	App string // the name of the app password; "" for none

	Service string // that it was for
	Master  bool   // Login is a master user
	// Token: a bearer token let them in. Ends is when the session has to end, in seconds
	// since 1970; 0 for never.
	Token bool
	Ends  int64

	// Secret stands for the stored password; zero where there is none.
	Secret [sha256.Size]byte

	// Sealed is all of it for another process, which alone can look into it:
	// server/workers. "" else.
	Sealed string `json:",omitempty"`
}

// What ends a session whose login no longer stands; Stands gives one of them.
var (
	ErrUserGone        = errors.New("the user may not log in any more")
	ErrPasswordChanged = errors.New("the password was changed")
	ErrTokenEnded      = errors.New("the token has expired")
	ErrAppRevoked      = errors.New("the app password was revoked or has ended")
)

// changing is a Source that tells when its users change.
type changing interface {
	Source
	OnChange(fn func())
}

// OnChange has fn called soon after users, passwords or app passwords changed, or an app
// password has ended: Stands may answer otherwise then. One function, set before logins.
func (a *Auth) OnChange(fn func()) {
	a.changed.Store(&fn)
}

// tell is called by the files, and by the clock.
func (a *Auth) tell() {
	a.awaitExpiry()
	if fn := a.changed.Load(); fn != nil {
		(*fn)()
	}
}

// awaitExpiry has tell called when the next app password ends.
func (a *Auth) awaitExpiry() {
	if a.apps == nil {
		return
	}
	a.apps.mu.Lock()
	t := a.apps.good
	a.apps.mu.Unlock()
	now := time.Now()
	var next time.Time
	for _, u := range t.users {
		for _, p := range u.list {
			if p.Revoked.IsZero() && p.Expires.After(now) && (next.IsZero() || p.Expires.Before(next)) {
				next = p.Expires
			}
		}
	}
	a.expiryMu.Lock()
	defer a.expiryMu.Unlock()
	if a.expiry != nil {
		a.expiry.Stop()
		a.expiry = nil
	}
	if !next.IsZero() && !a.closed {
		a.expiry = time.AfterFunc(next.Sub(now)+time.Millisecond, a.tell)
	}
}

// Stands says whether u, which a login gave, would be let in again by the same proof: nil,
// or why not. Only sources that tell of changes are asked; what others know is taken to
// stand.
func (a *Auth) Stands(ctx context.Context, u User) error {
	if u.Proof.Ends != 0 && time.Now().Unix() >= u.Proof.Ends {
		return ErrTokenEnded
	}
	if u.Proof.Master {
		return a.masterStands(ctx, u)
	}
	for _, src := range a.sources {
		if _, ok := src.(changing); !ok {
			return nil
		}
		acc, err := src.Find(ctx, u.Login, Attempt{})
		if err != nil {
			return nil
		}
		if acc == nil {
			continue
		}
		return a.holds(acc, u)
	}
	if u.Proof.Token && a.admits(u.Login) {
		return nil
	}
	return ErrUserGone
}

func (a *Auth) holds(acc *Account, u User) error {
	if reason, _ := acc.Rules.barred(u.Proof.Service); u.Proof.Service != "" && reason != "" {
		return ErrUserGone
	}
	none := [sha256.Size]byte{}
	byPassword := u.Proof.App == "" && u.Proof.Secret != none
	switch {
	case acc.locked() && (byPassword || !acc.NoPassword), acc.Rules.nologin, acc.Rules.proxy, acc.User.Name != u.Name:
		return ErrUserGone
	case byPassword && acc.secret() != u.Proof.Secret:
		return ErrPasswordChanged
	case u.Proof.App != "":
		p := a.appTable().of(u.Login).named(u.Proof.App)
		if p == nil || p.hash.seed != u.Proof.Secret || p.State(time.Now()) != "active" {
			return ErrAppRevoked
		}
	}
	return nil
}

// secret stands for the password of an account.
func (acc *Account) secret() [sha256.Size]byte {
	if acc.Check != nil {
		return sha256.Sum256([]byte("version " + acc.Version))
	}
	return acc.Hash.seed
}

// appTable gives the app passwords in force; nil: none are used.
func (a *Auth) appTable() *appTable {
	if a.apps == nil {
		return nil
	}
	return a.apps.current()
}
