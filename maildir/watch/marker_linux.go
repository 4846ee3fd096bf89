package watch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newMarker makes the file and the path by which it is watched.
func newMarker() (*os.File, string, error) {
	fd, err := unix.MemfdCreate("roost-marker", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, "", fmt.Errorf("memfd_create: %w", err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	return os.NewFile(uintptr(fd), "roost-marker"), path, nil
}
