package control

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"roost/unixsocket"
)

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
		unixsocket.RemoveDead(path) // root's, at which nobody else could tell that it is dead
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
// left behind which is no more is replaced, one that a server listens on is
// unixsocket.ErrTaken.
func Listen(path string) (*Listener, error) {
	nl, err := unixsocket.Listen(path, 0o600, -1, -1)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	l := &Listener{l: nl, path: path}
	if l.made, err = os.Lstat(path); err != nil {
		nl.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
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
