// Package unixsocket makes the unix sockets on which other programs of the machine ask
// Roost. It knows nothing of what is said there.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is how long the path of a socket can be, in bytes.
const MaxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// Why there is no socket.
var (
	ErrTaken    = errors.New("another program answers there")
	ErrNoSocket = errors.New("there is a file that is no socket: remove it, or name another path")

	errLocked = errors.New("its directory is locked by another program")
)

// Listen makes a socket of a mode and an owner (-1: this process's), which nobody but this
// process's user can reach before it has them. A socket that nobody listens on any more is
// replaced; one that somebody answers on is ErrTaken, and what is no socket ErrNoSocket.
// Errors do not repeat the path.
//
// The file stays when the listener is closed: the user that the server became may not be
// able to remove it, and the next Listen does.
func Listen(path string, mode fs.FileMode, uid, gid int) (*net.UnixListener, error) {
	l, err := listen(path, mode, uid, gid)
	return l, Plain(err)
}

func listen(path string, mode fs.FileMode, uid, gid int) (*net.UnixListener, error) {
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
	if err := RemoveDead(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		// Bind gives the file the mode of the socket: there is no instant with another.
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	nl, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := nl.(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	if err := give(path, mode, uid, gid); err != nil {
		l.Close()
		os.Remove(path)
		return nil, err
	}
	return l, nil
}

// give sets the owner and the mode of a socket. Its directory may be another user's, who
// could put a link there meanwhile: what is changed is what was looked at.
func give(path string, mode fs.FileMode, uid, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return ErrNoSocket
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if fs.FileMode(st.Mode&0o777) == mode {
		return nil
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) // fchmod takes no O_PATH
}

// lockDir holds others off that start at the same time. The directory may be one that
// anybody can lock, so the wait has an end; one that may not be read has no lock.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
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
	return nil, errLocked
}

// RemoveDead removes a socket that nobody listens on. Nothing there is no error.
func RemoveDead(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return ErrNoSocket
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return ErrTaken
	case errors.Is(err, syscall.EAGAIN): // it has more callers than it takes
		return ErrTaken
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return err // EACCES: another user's
}

// Plain is an error of a socket without what repeats its path.
func Plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		err = sys.Err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return err
}
