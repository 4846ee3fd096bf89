package uidlist

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockAs leaves a lock of another, age old.
func (d *desk) lockAs(content string, age time.Duration) {
	d.t.Helper()
	d.put(LockName, content)
	when := d.now.Add(-age)
	os.Chtimes(filepath.Join(d.path, LockName), when, when)
	os.Chtimes(filepath.Join(d.path, Name), when, when)
	// ctime cannot be set back: the clock goes forward instead.
	d.now = d.now.Add(age)
}

func TestLockSaysWhoseItIs(t *testing.T) {
	d := newDesk(t)
	f := New(d.dir, DefaultLimits, d.env)
	l, err := f.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(d.path, LockName))
	if string(b) != "4242:mail.example.org" {
		t.Errorf("%q", b)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
	if _, err := d.dir.Stat(LockName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Unlock: %v", err)
	}
}

func TestStaleLocks(t *testing.T) {
	const forever = 10 * time.Minute
	for _, c := range []struct {
		name, content string
		age           time.Duration
		booted        time.Duration // ago, in the lock's time
		most          time.Duration // that the wait may take; forever: until ErrBusy
	}{
		{"dead pid", "9999:mail.example.org", 0, time.Hour, time.Second},
		{"our pid, from another life", "4242:mail.example.org", 0, time.Hour, time.Second},
		{"living pid", "7:mail.example.org", time.Hour, 2 * time.Hour, forever},
		{"pid that another process has by now", "8:mail.example.org", 0, time.Hour, time.Second},
		{"living pid, lock from before the boot", "7:mail.example.org", time.Hour, time.Minute, time.Second},
		{"other host", "9999:other.example.org", 0, time.Hour, 2 * lockStale},
		{"other host, old", "9999:other.example.org", lockStale, time.Hour, time.Second},
		{"empty", "", 0, time.Hour, lockNobody + time.Second},
		{"empty, old", "", lockStale, time.Hour, time.Second},
		{"nonsense", "hello", 0, time.Hour, 2 * lockStale},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.env.Timeout = 5 * time.Minute
			d.put(Name, "3 V9 N1\n")
			d.lockAs(c.content, c.age)
			d.env.Booted = d.now.Add(-c.booted)
			start := d.now
			l, err := New(d.dir, DefaultLimits, d.env).Lock(t.Context())
			waited := d.now.Sub(start)
			if c.most == forever {
				if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), c.content) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if waited > c.most {
				t.Errorf("had after %v", waited)
			}
			if c.most > lockStale && waited < lockStale-time.Second {
				t.Errorf("taken over after %v, before it was stale", waited)
			}
			if c.name == "empty" && waited < lockNobody {
				t.Errorf("taken over after %v: who makes an empty lock is given time to sign it", waited)
			}
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whoever writes the guarded file is alive, whatever his lock looks like.
func TestLockOfALivelyHolderIsNotStale(t *testing.T) {
	d := newDesk(t)
	d.env.Timeout = 5 * time.Minute
	d.put(Name, "3 V9 N1\n")
	d.lockAs("9999:other.example.org", 0)
	sleep := d.env.Sleep
	d.env.Sleep = func(ctx context.Context, w time.Duration) error {
		os.Chtimes(filepath.Join(d.path, Name), d.now, d.now)
		return sleep(ctx, w)
	}
	if _, err := New(d.dir, DefaultLimits, d.env).Lock(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
}

func TestLockEndsWithItsContext(t *testing.T) {
	d := newDesk(t)
	d.lockAs("7:mail.example.org", 0)
	ctx, cancel := context.WithCancel(t.Context())
	sleep := d.env.Sleep
	d.env.Sleep = func(c context.Context, w time.Duration) error { cancel(); return sleep(c, w) }
	if _, err := New(d.dir, DefaultLimits, d.env).Lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestUnlockOfWhatWasTakenOver(t *testing.T) {
	d := newDesk(t)
	l, err := New(d.dir, DefaultLimits, d.env).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.put("other", "1:other")
	os.Rename(filepath.Join(d.path, "other"), filepath.Join(d.path, LockName))
	if err := l.Unlock(); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	if _, err := d.dir.Stat(LockName); err != nil {
		t.Errorf("another's lock was removed: %v", err)
	}
}

func TestLockExcludesGoroutines(t *testing.T) {
	d := newDesk(t)
	d.env.Sleep = func(context.Context, time.Duration) error {
		t.Error("slept: the lock of a neighbour was met on disk")
		return nil
	}
	inside := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f := New(d.dir, DefaultLimits, d.env)
			for range 50 {
				l, err := f.Lock(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if inside++; inside != 1 { // the race detector watches too
					t.Errorf("%d inside", inside)
				}
				inside--
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The system tells when a process was started, to about a second.
func TestBegan(t *testing.T) {
	before := time.Now()
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	defer c.Wait()
	defer in.Close()
	got, ok := System().Began(c.Process.Pid)
	if !ok {
		t.Skip("this /proc does not tell")
	}
	if d := got.Sub(before); d < -lockReborn/2 || d > lockReborn/2+time.Since(before) {
		t.Errorf("a process that was just started is said to have begun %v later", d)
	}
	if _, ok := System().Began(1 << 30); ok {
		t.Error("a process that is not there has begun")
	}
}
