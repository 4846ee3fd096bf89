package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"roost/config"
	"roost/confine"
	"roost/maildir"
	"roost/maildir/fsys"
	"roost/server/control"
	"roost/server/trace"
)

// The doctor looks at everything between an admin's configuration and a user's mail,
// and changes nothing. Each kind of finding is a row of the table of kinds; the files
// doctor_*.go have one part of the patient each.

// What findings weigh.
const (
	ill    = "error"   // something does not work
	ailing = "warning" // it will not, or not as well as it could
	remark = "note"    // good to know
	unseen = "unseen"  // the doctor could not look
)

// kinds are all the findings that there are, in the order in which they are told. What
// is about the mail itself has its name from package maildir.
var kinds = []struct{ name, weight, about string }{
	{"config", ill, "the configuration has a mistake"},
	{"reload-rights", ailing, "a file that Roost reads again when it changes can then not be read by mail.user"},
	{"server-down", ill, "no server answers on the control socket"},
	{"server-unseen", unseen, "the server cannot be asked: control.socket is off, or another user's"},
	{"server-other", ailing, "the server that answers has another configuration file"},
	{"server-version", ailing, "the server is of another version than this program"},
	{"server-config", ailing, "the configuration was changed after the server read it"},
	{"server-restart", ailing, "changed keys wait for a restart"},
	{"port-busy", ill, "another program has a port"},
	{"port-silent", ill, "the server does not listen where the configuration says"},
	{"tls-failed", ill, "a client cannot speak TLS with the server"},
	{"certificate-expired", ill, "a certificate has ended, or has not begun"},
	{"certificate-name", ill, "a certificate is not for the name that clients use"},
	{"certificate-chain", ill, "the certificates between the server's and the authority's are not sent"},
	{"certificate-untrusted", ailing, "a certificate is of nobody whom this machine trusts"},
	{"certificate-expires", ailing, "a certificate ends within 14 days"},
	{"certificate-stale", ailing, "the server shows another certificate than the one in the file"},
	{"passwd-line", ill, "a line of the password file cannot be used, or is odd"},
	{"passwd-empty", ill, "nobody can log in"},
	{"passwd-open", ailing, "other users of this machine can read or write the password file"},
	{"hash-weak", ailing, "passwords are kept so that the file gives them away"},
	{"hash-cost", remark, "how long a password takes to verify on this machine; above a second a warning"},
	{"mail-place", ill, "it cannot be said where a user's mail is"},
	{"mail-missing", ill, "a user has no Maildir; a note where mail.create makes it"},
	{"mail-closed", ill, "a directory on the way to the mail cannot be entered by mail.user"},
	{"mail-rights", ill, "mail.user cannot read or write something of the mail"},
	{"mail-readonly", ill, "the filesystem of the mail is mounted read-only"},
	{"disk-full", ill, "there is no room for another message"},
	{"mail-unseen", unseen, "mail could not be looked at, or not all of it"},
	{maildir.FoundUnreadable, ill, "a mailbox cannot be looked at"},
	{maildir.FoundUIDList, ailing, "dovecot-uidlist has lines that prove nothing"},
	{maildir.FoundKeywords, ailing, "dovecot-keywords or roost-keywords has lines that are of no use"},
	{maildir.FoundLetters, ailing, "messages have keywords whose names are lost"},
	{maildir.FoundMetadata, ailing, "roost-metadata has a line that cannot be read"},
	{maildir.FoundSubscriptions, ailing, "subscriptions has lines that are no names"},
	{maildir.FoundState, ailing, "roost-state is damaged"},
	{maildir.FoundLockLeft, ailing, "a lock is left of a process that is no more"},
	{maildir.FoundLockHeld, ailing, "a lock is held for long"},
	{maildir.FoundIndexHeld, ailing, "another process than the server holds the index of a mailbox"},
	{maildir.FoundTmp, ailing, "mail is stuck in tmp/ for more than 36 hours"},
	{maildir.FoundLink, ailing, "a folder is a link to where none may lead, and is not shown"},
	{maildir.FoundOdd, ailing, "cur/ or new/ holds what is no message"},
	{maildir.FoundInbox, ailing, "a folder would be a second INBOX, and is not shown"},
	{maildir.FoundHidden, ailing, "a directory holds mail, and no client could name it"},
	{maildir.FoundNoEvents, remark, "the filesystem does not tell of changes: they are seen every few seconds"},
	{maildir.FoundClock, ailing, "files are of a later time than now: a clock was or is wrong"},
	{"inotify-watches", ailing, "fewer directories can be watched than users may open"},
	{"inotify-instances", ailing, "too few inotify instances are left"},
	{"inotify-queue", ailing, "the kernel's queue of changes is short"},
	{"descriptors", ailing, "the server may have fewer descriptors than its users need"},
	{"isolation-none", remark, "the kernel cannot confine Roost to its files; an error where isolation.landlock is required"},
	{"isolation-roots", ailing, "Roost does not confine itself, for nothing says where all mail is"},
	{"clock-wrong", ill, "the clock of this machine is years behind"},
	{"clock-unsynced", remark, "nothing keeps the clock of this machine right"},
}

