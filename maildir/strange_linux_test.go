package maildir

import (
	"errors"

	"golang.org/x/sys/unix"
)

func init() {
	makeDevices = func(char, block string) error {
		return errors.Join(
			unix.Mknod(char, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			unix.Mknod(block, unix.S_IFBLK|0o600, int(unix.Mkdev(250, 250))),
		)
	}
}
