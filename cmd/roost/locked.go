package main

import (
	"context"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"roost/server/control"
	"roost/server/trace"
)

var authLockedVerb = verb{
	name:  "auth locked",
	about: "Show who is refused or slowed down after failed logins.",
	more: "What is locked comes first, with the time that is left; then who has failed lately and may have\n" +
		"to wait. docs/throttling.md says what is counted. Exits with 4 when no server answers.",
	example: "roost auth locked",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON array")
		return func(ctx context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			list := []*control.Locked{}
			if _, err := server.ask(ctx, control.Request{Do: "locked"}, func(r control.Reply) error {
				if r.Locked != nil {
					list = append(list, r.Locked)
				}
				return nil
			}); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(env.stdout, list)
			}
			t := tabwriter.NewWriter(env.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "WHO\tFAILURES\tLAST\tLOCKED FOR\tLOCKS")
			now := time.Now()
			for _, l := range list {
				left := "-"
				if l.Until.After(now) {
					left = l.Until.Sub(now).Round(time.Second).String()
				}
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\n", trace.Printable(l.What), l.Failures, ago(now, l.Last), left, l.Locks)
			}
			return t.Flush()
		}
	},
}

var authUnlockVerb = verb{
	name:  "auth unlock",
	about: "Forget the failed logins of a user, an address or a network.",
	args:  "USER|ADDRESS|NETWORK",
	more: "A user is unlocked wherever they failed, an address with the networks around it. Whose address is\n" +
		"locked too shows in `roost auth locked`. Exits with 1 when nothing is counted.",
	example: "roost auth unlock 192.0.2.7",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		return one("USER, ADDRESS or NETWORK", func(ctx context.Context, env *environment, what string) error {
			_, err := server.ask(ctx, control.Request{Do: "unlock", User: what}, func(r control.Reply) error {
				if l := r.Locked; l != nil {
					fmt.Fprintf(env.stdout, "%s: %d failures are forgotten\n", trace.Printable(l.What), l.Failures)
				}
				return nil
			})
			return err
		})
	},
}
