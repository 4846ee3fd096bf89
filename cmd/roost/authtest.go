package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"

	"roost/auth"
)

// authTestVerb tells an admin what a client is not told.
var authTestVerb = verb{
	name:  "auth test",
	about: "Say what becomes of a user's login, and why.",
	args:  "USER",
	more: "Nothing is counted against the user, and a server that runs is not asked: it decides by the same file. " +
		"Exits with 1 when the login would be refused.",
	example: "roost auth test --no-password --addr 192.0.2.7 ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		where := passwdFlags(fs)
		stdin := fs.Bool("stdin", false, "read the password from standard input, its first line")
		without := fs.Bool("no-password", false, "decide as if the password were right")
		from := fs.String("addr", "", "decide as for a client at this `address`")
		return one("USER", func(ctx context.Context, env *environment, user string) error {
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
			var password *string
			if !*without {
				p, err := askPassword(ctx, env, "Password: ", *stdin)
				if err != nil {
					return err
				}
				password = &p
			}
			steps, u, ok := a.Explain(ctx, user, password, at)
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
		})
	},
}
