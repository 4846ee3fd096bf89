package uidlist

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"time"

	"roost/maildir/fsys"
)

// A badge is a file that says whose the lock is and stays: taking the lock is then a
// link to it, and releasing it an unlink. Neither makes nor frees an inode, which is
// most of what a lock costs, and all that may wait for the filesystem's journal.
type badge struct {
	dir  fsys.Dir
	name string
	stat fsys.Stat // says which inode; nothing else of it is current
}

// UseBadge makes Lock link file, name in dir, as the lock. The caller must hold the
// file's flock, from before the call until after the last Unlock: so a lock that is a
// link to it was left by a process that died, and is removed here. Not where dir is on a
// remote filesystem, where it does nothing.
func (f *File) UseBadge(dir fsys.Dir, name string, file fsys.File) error {
	if dir.Remote() || f.dir.Remote() {
		return nil
	}
	st, err := file.Stat()
	if err != nil {
		return err
	}
	left, err := f.dir.Stat(LockName)
	dead := err == nil && !left.SameFile(st) && f.heldByDead()
	if err == nil && left.SameFile(st) {
		err = f.dir.Remove(LockName)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Written only where it says otherwise: a mailbox that is opened writes nothing.
	who := []byte(f.env.holder())
	have := make([]byte, len(who)+1)
	n, err := file.ReadAt(have, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !slices.Equal(have[:n], who) {
		// In place: a file that loses its bytes and gets others costs ext4 70 us, this 3.
		if n > len(who) {
			if err := file.Truncate(int64(len(who))); err != nil {
				return err
			}
		}
		if _, err := file.WriteAt(who, 0); err != nil {
			return err
		}
	}
	f.badge = &badge{dir, name, st}
	if !dead {
		return nil
	}
	// A mailbox that opens from its index needs no lock, and would keep what is left.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	l, err := f.Lock(ctx)
	if err != nil {
		return err
	}
	return l.Unlock()
}

// heldByDead reports whether the lock says that a process of this host has it which is
// no more. It is only a hint: Lock decides.
func (f *File) heldByDead() bool {
	b, err := fsys.ReadFile(f.dir, LockName, lockBytes)
	pid, host := signer(string(b))
	return err == nil && pid > 0 && pid != f.env.PID && host == f.env.Host && !f.env.Alive(pid)
}

// link takes the lock by its badge: fs.ErrExist when another has it. ok is false where
// that is not possible, and the badge of no more use.
func (b *badge) link(to fsys.Dir, name string) (ok bool, err error) {
	err = b.dir.Link(b.name, to, name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return true, err
	}
	return false, nil
}
