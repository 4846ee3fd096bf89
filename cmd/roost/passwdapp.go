package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"roost/auth"
	"roost/config"
)

// The verbs of app passwords. What they promise of the file stands at auth.Edit, what a
// line means at auth.AppPassword.

var passwdAppAddVerb = verb{
	name:  "passwd app add",
	about: "Make a password for one device or program of a user, and print it.",
	args:  "USER NAME",
	more: "It is shown this once and stored nowhere in the clear. NAME is what it is called when it is listed\n" +
		"or revoked: up to 64 letters, digits, \".\", \"_\" and \"-\". A server that runs takes it at once.",
	example: "roost passwd app add ann@example.org phone",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		ends := fs.String("expires", "", "when it ends: a date, `2027-12-31`, whose end counts, or a time from now, 90d or 12h")
		services := fs.String("services", "", "`protocols` it is good for, imap,smtp; without all")
		nets := fs.String("allow-nets", "", "`networks` it may come from, 192.0.2.0/24,2001:db8::/32; without all")
		return two("USER", "NAME", func(_ context.Context, env *environment, user, name string) error {
			p := auth.AppPassword{User: user, Name: name}
			var err error
			if *ends != "" {
				if p.Expires, err = parseEnd(*ends, time.Now()); err != nil {
					return err
				}
			}
			if *services != "" {
				p.Services = strings.Split(*services, ",")
			}
			if *nets != "" {
				for _, s := range strings.Split(*nets, ",") {
					n, err := config.ParseNetwork(s)
					if err != nil {
						return usagef("--allow-nets: %v", err)
					}
					p.Networks = append(p.Networks, n)
				}
			}
			password, main := "", ""
			passwd, _, err := where.of(user)
			if err != nil {
				return err
			}
			if main, err = auth.Stored(passwd, user); err != nil && !where.elsewhere() {
				return err
			}
			err = where.editApps(func(f *auth.AppFile) (err error) {
				password, err = f.Add(p, main)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(env.stdout, password)
			fmt.Fprintf(env.stderr, "roost: this is the password %q of %s; it is not shown again\n", name, user)
			return nil
		})
	},
}

var passwdAppRevokeVerb = verb{
	name:  "passwd app revoke",
	about: "Revoke the password of a device: its sessions end, and it can never log in again.",
	args:  "USER NAME",
	more: "Its line stays, so that the log tells when somebody still tries it; `roost passwd app remove` takes\n" +
		"that away too.",
	example: "roost passwd app revoke ann@example.org phone",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		return two("USER", "NAME", func(_ context.Context, env *environment, user, name string) error {
			if err := where.editApps(func(f *auth.AppFile) error { return f.Revoke(user, name) }); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "revoked %s of %s\n", name, user)
			return nil
		})
	},
}

var passwdAppRemoveVerb = verb{
	name:    "passwd app remove",
	about:   "Take an app password out of the file; its sessions end.",
	args:    "USER NAME",
	example: "roost passwd app remove ann@example.org phone",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		return two("USER", "NAME", func(_ context.Context, env *environment, user, name string) error {
			if err := where.editApps(func(f *auth.AppFile) error { return f.Remove(user, name) }); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "removed %s of %s\n", name, user)
			return nil
		})
	},
}

var passwdAppListVerb = verb{
	name:    "passwd app list",
	about:   "List app passwords, and when each was used last.",
	args:    "[USER]",
	more:    "A server that runs writes down uses once a minute.",
	example: "roost passwd app list ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		asJSON := fs.Bool("json", false, "one JSON object a line")
		return func(_ context.Context, env *environment, args []string) error {
			if len(args) > 1 {
				return usagef("passwd app list takes one user at most")
			}
			c, err := where.load()
			if err != nil {
				return err
			}
			path, err := where.apps(c)
			if err != nil {
				return err
			}
			list, err := auth.ReadApps(path)
			if err != nil {
				return err
			}
			uses := map[[2]string]auth.AppUse{}
			used, err := auth.ReadAppUses(appUses(c))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				fmt.Fprintf(env.stderr, "roost: when they were used is not known: %v\n", err)
			}
			for _, u := range used {
				uses[[2]string{u.User, u.App}] = u
			}
			t := tabwriter.NewWriter(env.stdout, 0, 8, 2, ' ', 0)
			for _, p := range list {
				if len(args) == 1 && p.User != args[0] {
					continue
				}
				row := appRow(p, uses[[2]string{p.User, p.Name}], time.Now())
				if *asJSON {
					if err := json.NewEncoder(env.stdout).Encode(row); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", row.User, row.Name, row.State, row.about())
			}
			return t.Flush()
		}
	},
}

