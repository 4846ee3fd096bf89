package uidlist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"roost/maildir/fsys"
)

// A dotlock is a file that exists while somebody holds the lock. It says
// "PID:HOST", without LF. Ours is written under another name and then given its own,
// so that a process that is killed never leaves one that names nobody, or is a link to a
// file that stays (badge.go); others create theirs O_EXCL and may leave it empty. Removed
// to unlock.

// ErrBusy is a lock that was not had in time.
var ErrBusy = errors.New("locked by another program")

const (
	lockTimeout = 122 * time.Second // Dovecot's: the stale age and 2 s
	lockStale   = 120 * time.Second
	lockReborn  = 5 * time.Second        // how far the two clocks that tell a process's age may differ
	lockNobody  = 5 * time.Second        // an empty lock: who made it died before it said who it was
	lockSettle  = 100 * time.Millisecond // after removing a stale lock: another may have judged it stale too
	lockBytes   = 1 << 10
)

// Lock is a held dotlock.
type Lock struct {
	dir  fsys.Dir
	name string
	mine fsys.Stat
	key  lockKey
	made string // the file that is to become the lock, while it waits; "" before and after

	badge *badge // linked as the lock; nil: a file is made
}

// lockKey names a dotlock within the process.
type lockKey struct {
	dev, ino uint64 // of the directory
	name     string
}

// inProcess lets one goroutine at a time try for a lock. Because of it a dotlock
// with our own pid that we meet was left by another process that had our pid: as pid 1
// of a container that was started again.
var inProcess = struct {
	mu   sync.Mutex // guards held
	held map[lockKey]chan struct{}
}{held: map[lockKey]chan struct{}{}}

// Dotlock takes the lock file name in dir, which guards the file guarded: a lock
// whose guarded file changes is not stale. It waits, with a growing delay, until ctx
// ends or env.Timeout passes (ErrBusy).
func Dotlock(ctx context.Context, dir fsys.Dir, name, guarded string, env *Env) (*Lock, error) {
	return dotlock(ctx, dir, name, guarded, env, nil)
}

func dotlock(ctx context.Context, dir fsys.Dir, name, guarded string, env *Env, b *badge) (*Lock, error) {
	self, err := dir.Self()
	if err != nil {
		return nil, err
	}
	l := &Lock{dir: dir, name: name, key: lockKey{self.Dev, self.Ino, name}, badge: b}
	if err := enter(ctx, l.key); err != nil {
		return nil, fmt.Errorf("lock %s/%s: %w", dir.Path(), name, err)
	}
	_, mode := self.Modes()
	if err := l.acquire(ctx, guarded, mode, env); err != nil {
		if l.made != "" {
			l.dir.Remove(l.made)
		}
		leave(l.key)
		return nil, fmt.Errorf("lock %s/%s: %w", dir.Path(), name, err)
	}
	return l, nil
}

func (l *Lock) acquire(ctx context.Context, guarded string, mode fs.FileMode, env *Env) error {
	timeout := env.Timeout
	if timeout == 0 {
		timeout = lockTimeout
	}
	var (
		waited  time.Duration // by our own count: clocks of other machines don't matter
		still   time.Duration // of it, since the lock last changed
		seen    [2]fsys.Stat  // the lock, and what it guards
		content string        // of seen[0]
	)
	for delay := time.Millisecond; ; delay = min(delay*2, 250*time.Millisecond) {
		err := l.create(mode, env)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		lock, err := l.dir.Stat(l.name)
		if errors.Is(err, fs.ErrNotExist) {
			if err := ctx.Err(); err != nil {
				return err
			}
			delay = time.Millisecond
			continue
		} else if err != nil {
			return err
		}
		file, err := l.dir.Stat(guarded)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if seen[0] != lock || seen[1] != file {
			seen, still = [2]fsys.Stat{lock, file}, 0
			b, err := fsys.ReadFile(l.dir, l.name, lockBytes)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsys.ErrNotRegular) {
				return err
			}
			content = string(b)
		}
		if l.stale(content, still, lock, file, env) {
			if err := l.breakStale(ctx, lock, env); err != nil {
				return err
			}
			delay = time.Millisecond
			continue
		}
		if waited >= timeout {
			return fmt.Errorf("%w (%q)", ErrBusy, content)
		}
		if err := env.Sleep(ctx, delay); err != nil {
			return err
		}
		waited += delay
		still += delay
	}
}

