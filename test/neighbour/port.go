package neighbour

import (
	"os"
	"sync"
	"syscall"
)

// FreePort asks the kernel for a loopback port that nobody uses, and holds it as long as
// this process lives: a socket is bound to it that does not listen. The kernel gives such a
// port to nobody, neither to a listener on port 0 nor to a connection, and who asks for it
// by its number, with SO_REUSEADDR as servers do, gets it. Without that a port would be
// another test's, now and then, before the program for which it was chosen had started.
func FreePort() (int, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	// Bound without the option, and held with it: the kernel must look for a port of nobody.
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		syscall.Close(fd)
		return 0, os.NewSyscallError("bind", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		syscall.Close(fd)
		return 0, os.NewSyscallError("setsockopt", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		syscall.Close(fd)
		return 0, os.NewSyscallError("getsockname", err)
	}
	heldPorts.Lock()
	defer heldPorts.Unlock()
	heldPorts.fds = append(heldPorts.fds, fd)
	return name.(*syscall.SockaddrInet4).Port, nil
}

// heldPorts are what holds the ports.
var heldPorts struct {
	sync.Mutex // guards fds
	fds        []int
}
