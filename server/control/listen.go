package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is how long the path of a socket can be, in bytes.
const MaxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// ErrTaken: another server listens there.
var ErrTaken = errors.New("another server answers there")

// Listener is a control socket.
type Listener struct {
	l    *net.UnixListener
	path string
	made fs.FileInfo // the socket as it was made: Close removes no other
}

// Prepare makes the directory of a socket for uid and gid, readable by nobody else,
// where it is missing and what it lies in is not. One that was made for root, who alone
// can use it, and in which nothing else is, is given to them: a server ran as root before.
// It is for root, before it becomes another user; what went wrong shows in Listen.
func Prepare(path string, uid, gid int) {
	dir := filepath.Dir(path)
	made := os.Mkdir(dir, 0o700) == nil
	if uid >= 0 && (made || roots(dir, filepath.Base(path))) {
		removeDead(path) // root's, at which nobody else could tell that it is dead
		os.Lchown(dir, uid, gid)
	}
}

// roots reports whether a directory is root's alone, with nothing but a socket in it.
func roots(dir, socket string) bool {
	fi, err := os.Lstat(dir)
	if err != nil || fi.Mode() != fs.ModeDir|0o700 || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		return false
	}
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != socket })
}

// Listen makes the socket, for root and this process's user alone. One that a server
// left behind which is no more is replaced, one that a server listens on is ErrTaken.
func Listen(path string) (*Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, plain(err))
	}
	return l, nil
}

func listen(path string) (*Listener, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("a path of more than %d bytes cannot be a socket", MaxPath)
	}
	// Two servers that start at once must not both find a dead socket and remove each
	// other's living one.
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeDead(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Bind gives the file the mode of the socket: there is no instant with another.
		return onDescriptor(c, func(fd int) error { return unix.Fchmod(fd, 0o600) })
	}}
	nl, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := &Listener{l: nl.(*net.UnixListener), path: path}
	l.l.SetUnlinkOnClose(false)
	if l.made, err = os.Lstat(path); err == nil && l.made.Mode().Perm() != 0o600 {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// lockDir holds others off that start at the same time. The directory may be one that
// anybody can lock, so the wait has an end.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for range 100 {
		if err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { d.Close() }, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.Close()
	return nil, fmt.Errorf("directory is locked by another program: %w", err)
}

// removeDead removes a socket that nobody listens on. What is no socket stays.
func removeDead(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket: remove it, or name another path in control.socket")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return ErrTaken
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err // EAGAIN: one that lives and is busy; EACCES: another user's
	}
	return os.Remove(path)
}

// Close ends the socket, and removes its file where that is still its own.
func (l *Listener) Close() error {
	if fi, err := os.Lstat(l.path); err == nil && os.SameFile(fi, l.made) {
		os.Remove(l.path)
	}
	return l.l.Close()
}

// accept waits for one who may ask.
func (l *Listener) accept() (c *net.UnixConn, uid int, err error) {
	for {
		c, err := l.l.AcceptUnix()
		if err != nil {
			return nil, 0, err
		}
		uid, err := peer(c)
		if err == nil && (uid == 0 || uid == os.Geteuid()) {
			return c, uid, nil
		}
		c.Close()
	}
}

// peer is the user at the other end, as the kernel knows it.
func peer(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = onDescriptor(raw, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			uid = int(cred.Uid)
		}
		return err
	})
	return uid, err
}

func onDescriptor(c syscall.RawConn, call func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = call(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// plain takes away what the path of the socket was repeated in.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