// create makes the lock, fs.ErrExist when it is there.
func (l *Lock) create(mode fs.FileMode, env *Env) error {
	if l.badge != nil {
		if ok, err := l.badge.link(l.dir, l.name); ok {
			l.mine = l.badge.stat
			return err
		}
		l.badge = nil
	}
	if l.made == "" {
		if err := l.prepare(mode, env); err != nil {
			return err
		}
	}
	err := l.dir.Move(l.made, l.dir, l.name)
	if err == nil {
		l.made = ""
	}
	return err
}

// prepare writes the file that is to become the lock. Its name is this process's own:
// one that is there was left by another that had our pid.
func (l *Lock) prepare(mode fs.FileMode, env *Env) error {
	who := env.holder()
	made := l.name + "." + strings.NewReplacer("/", "_", ":", ".").Replace(who)
	f, err := l.dir.Create(made, mode)
	if errors.Is(err, fs.ErrExist) {
		if err := l.dir.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err = l.dir.Create(made, mode)
	}
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s comes back when it is removed", made) // not the lock: no reason to wait
		}
		return err
	}
	l.made = made
	_, err = f.Write([]byte(who))
	if err == nil {
		l.mine, err = f.Stat()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// signer is the process that a lock names by its content, "4711:mail.example.org"; 0 where
// it names none.
func signer(content string) (pid int, host string) {
	digits, host, ok := strings.Cut(content, ":")
	if pid, err := strconv.Atoi(digits); ok && err == nil && pid > 0 {
		return pid, host
	}
	return 0, ""
}

// stale judges a lock; still is for how long neither it nor what it guards was seen
// to change.
func (l *Lock) stale(content string, still time.Duration, lock, guarded fsys.Stat, env *Env) bool {
	local := !l.dir.Remote() // else another machine's clock counts, and its boots
	newest := max(lock.Mtime, lock.Ctime)
	if local && !env.Booted.IsZero() && newest < env.Booted.UnixNano() {
		return true
	}
	if pid, host := signer(content); pid > 0 && host == env.Host {
		if pid == env.PID || !env.Alive(pid) {
			return true
		}
		// A living process is respected for ever, as Dovecot does, unless it was given the
		// number of the one that made the lock: in a container they come again soon.
		t, ok := env.began(pid)
		return ok && local && t.UnixNano()-newest > int64(lockReborn)
	}
	if content == "" && local && still >= lockNobody {
		return true
	}
	return still >= lockStale || local && env.Now().UnixNano()-max(newest, guarded.Mtime) >= int64(lockStale)
}

// breakStale removes the lock that was judged, and no other.
func (l *Lock) breakStale(ctx context.Context, judged fsys.Stat, env *Env) error {
	now, err := l.dir.Stat(l.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now != judged {
		return nil
	}
	if err == nil {
		err = l.dir.Remove(l.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return env.Sleep(ctx, lockSettle)
}

// Unlock removes the lock file where it is still ours. An error wraps ErrBusy when
// another took it from us meanwhile.
func (l *Lock) Unlock() error {
	defer leave(l.key)
	now, err := l.dir.Stat(l.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !now.SameFile(l.mine) {
		return fmt.Errorf("unlock %s/%s: %w: it was taken over", l.dir.Path(), l.name, ErrBusy)
	}
	if err != nil {
		return err
	}
	return l.dir.Remove(l.name)
}

func enter(ctx context.Context, k lockKey) error {
	for {
		inProcess.mu.Lock()
		busy, held := inProcess.held[k]
		if !held {
			inProcess.held[k] = make(chan struct{})
		}
		inProcess.mu.Unlock()
		if !held {
			return nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func leave(k lockKey) {
	inProcess.mu.Lock()
	defer inProcess.mu.Unlock()
	close(inProcess.held[k])
	delete(inProcess.held, k)
}
