//go:build unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the operating system's own filesystem.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Root(path string) (Dir, error) { return openPath(path) }

func (osFS) Make(path string, mode fs.FileMode) (Dir, error) {
	d, err := openPath(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	// The umask may take bits of the parents; the last one gets exactly mode.
	if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
		return nil, err
	}
	parent, err := openPath(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := parent.Mkdir(filepath.Base(path), mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return openPath(path)
}

func (osFS) Under(base, rel string) (Dir, error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(rel, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(base, rel), Err: err}
	}
	return newDir(fd, filepath.Join(base, rel)), nil
}

func openPath(path string) (Dir, error) {
	fd, err := again(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	})
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			err = notDir(err)
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return newDir(fd, path), nil
}

// dir is a Dir by descriptor.
type dir struct {
	descriptor
	path   string
	remote atomic.Int32 // 0: not asked yet, 1: no, 2: yes; a descriptor stays on its filesystem
}

func newDir(fd int, path string) *dir {
	d := &dir{path: filepath.Clean(path)}
	d.fd = fd
	d.users.Store(1)
	return d
}

// at runs one call on a name of the directory and dresses its error.
func (d *dir) at(op, name string, call func(fd int) error) error {
	if !single(name) {
		return &fs.PathError{Op: op, Path: d.join(name), Err: fs.ErrInvalid}
	}
	return d.on(op, name, call)
}

// on is at for the directory itself.
func (d *dir) on(op, name string, call func(fd int) error) error {
	if !d.acquire() {
		return &fs.PathError{Op: op, Path: d.join(name), Err: fs.ErrClosed}
	}
	defer d.release()
	for {
		err := call(d.fd)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: op, Path: d.join(name), Err: err}
		}
	}
}

// both runs one call on a name here and a name in another directory.
func (d *dir) both(op, old string, to Dir, name string, call func(from, to int) error) error {
	bad := func(err error) error {
		return &os.LinkError{Op: op, Old: d.join(old), New: filepath.Join(to.Path(), name), Err: err}
	}
	t, ok := to.(*dir)
	if !ok {
		return bad(unix.EXDEV)
	}
	if !single(old) || !single(name) {
		return bad(fs.ErrInvalid)
	}
	if !d.acquire() {
		return bad(fs.ErrClosed)
	}
	defer d.release()
	if !t.acquire() {
		return bad(fs.ErrClosed)
	}
	defer t.release()
	for {
		err := call(d.fd, t.fd)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return bad(err)
		}
	}
}

func (d *dir) join(name string) string {
	if name == "" {
		return d.path
	}
	return d.path + "/" + name
}

// single reports whether a name is one component that names something below.
func single(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// again runs a call until it is not interrupted by a signal.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (d *dir) Open(name string) (File, error) {
	return d.open("open", name, unix.O_RDONLY, 0)
}

func (d *dir) OpenStat(name string) (File, Stat, error) {
	f, st, err := d.openStat("open", name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, Stat{}, err
	}
	return f, statOf(&st), nil
}

