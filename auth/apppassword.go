package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// App passwords are further passwords of a user, one for each device or program, each with
// a name. They stand beside the password file in a file of their own, one a line:
//
//	user:name:{SCHEME}hash:created=20261127T193000Z services=imap,smtp allow_nets=192.0.2.0/24
//
// The name is made of letters, digits, ".", "_" and "-". Fields, separated by blanks:
// created, expires and revoked are times in UTC, written as above; services are the
// protocols it is good for and allow_nets the networks it may come from, without them all.
// A revoked one stays, so that a device that still has it is noticed. Empty lines and those
// that start with # are skipped. `roost passwd app` edits the file, and tools may.
//
// They are made by the program, too long to be guessed, so one round of work is enough.
// All of one user have the same salt: a login computes it once, and SCRAM, in which the
// server must name the salt before it knows which of them it is, works with each.

// AppPassword is one line of the file.
type AppPassword struct {
	User, Name                string
	Created, Expires, Revoked time.Time      // zero: not known, never, not
	Services                  []string       // nil: all
	Networks                  []netip.Prefix // nil: all
	Line                      int            // from 1

	hash   Hash
	stored string
}

// appTable is one version of the file; immutable.
type appTable struct {
	users map[string]*userApps
	some  Hash // of any of them: what it costs those who have none
}

// userApps are those of one user.
type userApps struct {
	list    []*AppPassword
	version string // changes with each of them
}

// of gives those of a user; nil for none. t may be nil.
func (t *appTable) of(user string) *userApps {
	if t == nil {
		return nil
	}
	return t.users[user]
}

// nobody gives what matches nobody and costs what the app passwords of others do; nil where
// nobody has any.
func (t *appTable) nobody() *userApps {
	if t == nil || len(t.users) == 0 {
		return nil
	}
	return &userApps{list: []*AppPassword{{hash: t.some}}}
}

// appTime is how times are written: without colons, which part the fields.
const appTime = "20060102T150405Z"

// parseApps reads a file. A line that cannot be read is an error: what it revokes or
// limits must not go unheard.
func parseApps(path string, b []byte) (*appTable, error) {
	t := &appTable{users: map[string]*userApps{}}
	var damaged []error
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if skipped(line) {
			continue
		}
		p, err := parseApp(line)
		if err == nil && t.of(p.User).named(p.Name) != nil {
			err = fmt.Errorf("user %q has another one named %q", p.User, p.Name)
		}
		if err != nil {
			if len(damaged) < 10 {
				damaged = append(damaged, fmt.Errorf("%s:%d: %w", path, number, err))
			}
			continue
		}
		p.Line = number
		u := t.users[p.User]
		if u == nil {
			u = &userApps{}
			t.users[p.User] = u
		}
		u.list = append(u.list, p)
		u.version += line + "\n"
		t.some = p.hash
	}
	return t, errors.Join(damaged...)
}

func parseApp(line string) (*AppPassword, error) {
	if what := damage(line); what != "" {
		return nil, errors.New(what)
	}
	parts := strings.SplitN(line, ":", 4)
	if len(parts) < 3 {
		return nil, errors.New("a line is user:name:password:fields")
	}
	p := &AppPassword{User: parts[0], Name: parts[1], stored: parts[2]}
	if _, err := foldName(p.User, false); err != nil {
		return nil, err
	}
	if err := checkAppName(p.Name); err != nil {
		return nil, err
	}
	var err error
	if p.hash, err = ParseHash(p.stored); err != nil {
		return nil, err
	}
	fields := map[string]string{}
	if len(parts) > 3 {
		fields = splitFields(parts[3])
	}
	for key, value := range fields {
		switch key {
		case "created":
			p.Created, err = time.Parse(appTime, value)
		case "expires":
			p.Expires, err = time.Parse(appTime, value)
		case "revoked":
			p.Revoked, err = time.Parse(appTime, value)
		case "services":
			p.Services = strings.Split(value, ",")
		case "allow_nets":
			for _, s := range strings.Split(value, ",") {
				var n netip.Prefix
				if n, err = parseNet(s); err != nil {
					return nil, err
				}
				p.Networks = append(p.Networks, n)
			}
		default:
			err = errors.New("there is no such field")
		}
		if err != nil {
			return nil, fmt.Errorf("%.40s=%.40s: %w", key, value, err)
		}
	}
	return p, nil
}

