package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// Mode says how a connection starts.
type Mode int

const (
	Implicit  Mode = iota // TLS from the first byte
	STARTTLS              // in the clear; no password before STARTTLS
	Plaintext             // in the clear, passwords too; STARTTLS where there is a certificate
)

func (m Mode) String() string { return [...]string{"imaps", "imap+starttls", "imap+plaintext"}[m] }

// Spec asks for a listening socket.
type Spec struct {
	Address string // host:port; no host is every address, IPv4 and IPv6
	Mode    Mode
}

// Listener is a listening socket.
type Listener struct {
	net.Listener
	Mode Mode

	// Proxies are the networks of proxies, which begin each connection with a PROXY
	// header; nobody else is served. nil: there is no header.
	Proxies []netip.Prefix
}

// Listen opens the sockets that specs ask for, all or none, in their order. A socket that systemd
// passed (passed, from Activated) is taken for the spec that names its address; one
// that no spec names is an error.
func Listen(ctx context.Context, specs []Spec, passed []net.Listener) (list []Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			for _, l := range passed {
				l.Close()
			}
			list = nil
		}
	}()
	taken := make([]bool, len(passed))
specs:
	for _, spec := range specs {
		for i, l := range passed {
			if !taken[i] && sameAddress(spec.Address, l.Addr()) {
				taken[i] = true
				list = append(list, Listener{Listener: l, Mode: spec.Mode})
				continue specs
			}
		}
		// Keepalive is set on each connection as it comes (Accept).
		lc := net.ListenConfig{KeepAlive: -1}
		l, err := lc.Listen(ctx, "tcp", spec.Address)
		if err != nil {
			return list, listenError(spec.Address, err)
		}
		list = append(list, Listener{Listener: l, Mode: spec.Mode})
	}
	for i, l := range passed {
		if !taken[i] {
			return list, fmt.Errorf("systemd passed a socket on %s that no [[listen]] or [[auth.listen]] names: add it, or take it out of the .socket unit", l.Addr())
		}
	}
	return list, nil
}

// listenError says what to do about a socket that cannot be had.
func listenError(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: another program does already; `ss -ltnp 'sport = :%s'` names it: %w", address, port, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: ports below 1024 need root, AmbientCapabilities=CAP_NET_BIND_SERVICE, or a .socket unit: %w", address, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine has no such address: %w", address, syscall.EADDRNOTAVAIL)
	}
	return fmt.Errorf("cannot listen on %s: %w", address, err)
}

// Activated gives the sockets that systemd passed to this process (sd_listen_fds),
// and makes sure that no child takes them for its own. Once a process.
func Activated() ([]net.Listener, error) {
	var list []net.Listener
	for _, f := range activation.Files(true) {
		l, err := listenerOf(f)
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

// listenerOf makes a passed descriptor a listener.
func listenerOf(f *os.File) (net.Listener, error) {
	defer f.Close() // FileListener works on a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("systemd passed descriptor %s, which is no listening socket (ListenStream=): %w", f.Name(), err)
	}
	switch l.Addr().(type) {
	case *net.TCPAddr, *net.UnixAddr: // a path is for auth.listen
	default:
		l.Close()
		return nil, fmt.Errorf("systemd passed a socket on %s: Roost listens on TCP and unix sockets", l.Addr())
	}
	return l, nil
}

// sameAddress reports whether a spec means the address of a socket. Without a
// host, or with 0.0.0.0 or ::, it means every address.
func sameAddress(spec string, addr net.Addr) bool {
	is, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	host, port, err := net.SplitHostPort(spec)
	if err != nil {
		return false
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n != is.Port {
		return false
	}
	ip := is.AddrPort().Addr().Unmap()
	if host == "" {
		return ip.IsUnspecified()
	}
	want, err := netip.ParseAddr(host)
	return err == nil && want.Unmap() == ip
}

// keepalive finds peers that vanished without a word, without waking phones: the
// protocol's own keepalive keeps routers content.
var keepalive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Minute, Interval: time.Minute, Count: 5}

// Accept waits for a connection.
func (l Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tc, ok := nc.(*net.TCPConn); ok && err == nil {
		tc.SetKeepAliveConfig(keepalive) // an error shows at the first Read
	}
	return nc, err
}

// String names a listener for the log.
func (l Listener) String() string {
	return l.Addr().String() + " " + l.Mode.String()
}

// Port is the port that is listened on.
func (l Listener) Port() string {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return strconv.Itoa(a.Port)
	}
	return ""
}
