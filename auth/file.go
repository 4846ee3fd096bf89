package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// file is a password file: a Source.
type file struct {
	versions[*table]
	lower bool
	scram scramAnswers
}

// FileOptions say how a password file is read.
type FileOptions struct {
	KeepCase bool         // as in Options
	NoWatch  bool         // as in Options
	Log      *slog.Logger // nil: slog.Default()
}

// OpenFile reads a password file and watches it. A file that cannot be read is an error;
// single lines that cannot be used are logged, and refuse their user only.
func OpenFile(path string, opt FileOptions) (Source, error) {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	f, err := openFile(path, !opt.KeepCase, opt.Log)
	if err != nil {
		return nil, err
	}
	if !opt.NoWatch {
		// Without a watch each login still looks at the file.
		if err := f.watch(); err != nil {
			opt.Log.Warn("password file is not watched", "event", "passwd_watch", "path", path, "err", err)
		}
	}
	return f, nil
}

// openFile reads the first version, which may have damaged lines: there is no better one.
func openFile(path string, lower bool, log *slog.Logger) (*file, error) {
	f := &file{lower: lower}
	f.path, f.what, f.event, f.log, f.parse = path, "password file", "passwd", log, f.take
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// take reads a version, unless it is damaged.
func (f *file) take(b []byte, old *table) (*table, error) {
	// An editor that writes in place leaves an empty file for an instant, and a full disk
	// for longer. `roost passwd remove` leaves a comment when it takes the last user.
	if len(b) == 0 && old != nil && len(old.entries) > 0 {
		return nil, fmt.Errorf("%s: the file is empty", f.path)
	}
	t := parseTable(f.path, b, f.lower, systemIDs)
	var damaged []error
	for _, p := range t.problems {
		if p.Damaged && len(damaged) < 10 {
			damaged = append(damaged, p)
		}
	}
	if len(damaged) > 0 && old != nil {
		return nil, errors.Join(damaged...)
	}
	f.report(t)
	return t, nil
}

// report logs what is wrong with single lines.
func (f *file) report(t *table) {
	for i, p := range t.problems {
		if i == 100 {
			f.log.Warn("password file has more such lines", "event", "passwd_line", "path", f.path, "lines", len(t.problems)-i)
			break
		}
		f.log.Warn("line of the password file", "event", "passwd_line", "path", f.path, "line", p.Line, "user", p.User, "err", p.Error())
	}
	f.log.Info("password file read", "event", "passwd_read", "path", f.path, "users", len(t.entries))
}

// Name names the file.
func (f *file) Name() string { return "passwd file " + f.path }

// Find gives the entry of a user in the newest good version of the file.
func (f *file) Find(_ context.Context, login string, at Attempt) (*Account, error) {
	t := f.current()
	e := t.entries[login]
	if e == nil {
		return nil, nil
	}
	acc := &Account{
		Where: fmt.Sprintf("line %d", e.line), Refused: e.refused, NoPassword: e.empty, Hash: e.hash, Version: e.text,
		Rules: e.rules, User: t.user(e, login, at),
	}
	if acc.Refused == "" && e.hash.Locked {
		acc.Refused = DisabledUser
	}
	for _, p := range t.problems {
		if p.User == e.name {
			acc.Notes = append(acc.Notes, p.Error())
		}
	}
	return acc, nil
}

// user is what an entry says of its user. With user= that of the other one counts, as
// Dovecot's userdb is asked with the new name.
func (t *table) user(e *entry, login string, at Attempt) User {
	name := login
	if e.rules.alias != "" {
		name = expand(e.rules.alias, login, at)
		if other := t.entries[name]; other != nil {
			e = other
		}
	}
	return e.user(name, login, at)
}

// Users gives the users of the newest good version, but those whose lines cannot be used.
func (f *file) Users(context.Context) ([]string, error) {
	var list []*entry
	for _, e := range f.current().entries {
		if e.refused == "" {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return a.line - b.line })
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.name
	}
	return names, nil
}

// Dummy is a hash of the class that most users of the file have.
func (f *file) Dummy() (Hash, bool) { return f.current().dummy, true }

// Reload reads the file now, whether or not it seems changed.
func (f *file) Reload() error { return f.reload(true) }

// OnChange has fn called when another version is in force.
func (f *file) OnChange(fn func()) { f.onChange.Store(&fn) }

// Close ends the watch and waits for it.
func (f *file) Close() error { return f.close() }
