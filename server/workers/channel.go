package workers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one message: a login with all that the client had sent behind it.
const maxMessage = 160 << 10

// sendTime is how long a process may take to read what it is sent. Each of them reads all
// the time: one that does not is broken.
const sendTime = 10 * time.Second

// A channel carries messages, each a JSON object with descriptors beside it, between two
// processes, over a unix socket that keeps their bounds. Any number of goroutines may send,
// one receives.
type channel struct {
	conn *net.UnixConn
	raw  syscall.RawConn

	mu sync.Mutex // one message at a time
}

// newChannel takes over one end of a pair.
func newChannel(f *os.File) (*channel, error) {
	conn, err := socket(f)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &channel{conn: conn, raw: raw}, nil
}

// socket makes a descriptor a connection, and closes it.
func socket(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a unix socket")
	}
	return conn, nil
}

// pair makes the two ends of a socket: SOCK_SEQPACKET for a channel, SOCK_STREAM for the
// bytes of a session.
func pair(kind int, name string) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, os.NewSyscallError("socketpair", err))
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

var messages = sync.Pool{New: func() any { b := make([]byte, maxMessage); return &b }}

// send sends a message and copies of files, which stay open here.
func (c *channel) send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("a message of %d bytes", len(b))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(sendTime))
	_, _, err = c.conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receive waits for a message, and at most n descriptors with it; more are dropped by the
// kernel, and an error. Nothing is held meanwhile. io.EOF when the other end is closed.
func (c *channel) receive(v any, n int) (files []*os.File, err error) {
	var oob []byte
	if n > 0 {
		oob = make([]byte, unix.CmsgSpace(4*n))
	}
	var got, rights, flags int
	var fault error
	var buf *[]byte
	err = c.raw.Read(func(fd uintptr) bool {
		buf = messages.Get().(*[]byte)
		for {
			got, rights, flags, _, fault = unix.Recvmsg(int(fd), *buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if fault == unix.EINTR {
				continue
			}
			if fault == unix.EAGAIN {
				messages.Put(buf)
				buf = nil
				return false
			}
			return true
		}
	})
	if buf != nil {
		defer messages.Put(buf)
	}
	if err = errors.Join(err, fault); err != nil {
		return nil, err
	}
	if rights > 0 {
		list, err := unix.ParseSocketControlMessage(oob[:rights])
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	switch {
	case got == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message that is too long")
	default:
		err = json.Unmarshal((*buf)[:got], v)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func (c *channel) close() error { return c.conn.Close() }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
