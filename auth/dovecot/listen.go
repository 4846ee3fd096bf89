package dovecot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ListenUnix makes a unix socket of a mode and an owner (-1: this process's). A socket
// that a server left behind is replaced; one that somebody answers on, and what is no
// socket, is an error. The file stays when the listener is closed: the user that the
// server became may not be able to remove it, and the next server does.
func ListenUnix(path string, mode fs.FileMode, uid, gid int) (net.Listener, error) {
	if err := removeDead(path); err != nil {
		return nil, fmt.Errorf("authentication socket %s: %w", path, plain(err))
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		// Bind gives the file the mode of the socket: there is no instant with another.
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("authentication socket %s: %w", path, plain(err))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if uid >= 0 || gid >= 0 {
		err = os.Lchown(path, uid, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		l.Close()
		os.Remove(path)
		return nil, fmt.Errorf("authentication socket %s: %w", path, plain(err))
	}
	return l, nil
}

// removeDead removes a socket that nobody listens on.
func removeDead(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return errors.New("something else than a socket is there")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return errors.New("another program answers there")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return err
}

// plain is the system's error alone: the path is told already.
func plain(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
