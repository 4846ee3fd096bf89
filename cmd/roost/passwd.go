package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"roost/auth"
	"roost/config"
)

// The verbs of the file that says who may log in. What they promise of it stands at
// auth.Edit.

var passwdAddVerb = verb{
	name:    "passwd add",
	about:   "Add a user to the password file.",
	args:    "USER",
	more:    "The file is made when it is not there. The password is asked for twice, or read with --stdin.",
	example: "roost passwd add ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where, secret := passwdFlags(fs), secretFlags(fs)
		home := fs.String("home", "", "the user's home `directory`, for ~ and %h in mail.location")
		return one("USER", func(ctx context.Context, env *environment, user string) error {
			return where.edit(env, true, "added", user, func(path string) error {
				_, err := auth.Stored(path, user)
				if err == nil {
					return fmt.Errorf("%w: %s; `roost passwd change` gives it another password", auth.ErrUserExists, user)
				}
				if errors.Is(err, auth.ErrNoUser) || errors.Is(err, os.ErrNotExist) {
					err = secret.ask(ctx, env)
				}
				return err
			}, func(f *auth.PasswordFile) error {
				stored, err := secret.hash(f.Bare(user))
				if err != nil {
					return err
				}
				if *home != "" {
					return f.Add(user, stored, "", "", "", *home, "", "")
				}
				return f.Add(user, stored)
			})
		})
	},
}

var passwdChangeVerb = verb{
	name:    "passwd change",
	about:   "Give a user another password.",
	args:    "USER",
	more:    "A disabled user is enabled by it. Sessions that are open stay open.",
	example: "roost passwd change ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where, secret := passwdFlags(fs), secretFlags(fs)
		return one("USER", func(ctx context.Context, env *environment, user string) error {
			return where.edit(env, false, "changed the password of", user, func(path string) error {
				if _, err := auth.Stored(path, user); err != nil {
					return err
				}
				return secret.ask(ctx, env)
			}, func(f *auth.PasswordFile) error {
				stored, err := secret.hash(f.Bare(user))
				if err != nil {
					return err
				}
				return f.SetPassword(user, stored)
			})
		})
	},
}

var passwdVerifyVerb = verb{
	name:    "passwd verify",
	about:   "Say whether a password is the one in the file.",
	args:    "USER",
	more:    "Exits with 1 when it is not. `roost auth test` says whether a login would succeed, and why.",
	example: "roost passwd verify ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		stdin := fs.Bool("stdin", false, "read the password from standard input, its first line")
		return one("USER", func(ctx context.Context, env *environment, user string) error {
			path, _, err := where.of(user)
			if err != nil {
				return err
			}
			stored, err := auth.Stored(path, user)
			if err != nil {
				return err
			}
			hash, err := auth.ParseHash(stored)
			if err != nil {
				return fmt.Errorf("user %s: %w", user, err)
			}
			password, err := askPassword(ctx, env, "Password: ", *stdin)
			if err != nil {
				return err
			}
			if !hash.Matches(user, password) {
				return errors.New("the password is wrong")
			}
			fmt.Fprintln(env.stdout, "the password is right")
			return nil
		})
	},
}

var passwdDisableVerb = verb{
	name:    "passwd disable",
	about:   "Keep a user from logging in, so that it can be taken back.",
	args:    "USER",
	more:    "A ! before the hash does it, which Dovecot and crypt(3) understand too. Sessions that are open stay open.",
	example: "roost passwd disable ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		return one("USER", func(_ context.Context, env *environment, user string) error {
			return where.edit(env, false, "disabled", user, nil, func(f *auth.PasswordFile) error { return f.Disable(user) })
		})
	},
}

var passwdEnableVerb = verb{
	name:    "passwd enable",
	about:   "Let a disabled user log in again, with the old password.",
	args:    "USER",
	example: "roost passwd enable ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		return one("USER", func(_ context.Context, env *environment, user string) error {
			return where.edit(env, false, "enabled", user, nil, func(f *auth.PasswordFile) error { return f.Enable(user) })
		})
	},
}