// weights orders findings; the worst come first.
var weights = []string{ill, ailing, unseen, remark}

// finding is one line of the report.
type finding struct {
	Weight string `json:"severity"`
	Kind   string `json:"kind"`
	User   string `json:"user,omitempty"`
	Where  string `json:"where,omitempty"` // file, address, sysctl
	What   string `json:"what"`
	Do     string `json:"do,omitempty"`  // what mends it, in words
	Run    string `json:"run,omitempty"` // what mends it, for a shell
}

var doctorVerb = verb{
	name:    "doctor",
	about:   "Look for what keeps mail from working, and say what mends it.",
	args:    "[USER...]",
	more:    doctorMore(),
	example: "roost doctor",
	setup: func(fs *flag.FlagSet) runner {
		d := newDoctor()
		path := configFlag(fs)
		asJSON := fs.Bool("json", false, "print a JSON object with the findings")
		all := fs.Bool("all", false, "print all findings of a kind, not the first ten")
		files := fs.Int("files", 1_000_000, "`number` of files of mail to look at; 0 for all")
		return func(ctx context.Context, env *environment, args []string) error {
			d.path, d.only, d.files = *path, args, budget{left: *files, all: *files == 0}
			err := d.examine(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.sort()
			if *asJSON {
				if err := printJSON(env.stdout, d.report()); err != nil {
					return err
				}
			} else {
				d.print(env.stdout, *all)
			}
			if err != nil {
				return err
			}
			return d.verdict()
		}
	},
}

// doctorMore is the manual of the verb: what it does, and all that it can find.
func doctorMore() string {
	var b strings.Builder
	b.WriteString("It looks at the configuration, the running server, ports and certificates as a client meets them,\n" +
		"the password file, the mail of each user in it (or of those named), and the machine's limits, and\n" +
		"changes nothing. A finding is one line: how bad, its kind, where, what, and what to do; behind\n" +
		"\"run:\" stands a command that mends it. Run it as root, or as the user whom the mail belongs to, which\n" +
		"sees less and says so. Mail is looked at with the rights of mail.user.\n\n" +
		"Exit codes: 0 all is well, notes aside; 1 there are errors or warnings; 2 the configuration cannot be\n" +
		"read, so that nothing else was looked at; 3 no error was found, but not all could be looked at.\n\n" +
		"Kinds of findings:\n\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "- %s (%s): %s\n", k.name, k.weight, k.about)
	}
	return b.String()
}

// doctor is one examination.
type doctor struct {
	path  string // of the configuration
	only  []string
	files budget

	config *config.Config
	server *control.Status // nil: none answers
	asked  bool            // whether one could be asked

	found  []finding
	users  int
	boxes  maildir.Checked
	places []string // of mail that was looked at

	// What tests put something else in place of.
	now      func() time.Time
	patience time.Duration  // with a server
	proc     string         // "/proc"
	roots    *x509.CertPool // nil: the machine's
	fs       fsys.FS
	room     func(path string) (bytes, files uint64, err error)
	synced   func() bool
	landlock func() int
	measure  func(cost) time.Duration
}

func newDoctor() *doctor {
	return &doctor{files: budget{all: true}, now: time.Now, patience: askTime, proc: "/proc", fs: fsys.OS, room: freeRoom, synced: clockSynced, landlock: confine.LandlockABI, measure: cost.Measure}
}

// add notes a finding of a kind, with the weight of the kind unless it has one.
func (d *doctor) add(kind string, f finding) {
	for _, k := range kinds {
		if k.name == kind {
			f.Kind, f.Weight = kind, cmp.Or(f.Weight, k.weight)
			if !slices.Contains(d.found, f) { // two listeners show one certificate
				d.found = append(d.found, f)
			}
			return
		}
	}
	panic("the doctor has no finding " + kind)
}

// examine looks at everything. The error says that there is no configuration to go by.
func (d *doctor) examine(ctx context.Context) error {
	d.config, d.server, d.asked, d.found, d.users, d.boxes, d.places = nil, nil, false, nil, 0, maildir.Checked{}, nil
	c, err := config.Load(d.path)
	var problems config.Problems
	if errors.As(err, &problems) {
		d.mistakes(problems)
	}
	if err != nil {
		return exitWith(exitUsage, fmt.Errorf("%s cannot be read, so nothing else was looked at: %w", d.path, firstLine(err)))
	}
	d.config = c
	if err := c.Check(d.now(), protocol()); errors.As(err, &problems) {
		d.mistakes(problems)
	}
	for _, look := range []func(context.Context){d.reloads, d.ask, d.ports, d.certificates, d.passwords, d.mail, d.machine} {
		if ctx.Err() == nil {
			look(ctx)
		}
	}
	return nil
}

// mistakes are those of the configuration.
func (d *doctor) mistakes(problems config.Problems) {
	for _, p := range problems {
		where := p.File
		if p.Pos.Line > 0 {
			where = fmt.Sprintf("%s:%d:%d", p.File, p.Pos.Line, p.Pos.Col)
		}
		f := finding{Where: where, What: p.Text}
		if strings.Contains(p.Text, "may not be read by user") && os.Geteuid() != 0 {
			f.Weight = unseen
		}
		if what, run, ok := strings.Cut(p.Text, ": chmod "); ok {
			f.What, f.Run = what, "chmod "+run
		}
		d.add("config", f)
	}
}

func firstLine(err error) error {
	line, rest, more := strings.Cut(err.Error(), "\n")
	if more {
		line += fmt.Sprintf(" (and %s)", count(strings.Count(rest, "\n")+1, "more mistake"))
	}
	return errors.New(line)
}

// reloads names what can be read only until it changes.
func (d *doctor) reloads(context.Context) {
	for _, sv := range parts(d.path, d.config) {
		uid, gid, groups, err := sv.owner()
		if os.Geteuid() != 0 || err != nil || uid <= 0 {
			continue
		}
		for _, file := range sv.files() {
			var run string
			if err := asUser(uid, gid, groups, func() { run = opening(file, gid) }); err != nil || run == "" {
				continue
			}
			d.add("reload-rights", finding{Where: file, What: sv.becomes() + ", whom Roost becomes, cannot read it", Do: "a change to it waits for a restart (docs/postfix.md)", Run: run})
		}
	}
}

// sort brings the worst to the top; within a weight the order of kinds stays.
func (d *doctor) sort() {
	rank := map[string]int{}
	for i, k := range kinds {
		rank[k.name] = i
	}
	slices.SortStableFunc(d.found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(slices.Index(weights, a.Weight), slices.Index(weights, b.Weight)), cmp.Compare(rank[a.Kind], rank[b.Kind]))
	})
}