// appListing is one app password as it is listed.
type appListing struct {
	User     string       `json:"user"`
	Name     string       `json:"name"`
	State    string       `json:"state"`
	Created  time.Time    `json:"created,omitzero"`
	Expires  time.Time    `json:"expires,omitzero"`
	Revoked  time.Time    `json:"revoked,omitzero"`
	Services []string     `json:"services,omitempty"`
	Networks []string     `json:"networks,omitempty"`
	Used     *auth.AppUse `json:"used,omitempty"`
}

func appRow(p auth.AppPassword, use auth.AppUse, now time.Time) appListing {
	row := appListing{User: p.User, Name: p.Name, State: p.State(now), Created: p.Created, Expires: p.Expires, Revoked: p.Revoked, Services: p.Services}
	for _, n := range p.Networks {
		row.Networks = append(row.Networks, n.String())
	}
	// One of before its name was used again is not its use.
	if use.User != "" && !use.At.Before(p.Created) {
		row.Used = &use
	}
	return row
}

func (r appListing) about() string {
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02") }
	parts := []string{"made " + day(r.Created)}
	switch {
	case r.Used == nil:
		parts = append(parts, "never used")
	case r.Used.Client != "":
		parts = append(parts, fmt.Sprintf("used %s from %v by %q (%s)", r.Used.At.Format("2006-01-02 15:04"), r.Used.Addr, r.Used.Client, r.Used.Service))
	default:
		parts = append(parts, fmt.Sprintf("used %s from %v (%s)", r.Used.At.Format("2006-01-02 15:04"), r.Used.Addr, r.Used.Service))
	}
	if !r.Expires.IsZero() {
		parts = append(parts, "ends "+r.Expires.UTC().Format("2006-01-02 15:04"))
	}
	if r.Services != nil {
		parts = append(parts, "for "+strings.Join(r.Services, ", "))
	}
	if r.Networks != nil {
		parts = append(parts, "from "+strings.Join(r.Networks, ", "))
	}
	return strings.Join(parts, ", ")
}

// two makes a runner of a verb that has two arguments.
func two(first, second string, do func(ctx context.Context, env *environment, a, b string) error) runner {
	return func(ctx context.Context, env *environment, args []string) error {
		if len(args) != 2 || args[0] == "" || args[1] == "" {
			return usagef("%s and %s are needed", first, second)
		}
		return do(ctx, env, args[0], args[1])
	}
}

// parseEnd reads when an app password ends.
func parseEnd(s string, now time.Time) (time.Time, error) {
	if day, err := time.ParseInLocation("2006-01-02", s, time.Local); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n > 0 {
			return now.AddDate(0, 0, int(n)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, usagef("--expires: %q is no date like 2027-12-31 and no time like 90d", s)
	}
	return now.Add(d), nil
}

// editApps changes the file of app passwords.
func (w passwdWhere) editApps(fn func(*auth.AppFile) error) error {
	c, err := w.load()
	if err != nil {
		return err
	}
	path, err := w.apps(c)
	if err != nil {
		return err
	}
	beside := ""
	if files := c.Auth.PasswdFiles(); len(files) > 0 {
		beside = files[0]
	}
	return auth.EditApps(path, beside, fn)
}

// apps gives the file of app passwords.
func (w passwdWhere) apps(c *config.Config) (string, error) {
	if path := appFile(c); path != "" {
		return path, nil
	}
	return "", exitWith(exitUsage, errors.New("app passwords are switched off: auth.app_passwords"))
}

// forgetApps takes all app passwords of a user away: another user of that name must not
// inherit them.
func (w passwdWhere) forgetApps(user string) error {
	c, err := w.load()
	if err != nil {
		return err
	}
	if _, err := os.Stat(appFile(c)); err != nil {
		return nil
	}
	return w.editApps(func(f *auth.AppFile) error { return f.Remove(user, "") })
}

// elsewhere reports whether users can be known to another source than password files.
func (w passwdWhere) elsewhere() bool {
	c, err := w.load()
	return err == nil && len(c.Auth.PasswdFiles()) < len(c.Auth.Source)
}

// appFile is the file of app passwords that a configuration means; "" where there are none.
func appFile(c *config.Config) string {
	switch files := c.Auth.PasswdFiles(); {
	case c.Auth.AppPasswords == "off":
		return ""
	case c.Auth.AppPasswords != "":
		return c.Auth.AppPasswords
	case len(files) > 0:
		return files[0] + ".apps"
	}
	return ""
}

// appUses is where a server keeps when app passwords were used; "" for nowhere.
func appUses(c *config.Config) string {
	if c.State() == "" {
		return ""
	}
	return filepath.Join(c.State(), "app-uses")
}
