package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"roost/server/control"
)

var traceVerb = verb{
	name:  "trace",
	about: "Show the protocol of a user's sessions as it is spoken, without passwords and without mail.",
	args:  "USER",
	more: "C is the client, S the server, - what happened. It shows the sessions that are there and those that\n" +
		"come, and logins that are refused from their greeting on. Hidden are the arguments of LOGIN and\n" +
		"AUTHENTICATE, literals, strings of messages, and lines that are no command; names of mailboxes and\n" +
		"what was searched for are seen. Lines that you do not read in time are dropped and counted: the\n" +
		"sessions never wait. It ends with --for or --lines, whichever comes first, or with Control-C.",
	example: "roost trace --for 2m ann@example.org",
	setup: func(fs *flag.FlagSet) runner {
		server := controlFlags(fs)
		limit := fs.Duration("for", 10*time.Minute, "`time` after which it ends; at most a day")
		lines := fs.Int("lines", 10_000, "`number` of lines after which it ends")
		asJSON := fs.Bool("json", false, "print a JSON object for each line")
		return one("USER", func(ctx context.Context, env *environment, user string) error {
			if *limit < time.Second || *lines < 1 {
				return usagef("--for is at least a second, --lines at least 1")
			}
			enc := json.NewEncoder(env.stdout)
			done, err := server.ask(ctx, control.Request{Do: "trace", User: user, Seconds: int(limit.Seconds()), Lines: *lines}, func(r control.Reply) error {
				if r.Line == nil {
					return nil
				}
				if *asJSON {
					return enc.Encode(r.Line)
				}
				return printLine(env, r.Line)
			})
			if errors.Is(err, context.Canceled) {
				return nil // that is how a trace ends
			}
			if err == nil {
				fmt.Fprintf(env.stderr, "roost: the trace ends: %s\n", done)
			}
			return err
		})
	},
}

// printLine writes a line of a trace for people.
func printLine(env *environment, l *control.Line) error {
	if l.Dropped > 0 {
		if _, err := fmt.Fprintf(env.stdout, "%s missing here, not read in time\n", count(l.Dropped, "line")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(env.stdout, "%s %8s %s %s\n", l.Time.Local().Format("15:04:05.000"), l.Session, l.From, l.Text)
	return err
}
