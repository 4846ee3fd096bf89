package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// decision is what becomes of a login.
type decision struct {
	login   string        // the name, folded; as it was sent when it cannot be a name
	user    User          // when there is no refusal
	refusal *Refusal      // nil: welcome
	delay   time.Duration // of its answer, since the attempt began
	unknown bool          // vouched: no source has the user
}

func (d *decision) deny(format string, args ...any) {
	d.refusal = &Refusal{Err: ErrDenied, Reason: fmt.Sprintf(format, args...)}
}

// decide says what becomes of a login, without any delay but that of delay_until. Each
// way to ErrDenied that a guesser could want to tell from the others costs one hash.
// The error is that of ctx.
func (a *Auth) decide(ctx context.Context, name, password string, at Attempt) (decision, error) {
	if user, admin, ok := a.splitMaster(name); ok {
		return a.decideMaster(ctx, user, admin, at, func(acc *Account) (bool, error) {
			out, err := a.verify(ctx, acc, a.appTable().nobody(), admin, password, at)
			return out.verdict == Right, err
		})
	}
	d := decision{login: name}
	if folded, err := a.foldName(name); err != nil {
		d.deny("%v", err)
	} else {
		d.login = folded
		for _, src := range a.sources {
			found, err := a.ask(ctx, src, &d, password, at)
			if err != nil || found {
				return d, err
			}
		}
		d.deny("unknown user")
	}
	// The dummy goes through the cache too, so that a crowd with one wrong password
	// costs as much or as little as for a user who exists.
	_, err := a.verify(ctx, &Account{Hash: a.dummy()}, a.appTable().nobody(), d.login, password, at)
	return d, err
}

// ask lets one source decide. It reports false when the user is not there.
func (a *Auth) ask(ctx context.Context, src Source, d *decision, password string, at Attempt) (bool, error) {
	acc, err := src.Find(ctx, d.login, at)
	if err != nil || acc == nil {
		return err != nil, d.unavailable(ctx, src, err)
	}
	// Whoever is not known without a password has no app passwords.
	var apps *userApps
	table := a.appTable()
	if acc.User.Name != "" && (!acc.locked() || acc.NoPassword) {
		apps = table.of(d.login)
	}
	locked := acc.locked()
	if locked {
		acc.Check, acc.Hash, acc.Version = nil, a.dummy(), "" // costs what the others cost
	}
	if apps == nil {
		apps = table.nobody()
	}
	out, err := a.verify(ctx, acc, apps, d.login, password, at)
	if err != nil {
		return true, d.unavailable(ctx, src, err)
	}
	if out.account != nil {
		acc = out.account
	}
	now := time.Now()
	switch {
	case out.verdict == Unknown:
		return false, nil
	case acc.app != nil:
		if d.refusal = acc.app.refuses(now, at); d.refusal != nil {
			return true, nil
		}
	case locked || acc.Refused != "":
		d.deny("%s%s", acc.at(), acc.Refused)
		return true, nil
	case out.verdict != Right:
		d.deny("wrong password")
		return true, nil
	case slices.Contains(a.opt.AppsOnly, at.Protocol) && table.of(d.login).usable(now):
		d.deny("the main password is barred from %s, for the user has app passwords", at.Protocol)
		return true, nil
	}
	if err := acc.Rules.apply(ctx, d, at); err != nil || d.refusal != nil {
		return true, err
	}
	d.user = acc.proved()
	d.user.Proof.Service = at.Protocol
	return true, nil
}

// proved is the user with what let them in.
func (acc *Account) proved() User {
	u := acc.User
	if acc.app != nil {
		u.Proof = Proof{App: acc.app.Name, Secret: acc.app.hash.seed}
	} else {
		u.Proof = Proof{Secret: acc.secret()}
	}
	return u
}

// find gives the account of a login and its source; nil for one whom no source has that
// can tell without a password. An error is that of the source.
func (a *Auth) find(ctx context.Context, login string, at Attempt) (Source, *Account, error) {
	for _, src := range a.sources {
		if acc, err := src.Find(ctx, login, at); err != nil || acc != nil && acc.User.Name != "" {
			return src, acc, err
		}
	}
	return nil, nil, nil
}

// vouched decides on a login whose name something else than a password has proved.
func (a *Auth) vouched(ctx context.Context, name string, at Attempt) (decision, error) {
	d := decision{login: name}
	folded, err := a.foldName(name)
	if err != nil {
		d.deny("%v", err)
		return d, nil
	}
	d.login = folded
	src, acc, err := a.find(ctx, folded, at)
	switch {
	case err != nil:
		return d, d.unavailable(ctx, src, err)
	case acc == nil:
		d.unknown = true
		d.deny("unknown user")
	case acc.locked() && !acc.NoPassword:
		d.deny("%s%s", acc.at(), acc.Refused)
	default:
		if err := acc.Rules.apply(ctx, &d, at); err != nil || d.refusal != nil {
			return d, err
		}
		d.user = acc.User
	}
	return d, nil
}