func (d *dir) Create(name string, mode fs.FileMode) (File, error) {
	return d.open("create", name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

func (d *dir) Append(name string) (File, error) {
	return d.open("open", name, unix.O_RDWR|unix.O_APPEND, 0)
}

func (d *dir) Update(name string, mode fs.FileMode) (File, error) {
	f, err := d.open("open", name, unix.O_RDWR, 0)
	for errors.Is(err, fs.ErrNotExist) {
		// Two steps, so that only who made the file sets its mode.
		if f, err = d.Create(name, mode); errors.Is(err, fs.ErrExist) {
			f, err = d.open("open", name, unix.O_RDWR, 0)
		}
	}
	return f, err
}

func (d *dir) open(op, name string, flags int, mode fs.FileMode) (File, error) {
	f, _, err := d.openStat(op, name, flags, mode)
	return f, err
}

// openStat is open; st is empty of a file that was made.
func (d *dir) openStat(op, name string, flags int, mode fs.FileMode) (file File, st unix.Stat_t, err error) {
	err = d.at(op, name, func(fd int) error {
		if flags&unix.O_EXCL == 0 {
			flags |= unix.O_NONBLOCK // no fifo blocks; what is made here is none, and needs no place in Go's poller
		}
		n, err := unix.Openat(fd, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY, uint32(mode.Perm()))
		if err != nil {
			return openError(err)
		}
		if flags&unix.O_CREAT != 0 {
			// With a private mode there is nothing for a umask to take.
			if mode.Perm()&0o077 != 0 {
				if err = unix.Fchmod(n, uint32(mode.Perm())); err != nil {
					unix.Unlinkat(fd, name, 0)
				}
			}
		} else {
			if err = unix.Fstat(n, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
				err = notRegular(nil)
			}
		}
		if err != nil {
			unix.Close(n)
			return err
		}
		if flags&unix.O_ACCMODE == unix.O_RDONLY {
			file = newReadFile(n, d, name)
		} else {
			file = osFile{os.NewFile(uintptr(n), d.join(name))}
		}
		return nil
	})
	if err != nil {
		return nil, st, err
	}
	return file, st, nil
}

// openError tells a thing that is no regular file from other failures.
func openError(err error) error {
	switch err {
	case unix.ELOOP, unix.EMLINK, // a link, under O_NOFOLLOW; FreeBSD says EMLINK
		unix.EISDIR, unix.ENXIO: // a directory or a fifo opened for writing
		return notRegular(err)
	}
	return err
}

func notRegular(err error) error { return joined{ErrNotRegular, err} }
func notDir(err error) error     { return joined{ErrNotDir, err} }

// joined is a sentinel with the errno that led to it.
type joined struct{ sentinel, errno error }

func (e joined) Error() string { return e.sentinel.Error() }
func (e joined) Unwrap() []error {
	if e.errno == nil {
		return []error{e.sentinel}
	}
	return []error{e.sentinel, e.errno}
}

func (d *dir) Link(old string, to Dir, name string) error {
	return d.both("link", old, to, name, func(from, to int) error {
		return unix.Linkat(from, old, to, name, 0)
	})
}

func (d *dir) Move(old string, to Dir, name string) error {
	return d.both("move", old, to, name, func(from, to int) error {
		err := renameNoReplace(from, old, to, name)
		if err != unix.EINVAL && err != unix.ENOSYS && err != unix.EOPNOTSUPP {
			return err
		}
		if err := unix.Linkat(from, old, to, name, 0); err != nil {
			return err
		}
		return unix.Unlinkat(from, old, 0)
	})
}

func (d *dir) Rename(old string, to Dir, name string) error {
	return d.both("rename", old, to, name, func(from, to int) error {
		return unix.Renameat(from, old, to, name)
	})
}

func (d *dir) Remove(name string) error {
	return d.at("remove", name, func(fd int) error { return unix.Unlinkat(fd, name, 0) })
}

func (d *dir) Rmdir(name string) error {
	return d.at("rmdir", name, func(fd int) error { return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR) })
}

func (d *dir) Mkdir(name string, mode fs.FileMode) error {
	return d.at("mkdir", name, func(fd int) error {
		if err := unix.Mkdirat(fd, name, uint32(mode.Perm())); err != nil {
			return err
		}
		if mode.Perm()&0o077 == 0 {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if uint32(st.Mode)&0o777 == uint32(mode.Perm()) {
			return nil
		}
		return unix.Fchmodat(fd, name, uint32(st.Mode)&0o7000|uint32(mode.Perm()), 0)
	})
}

func (d *dir) Stat(name string) (Stat, error) {
	var st unix.Stat_t
	err := d.at("stat", name, func(fd int) error {
		return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return Stat{}, err
	}
	return statOf(&st), nil
}

func (d *dir) Self() (Stat, error) {
	var st unix.Stat_t
	err := d.on("stat", "", func(fd int) error { return unix.Fstat(fd, &st) })
	if err != nil {
		return Stat{}, err
	}
	return statOf(&st), nil
}

func (d *dir) Readlink(name string) (string, error) {
	var target string
	err := d.at("readlink", name, func(fd int) error {
		b := make([]byte, 4096) // PATH_MAX: the kernel keeps none longer
		n, err := unix.Readlinkat(fd, name, b)
		if err == nil {
			target = string(b[:n])
		}
		return err
	})
	return target, err
}

func (d *dir) SetTime(name string, t time.Time) error {
	return d.at("settime", name, func(fd int) error {
		ts := unix.NsecToTimespec(t.UnixNano())
		return unix.UtimesNanoAt(fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (d *dir) Sync() error {
	return d.on("sync", "", unix.Fsync)
}

func (d *dir) Sub(name string) (Dir, error) {
	var sub *dir
	err := d.at("open", name, func(fd int) error {
		n, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			sub = newDir(n, d.join(name))
		case unix.ENOTDIR, unix.ELOOP, unix.EMLINK:
			return notDir(err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return sub, nil
}

func (d *dir) Path() string { return d.path }

func (d *dir) Remote() bool {
	if known := d.remote.Load(); known != 0 {
		return known == 2
	}
	if !d.acquire() {
		return false
	}
	defer d.release()
	yes := remote(d.fd)
	d.remote.Store(1)
	if yes {
		d.remote.Store(2)
	}
	return yes
}

// togetherMost bounds the threads that wait for one Together.
const togetherMost = 8

func (d *dir) Together(calls ...func() error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(calls) {
				return
			}
			if err := calls[i](); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(len(calls), togetherMost) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *dir) Writable() bool {
	return d.on("access", "", func(fd int) error {
		return unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}) == nil
}

func (d *dir) Close() error {
	if !d.shut() {
		return &fs.PathError{Op: "close", Path: d.path, Err: fs.ErrClosed}
	}
	return nil
}

func statOf(st *unix.Stat_t) Stat {
	return Stat{
		Ino:   uint64(st.Ino),
		Dev:   uint64(st.Dev),
		Size:  st.Size,
		Mtime: st.Mtim.Nano(),
		Ctime: st.Ctim.Nano(),
		Nlink: uint64(st.Nlink),
		Mode:  modeOf(uint32(st.Mode)),
		UID:   st.Uid,
		GID:   st.Gid,
	}
}

func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	default:
		mode |= fs.ModeIrregular
	}
	if m&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	return mode
}
