package uidlist

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
)

const badgeName = "roost.lock"

// badged is a File that locks by the badge in dir.
func (d *desk) badged(dir fsys.Dir) *File {
	d.t.Helper()
	owner, err := dir.Update(badgeName, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { owner.Close() })
	f := New(dir, DefaultLimits, d.env)
	if err := f.UseBadge(dir, badgeName, owner); err != nil {
		d.t.Fatal(err)
	}
	return f
}

func (d *desk) text(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	} else if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

func TestBadgeIsTheLock(t *testing.T) {
	d := newDesk(t)
	d.put(badgeName, "1:of an owner with a longer name.example.org")
	f := d.badged(d.dir)
	for range 2 {
		l, err := f.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := d.text(LockName); got != "4242:mail.example.org" {
			t.Errorf("the lock says %q", got)
		}
		badge, _ := d.dir.Stat(badgeName)
		if lock, err := d.dir.Stat(LockName); err != nil || !lock.SameFile(badge) {
			t.Error("a file was made for the lock")
		}
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
		if got := d.text(LockName); got != "(none)" {
			t.Errorf("after Unlock: %q", got)
		}
	}
	if d.text(badgeName) != "4242:mail.example.org" {
		t.Error("the badge went with the lock")
	}
}

// Whatever an owner before has left in it, the badge says who has it now.
func TestBadgeIsWrittenOver(t *testing.T) {
	for _, old := range []string{"", "7", "4241:mail.example.org", "4242:mail.example.org", "4242:mail.example.org2", "14242:mail.example.org and more"} {
		d := newDesk(t)
		d.put(badgeName, old)
		d.badged(d.dir)
		if got := d.text(badgeName); got != "4242:mail.example.org" {
			t.Errorf("%q became %q", old, got)
		}
	}
}

func TestBadgeWaitsForOthers(t *testing.T) {
	d := newDesk(t)
	d.env.Timeout = lockNobody
	f := d.badged(d.dir)
	d.put(Name, "3 V9 N1\n")
	d.lockAs("7:mail.example.org", 0)
	if _, err := f.Lock(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if d.text(LockName) != "7:mail.example.org" {
		t.Error("another's lock was taken away")
	}
	d.put(LockName, "9999:mail.example.org") // dead
	l, err := f.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.text(LockName) != "4242:mail.example.org" {
		t.Error("the stale lock stayed")
	}
	// A program that took ours for stale holds one of its own: that one stays.
	d.dir.Remove(LockName)
	d.put(LockName, "7:mail.example.org")
	if err := l.Unlock(); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if d.text(LockName) != "7:mail.example.org" {
		t.Error("Unlock removed another's lock")
	}
}

func TestLockLeftByAKilledOwnerDelaysNobody(t *testing.T) {
	d := newDesk(t)
	d.put(badgeName, "7:mail.example.org") // alive by now as something else
	if err := os.Link(filepath.Join(d.path, badgeName), filepath.Join(d.path, LockName)); err != nil {
		t.Fatal(err)
	}
	start := d.now
	l, err := d.badged(d.dir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.now != start {
		t.Errorf("it waited for %v", d.now.Sub(start))
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockOfADeadProcessGoesWhenTheMailboxIsOpened(t *testing.T) {
	for content, stays := range map[string]bool{"9999:mail.example.org": false, "7:mail.example.org": true, "9999:other.example.org": true, "": true} {
		d := newDesk(t)
		d.put(LockName, content)
		d.badged(d.dir)
		if got := d.text(LockName); (got == content) != stays {
			t.Errorf("of %q is left %q", content, got)
		}
	}
}

func TestWithoutLinksEachLockIsAFile(t *testing.T) {
	for _, refusal := range []error{syscall.EPERM, syscall.EMLINK, syscall.EXDEV, syscall.EOPNOTSUPP, syscall.ENOENT} {
		d := newDesk(t)
		ffs := faultfs.New(fsys.OS)
		dir, err := ffs.Root(d.path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		asked := 0
		ffs.FailWhere(func(_ int, call string) error {
			if !strings.HasPrefix(call, "link ") {
				return nil
			}
			asked++
			return refusal
		})
		f := d.badged(dir)
		for range 3 {
			l, err := f.Lock(t.Context())
			if err != nil {
				t.Fatalf("%v: %v", refusal, err)
			}
			if d.text(LockName) != "4242:mail.example.org" {
				t.Errorf("%v: no lock", refusal)
			}
			if err := l.Unlock(); err != nil {
				t.Error(err)
			}
		}
		if asked != 1 {
			t.Errorf("%v: links were tried %d times", refusal, asked)
		}
	}
}

// The descriptor that is kept for appending must not outlive the file's name.
func TestAppendFollowsTheName(t *testing.T) {
	d := newDesk(t)
	f := New(d.dir, DefaultLimits, d.env)
	d.put(Name, "3 V9 N1\n")
	add := func(uid uint32, base string) {
		t.Helper()
		if _, err := f.Refresh(); err != nil {
			t.Fatal(err)
		}
		if err := f.Append([]Record{{UID: uid, Base: base}}); err != nil {
			t.Fatal(err)
		}
	}
	add(1, "a")
	add(2, "b")
	// Dovecot writes the file anew.
	d.put(Name+".new", "3 V9 N3\n1 :a\n2 :b\n3 :theirs\n")
	if err := os.Rename(filepath.Join(d.path, Name+".new"), filepath.Join(d.path, Name)); err != nil {
		t.Fatal(err)
	}
	add(4, "c")
	if got := d.text(Name); !strings.HasSuffix(got, "3 :theirs\n4 :c\n") {
		t.Errorf("%q", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	add(5, "d")
	if got := d.text(Name); !strings.HasSuffix(got, "4 :c\n5 :d\n") {
		t.Errorf("after Close: %q", got)
	}
}
