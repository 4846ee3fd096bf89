package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"roost/auth"
)

// authTestVerb tells an admin what a client is not told.
var authTestVerb = verb{
	name:  "auth test",
	about: "Say what becomes of a user's login, and why.",
	args:  "[USER]",
	more: "Nothing is counted against the user, and a server that runs is not asked: it decides by the same file. " +
		"Exits with 1 when the login would be refused. With --token it reads a bearer token in place of a password, " +
		"and USER is whom the client asks for, which it need not. A token says to everybody who has it who you are: it is read from " +
		"the terminal or standard input, and not shown.",
	example: "roost auth test --no-password --addr 192.0.2.7 ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		stdin := fs.Bool("stdin", false, "read the password from standard input, its first line")
		without := fs.Bool("no-password", false, "decide as if the password were right")
		token := fs.Bool("token", false, "a bearer token is asked for, or read from standard input with --stdin")
		from := fs.String("addr", "", "decide as for a client at this `address`")
		return func(ctx context.Context, env *environment, args []string) error {
			if len(args) > 1 || !*token && (len(args) == 0 || args[0] == "") {
				return usagef("one USER is needed")
			}
			if *token && *without {
				return usagef("--token and --no-password are no pair: a token says who it is")
			}
			user := strings.Join(args, "")
			at := auth.Attempt{Secure: true, Protocol: "imap"}
			if *from != "" {
				var err error
				if at.Addr, err = netip.ParseAddr(*from); err != nil {
					return usagef("--addr: %q is no address", *from)
				}
			}
			c, err := where.load()
			if err != nil {
				return err
			}
			a, err := openAuth(c, false, slog.New(slog.DiscardHandler)) // Explain says it
			if err != nil {
				return err
			}
			defer a.Close()
			var steps []string
			var u auth.User
			var ok bool
			switch {
			case *token:
				text, err := askPassword(ctx, env, "Token: ", *stdin)
				if err != nil {
					return err
				}
				steps, u, ok = a.ExplainToken(ctx, strings.TrimSpace(text), user, at)
			case *without:
				steps, u, ok = a.Explain(ctx, user, nil, at)
			default:
				password, err := askPassword(ctx, env, "Password: ", *stdin)
				if err != nil {
					return err
				}
				steps, u, ok = a.Explain(ctx, user, &password, at)
			}
			for _, s := range steps {
				fmt.Fprintln(env.stdout, s)
			}
			if !ok {
				return errors.New("the login would be refused")
			}
			if u.Name != u.Login {
				fmt.Fprintf(env.stdout, "logged in as %s\n", u.Name)
			}
			locator, err := c.Mail.Locator()
			if err != nil {
				return exitWith(exitUsage, err)
			}
			place, err := locator.Place(u.Name, u.Home, u.Mail)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "mail is in %s\n", place.Mail)
			if u.QuotaBytes > 0 || u.QuotaMessages > 0 {
				fmt.Fprintf(env.stdout, "quota: %d bytes, %d messages (0 is no limit)\n", u.QuotaBytes, u.QuotaMessages)
			}
			fmt.Fprintln(env.stdout, "the login would succeed")
			return nil
		}
	},
}
