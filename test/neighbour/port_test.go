package neighbour

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

// A port that was given is refused to clients and to whoever comes upon it by chance, until
// the server listens for which it is; also when that one is started anew.
func TestFreePortIsHeld(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	taken := func(when string) {
		t.Helper()
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s somebody else gets it: %v", when, err)
		}
	}
	for range 3 {
		taken("before it is used")
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a client finds %v", err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("while it is used: %v", err)
		}
		l.Close()
	}
	if other, err := FreePort(); err != nil || other == port {
		t.Errorf("the next is %d behind %d, %v", other, port, err)
	}
}
