package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"roost/config"
)

// configFlag declares the flag that names the configuration.
func configFlag(fs *flag.FlagSet) *string {
	return fs.String("config", config.DefaultPath, "`file` with the configuration")
}

// loadConfig reads a configuration and checks it against this machine.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if err == nil {
		err = c.Check(time.Now(), protocol())
	}
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	return c, nil
}

var configCheckVerb = verb{
	name:  "config check",
	about: "Check the configuration, and report everything that is wrong with it.",
	more: "The exit code is 2 when something is wrong. Nothing is changed. Run by root it also notes\n" +
		"what mail.user could not read again: such a file works until it changes.",
	example: "roost config check --config /etc/roost/roost.toml",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		return func(_ context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			c, err := loadConfig(*path)
			var problems config.Problems
			if errors.As(err, &problems) {
				fmt.Fprintln(env.stdout, problems)
				return exitWith(exitUsage, fmt.Errorf("%s: %s", *path, count(len(problems), "problem")))
			}
			if err != nil {
				return err
			}
			for _, note := range lostRights(*path, c) {
				fmt.Fprintf(env.stderr, "roost: note: %s\n", note)
			}
			fmt.Fprintf(env.stdout, "%s is all right\n", *path)
			return nil
		}
	},
}

var configShowVerb = verb{
	name:    "config show",
	about:   "Show the configuration in force, defaults included and secrets masked.",
	example: "roost config show",
	setup: func(fs *flag.FlagSet) runner {
		path := configFlag(fs)
		return func(_ context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			c, err := config.Load(*path)
			if err != nil {
				return exitWith(exitUsage, err)
			}
			c.Show(env.stdout)
			return nil
		}
	},
}

var configDefaultVerb = verb{
	name:    "config default",
	about:   "Print a configuration file with every key, its default, and what it means.",
	example: "roost config default > roost.toml",
	setup: func(fs *flag.FlagSet) runner {
		manual := fs.Bool("manual", false, "print the manual page instead, as Markdown")
		return func(_ context.Context, env *environment, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			if *manual {
				config.Manual(env.stdout)
			} else {
				config.Reference(env.stdout)
			}
			return nil
		}
	},
}

// noArguments refuses what a verb without arguments was given.
func noArguments(args []string) error {
	if len(args) > 0 {
		return usagef("nothing is known to do with %q", args[0])
	}
	return nil
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