var passwdRemoveVerb = verb{
	name:    "passwd remove",
	about:   "Take a user out of the password file, and their app passwords. The mail stays.",
	args:    "USER",
	example: "roost passwd remove ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		return one("USER", func(_ context.Context, env *environment, user string) error {
			if err := where.edit(env, false, "removed", user, nil, func(f *auth.PasswordFile) error { return f.Remove(user) }); err != nil {
				return err
			}
			return where.forgetApps(user)
		})
	},
}

var passwdListVerb = verb{
	name:    "passwd list",
	about:   "List the users of the password file, and what is wrong with it.",
	more:    "States: active, disabled (no password matches), refused (the line cannot be used; why goes to standard error).",
	example: "roost passwd list --json",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		asJSON := fs.Bool("json", false, "one JSON object a line")
		return func(_ context.Context, env *environment, args []string) error {
			if len(args) > 0 {
				return usagef("passwd list takes no argument")
			}
			return where.list(env, *asJSON)
		}
	},
}

// one makes a runner of a verb that has one argument.
func one(what string, do func(ctx context.Context, env *environment, arg string) error) runner {
	return func(ctx context.Context, env *environment, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("one %s is needed", what)
		}
		return do(ctx, env, args[0])
	}
}

// passwdWhere says which file is meant.
type passwdWhere struct{ config, file *string }

func passwdFlags(fs *flag.FlagSet) passwdWhere {
	return passwdWhere{
		config: fs.String("config", config.DefaultPath, "the configuration `file`, whose password files are meant"),
		file:   fs.String("file", "", "the password `file`, instead"),
	}
}

// load reads the configuration. Without any, and where it was not asked for by name,
// it is that of an empty file: users are often added first.
func (w passwdWhere) load() (*config.Config, error) {
	c, err := config.Load(*w.config)
	switch {
	case errors.Is(err, os.ErrNotExist) && (*w.config == config.DefaultPath || *w.file != ""):
		c, err = config.Default(), nil
	case err != nil:
		return nil, exitWith(exitUsage, err)
	}
	if *w.file != "" {
		c.Auth.PasswdFile, c.Auth.Source = *w.file, nil
	}
	return c, nil
}

// files gives the password files, one at least.
func (w passwdWhere) files() (paths []string, keepCase bool, err error) {
	c, err := w.load()
	if err != nil {
		return nil, false, err
	}
	if paths = c.Auth.PasswdFiles(); len(paths) == 0 {
		return nil, false, exitWith(exitUsage, fmt.Errorf("%s names no password file; --file names one", *w.config))
	}
	return paths, !c.Auth.Lowercase, nil
}

// of gives the password file that has a user: where several have, the first counts. For
// one whom none has it is the first file.
func (w passwdWhere) of(user string) (path string, keepCase bool, err error) {
	paths, keepCase, err := w.files()
	if err != nil {
		return "", false, err
	}
	for _, path := range paths {
		if _, err := auth.Stored(path, user); err == nil {
			return path, keepCase, nil
		}
	}
	return paths[0], keepCase, nil
}

// edit changes the file and says so. before, which may be nil, asks what there is to
// ask: the file is not locked while somebody types.
func (w passwdWhere) edit(env *environment, create bool, done, user string, before func(path string) error, fn func(*auth.PasswordFile) error) error {
	path, keepCase, err := w.of(user)
	if err != nil {
		return err
	}
	if before != nil {
		err = before(path)
	}
	if err == nil {
		err = auth.Edit(path, create, keepCase, fn)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; `roost passwd add` makes it, --file names another", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s %s in %s\n", done, user, path)
	_, problems, err := auth.List(path, keepCase)
	if err != nil {
		return err
	}
	// A server that runs would go on with the file as it was before the damage.
	damaged := false
	for _, p := range problems {
		if p.Damaged {
			damaged = true
			fmt.Fprintf(env.stderr, "roost: %v\n", p)
		}
	}
	if damaged {
		return exitWith(exitPartly, fmt.Errorf("%s was changed, but a server that runs does not take it before these lines are mended", path))
	}
	return nil
}