// mayAct says whether user, who logged in as authcid, may act for authzid (RFC 4422
// section 3.4.1); "" is themselves. It is asked only of those who proved who they are:
// RFC 5530 section 3, AUTHORIZATIONFAILED.
func (a *Auth) mayAct(user User, authcid, authzid string) error {
	if authzid == "" {
		return nil
	}
	if name, err := a.foldName(authzid); err != nil || name != user.Login && name != user.Name {
		return &Refusal{Err: ErrUnauthorized, User: authcid, Reason: fmt.Sprintf("wants to act for %.64q", authzid)}
	}
	return nil
}

// unavailable makes the failure of a source a refusal; what it returns is the error of ctx.
func (d *decision) unavailable(ctx context.Context, src Source, err error) error {
	if err != nil && ctx.Err() == nil {
		d.refusal = &Refusal{Err: ErrUnavailable, Text: "Users cannot be looked up now, try again later", Reason: fmt.Sprintf("%s: %v", src.Name(), err)}
		return nil
	}
	return ctx.Err()
}

func (acc *Account) locked() bool { return acc.Refused != "" || acc.Check == nil && acc.Hash.Locked }

func (acc *Account) at() string {
	if acc.Where == "" {
		return ""
	}
	return acc.Where + ": "
}

// dummy is a hash that no password matches, and that costs what most users' cost.
func (a *Auth) dummy() Hash {
	for _, src := range a.sources {
		if h, ok := src.Dummy(); ok {
			return h
		}
	}
	return dummyArgon2()
}

// verify computes a password, or asks who knows it. An empty one is never right, whatever
// a source says. apps may be nil.
func (a *Auth) verify(ctx context.Context, acc *Account, apps *userApps, login, password string, at Attempt) (outcome, error) {
	if password == "" || len(password) > maxPassword {
		return outcome{}, nil
	}
	version := acc.Version
	if apps != nil {
		version += "\n" + apps.version
	}
	if acc.Check != nil {
		// Whoever is asked may let the same password in for one service, or from one
		// address, and not for another.
		version += fmt.Sprintf("\n%q %v %v", at.Protocol, at.Addr, at.Secure)
	}
	return a.cache.verify(ctx, a.cache.mac(login, password, version), func() (out outcome, err error) {
		err = a.pool.do(ctx, at.Addr, func() {
			if apps != nil {
				// One that names nobody is there for the time that it takes.
				if p := apps.match(login, password, time.Now()); p != nil && p.Name != "" {
					with := *acc
					with.app = p
					out = outcome{verdict: Right, account: &with}
					return
				}
			}
			// A Version there is of every account that is not a dummy.
			if acc.Check == nil && acc.Hash.Matches(login, password) && acc.Version != "" {
				out.verdict = Right
			}
		})
		if err == nil && acc.Check != nil && out.account == nil {
			out.verdict, out.account, err = acc.Check(ctx, password)
			if err == nil && out.verdict == Wrong { // costs what one costs whom no source has
				err = a.pool.do(ctx, at.Addr, func() { a.dummy().Matches(login, password) })
			}
		}
		return out, err
	})
}

// barred says why a user may not use a service; "" when they may.
func (r *Rules) barred(service string) (reason, text string) {
	text, denied := r.denied[service]
	switch {
	case denied:
		reason = "the entry has deny_" + service
	case r.services != nil && !slices.Contains(r.services, service):
		reason = "allow_services does not name " + service
	}
	return reason, cmp.Or(text, "This user may not log in here")
}

// maxHold is how long delay_until may hold a login back, beyond which it is refused.
const maxHold = 15 * time.Second

// apply says whether one who knows the password may log in.
func (r *Rules) apply(ctx context.Context, d *decision, at Attempt) error {
	switch {
	// As if the password were wrong: Dovecot does the same.
	case !r.allows(at.Addr):
		d.deny("allow_nets does not name %v", at.Addr)
	case r.proxy:
		d.refusal = &Refusal{Err: ErrUnavailable, Text: "The mail of this user is on another server", Reason: "the entry has proxy", Disabled: true}
	case r.nologin:
		text := "Logins of this user are switched off"
		if r.reason != "" {
			text = r.reason
		}
		d.refusal = &Refusal{Err: ErrUnavailable, Text: text, Reason: "the entry has nologin", Disabled: true}
	default:
		if reason, text := r.barred(at.Protocol); reason != "" {
			d.refusal = &Refusal{Err: ErrUnavailable, Text: text, Reason: reason, Disabled: true}
			return nil
		}
		if d := time.Until(r.after); d <= maxHold {
			return wait(ctx, d)
		}
		d.refusal = &Refusal{Err: ErrUnavailable, Text: "Logins of this user are delayed, try again later", Reason: "the entry has delay_until"}
	}
	return nil
}

