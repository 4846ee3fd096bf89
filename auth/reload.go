package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// file is a password file and its newest good version: a Source.
//
// A login looks at the file first and reads it again when it changed, so that it never
// decides by an old version. The watch is there so that an admin learns of damage when
// it is done, and not at the next login.
type file struct {
	path  string
	lower bool
	log   *slog.Logger

	mu    sync.Mutex // guards all below, and is held while the file is read
	good  *table
	seen  stamp             // of the version that was read last, good or not
	sum   [sha256.Size]byte // of its bytes
	bad   error             // what is wrong with them
	state string            // what was logged last of a file that cannot be used; "" when all is well

	watcher *fsnotify.Watcher
	wg      sync.WaitGroup
}

// stamp tells versions of a file apart.
type stamp struct {
	size         int64
	inode        uint64
	mtime, ctime time.Time
	// young: the file was changed so shortly before it was read that a second change
	// may bear the same times. It is read again until it has settled.
	young bool
}

const settle = 2 * time.Second

func stampOf(fi fs.FileInfo, now time.Time) stamp {
	s := stamp{size: fi.Size(), mtime: fi.ModTime()}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
		s.ctime = time.Unix(sys.Ctim.Unix())
	}
	s.young = now.Sub(s.mtime) < settle || now.Sub(s.ctime) < settle
	return s
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
	f := &file{path: path, lower: lower, log: log}
	b, s, err := readFile(path)
	if err != nil {
		return nil, err
	}
	f.good, f.seen, f.sum = parseTable(path, b, lower, systemIDs), s, sha256.Sum256(b)
	f.report(f.good)
	return f, nil
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
		acc.Refused = "the user is disabled"
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

// Scram reports whether all users of the file can use a mechanism.
func (f *file) Scram(mech string) bool { return f.current().scram[mech] }

// Dummy is a hash of the class that most users of the file have.
func (f *file) Dummy() (Hash, bool) { return f.current().dummy, true }

// Reload reads the file now, whether or not it seems changed.
func (f *file) Reload() error { return f.reload(true) }

// current gives the newest good version.
func (f *file) current() *table {
	// What is wrong was logged; the version before it is in force.
	_ = f.reload(false)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good
}

// reload reads the file when it changed, or with force in any case. The error says why
// the version before it stays in force.
func (f *file) reload(force bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !force {
		fi, err := os.Stat(f.path)
		if err == nil && !f.seen.young && stampOf(fi, time.Now()) == f.seen {
			return f.bad
		}
	}
	b, s, err := readFile(f.path)
	f.seen = s
	if err == nil {
		if sum := sha256.Sum256(b); sum != f.sum || force {
			f.sum = sum
			f.bad = f.takeLocked(b)
		}
		err = f.bad
	}
	// Once for each new state, not for each login.
	state := ""
	if err != nil {
		state = err.Error()
	}
	if state != f.state {
		f.state = state
		if err != nil {
			f.log.Error("password file cannot be used, the last good version stays in force",
				"event", "passwd_damaged", "path", f.path, "err", err)
		}
	}
	return err
}

// takeLocked puts a version into force, unless it is damaged.
func (f *file) takeLocked(b []byte) error {
	// An editor that writes in place leaves an empty file for an instant, and a full disk
	// for longer. `roost passwd remove` leaves a comment when it takes the last user.
	if len(b) == 0 && len(f.good.entries) > 0 {
		return fmt.Errorf("%s: the file is empty", f.path)
	}
	t := parseTable(f.path, b, f.lower, systemIDs)
	var damaged []error
	for _, p := range t.problems {
		if p.Damaged && len(damaged) < 10 {
			damaged = append(damaged, p)
		}
	}
	if len(damaged) > 0 {
		return errors.Join(damaged...)
	}
	f.good = t
	f.report(t)
	return nil
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

// readFile reads a whole file that is not too big, and says which version it is.
func readFile(path string) ([]byte, stamp, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, stamp{}, err
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !fi.Mode().IsRegular() {
		return nil, stamp{}, fmt.Errorf("%s: not a file", path)
	}
	s := stampOf(fi, time.Now())
	var b bytes.Buffer
	b.Grow(int(min(fi.Size(), maxFile)) + 1)
	if _, err := io.Copy(&b, io.LimitReader(src, maxFile+1)); err != nil {
		return nil, stamp{}, err
	}
	if b.Len() > maxFile {
		return nil, stamp{}, fmt.Errorf("%s: bigger than %d MiB", path, maxFile>>20)
	}
	return b.Bytes(), s, nil
}

// watch reads the file soon after it changed. The directory is watched, not the file:
// editors and `roost passwd` put a new file in its place.
func (f *file) watch() error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	if err := w.Add(filepath.Dir(f.path)); err != nil {
		w.Close()
		return err
	}
	f.watcher = w
	poke := make(chan struct{}, 1)
	// Drains the kernel's queue and does nothing else. Ends when close closes the watcher.
	f.wg.Go(func() {
		defer close(poke)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
			case _, ok := <-w.Errors: // an overflow: something changed
				if !ok {
					return
				}
			}
			select {
			case poke <- struct{}{}:
			default:
			}
		}
	})
	// Reads the file. Ends when the goroutine above does.
	f.wg.Go(func() {
		for range poke {
			_ = f.reload(false) // it logs
		}
	})
	return nil
}

// Close ends the watch and waits for it.
func (f *file) Close() error {
	if f.watcher == nil {
		return nil
	}
	err := f.watcher.Close()
	f.wg.Wait()
	return err
}
