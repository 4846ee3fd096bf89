//go:build unix

package fsys

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// osFile is a File over *os.File, which guards the descriptor against reuse.
type osFile struct{ *os.File }

// control runs one call on the descriptor and dresses its error.
func (f osFile) control(op string, call func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = c.Control(func(fd uintptr) {
		for callErr = call(int(fd)); callErr == unix.EINTR; {
			callErr = call(int(fd))
		}
	})
	if err != nil {
		return err
	}
	if callErr != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}

func (f osFile) Stat() (Stat, error) {
	var st unix.Stat_t
	if err := f.control("stat", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return Stat{}, err
	}
	return statOf(&st), nil
}

func (f osFile) Datasync() error { return f.control("sync", datasync) }

func (f osFile) TryLock() (bool, error) {
	busy := false
	err := f.control("lock", func(fd int) error {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if busy = err == unix.EWOULDBLOCK; busy {
			return nil
		}
		return err
	})
	return err == nil && !busy, err
}
