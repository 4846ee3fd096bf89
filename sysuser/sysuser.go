// Package sysuser looks up the users of the machine, those of a directory service (LDAP,
// SSSD) among them, which only the C library knows: by getent(1), so that Roost needs no C.
package sysuser

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// User is a line of passwd(5).
type User struct {
	Name     string
	UID, GID uint32
	Home     string
	Groups   []uint32 // all of them, GID first
}

// ErrUnknown: there is no such user.
var ErrUnknown = errors.New("the system has no such user")

const (
	lookTime = 10 * time.Second // for a look-up; a directory service may hang
	maxEntry = 1 << 20          // bytes of an entry
)

// Find looks up a user by name. Without getent it knows /etc/passwd and /etc/group only.
func Find(ctx context.Context, name string) (User, error) {
	if !plain(name) {
		return User{}, ErrUnknown
	}
	line, err := getent(ctx, "passwd", name)
	if errors.Is(err, exec.ErrNotFound) {
		return local(name)
	}
	if err != nil {
		return User{}, err
	}
	u, err := parse(line)
	if err != nil {
		return User{}, err
	}
	// getent takes a number for a name too.
	if u.Name != name {
		return User{}, ErrUnknown
	}
	u.Groups = []uint32{u.GID}
	line, err = getent(ctx, "initgroups", name)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return User{}, err
	}
	for i, f := range strings.Fields(line) {
		// musl's has no initgroups, and the name comes first.
		if n, err := strconv.ParseUint(f, 10, 32); i > 0 && err == nil && !slices.Contains(u.Groups, uint32(n)) {
			u.Groups = append(u.Groups, uint32(n))
		}
	}
	return u, nil
}

// plain reports whether a name can be one of a system: none else gets to a program's
// command line.
func plain(name string) bool {
	if name == "" || len(name) > 256 || name[0] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' || c == '/' {
			return false
		}
	}
	return true
}

// getent asks for the first entry of a key that is plain.
func getent(ctx context.Context, database, key string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTime, fmt.Errorf("getent: no answer within %v", lookTime))
	defer cancel()
	text, err := Getent(nil).Ask(ctx, maxEntry, database, key)
	line, _, _ := strings.Cut(text, "\n")
	return line, err
}

// parse reads a line of passwd(5).
func parse(line string) (User, error) {
	f := strings.Split(line, ":")
	if len(f) != 7 {
		return User{}, fmt.Errorf("getent gave %q, which is no line of passwd(5)", line)
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 32)
	gid, err2 := strconv.ParseUint(f[3], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return User{}, fmt.Errorf("getent gave %q: %w", line, err)
	}
	return User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5]}, nil
}

// local is Find by the files of this machine.
func local(name string) (User, error) {
	p, err := user.Lookup(name)
	if err != nil {
		return User{}, ErrUnknown
	}
	u, err := parse(strings.Join([]string{p.Username, "x", p.Uid, p.Gid, "", p.HomeDir, ""}, ":"))
	if err != nil {
		return User{}, err
	}
	u.Groups = []uint32{u.GID}
	ids, err := p.GroupIds()
	if err != nil {
		return User{}, err
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil && uint32(n) != u.GID {
			u.Groups = append(u.Groups, uint32(n))
		}
	}
	return u, nil
}

// A Cache remembers users for a while. The zero value is empty. Safe for concurrent use.
type Cache struct {
	mu    sync.Mutex // guards known
	known map[string]cached
}

type cached struct {
	user    User
	unknown bool
	until   time.Time
}

// How long it is remembered who a user is, and that there is none: one client opens a dozen
// connections at once.
const (
	keep        = time.Minute
	keepUnknown = 10 * time.Second
)

// Find is the package's Find.
func (c *Cache) Find(ctx context.Context, name string) (User, error) {
	c.mu.Lock()
	got, ok := c.known[name]
	c.mu.Unlock()
	if ok && time.Now().Before(got.until) {
		if got.unknown {
			return User{}, ErrUnknown
		}
		return got.user, nil
	}
	u, err := Find(ctx, name)
	fresh := cached{user: u, until: time.Now().Add(keep)}
	if errors.Is(err, ErrUnknown) {
		fresh.unknown, fresh.until = true, time.Now().Add(keepUnknown)
	} else if err != nil {
		return u, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) > 10_000 {
		c.known = map[string]cached{}
	}
	c.known[name] = fresh
	return u, err
}
