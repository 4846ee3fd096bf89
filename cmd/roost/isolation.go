package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"roost/auth"
	"roost/config"
	"roost/confine"
	"roost/server/workers"
	"roost/store"
)

// What a server that runs as one user takes away from itself, once it has its sockets and
// has become that user: docs/isolation.md.

// everyProgram is what Go's runtime and library and the storage read of any machine:
// authorities, time zones; the boot and the processes that locks name.
var everyProgram = confine.Paths{
	Read:  []string{"/etc/ssl/certs", "/etc/pki/tls", "/etc/localtime", "/usr/share/zoneinfo", "/proc"},
	Write: []string{"/dev/null"},
}

// asking is what it takes to ask others who a user is: names of hosts, programs and what
// they read. Single files of it would be lost when another is put in their place, as DHCP
// does with resolv.conf.
var asking = []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/run"}

// asks reports whether a configuration needs that. A program that an event runs does too,
// and whoever asks an authority for certificates.
func asks(c *config.Config) bool {
	if slices.ContainsFunc(c.Event, func(e config.Event) bool { return len(e.Run) > 0 }) {
		return true
	}
	return len(c.TLS.ACME.Names) > 0 || c.Auth.OAuth2.Issuer != "" || slices.ContainsFunc(c.Auth.Source, func(s config.Source) bool { return s.Kind != "passwd" })
}

// system are directories that are never opened as a whole because something of Roost's is
// directly in them.
var system = []string{"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
	"/usr", "/usr/local", "/usr/local/etc", "/var", "/var/lib", "/var/run", "/var/tmp"}

// reach is what a server needs of the files of the machine, as a configuration says. users
// gives those who are known already.
func reach(path string, c *config.Config, users func() []auth.User) (confine.Paths, error) {
	p := confine.Paths{Read: slices.Concat(everyProgram.Read, c.Isolation.Read), Write: slices.Clone(everyProgram.Write)}
	if asks(c) {
		p.Read = append(p.Read, asking...)
	}
	for _, file := range rereadFiles(path, c) {
		p.Read = append(p.Read, around(file)...)
	}
	if socket := c.Control.Path(); socket != "" {
		p.Write = append(p.Write, filepath.Dir(socket))
	}
	if dir := c.State(); dir != "" {
		p.Write = append(p.Write, dir)
	}
	for _, e := range c.Event {
		if len(e.Run) > 0 {
			p.Read = append(p.Read, around(e.Run[0])...)
		}
	}
	if file := c.Log.AuditFile(); file != "" {
		p.Write = append(p.Write, around(file)...)
	}
	mail, err := mailRoots(c, users)
	p.Write = append(p.Write, mail...)
	p.Read, p.Write = tidy(p.Read), tidy(p.Write)
	return p, err
}

func tidy(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// needs is reach for this process, and what it can do without.
func (sv *service) needs(c *config.Config, users func() []auth.User) (confine.Paths, []confine.Ban, error) {
	switch sv.role {
	case workers.RoleFront:
		p := confine.Paths{Read: slices.Concat(everyProgram.Read), Write: slices.Clone(everyProgram.Write)}
		for _, file := range append(keyFiles(c), absolute(sv.path)) {
			p.Read = append(p.Read, around(file)...)
		}
		if socket := c.Control.Path(); socket != "" {
			p.Write = append(p.Write, filepath.Dir(socket))
		}
		p.Read = tidy(p.Read)
		return p, []confine.Ban{confine.Programs}, nil
	case workers.RoleDesk:
		// What it asks, getent or a command of the admin's, may read anything; its user may not.
		p := confine.Paths{Read: []string{"/"}, Write: slices.Concat(everyProgram.Write, c.Isolation.Write)}
		if dir := c.State(); dir != "" {
			p.Write = append(p.Write, dir)
		}
		if file := c.Log.AuditFile(); file != "" {
			p.Write = append(p.Write, around(file)...)
		}
		return p, nil, nil
	}
	if sv.role == workers.RoleIssuer {
		return issuerNeeds(), []confine.Ban{confine.Programs}, nil
	}
	p, err := reach(sv.path, c, users)
	return p, nil, err
}

// around gives the directories in which a file and its next versions are, one for each link
// on the way: certbot's live/ leads to archive/. A file directly in a directory of the
// system stands for itself, until another is put in its place.
func around(file string) (list []string) {
	for range 40 {
		if dir := filepath.Dir(file); slices.Contains(system, dir) {
			list = append(list, file)
		} else {
			list = append(list, dir)
		}
		target, err := os.Readlink(file)
		if err != nil {
			return list
		}
		if !filepath.IsAbs(target) {
			// What ".." means is decided by where the directory really is.
			dir, err := filepath.EvalSymlinks(filepath.Dir(file))
			if err != nil {
				return list
			}
			target = filepath.Join(dir, target)
		}
		file = target
	}
	return list
}

// errNoRoots: Landlock would shut out the mail.
var errNoRoots = errors.New("neither mail.* nor a password file says in which directories the mail is: set mail.home, or name them in isolation.write")

// mailRoots are the directories in which all mail is, and what belongs to it. Where homes
// stand with the users, it is the directories in which homes are, so that a user who is
// added beside the others needs no restart.
func mailRoots(c *config.Config, users func() []auth.User) ([]string, error) {
	locator, err := c.Mail.Locator()
	if err != nil {
		return nil, err
	}
	mail, beside := locator.Prefixes()
	for i, dir := range mail {
		mail[i] = standing(dir)
	}
	dirs := slices.Concat(mail, beside)
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == "/" })
	dirs = slices.Concat(dirs, c.Mail.LinkTo, c.Isolation.Write)
	found := len(dirs) > len(c.Mail.LinkTo)
	for _, u := range users() {
		place, err := locator.Place(u.Name, u.Home, u.Mail)
		if err != nil {
			continue // the login says so
		}
		for _, dir := range []string{place.Mail, place.Inbox, place.Control, place.Index} {
			if dir == "" {
				continue
			}
			found = true
			if slices.ContainsFunc(dirs, func(d string) bool { return confine.Below(d, dir) }) {
				continue
			}
			if home := filepath.Clean(u.Home); u.Home != "" && confine.Below(home, dir) {
				dir = home
			}
			if parent := filepath.Dir(dir); !slices.Contains(system, parent) {
				dir = parent
			}
			dirs = append(dirs, dir)
		}
	}
	if !found {
		return nil, errNoRoots
	}
	return dirs, nil
}

