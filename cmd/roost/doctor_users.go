package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"roost/auth"
)

// cost is a way in which passwords are kept.
type cost = auth.Cost

// slowHash is how long a login may compute.
const slowHash = time.Second

// passwords looks at the password file.
func (d *doctor) passwords(context.Context) {
	path := d.config.Auth.PasswdFile
	fi, err := os.Stat(path)
	if err != nil {
		return // a mistake of the configuration
	}
	if fi.Mode().Perm()&0o007 != 0 {
		d.add("passwd-open", finding{Where: path, What: fmt.Sprintf("every user of this machine can get at the hashes (mode %04o)", fi.Mode().Perm()), Run: "chmod o= " + shellWord(path)})
	}
	list, problems, err := auth.List(path, !d.config.Auth.Lowercase)
	if err != nil {
		return // a mistake of the configuration: it may not be read
	}
	for _, p := range problems {
		f := finding{User: p.User, Where: fmt.Sprintf("%s:%d", p.Path, p.Line), What: p.What, Do: p.Do}
		if !p.Refused {
			f.Weight = ailing
		}
		// Where the advice is a command, it stands behind its own colon.
		if do, run, ok := strings.Cut(p.Do, ": roost passwd "); ok {
			f.Do, f.Run = do, "roost passwd "+run
		}
		d.add("passwd-line", f)
	}
	usable := 0
	for _, l := range list {
		if l.State == "active" {
			usable++
		}
	}
	if usable == 0 {
		d.add("passwd-empty", finding{Where: path, What: "it has nobody who can log in", Run: "roost passwd add --file " + shellWord(path) + " ann@example.org"})
	}
	costs, err := auth.Costs(path, !d.config.Auth.Lowercase)
	if err != nil {
		return
	}
	for _, c := range costs {
		if c.Weak {
			some, do := c.Users[0], ""
			if len(c.Users) > 1 {
				some += fmt.Sprintf(" and %d more", len(c.Users)-1)
				do = "each of them needs a new one"
			}
			d.add("hash-weak", finding{Where: path, What: "the file gives away the passwords of " + some + ", which are kept as " + c.Scheme,
				Do: do, Run: "roost passwd change --file " + shellWords(path, c.Users[0])})
		}
		took := d.measure(c)
		f := finding{Where: path, What: fmt.Sprintf("a login of %s takes %s to verify (%s)", plural(len(c.Users), "user", "users"), took.Round(100*time.Microsecond), c.Class)}
		if took > slowHash {
			f.Weight, f.Do = ailing, "give them new passwords, which cost less: roost passwd change"
		}
		d.add("hash-cost", f)
	}
}

// everybody gives the users who can log in, or those who were named.
func (d *doctor) everybody() (users []auth.User, missing []string, err error) {
	path, keepCase := d.config.Auth.PasswdFile, !d.config.Auth.Lowercase
	a, err := openAuth(d.config, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	names := d.only
	if len(names) == 0 {
		list, _, err := auth.List(path, keepCase)
		if err != nil {
			return nil, nil, err
		}
		for _, l := range list {
			if l.State == "active" {
				names = append(names, l.Name)
			}
		}
	}
	for _, name := range names {
		if u, ok := a.Lookup(name, auth.Attempt{Secure: true, Protocol: "imap"}); ok {
			users = append(users, u)
		} else {
			missing = append(missing, name)
		}
	}
	return users, missing, nil
}
