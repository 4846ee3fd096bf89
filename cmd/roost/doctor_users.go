package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"roost/auth"
	"roost/config"
)

// cost is a way in which passwords are kept.
type cost = auth.Cost

// slowHash is how long a login may compute.
const slowHash = time.Second

// passwords looks at the password files.
func (d *doctor) passwords(context.Context) {
	if path := d.config.Auth.MasterFile; path != "" {
		if _, err := d.passwordFile(path); err != nil {
			return // a mistake of the configuration: it is not there, or may not be read
		}
	}
	files, usable := d.config.Auth.PasswdFiles(), 0
	for _, path := range files {
		n, err := d.passwordFile(path)
		if err != nil {
			return // a mistake of the configuration: it is not there, or may not be read
		}
		usable += n
	}
	if usable == 0 && len(files) > 0 && !d.otherUsers() {
		d.add("passwd-empty", finding{Where: files[0], What: "it has nobody who can log in", Run: "roost passwd add --file " + shellWord(files[0]) + " ann@example.org"})
	}
}

// otherUsers reports whether users come from elsewhere than password files.
func (d *doctor) otherUsers() bool {
	return slices.ContainsFunc(d.config.Auth.Source, func(s config.Source) bool { return s.Kind != "passwd" })
}

// whereUsers says in a word where users come from.
func (d *doctor) whereUsers() string {
	if files := d.config.Auth.PasswdFiles(); len(files) == 1 && !d.otherUsers() {
		return files[0]
	}
	return d.path
}

// passwordFile looks at one, and gives how many can log in by it.
func (d *doctor) passwordFile(path string) (usable int, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if fi.Mode().Perm()&0o007 != 0 {
		d.add("passwd-open", finding{Where: path, What: fmt.Sprintf("every user of this machine can get at the hashes (mode %04o)", fi.Mode().Perm()), Run: "chmod o= " + shellWord(path)})
	}
	list, problems, err := auth.List(path, !d.config.Auth.Lowercase)
	if err != nil {
		return 0, err
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
	for _, l := range list {
		if l.State == "active" {
			usable++
		}
	}
	costs, err := auth.Costs(path, !d.config.Auth.Lowercase)
	if err != nil {
		return usable, nil
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
	return usable, nil
}

// everybody gives the users who can log in, or those who were named.
func (d *doctor) everybody() (users []auth.User, missing []string, err error) {
	a, err := openAuth(d.config, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	names := d.only
	if len(names) == 0 {
		list, silent, err := a.Users(context.Background())
		if err != nil {
			return nil, nil, err
		}
		for _, s := range silent {
			d.add("mail-unseen", finding{Where: d.path, What: s + " cannot tell whom it has", Do: "name the users: roost doctor USER..."})
		}
		idle := map[string]bool{} // who may not log in
		for _, path := range d.config.Auth.PasswdFiles() {
			lines, _, err := auth.List(path, !d.config.Auth.Lowercase)
			if err != nil {
				return nil, nil, err
			}
			for _, l := range lines {
				if _, known := idle[l.Name]; !known {
					idle[l.Name] = l.State != "active"
				}
			}
		}
		names = slices.DeleteFunc(list, func(name string) bool { return idle[name] })
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
