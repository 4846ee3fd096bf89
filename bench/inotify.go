package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// rawInotify is the least that any server needs: one blocking read of inotify, one TLS
// write of the line.
func (st *stand) rawInotify() (*idler, error) {
	user, err := st.newUser()
	if err != nil {
		return nil, err
	}
	dir := st.maildir(user)
	l, err := st.listen(true)
	if err != nil {
		return nil, err
	}
	events, err := st.inotify(dir)
	if err != nil {
		return nil, err
	}
	go func() { // ends when the client is gone or the file is closed
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 4096)
		if _, err := conn.Read(buf); err != nil {
			return
		}
		for {
			if _, err := events.read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(conn, "* 1 EXISTS\r\n"); err != nil {
				return
			}
		}
	}()
	conn, err := st.reach(l.Addr().String(), true)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "go\r\n"); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	return &idler{maildir: dir, hear: func() error {
		_, err := in.ReadSlice('\n')
		return err
	}}, nil
}

// inotify watches new/ of Maildirs.
func (st *stand) inotify(maildirs ...string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &watch{fd: fd}
	for _, dir := range maildirs {
		if w.one, err = unix.InotifyAddWatch(fd, filepath.Join(dir, "new"), unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	stop := st.onStop(w.end)
	st.cleanup(func() { stop(); w.end() })
	return w, nil
}

// watch is read by a thread that blocks, not by Go's poller: nothing needs less.
type watch struct {
	fd, one int // the descriptor, and one of its watches
	ended   atomic.Bool
}

// end makes read fail. That the watch is gone is an event too: so it wakes who blocks.
func (w *watch) end() {
	if !w.ended.Swap(true) {
		unix.InotifyRmWatch(w.fd, uint32(w.one))
	}
}

// read blocks until there are events. After end it closes the descriptor and fails.
func (w *watch) read(buf []byte) (int, error) {
	n, err := unix.Read(w.fd, buf)
	if w.ended.Load() {
		unix.Close(w.fd)
		return 0, os.ErrClosed
	}
	return n, err
}

// rawBurst renames n files in k Maildirs while inotify is drained.
func (st *stand) rawBurst(k, n int) (step, error) {
	var dirs []string
	for range k {
		user, err := st.newUser()
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, st.maildir(user))
	}
	w, err := st.inotify(dirs...)
	if err != nil {
		return nil, err
	}
	seen := make(chan int, 1<<16)
	go func() { // ends with the watch
		defer close(seen)
		buf := make([]byte, 64<<10)
		for {
			k, err := w.read(buf)
			if err != nil {
				return
			}
			seen <- events(buf[:k])
		}
	}()
	return func(rec *record) error {
		files, err := spooled(n, func(i int) string { return dirs[i%k] })
		if err != nil {
			return err
		}
		return rec.timed(func() error {
			if err := renameAll(files); err != nil {
				return err
			}
			for left := n; left > 0; {
				got, ok := <-seen
				if !ok {
					return os.ErrClosed
				}
				left -= got
			}
			return nil
		})
	}, nil
}

// events counts those in what inotify gave: inotify(7).
func events(b []byte) (n int) {
	for len(b) >= unix.SizeofInotifyEvent {
		size := int(uint32(b[12]) | uint32(b[13])<<8 | uint32(b[14])<<16 | uint32(b[15])<<24)
		b = b[unix.SizeofInotifyEvent+size:]
		n++
	}
	return n
}
