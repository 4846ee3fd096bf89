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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// versions is a file and what its newest good version says.
//
// A login looks at the file first and reads it again when it changed, so that it never
// decides by an old version. The watch is there so that what a change means for those who
// are logged in happens at once, and that an admin learns of damage when it is done.
type versions[T any] struct {
	path  string
	what  string // in the log: "password file"
	event string // the first part of its events: "passwd"
	log   *slog.Logger

	// parse reads a version; old is the good one before it, the zero value of T the first
	// time. An error keeps old in force.
	parse func(b []byte, old T) (T, error)

	absent bool // a file that is not there is an empty one

	onChange atomic.Pointer[func()] // called, under no lock, after another version is in force

	mu    sync.Mutex // guards all below, and is held while the file is read
	good  T
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
	s.young = now.Sub(s.ctime) < settle // the kernel's; mtime is what somebody set, tomorrow too
	return s
}

// open reads the first version.
func (f *versions[T]) open() error {
	b, s, err := f.read()
	if err != nil {
		return err
	}
	f.good, err = f.parse(b, f.good)
	if err != nil {
		return err
	}
	f.seen, f.sum = s, sha256.Sum256(b)
	return nil
}

func (f *versions[T]) read() ([]byte, stamp, error) {
	b, s, err := readFile(f.path)
	if f.absent && errors.Is(err, fs.ErrNotExist) {
		return nil, stamp{}, nil
	}
	return b, s, err
}

// current gives the newest good version.
func (f *versions[T]) current() T {
	// What is wrong was logged; the version before it is in force.
	_ = f.reload(false)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good
}

// reload reads the file when it changed, or with force in any case. The error says why
// the version before it stays in force.
func (f *versions[T]) reload(force bool) error {
	changed, err := f.look(force)
	if fn := f.onChange.Load(); changed && fn != nil {
		(*fn)()
	}
	return err
}

func (f *versions[T]) look(force bool) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !force {
		switch fi, err := os.Stat(f.path); {
		case err == nil && !f.seen.young && stampOf(fi, time.Now()) == f.seen:
			return false, f.bad
		case f.absent && f.seen == stamp{} && errors.Is(err, fs.ErrNotExist):
			return false, f.bad
		}
	}
	b, s, err := f.read()
	f.seen = s
	if err == nil {
		if sum := sha256.Sum256(b); sum != f.sum || force {
			fresh, bad := f.parse(b, f.good)
			if bad == nil {
				f.good, changed = fresh, true
			}
			f.sum, f.bad = sum, bad
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
			f.log.Error(f.what+" cannot be used, the last good version stays in force",
				"event", f.event+"_damaged", "path", f.path, "err", err)
		}
	}
	return changed, err
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
func (f *versions[T]) watch() error {
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

// close ends the watch and waits for it.
func (f *versions[T]) close() error {
	if f.watcher == nil {
		return nil
	}
	err := f.watcher.Close()
	f.wg.Wait()
	return err
}
