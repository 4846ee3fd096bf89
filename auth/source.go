package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// A Source knows users: a password file, a directory, a program that is asked. Auth asks
// its sources in their order, and the first that has a user decides what becomes of the
// login. Safe for concurrent use.
type Source interface {
	// Name is what the log calls it: "passwd file /etc/roost/passwd".
	Name() string

	// Find gives what is known of a user before the password is looked at; nil when the
	// user is not here. login is folded as the options say. An error means that the
	// source cannot be asked now: the login is refused as ErrUnavailable and no later
	// source is asked, for who somebody is must not depend on what is broken.
	Find(ctx context.Context, login string, at Attempt) (*Account, error)

	// Dummy is a hash that costs what most users' cost, for those who are not there;
	// false for a source that keeps none.
	Dummy() (Hash, bool)

	// Reload reads again what the source is made of. An error says why what it had
	// stays in force.
	Reload() error

	Close() error
}

// A lister is a Source that can tell whom it has.
type lister interface {
	// Users gives the names of all users whose mail there may be, who may not log in now
	// among them, in an order that stays.
	// ErrUnlisted: this one cannot after all.
	Users(ctx context.Context) ([]string, error)
}

// ErrUnlisted: a source cannot tell whom it has.
var ErrUnlisted = errors.New("it cannot tell whom it has")

// Users gives the names of all whom the sources know, each once, in the order of the
// sources; silent are the sources that cannot tell whom they have.
func (a *Auth) Users(ctx context.Context) (names, silent []string, err error) {
	seen := map[string]bool{}
	for _, src := range a.sources {
		l, ok := src.(lister)
		if !ok {
			silent = append(silent, src.Name())
			continue
		}
		list, err := l.Users(ctx)
		if errors.Is(err, ErrUnlisted) {
			silent = append(silent, src.Name())
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", src.Name(), err)
		}
		for _, name := range list {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, silent, nil
}

// DisabledUser is why nobody logs in whose hash is locked, where nothing else is wrong.
const DisabledUser = "the user is disabled"

// Verdict is what becomes of a password.
type Verdict int

const (
	Wrong Verdict = iota
	Right

	// Unknown: a source that cannot tell without a password whether it has a user does
	// not have this one, or not with this password. The next source is asked.
	Unknown
)

// An Account is what a Source says of one user to one login.
type Account struct {
	Where   string   // for the log: "line 12"; "" for the whole source
	Refused string   // why nobody can log in, whatever the password; "" when one can
	Notes   []string // for an admin who asks why (Explain)

	// NoPassword: no password is right, and there is nothing else against the user, so
	// that a certificate or a token lets them in. Refused says it of passwords.
	NoPassword bool

	// Hash decides on the password, where Check is nil.
	Hash Hash

	// Check asks whoever knows the password. The account that it returns, when not nil,
	// takes the place of this one. It is not called while the same password of the same
	// user and Version is being checked or was right a moment ago.
	Check func(ctx context.Context, password string) (Verdict, *Account, error)

	// Version changes when what was verified before may no longer hold.
	Version string

	User  User
	Rules Rules

	app *AppPassword // that let the user in; nil: the main password
}

// Describe fills User and Rules from fields in the words of a password file (userdb_home,
// userdb_mail, userdb_uid, userdb_gid, allow_nets, nologin, user, ...), in which the
// variables of Dovecot are replaced. It returns what cannot be used of them; a field that
// would let in more than was meant refuses the account.
// The words of Dovecot's userdb (home, mail, uid, gid, quota_rule, ...) are taken for those.
func (a *Account) Describe(login string, fields map[string]string, at Attempt) (problems []string) {
	fields = maps.Clone(fields)
	for _, word := range []string{"home", "mail", "uid", "gid", "acl_groups", "quota_rule", "quota_storage_size", "quota_message_count"} {
		if value, ok := fields[word]; ok {
			if _, both := fields["userdb_"+word]; !both {
				fields["userdb_"+word] = value
			}
			delete(fields, word)
		}
	}
	rules, list := parseRules(fields, nil)
	for _, p := range list {
		problems = append(problems, p.problem.What)
	}
	e := &entry{rules: rules, fields: fields, home: fields["userdb_home"]}
	for _, id := range []struct {
		kind   byte
		field  string
		number *uint32
		has    *bool
	}{{'u', "userdb_uid", &e.uid, &e.hasUID}, {'g', "userdb_gid", &e.gid, &e.hasGID}} {
		text := fields[id.field]
		if text == "" {
			continue
		}
		n, err := systemIDs(id.kind, text)
		if err == nil && id.kind == 'u' && n == 0 {
			err = errors.New("mail of uid 0 is not served")
		}
		if err != nil {
			a.Refused = fmt.Sprintf("%s=%s: %v", id.field, strconv.Quote(text), err)
			problems = append(problems, a.Refused)
			continue
		}
		*id.number, *id.has = n, true
	}
	a.Rules = rules
	name := login
	if rules.alias != "" {
		name = expand(rules.alias, login, at)
	}
	a.User = e.user(name, login, at)
	return problems
}

// user is what an entry says of its user. name is whose mail it is.
func (e *entry) user(name, login string, at Attempt) User {
	u := User{Name: name, Login: login, Home: expand(e.home, name, at), Mail: e.fields["userdb_mail"]}
	u.UID, u.HasUID, u.GID, u.HasGID = e.uid, e.hasUID, e.gid, e.hasGID
	u.QuotaBytes, u.QuotaMessages = e.rules.quotaBytes, e.rules.quotaMessages
	if len(e.fields) > 0 {
		u.Fields = make(map[string]string, len(e.fields))
		for k, v := range e.fields {
			u.Fields[k] = expand(v, name, at)
		}
	}
	if g := u.Fields["userdb_acl_groups"]; g != "" {
		u.Groups = strings.Split(g, ",")
	}
	return u
}
