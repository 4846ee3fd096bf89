//go:build unix

package fsys

import (
	"io"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// readFile is a File for reading, of which a server opens thousands in a row: os.File
// would ask twice more of the system (whether it blocks, and a place in Go's poller, which
// no regular file gets) and leave a finalizer to the collector.
type readFile struct {
	descriptor
	in   *dir // where it was found, for its errors
	name string
}

// descriptor counts who uses it, so that its number is not given to another file while a
// call is under way.
type descriptor struct {
	fd     int
	users  atomic.Int64 // calls under way, and 1 until shut
	closed atomic.Bool
}

func (d *descriptor) acquire() bool {
	for {
		n := d.users.Load()
		if n == 0 || d.closed.Load() {
			return false
		}
		if d.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *descriptor) release() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// shut closes it once no call is under way; false where it was already.
func (d *descriptor) shut() bool {
	if d.closed.Swap(true) {
		return false
	}
	d.release()
	return true
}

func newReadFile(fd int, in *dir, name string) *readFile {
	f := &readFile{in: in, name: name}
	f.fd = fd
	f.users.Store(1)
	return f
}

func (f *readFile) failed(op string, err error) error {
	return &fs.PathError{Op: op, Path: filepath.Join(f.in.path, f.name), Err: err}
}

// call runs one call of the system and dresses its error.
func (f *readFile) call(op string, do func(fd int) (int, error)) (int, error) {
	if !f.acquire() {
		return 0, f.failed(op, fs.ErrClosed)
	}
	defer f.release()
	n, err := again(func() (int, error) { return do(f.fd) })
	if err != nil {
		return max(n, 0), f.failed(op, err)
	}
	return n, nil
}

func (f *readFile) Read(p []byte) (int, error) {
	n, err := f.call("read", func(fd int) (int, error) { return unix.Read(fd, p) })
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (f *readFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		k, err := f.call("read", func(fd int) (int, error) { return unix.Pread(fd, p[n:], off+int64(n)) })
		if err != nil {
			return n, err
		}
		if k == 0 {
			return n, io.EOF
		}
		n += k
	}
	return n, nil
}

func (f *readFile) Stat() (Stat, error) {
	var st unix.Stat_t
	if _, err := f.call("stat", func(fd int) (int, error) { return 0, unix.Fstat(fd, &st) }); err != nil {
		return Stat{}, err
	}
	return statOf(&st), nil
}

func (f *readFile) Sync() error {
	_, err := f.call("sync", func(fd int) (int, error) { return 0, unix.Fsync(fd) })
	return err
}

func (f *readFile) Datasync() error {
	_, err := f.call("sync", func(fd int) (int, error) { return 0, datasync(fd) })
	return err
}

func (f *readFile) TryLock() (bool, error) {
	got := false
	_, err := f.call("lock", func(fd int) (int, error) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if got = err == nil; err == unix.EWOULDBLOCK {
			err = nil
		}
		return 0, err
	})
	return got, err
}

func (f *readFile) Write([]byte) (int, error)          { return 0, f.failed("write", unix.EBADF) }
func (f *readFile) WriteAt([]byte, int64) (int, error) { return 0, f.failed("write", unix.EBADF) }
func (f *readFile) Truncate(int64) error               { return f.failed("truncate", unix.EINVAL) }

func (f *readFile) Close() error {
	if !f.shut() {
		return f.failed("close", fs.ErrClosed)
	}
	return nil
}
