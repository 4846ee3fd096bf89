package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := bench(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case interrupted:
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench does what the command line says.
func bench(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		small    = fs.Bool("quick", false, "small sizes, in under 90 s: that both servers answer the same, not how fast")
		only     = fs.String("only", "", "operations, themes or patterns, separated by commas: fetch,search/body*")
		list     = fs.Bool("list", false, "name the operations and leave")
		messages = fs.Int("messages", 10_000, "messages of the mailbox that most operations are about")
		rounds   = fs.Int("rounds", 5, "turns that each side takes; under -profile 30 without, for trace 2")
		large    = fs.Bool("large", false, "mailboxes of 1,000,000 messages too")
		file     = fs.String("json", "", "write the result there")
		markdown = fs.Bool("markdown", false, "print the table as Markdown")
		dovecot  = fs.Bool("dovecot", true, "measure Dovecot too")
		parent   = fs.String("dir", os.TempDir(), "where the mail lies meanwhile: the disk that is measured")
		kind     = fs.String("profile", "", "cpu, mem or trace of Roost during the one operation that -only names")
		out      = fs.String("o", "", "file of the profile; roost.KIND.OPERATION in this directory without")
		show     = fs.String("show", "", "print the table of a result that -json wrote, and leave")
		pair     = fs.Bool("compare", false, "compare two results: bench -compare OLD NEW")
	)
	if err := fs.Parse(args); err != nil {
		return flag.ErrHelp // the flag package has told
	}
	if *pair {
		return compareFiles(fs.Args())
	}
	if *show != "" {
		res, err := readResult(*show)
		if err != nil {
			return err
		}
		return res.print(os.Stdout, *markdown, true)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag; -h shows them", fs.Arg(0))
	}
	if *messages < 100 || *rounds < 1 {
		return errors.New("-messages has to be at least 100, -rounds at least 1")
	}
	if *kind != "" && !given(fs, "rounds") {
		if *rounds = 30; *kind == "trace" {
			*rounds = 2
		}
	}
	z := full(*messages, *rounds, *large)
	if *small {
		z = quick()
	}
	ops, err := choose(operations(z), *only)
	if err != nil {
		return err
	}
	if *list {
		for _, op := range ops {
			fmt.Printf("%-28s %s\n", op.name, op.about)
		}
		return nil
	}
	r := &run{sizes: z, ctx: ctx, progress: func(string, ...any) {}}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		r.progress = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	}
	if *kind != "" {
		if r.profile, err = newProfile(*kind, *out, ops); err != nil {
			return err
		}
	}
	began, tree := time.Now(), version() // it may move on meanwhile
	stop, err := r.start(*parent, *dovecot && *kind == "")
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	rows, failed := r.all(ops) // of an interrupted run what it has is told too
	if ctx.Err() != nil && (z.quick || len(rows) == 0) {
		return failed
	}
	res := &Result{When: began.UTC().Truncate(time.Second), Version: tree, Rows: rows}
	res.Settings = r.settings(res)
	if *file != "" {
		if err := res.write(*file); err != nil {
			return errors.Join(failed, err)
		}
	}
	if z.quick {
		fmt.Printf("%d operations at small sizes in %s: what both servers answered was compared; the times mean nothing.\n", len(ops), round(time.Since(began)))
		return failed
	}
	return errors.Join(failed, res.print(os.Stdout, *markdown, r.profile == nil))
}

// given says whether a flag stood on the command line.
func given(fs *flag.FlagSet, name string) (yes bool) {
	fs.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// settings say what was measured, and what both promise.
func (r *run) settings(res *Result) []string {
	disk, _ := r.corpus.bytes(r.messages)
	names := []string{"Roost " + res.Version}
	for _, s := range r.servers {
		if s.about != "" {
			names = append(names, s.about)
		}
	}
	return []string{
		fmt.Sprintf("%s, %s, %d cores; %d messages of %s, %d rounds.", res.When.Format(time.DateTime), strings.Join(names, " and "), runtime.NumCPU(), r.messages, bytesOf.format(float64(disk)), r.rounds),
		"Synced by both before they acknowledge: mail (Roost always, Dovecot by mail_fsync = optimized). Synced by neither: flags and expunges.",
		"Medians; ratios below 1 are better.",
	}
}

func compareFiles(files []string) error {
	if len(files) != 2 {
		return errors.New("-compare takes two files: OLD NEW")
	}
	older, err := readResult(files[0])
	if err != nil {
		return err
	}
	newer, err := readResult(files[1])
	if err != nil {
		return err
	}
	changes := compare(older, newer)
	if len(changes) == 0 {
		return fmt.Errorf("%s and %s have no row in common", files[0], files[1])
	}
	return printChanges(os.Stdout, changes)
}

// version of the tree, as the Makefile stamps it.
func version() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "devel"
	}
	return strings.TrimSpace(string(out))
}