func (w passwdWhere) list(env *environment, asJSON bool) error {
	paths, keepCase, err := w.files()
	if err != nil {
		return err
	}
	type inFile struct {
		auth.Listing
		file string // "" where there is but one
	}
	var users []inFile
	first := map[string]string{} // the file that counts, by user
	for _, path := range paths {
		list, problems, err := auth.List(path, keepCase)
		if err != nil {
			return err
		}
		for _, p := range problems {
			fmt.Fprintf(env.stderr, "roost: %v\n", p)
		}
		for _, l := range list {
			u := inFile{Listing: l}
			if len(paths) > 1 {
				u.file = path
			}
			if other, twice := first[l.Name]; twice {
				u.State, u.Reason = "refused", "is in "+other+", which is asked first"
				fmt.Fprintf(env.stderr, "roost: %s:%d: user %q %s\n", path, u.Line, u.Name, u.Reason)
			} else {
				first[l.Name] = path
			}
			users = append(users, u)
		}
	}
	if asJSON {
		out := json.NewEncoder(env.stdout)
		for _, u := range users {
			row := struct {
				User   string `json:"user"`
				Scheme string `json:"scheme,omitempty"`
				State  string `json:"state"`
				Reason string `json:"reason,omitempty"`
				File   string `json:"file,omitempty"`
				Line   int    `json:"line"`
			}{u.Name, u.Scheme, u.State, u.Reason, u.file, u.Line}
			if err := out.Encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(env.stdout, 0, 8, 2, ' ', 0)
	for _, u := range users {
		scheme := u.Scheme
		if scheme == "" {
			scheme = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s", u.Name, scheme, u.State)
		if u.file != "" {
			fmt.Fprintf(t, "\t%s", u.file)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// newSecret is a password to be set.
type newSecret struct {
	stdin    *bool
	scheme   *string
	password string
}

func secretFlags(fs *flag.FlagSet) *newSecret {
	return &newSecret{
		stdin:  fs.Bool("stdin", false, "read the password from standard input, its first line"),
		scheme: fs.String("scheme", "", "how it is stored, `scheme` "+strings.Join(auth.WriteSchemes, ", ")+" (default argon2id; bcrypt in a table of OpenSMTPD)"),
	}
}

// ask reads the password.
func (s *newSecret) ask(ctx context.Context, env *environment) (err error) {
	if s.password, err = askPassword(ctx, env, "New password: ", *s.stdin); err != nil || *s.stdin {
		return err
	}
	again, err := askPassword(ctx, env, "Again: ", false)
	if err == nil && again != s.password {
		err = errors.New("the two passwords differ; nothing was changed")
	}
	return err
}

// hash gives what is stored of the password.
func (s *newSecret) hash(bare bool) (string, error) {
	scheme := *s.scheme
	if scheme == "" {
		scheme = auth.WriteSchemes[0]
		if bare {
			scheme = "bcrypt"
		}
	}
	stored, err := auth.NewHash(scheme, s.password, bare)
	if errors.Is(err, auth.ErrScheme) {
		return "", exitWith(exitUsage, err)
	}
	return stored, err
}

// maxPasswordLine bounds what is read of standard input.
const maxPasswordLine = 64 << 10 // a token can be long

// askPassword reads a password without showing it, or the first line of standard input.
func askPassword(ctx context.Context, env *environment, prompt string, stdin bool) (string, error) {
	if stdin {
		line, err := bufio.NewReader(io.LimitReader(env.stdin, maxPasswordLine)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			return "", errors.New("standard input has no password")
		}
		return line, nil
	}
	tty, ok := env.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return "", usagef("standard input is no terminal to ask for a password; --stdin reads it from there")
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(env.stderr, prompt)
	type answer struct {
		password []byte
		err      error
	}
	got := make(chan answer, 1)
	go func() { // ends with the line, or with the process
		password, err := term.ReadPassword(fd)
		got <- answer{password, err}
	}()
	select {
	case a := <-got:
		fmt.Fprintln(env.stderr)
		if a.err == nil && len(a.password) == 0 {
			a.err = errors.New("the password is empty")
		}
		return string(a.password), a.err
	case <-ctx.Done():
		// The terminal shows what is typed again.
		err := errors.Join(ctx.Err(), term.Restore(fd, before))
		fmt.Fprintln(env.stderr)
		return "", err
	}
}