// Lookup gives what the sources say of a user, without any password: for mail that is
// delivered. False for one whom none has, or none that can tell without a password.
func (a *Auth) Lookup(name string, at Attempt) (User, bool) {
	folded, err := a.foldName(name)
	if err != nil {
		return User{}, false
	}
	if _, acc, err := a.find(context.Background(), folded, at); err == nil && acc != nil {
		return acc.User, true
	}
	return User{}, false
}

// Explain tells step by step what Login would decide and why, for the eyes of an
// admin. Without a password (nil) the rest is decided as if it were right. Nothing is
// counted, remembered or delayed. The User is that of a login that would succeed.
func (a *Auth) Explain(ctx context.Context, name string, password *string, at Attempt) (steps []string, user User, ok bool) {
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	if user, admin, ok := a.splitMaster(name); ok {
		return a.explainMaster(ctx, user, admin, password, at)
	}
	d := decision{login: name}
	refused := func() ([]string, User, bool) {
		say("refused: %s", d.refusal.Reason)
		say("the client is told: %s", d.refusal.Error())
		return steps, User{}, false
	}
	folded, err := a.foldName(name)
	if err != nil {
		d.deny("%v", err)
		return refused()
	}
	if d.login = folded; folded != name {
		say("the name %q is looked up as %q", name, folded)
	}
	for _, src := range a.sources {
		acc, err := src.Find(ctx, folded, at)
		if err := d.unavailable(ctx, src, err); err != nil || d.refusal != nil {
			return refused()
		}
		if acc == nil {
			say("%s does not have the user", src.Name())
			continue
		}
		say("%s has the user%s", src.Name(), acc.about())
		steps = append(steps, acc.Notes...)
		verdict := Right
		var app *AppPassword
		if apps := a.appTable().of(folded); apps != nil && password != nil && acc.User.Name != "" {
			app = apps.match(folded, *password, time.Now())
		}
		switch {
		case app != nil && (!acc.locked() || acc.NoPassword):
			say("the app password %q is right", app.Name)
			if d.refusal = app.refuses(time.Now(), at); d.refusal != nil {
				return refused()
			}
		case acc.locked():
			if acc.Refused == "" {
				acc.Refused = DisabledUser
			}
			d.deny("%s%s", acc.at(), acc.Refused)
			return refused()
		case password == nil:
			say("no password was given, taken for right")
		case *password == "" || len(*password) > maxPassword:
			d.deny("an empty or endless password is never right")
			return refused()
		case acc.Check != nil:
			var better *Account
			if verdict, better, err = acc.Check(ctx, *password); err != nil {
				if err := d.unavailable(ctx, src, err); err != nil {
					d.deny("%v", err)
				}
				return refused()
			}
			if better != nil {
				acc = better
				steps = append(steps, acc.Notes...)
			}
		case !acc.Hash.Matches(folded, *password):
			verdict = Wrong
		}
		switch verdict {
		case Unknown:
			say("it does not take the password, the next source is asked")
			continue
		case Wrong:
			d.deny("the password is wrong")
			return refused()
		}
		if password != nil && app == nil {
			say("the password is right")
		}
		if app == nil && slices.Contains(a.opt.AppsOnly, at.Protocol) && a.appTable().of(folded).usable(time.Now()) {
			d.deny("the main password is barred from %s, for the user has app passwords", at.Protocol)
			return refused()
		}
		if app == nil && acc.Refused != "" {
			d.deny("%s%s", acc.at(), acc.Refused)
			return refused()
		}
		rules := acc.Rules
		if rules.restricted {
			say("allow_nets names %v: %v", at.Addr, rules.allows(at.Addr))
		}
		if wait := time.Until(rules.after); wait > 0 && wait <= maxHold {
			say("delay_until holds the login back for %v", wait.Round(time.Second))
			rules.after = time.Time{}
		}
		if err := rules.apply(ctx, &d, at); err != nil {
			d.deny("%v", err)
		}
		if d.refusal != nil {
			return refused()
		}
		return steps, acc.User, true
	}
	d.deny("unknown user")
	return refused()
}

// about says where an account is and how its password is kept.
func (acc *Account) about() string {
	s := ""
	if acc.Where != "" {
		s = ", " + acc.Where
	}
	switch {
	case acc.Check != nil:
	case acc.Hash.class != "":
		s += ", scheme " + acc.Hash.class
	case acc.Hash.Locked:
		s += ", no password"
	}
	return s
}