// report is what a script reads.
func (d *doctor) report() any {
	return struct {
		Version   string    `json:"version"`
		Config    string    `json:"config"`
		Users     int       `json:"users"`
		Mailboxes int       `json:"mailboxes"`
		Messages  int       `json:"messages"`
		Findings  []finding `json:"findings"`
	}{version, absolute(d.path), d.users, d.boxes.Mailboxes, d.boxes.Messages, append([]finding{}, d.found...)}
}

// mostOfAKind is how many findings of one kind are printed.
const mostOfAKind = 10

// print is what a person reads.
func (d *doctor) print(w io.Writer, all bool) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	seen := map[[2]string]int{}
	for _, f := range d.found {
		key := [2]string{f.Weight, f.Kind}
		if seen[key]++; seen[key] > mostOfAKind && !all {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Weight, f.Kind, trace.Printable(f.line()))
	}
	t.Flush()
	for _, weight := range weights {
		for _, k := range kinds {
			if n := seen[[2]string{weight, k.name}]; n > mostOfAKind && !all {
				fmt.Fprintf(w, "and %d more of %s: --all prints them\n", n-mostOfAKind, k.name)
			}
		}
	}
	if d.config != nil {
		fmt.Fprintf(w, "looked at %s, %s, %s\n", count(d.users, "user"), plural(d.boxes.Mailboxes, "mailbox", "mailboxes"), count(d.boxes.Messages, "message"))
	}
	if d.verdict() == nil && d.config != nil {
		fmt.Fprintln(w, "all is well")
	}
}

// line is a finding without its weight and kind.
func (f finding) line() string {
	s := f.What
	if f.Where != "" {
		s = f.Where + ": " + s
	}
	if f.User != "" {
		s = f.User + ": " + s
	}
	if f.Do != "" {
		s += "; " + f.Do
	}
	if f.Run != "" {
		s += "; run: " + f.Run
	}
	return s
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// verdict is the exit code, as an error.
func (d *doctor) verdict() error {
	n := map[string]int{}
	for _, f := range d.found {
		n[f.Weight]++
	}
	switch {
	case n[ill]+n[ailing] > 0:
		return fmt.Errorf("%s, %s", count(n[ill], "error"), count(n[ailing], "warning"))
	case n[unseen] > 0:
		return exitWith(exitPartly, errors.New("nothing is wrong of what could be looked at"))
	}
	return nil
}
