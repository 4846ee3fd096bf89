//go:build !amd64 && !arm64

package confine

import (
	"errors"
	"runtime"
)

// Seccomp is for amd64 and arm64; elsewhere it is systemd's to do (SystemCallFilter=).
func Seccomp(bans ...Ban) error {
	return errors.New("there is no filter of system calls for " + runtime.GOARCH)
}

// SeccompKnown reports whether there is a filter for this machine.
const SeccompKnown = false
