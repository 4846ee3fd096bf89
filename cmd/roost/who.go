package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"roost/server/control"
	"roost/server/trace"
)

var whoVerb = verb{
	name:  "who",
	about: "Show who is on: every connection of the running server.",
	more: "By user: since when, what it does (idle: it waits to be told of new mail), its mailbox, how long\n" +
		"the client was silent, bytes from and to it since the login, and what it calls itself. A user\n" +
		"\"-\" has not logged in. In brackets: the [[client]] entries that mean it. Exits with 4 when no\n" +
		"server answers.",
	example: "roost who",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON array of connections")
		return func(ctx context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			list := []*control.Session{}
			if _, err := server.ask(ctx, control.Request{Do: "who"}, func(r control.Reply) error {
				if r.Session != nil {
					list = append(list, r.Session)
				}
				return nil
			}); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(env.stdout, list)
			}
			printWho(env.stdout, time.Now(), list)
			return nil
		}
	},
}

// printJSON writes v for a script.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printWho writes connections for people. What clients chose is made printable.
func printWho(w io.Writer, now time.Time, list []*control.Session) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "USER\tSESSION\tADDRESS\tON\tSILENT\tSTATE\tMAILBOX\tTLS\tIN\tOUT\tCLIENT")
	for _, s := range list {
		user := cmp.Or(s.User, "-")
		if s.Login != "" {
			user += " (by " + s.Login + ")"
		}
		mailbox := cmp.Or(s.Mailbox, "-")
		if s.ReadOnly {
			mailbox += " (read-only)"
		}
		since := s.Since
		if s.User == "" {
			since = s.Connected
		}
		client := cmp.Or(s.Client, "-")
		if s.Rules != "" {
			client += " [" + s.Rules + "]"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", trace.Printable(user), s.ID, s.Addr, ago(now, since), ago(now, s.Heard),
			s.State, trace.Printable(mailbox), cmp.Or(s.TLS, "-"), bytesOf(s.In), bytesOf(s.Out), trace.Printable(client))
	}
	t.Flush()
}

// bytesOf writes a number of bytes in few letters: "873", "12k", "4M".
func bytesOf(n int64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if n < 10_000 {
			return fmt.Sprint(n) + unit
		}
		n >>= 10
	}
	return fmt.Sprint(n) + "T"
}

var kickVerb = verb{
	name:  "kick",
	about: "End the connections of a user, or one session.",
	args:  "USER|SESSION",
	more: "The client is told that an administrator did it, and most come back at once: `roost passwd\n" +
		"disable` first keeps the user out. A session is named by its id from `roost who`; what is the id\n" +
		"of one is never taken for a user. Exits with 1 when nobody of that name is on.",
	example: "roost kick ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		return one("USER or SESSION", func(ctx context.Context, env *environment, name string) error {
			q := control.Request{Do: "kick", User: name}
			found := func(r control.Reply) error {
				if r.Session != nil && r.Session.ID == name {
					q = control.Request{Do: "kick", Session: name}
				}
				return nil
			}
			if _, err := server.ask(ctx, control.Request{Do: "who"}, found); err != nil {
				return err
			}
			_, err := server.ask(ctx, q, func(r control.Reply) error {
				if s := r.Session; s != nil {
					fmt.Fprintf(env.stdout, "%s %s from %s is told to go\n", s.ID, trace.Printable(cmp.Or(s.User, "-")), s.Addr)
				}
				return nil
			})
			return err
		})
	},
}
