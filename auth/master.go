package auth

import (
	"context"
	"fmt"
	"strings"
)

// Master users are an admin's: user*admin with the admin's password opens the mail of
// user, and so does PLAIN with user as the authorization identity. They stand in a file of
// their own, in the form of the password file, and are users of nothing else: none of them
// can be opened so, and none logs in alone.
//
// What is written of the user keeps no admin out, but for a line that is broken; what is
// written of the admin does (allow_nets, allow_services, nologin).

// splitMaster takes the name of a login by a master user apart, folded; false for another.
func (a *Auth) splitMaster(name string) (user, admin string, ok bool) {
	if a.master == nil {
		return "", "", false
	}
	i := strings.LastIndex(name, a.opt.MasterSeparator)
	if i < 0 {
		return "", "", false
	}
	user, uerr := a.foldName(name[:i])
	admin, aerr := a.foldName(name[i+len(a.opt.MasterSeparator):])
	return user, admin, uerr == nil && aerr == nil
}

// isMaster reports whether somebody is a master user. The error is that of the file.
func (a *Auth) isMaster(ctx context.Context, name string) bool {
	if a.master == nil {
		return false
	}
	folded, err := a.foldName(name)
	if err != nil {
		return false
	}
	acc, _ := a.master.Find(ctx, folded, Attempt{}) // a file has no errors to give
	return acc != nil
}

// counted is what failures of a login count against: of a master user the admin, whoever
// the user is.
func (a *Auth) counted(name string) string {
	if _, admin, ok := a.splitMaster(name); ok {
		return a.opt.MasterSeparator + admin
	}
	if folded, err := a.foldName(name); err == nil {
		return folded
	}
	return name
}

// decideMaster says what becomes of a login of admin as user. right computes the password.
func (a *Auth) decideMaster(ctx context.Context, user, admin string, at Attempt, right func(*Account) (bool, error)) (decision, error) {
	d := decision{login: a.opt.MasterSeparator + admin}
	acc, err := a.master.Find(ctx, admin, at)
	if err != nil {
		return d, d.unavailable(ctx, a.master, err)
	}
	reason := ""
	switch {
	case acc == nil:
		acc, reason = &Account{Hash: a.dummy()}, "unknown master user"
	case acc.locked():
		reason = acc.at() + acc.Refused
		acc = &Account{Hash: a.dummy()}
	default:
		acc.Version = "master\n" + acc.Version // it is no password of a user of that name
	}
	ok, err := right(acc)
	switch {
	case err != nil:
		return d, d.unavailable(ctx, a.master, err)
	case reason != "":
		d.deny("%s", reason)
		return d, nil
	case !ok:
		d.deny("wrong password of a master user")
		return d, nil
	}
	if err := acc.Rules.apply(ctx, &d, at); err != nil || d.refusal != nil {
		return d, err
	}
	src, mail, err := a.find(ctx, user, at)
	unauthorized := func(format string, args ...any) {
		d.refusal = &Refusal{Err: ErrUnauthorized, Reason: "master user: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case err != nil:
		return d, d.unavailable(ctx, src, err)
	case a.isMaster(ctx, user) || mail != nil && a.isMaster(ctx, mail.User.Name):
		unauthorized("%s is a master user too", user)
	case mail == nil:
		unauthorized("there is no user %s", user)
	case mail.Refused != "" && mail.Refused != DisabledUser && !mail.NoPassword:
		unauthorized("%s%s", mail.at(), mail.Refused)
	case mail.Rules.proxy:
		unauthorized("the mail of %s is on another server", user)
	default:
		d.user = mail.User
		d.user.Login = admin
		d.user.Proof = Proof{Master: true, Service: at.Protocol, Secret: acc.secret()}
	}
	return d, nil
}

// masterStands is Stands for a session of a master user.
func (a *Auth) masterStands(ctx context.Context, u User) error {
	if a.master == nil {
		return ErrUserGone
	}
	acc, err := a.master.Find(ctx, u.Login, Attempt{})
	if err != nil {
		return nil
	}
	if acc == nil || acc.locked() || acc.Rules.nologin {
		return ErrUserGone
	}
	if reason, _ := acc.Rules.barred(u.Proof.Service); reason != "" {
		return ErrUserGone
	}
	if acc.secret() != u.Proof.Secret {
		return ErrPasswordChanged
	}
	return nil
}

// explainMaster is Explain for a login of a master user.
func (a *Auth) explainMaster(ctx context.Context, user, admin string, password *string, at Attempt) (steps []string, u User, ok bool) {
	steps = append(steps, fmt.Sprintf("master user %s of %s, for the mail of %s", admin, strings.TrimPrefix(a.master.Name(), "passwd "), user))
	d, err := a.decideMaster(ctx, user, admin, at, func(acc *Account) (bool, error) {
		switch {
		case password == nil:
			steps = append(steps, "no password was given, taken for right")
			return true, nil
		case *password == "" || len(*password) > maxPassword:
			return false, nil
		}
		return acc.Version != "" && acc.Hash.Matches(admin, *password), nil
	})
	if err != nil {
		d.deny("%v", err)
	}
	if d.refusal != nil {
		return append(steps, "refused: "+d.refusal.Reason, "the client is told: "+d.refusal.Error()), User{}, false
	}
	return steps, d.user, true
}