// standing is dir, or where that is not there yet what it will be made in: who may open
// the one could never open what comes into being there. Never one of system, nor where
// others than mail have their place.
func standing(dir string) string {
	for d := dir; ; {
		if _, err := os.Stat(d); err == nil {
			return d
		}
		d = filepath.Dir(d)
		if slices.Contains(system, d) || slices.Contains([]string{"/home", "/mnt", "/srv", "/var/cache", "/var/spool"}, d) {
			return dir
		}
	}
}

// known are the users who can be listed.
func known(a *auth.Auth) (list []auth.User) {
	names, _, err := a.Users(context.Background()) // who cannot be listed has a place that the configuration names
	if err != nil {
		return nil
	}
	for _, name := range names {
		if u, ok := a.Lookup(name, auth.Attempt{}); ok {
			list = append(list, u)
		}
	}
	return list
}

func (sv *service) users() []auth.User { return known(sv.auth) }

// confine takes away from this process what it does not need. No byte of a client was read
// before.
func (sv *service) confine() error {
	iso := sv.config.Isolation
	did := []any{"event", "isolation"}
	if sv.role != "" {
		did = append(did, "role", sv.role)
	}
	if sv.role == "" {
		sv.makeBeside()
	}
	before := len(did)
	paths, bans, err := sv.needs(sv.config, sv.users)
	if iso.Seccomp != "off" {
		if err := confine.Seccomp(bans...); err == nil {
			did = append(did, "seccomp", true)
		} else if err := sv.unconfined(iso.Seccomp, "isolation.seccomp", err); err != nil {
			return err
		}
	}
	if iso.Landlock != "off" {
		if err == nil {
			err = confine.Landlock(paths, false)
		}
		if err == nil {
			sv.within = &paths
			did = append(did, "landlock", confine.LandlockABI(), "read", paths.Read, "write", paths.Write)
		} else if err := sv.unconfined(iso.Landlock, "isolation.landlock", err); err != nil {
			return err
		}
	}
	if len(did) > before {
		sv.log.Info("confined", did...)
	}
	if sv.within == nil {
		return nil
	}
	for _, dir := range sv.within.Missing() {
		if slices.Contains(everyProgram.Read, dir) || slices.Contains(asking, dir) || dir == sv.config.State() {
			continue
		}
		sv.log.Warn("what is made here later is out of reach until a restart", "event", "isolation_missing", "path", dir)
	}
	return nil
}

// makeBeside makes directories that the storage would make for the first user who needs
// them. Where the mail itself is, nothing is made: a disk may not be mounted.
func (sv *service) makeBeside() {
	locator, err := sv.config.Mail.Locator()
	if err != nil {
		return
	}
	_, beside := locator.Prefixes()
	for _, dir := range beside {
		os.MkdirAll(dir, 0o700) // what is still missing is told of
	}
}

// unconfined says that a restriction could not be had: in the log, or as why there is no
// server.
func (sv *service) unconfined(want, key string, err error) error {
	if want == "required" {
		return fmt.Errorf("%s is \"required\": %w", key, err)
	}
	sv.log.Warn("not confined: docs/isolation.md", "event", "isolation_none", "key", key, "err", err)
	return nil
}

// outside names what a configuration needs and this process cannot reach any more.
func (sv *service) outside(fresh *config.Config) (list []string) {
	if sv.within == nil {
		return nil
	}
	now := *fresh
	now.Control, now.StateDir, now.Isolation = sv.config.Control, sv.config.StateDir, sv.config.Isolation // these wait for a restart anyway
	paths, _, err := sv.needs(&now, func() []auth.User { return nil })
	if err != nil && !errors.Is(err, errNoRoots) {
		return nil // Check tells
	}
	for _, p := range paths.Read {
		if !sv.within.Covers(p, false) && !missing(p) {
			list = append(list, p)
		}
	}
	for _, p := range paths.Write {
		if !sv.within.Covers(p, true) {
			list = append(list, p)
		}
	}
	return list
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// errOutside is told to an admin of a user whose mail cannot be opened.
const errOutside = "%s is outside of what Roost may open since it confined itself: restart it, or name the directory in isolation.write first where no password file names it"

// reachable refuses users whose mail is where this process cannot get.
func (sv *service) reachable(identity func(auth.User) (store.Identity, error)) func(auth.User) (store.Identity, error) {
	if sv.within == nil {
		return identity
	}
	within := *sv.within
	return func(u auth.User) (store.Identity, error) {
		who, err := identity(u)
		if err != nil {
			return who, err
		}
		for _, root := range who.Roots {
			for _, dir := range []string{root.Mail, root.Inbox, root.Control, root.Index} {
				lexical := func(d string) bool { return confine.Below(d, dir) }
				if dir != "" && !slices.ContainsFunc(within.Write, lexical) && !within.Covers(dir, true) {
					return who, fmt.Errorf(errOutside, dir)
				}
			}
		}
		return who, nil
	}
}
