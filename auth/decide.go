package auth

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// decision is what becomes of a login.
type decision struct {
	login   string   // the name, folded; as it was sent when it cannot be a name
	user    User     // when there is no refusal
	refusal *Refusal // nil: welcome
}

func (d *decision) deny(format string, args ...any) {
	d.refusal = &Refusal{Err: ErrDenied, Reason: fmt.Sprintf(format, args...)}
}

// decide says what becomes of a login, without any delay but that of delay_until. Each
// way to ErrDenied that a guesser could want to tell from the others costs one hash.
// The error is that of ctx.
func (a *Auth) decide(ctx context.Context, name, password string, at Attempt) (decision, error) {
	d := decision{login: name}
	t := a.file.current()
	e := t.find(&d, name, !a.opt.KeepCase)

	// An empty password is never right, whatever the file says.
	right := false
	if len(password) <= maxPassword && password != "" {
		var err error
		if right, err = a.verify(ctx, t, e, d.login, password, at); err != nil {
			return d, err
		}
	}
	if d.refusal != nil {
		return d, nil
	}
	if !right {
		d.deny("wrong password")
		return d, nil
	}
	if err := e.rules.apply(ctx, &d, at); err != nil || d.refusal != nil {
		return d, err
	}
	d.user = t.user(e, d.login, at)
	return d, nil
}

// find gives the entry of a name, or nil; what refuses an entry whatever the password
// is already in d.
func (t *table) find(d *decision, name string, lower bool) *entry {
	folded, err := foldName(name, lower)
	if err != nil {
		d.deny("%v", err)
		return nil
	}
	d.login = folded
	e := t.entries[folded]
	switch {
	case e == nil:
		d.deny("unknown user")
	case e.refused != "":
		d.deny("line %d: %s", e.line, e.refused)
	case e.hash.Locked:
		d.deny("line %d: the user is disabled", e.line)
	default:
		return e
	}
	return nil
}

// verify computes a password, that of nobody when e is nil.
func (a *Auth) verify(ctx context.Context, t *table, e *entry, login, password string, at Attempt) (bool, error) {
	hash, text := t.dummy, ""
	if e != nil {
		hash, text = e.hash, e.text
	}
	// The dummy goes through the cache too, so that a crowd with one wrong password
	// costs as much or as little as for a user who exists.
	return a.cache.verify(ctx, a.cache.mac(login, password, text), func() (ok bool, err error) {
		err = a.pool.do(ctx, at.Addr, func() { ok = hash.Matches(login, password) && e != nil })
		return ok, err
	})
}

// maxHold is how long delay_until may hold a login back, beyond which it is refused.
const maxHold = 15 * time.Second

// apply says whether one who knows the password may log in.
func (r *rules) apply(ctx context.Context, d *decision, at Attempt) error {
	switch {
	// As if the password were wrong: Dovecot does the same.
	case !r.allows(at.Addr):
		d.deny("allow_nets does not name %v", at.Addr)
	case r.proxy:
		d.refusal = &Refusal{Err: ErrUnavailable, Text: "The mail of this user is on another server", Reason: "the entry has proxy"}
	case r.nologin:
		text := "Logins of this user are switched off"
		if r.reason != "" {
			text = r.reason
		}
		d.refusal = &Refusal{Err: ErrUnavailable, Text: text, Reason: "the entry has nologin"}
	default:
		if d := time.Until(r.after); d <= maxHold {
			return wait(ctx, d)
		}
		d.refusal = &Refusal{Err: ErrUnavailable, Text: "Logins of this user are delayed, try again later", Reason: "the entry has delay_until"}
	}
	return nil
}

// user is what an entry says of its user.
func (t *table) user(e *entry, login string, at Attempt) User {
	u := User{Name: login, Login: login}
	if e.rules.alias != "" {
		u.Name = expand(e.rules.alias, login, at)
		// What the other one has counts; Dovecot's userdb is asked with the new name.
		if other := t.entries[u.Name]; other != nil {
			e = other
		}
	}
	u.Home = expand(e.home, u.Name, at)
	u.UID, u.HasUID, u.GID, u.HasGID = e.uid, e.hasUID, e.gid, e.hasGID
	u.QuotaBytes, u.QuotaMessages = e.rules.quotaBytes, e.rules.quotaMessages
	if len(e.fields) > 0 {
		u.Fields = make(map[string]string, len(e.fields))
		for k, v := range e.fields {
			u.Fields[k] = expand(v, u.Name, at)
		}
	}
	u.Mail = e.fields["userdb_mail"]
	if g := u.Fields["userdb_acl_groups"]; g != "" {
		u.Groups = strings.Split(g, ",")
	}
	return u
}

// Lookup gives what the file says of a user, without any password: for mail that is
// delivered. False for one who is not in the file or whose line cannot be used.
func (a *Auth) Lookup(name string, at Attempt) (User, bool) {
	t := a.file.current()
	folded, err := foldName(name, !a.opt.KeepCase)
	if err != nil || t.entries[folded] == nil {
		return User{}, false
	}
	return t.user(t.entries[folded], folded, at), true
}

// Explain tells step by step what Login would decide and why, for the eyes of an
// admin. Without a password (nil) the rest is decided as if it were right. Nothing is
// counted, remembered or delayed. The User is that of a login that would succeed.
func (a *Auth) Explain(ctx context.Context, name string, password *string, at Attempt) (steps []string, user User, ok bool) {
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	d := decision{login: name}
	t := a.file.current()
	e := t.find(&d, name, !a.opt.KeepCase)
	if d.login != name {
		say("the name %q is looked up as %q", name, d.login)
	}
	if line := t.entries[d.login]; line != nil {
		say("%s:%d has the user, scheme %s", a.opt.File, line.line, schemeName(line.hash))
	}
	for _, p := range t.problems {
		if p.User == d.login && p.User != "" {
			say("%s", p.Error())
		}
	}
	switch {
	case d.refusal != nil:
	case password == nil:
		say("no password was given, taken for right")
	case *password == "" || len(*password) > maxPassword:
		d.deny("an empty or endless password is never right")
	case !e.hash.Matches(d.login, *password):
		d.deny("the password is wrong")
	default:
		say("the password is right")
	}
	if d.refusal == nil {
		if r := e.rules.restricted; r {
			say("allow_nets names %v: %v", at.Addr, e.rules.allows(at.Addr))
		}
		rules := e.rules
		if wait := time.Until(rules.after); wait > 0 && wait <= maxHold {
			say("delay_until holds the login back for %v", wait.Round(time.Second))
			rules.after = time.Time{}
		}
		if err := rules.apply(ctx, &d, at); err != nil {
			say("%v", err)
			return steps, User{}, false
		}
	}
	if d.refusal != nil {
		say("refused: %s", d.refusal.Reason)
		say("the client is told: %s", d.refusal.Error())
		return steps, User{}, false
	}
	return steps, t.user(e, d.login, at), true
}

func schemeName(h Hash) string {
	switch {
	case h.Locked && h.Scheme == "":
		return "none"
	case h.class != "":
		return h.class
	}
	return h.Scheme
}
