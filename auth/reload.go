package auth

import (
	"bytes"
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

// file is a password file and its newest good version.
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

func (f *file) close() error {
	if f.watcher == nil {
		return nil
	}
	err := f.watcher.Close()
	f.wg.Wait()
	return err
}
