package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
)

// helpVerb is a function because it shows the table that it stands in.
func helpVerb() verb {
	return verb{
		name:    "help",
		about:   "Show what roost can do, or one verb in full.",
		args:    "[VERB]",
		example: "roost help config check",
		setup: func(fs *flag.FlagSet) runner {
			manual := fs.Bool("manual", false, "print the whole manual as Markdown")
			return func(_ context.Context, env *environment, args []string) error {
				if *manual {
					printManual(env.stdout)
					return nil
				}
				if len(args) == 0 {
					printVerbs(env.stdout, verbs())
					return nil
				}
				if v, _, err := findVerb(args); err == nil {
					printVerb(env.stdout, v)
					return nil
				}
				var group []verb // the verbs that share a first word
				for _, v := range verbs() {
					if strings.HasPrefix(v.name, args[0]+" ") {
						group = append(group, v)
					}
				}
				if group == nil {
					return usagef("unknown verb %q; `roost help` lists them", strings.Join(args, " "))
				}
				printVerbs(env.stdout, group)
				return nil
			}
		},
	}
}

var versionVerb = verb{
	name:    "version",
	about:   "Show the version.",
	example: "roost version",
	setup: func(*flag.FlagSet) runner {
		return func(_ context.Context, env *environment, _ []string) error {
			_, err := fmt.Fprintf(env.stdout, "roost %s (%s %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		}
	},
}

// exitCodes is what help and manual say of them.
var exitCodes = []struct {
	code  int
	about string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "wrong usage or configuration"},
	{exitPartly, "done in part; the report says what was left"},
	{exitUnreachable, "the server cannot be reached"},
	{exitInterrupted, "interrupted"},
}

// printVerbs lists verbs with their sentences.
func printVerbs(w io.Writer, list []verb) {
	fmt.Fprint(w, "Roost serves Maildir trees over IMAP.\n\nusage: roost VERB [flags] [arguments]\n\n")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, v := range list {
		fmt.Fprintf(t, "  %s\t%s\n", v.name, v.about)
	}
	t.Flush()
	fmt.Fprint(w, "\n`roost VERB -h` shows one in full.\n")
}

// printVerb shows one verb: sentence, synopsis, flags, example.
func printVerb(w io.Writer, v verb) {
	fmt.Fprintf(w, "%s\n\nusage: %s\n", v.about, v.synopsis())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, f := range v.flags() {
		if i == 0 {
			fmt.Fprint(t, "\nflags:\n")
		}
		fmt.Fprintf(t, "  %s\t%s\n", flagForm(f), flagAbout(f))
	}
	t.Flush()
	if v.more != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(v.more))
	}
	fmt.Fprintf(w, "\nexample:\n  %s\n", strings.ReplaceAll(v.example, "\n", "\n  "))
}

// printManual writes docs/roost.md.
func printManual(w io.Writer) {
	fmt.Fprint(w, "# What can I tell roost to do?\n\n"+
		"`roost VERB [flags] [arguments]`. Made by `roost help --manual`.\n\n"+
		"Results go to standard output, everything else to standard error. Exit codes:\n\n")
	for _, c := range exitCodes {
		fmt.Fprintf(w, "- %d: %s\n", c.code, c.about)
	}
	for _, v := range verbs() {
		fmt.Fprintf(w, "\n## roost %s\n\n%s\n\n    %s\n", v.name, v.about, v.synopsis())
		for i, f := range v.flags() {
			if i == 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "- `%s`: %s\n", flagForm(f), flagAbout(f))
		}
		if v.more != "" {
			fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(v.more))
		}
		fmt.Fprintf(w, "\nExample:\n\n    %s\n", strings.ReplaceAll(v.example, "\n", "\n    "))
	}
}

// synopsis is the verb's command line.
func (v verb) synopsis() string {
	s := "roost " + v.name
	if len(v.flags()) > 0 {
		s += " [flags]"
	}
	if v.args != "" {
		s += " " + v.args
	}
	return s
}

// flags lists the verb's flags by name.
func (v verb) flags() (list []*flag.Flag) {
	fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
	v.setup(fs)
	fs.VisitAll(func(f *flag.Flag) { list = append(list, f) })
	return list
}

// flagForm is a flag as typed: "--config FILE".
func flagForm(f *flag.Flag) string {
	value, _ := flag.UnquoteUsage(f)
	if value == "" {
		return "--" + f.Name
	}
	return "--" + f.Name + " " + strings.ToUpper(value)
}

// flagAbout is what a flag does, with its default where it has one.
func flagAbout(f *flag.Flag) string {
	_, about := flag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		about += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	return about
}
