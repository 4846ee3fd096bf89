//go:build unix && !linux

package fsys

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// renameNoReplace is not had here: link and unlink do it.
func renameNoReplace(int, string, int, string) error { return unix.ENOSYS }

func datasync(fd int) error { return unix.Fsync(fd) }

// entries walks one buffer of getdents; the type is left to Stat.
func entries(b []byte, yield func(string, fs.FileMode) bool) bool {
	_, _, names := unix.ParseDirent(b, -1, nil)
	for _, name := range names {
		if !yield(name, fs.ModeIrregular) {
			return false
		}
	}
	return true
}

// remote takes nothing for local: kqueue is not trusted for other machines' changes.
func remote(int) bool { return false }
