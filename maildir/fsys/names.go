//go:build unix

package fsys

import (
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"
)

// nameBuffers are for reading directories: large, for a mailbox of 100,000 messages
// is 8 MB of entries.
var nameBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func (d *dir) Names(yield func(name string, kind fs.FileMode) bool) error {
	// A descriptor of its own: the place in the directory belongs to the descriptor,
	// and two scans must not share it.
	own := -1
	if err := d.on("open", "", func(fd int) (err error) {
		own, err = unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		return err
	}
	defer unix.Close(own)
	return d.namesFrom(own, yield)
}

func (d *dir) NamesOnce(yield func(name string, kind fs.FileMode) bool) error {
	if !d.acquire() {
		return &fs.PathError{Op: "readdir", Path: d.path, Err: fs.ErrClosed}
	}
	defer d.release()
	return d.namesFrom(d.fd, yield)
}

// namesFrom reads a descriptor of the directory to its end.
func (d *dir) namesFrom(fd int, yield func(name string, kind fs.FileMode) bool) error {
	buf := nameBuffers.Get().(*[]byte)
	defer nameBuffers.Put(buf)
	for {
		n, err := again(func() (int, error) { return unix.ReadDirent(fd, *buf) })
		if err != nil {
			return &fs.PathError{Op: "readdir", Path: d.path, Err: err}
		}
		if n <= 0 {
			return nil
		}
		if !entries((*buf)[:n], yield) {
			return nil
		}
	}
}