// checkAppName says what is wrong with the name of an app password.
func checkAppName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return fmt.Errorf("name %.70q: the name of an app password is made of up to 64 letters, digits, \".\", \"_\" and \"-\"", name)
	}
	return nil
}

// String gives the line without its end.
func (p *AppPassword) String() string {
	var fields []string
	for _, f := range []struct {
		key string
		at  time.Time
	}{{"created", p.Created}, {"expires", p.Expires}, {"revoked", p.Revoked}} {
		if !f.at.IsZero() {
			fields = append(fields, f.key+"="+f.at.UTC().Format(appTime))
		}
	}
	if p.Services != nil {
		fields = append(fields, "services="+strings.Join(p.Services, ","))
	}
	if p.Networks != nil {
		var nets []string
		for _, n := range p.Networks {
			nets = append(nets, n.String())
		}
		fields = append(fields, "allow_nets="+strings.Join(nets, ","))
	}
	return fmt.Sprintf("%s:%s:%s:%s", p.User, p.Name, p.stored, strings.Join(fields, " "))
}

// State says in a word whether it can be used at a time: "active", "expired", "revoked".
func (p *AppPassword) State(now time.Time) string {
	switch {
	case !p.Revoked.IsZero():
		return "revoked"
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		return "expired"
	}
	return "active"
}

// refuses gives why a login that has the password is refused, or nil.
func (p *AppPassword) refuses(now time.Time, at Attempt) *Refusal {
	deny := func(format string, args ...any) *Refusal {
		return &Refusal{Err: ErrDenied, Reason: fmt.Sprintf("app password %q ", p.Name) + fmt.Sprintf(format, args...)}
	}
	switch p.State(now) {
	case "revoked":
		r := deny("was revoked on %s", p.Revoked.Format(time.RFC3339))
		r.Event = "app_password_revoked"
		return r
	case "expired":
		return deny("ended on %s", p.Expires.Format(time.RFC3339))
	}
	if p.Services != nil && !slices.Contains(p.Services, at.Protocol) {
		return deny("is for %s only, not for %s", strings.Join(p.Services, ", "), at.Protocol)
	}
	addr := at.Addr.Unmap().WithZone("")
	if p.Networks != nil && !slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return deny("may not come from %v", at.Addr)
	}
	return nil
}

// named gives the one of a name, or nil.
func (u *userApps) named(name string) *AppPassword {
	if u == nil {
		return nil
	}
	i := slices.IndexFunc(u.list, func(p *AppPassword) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return u.list[i]
}

// usable reports whether one of them can be used at a time.
func (u *userApps) usable(now time.Time) bool {
	return u != nil && slices.ContainsFunc(u.list, func(p *AppPassword) bool { return p.State(now) == "active" })
}

// match gives the one whose password this is, or nil; of several one that is still good. It
// costs the hashes, those that share a salt one together.
func (u *userApps) match(login, password string, now time.Time) (found *AppPassword) {
	type work struct {
		scheme, salt string
		iterations   int
	}
	done := map[work]scramKeys{}
	for _, p := range u.list {
		right := false
		if k := p.hash.scram; k != nil {
			w := work{p.hash.Scheme, string(k.salt), k.iterations}
			keys, ok := done[w]
			if !ok {
				var err error
				if keys, err = makeScramKeys(scramHash(w.scheme), prepared(password), k.salt, k.iterations); err != nil {
					continue
				}
				done[w] = keys
			}
			right = same(keys.stored, k.stored)
		} else {
			right = p.hash.Matches(login, password)
		}
		if right && (found == nil || found.State(now) != "active") {
			found = p
		}
	}
	return found
}
