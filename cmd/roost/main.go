package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// version is stamped by the build: -ldflags "-X main.version=1.2.3".
var version = "devel"

// What the process exits with. Scripts live on these: they never change.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or wrong configuration
	exitPartly      = 3 // done in part; the report says what was left
	exitUnreachable = 4 // the server cannot be reached
	exitInterrupted = 130
)

// A verb is one thing that an admin wants to have done.
type verb struct {
	name    string // one to three words: "serve", "config check"
	about   string // one sentence
	args    string // what follows the flags, as the synopsis shows it: "USER"
	more    string // what else there is to know; "" mostly
	example string // works as pasted

	// setup declares the flags and gives what runs once they were read. It is also
	// called only to print the flags, so it does nothing else.
	setup func(fs *flag.FlagSet) runner
}

// A runner does what its verb promises. args is what follows the flags. ctx ends
// with the first SIGINT or SIGTERM. What it returns is printed behind "roost: ",
// and exitCode turns it into the exit code.
type runner func(ctx context.Context, env *environment, args []string) error

// verbs is the table of all verbs, in the order in which help shows them.
func verbs() []verb {
	return []verb{
		serveVerb,
		demoVerb,
		doctorVerb,
		whoVerb, kickVerb, traceVerb,
		configCheckVerb,
		configShowVerb,
		configDefaultVerb,
		tlsCheckVerb,
		passwdAddVerb, passwdChangeVerb, passwdVerifyVerb, passwdDisableVerb, passwdEnableVerb, passwdRemoveVerb, passwdListVerb,
		passwdAppAddVerb, passwdAppListVerb, passwdAppRevokeVerb, passwdAppRemoveVerb,
		authTestVerb, authLockedVerb, authUnlockVerb, authEventsVerb,
		importDovecotVerb, exportDovecotVerb,
		helpVerb(),
		versionVerb,
	}
}

// environment is all that a verb sees of the process.
type environment struct {
	stdin  io.Reader // an *os.File where it is the process's own
	stdout io.Writer // results
	stderr io.Writer // everything else
	getenv func(string) string
	own    bool // the process is this verb's alone: what it takes away from itself nobody else misses
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if len(os.Args) < 2 || os.Args[1] != isolated {
		// A second signal kills: nobody should have to wait for a verb that hangs. One that
		// has a parent is ended by that, if need be, and may be told by others too.
		context.AfterFunc(ctx, stop)
	}
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, own: true}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// run does what the command line says and gives the exit code.
func run(ctx context.Context, env *environment, args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "-h", "-help", "--help":
			args = []string{"help"}
		case "-version", "--version":
			args = []string{"version"}
		}
	}
	var err error
	if len(args) > 0 && args[0] == isolated && env.own {
		err = runIsolated(ctx, env, args[1:])
	} else {
		var v verb
		var rest []string
		if v, rest, err = findVerb(args); err == nil {
			err = runVerb(ctx, env, v, rest)
		}
	}
	if err == nil {
		return exitDone
	}
	if msg := err.Error(); msg != "" {
		for line := range strings.SplitSeq(msg, "\n") {
			fmt.Fprintf(env.stderr, "roost: %s\n", line)
		}
	}
	return exitCode(ctx, err)
}

// findVerb looks up the one or two words that args starts with.
func findVerb(args []string) (verb, []string, error) {
	if len(args) == 0 {
		return verb{}, nil, usagef("no verb was given; `roost help` lists them")
	}
	var group []string
	for _, v := range verbs() {
		words := strings.Fields(v.name)
		if len(words) <= len(args) && slices.Equal(words, args[:len(words)]) {
			return v, args[len(words):], nil
		}
		if words[0] == args[0] {
			group = append(group, v.name)
		}
	}
	if group != nil {
		return verb{}, nil, usagef("say which: roost %s", strings.Join(group, ", roost "))
	}
	return verb{}, nil, usagef("unknown verb %q; `roost help` lists them", args[0])
}

// runVerb reads the verb's flags, which may stand before and behind its arguments.
func runVerb(ctx context.Context, env *environment, v verb, args []string) error {
	fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are ours to print, once
	do := v.setup(fs)
	rest, err := parseFlags(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		printVerb(env.stdout, v)
		return nil
	}
	if err != nil {
		return usagef("%v; `roost %s -h` shows the flags", err, v.name)
	}
	return do(ctx, env, rest)
}

// parseFlags is fs.Parse for flags and arguments in any order; "--" ends the flags.
func parseFlags(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		used := len(args) - fs.NArg()
		if fs.NArg() == 0 || used > 0 && args[used-1] == "--" {
			return append(rest, fs.Args()...), nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// An exitError carries the exit code that its cause asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitWith gives err an exit code other than 1.
func exitWith(code int, err error) error { return &exitError{code, err} }

// usagef is the error of a wrong command line.
func usagef(format string, args ...any) error {
	return exitWith(exitUsage, fmt.Errorf(format, args...))
}

// exitCode gives the exit code for what a verb returned.
func exitCode(ctx context.Context, err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		return e.code
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}
