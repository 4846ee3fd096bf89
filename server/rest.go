package server

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a connection costs while its client is silent. Two things would be kept for it:
// the buffers of crypto/tls, which grow to the largest record that came (18 KiB after
// an APPEND) and live as long as the connection, and the stack that a Read through TLS
// needs (800 bytes of frames, which is what keeps a stack of 4 KiB from being enough).
// So a session that waits for its next command rests: the buffers are let go, and the
// goroutine waits below TLS, in restingConn, with nothing in hand.

// restingConn is the socket below TLS.
type restingConn struct {
	net.Conn
	raw   syscall.RawConn
	probe func(fd uintptr) bool // c.try

	ahead *[]byte // of aheadPool, what woke a rest: (*ahead)[r:w]; nil: nothing
	r, w  int
	err   error // of try

	gathering
}

// aheadPool holds what the first bytes behind a rest are read into: most commands.
var aheadPool = sync.Pool{New: func() any { b := make([]byte, 2048); return &b }}

// resting makes a socket one that can rest; what is no socket stays as it is.
func resting(nc net.Conn) net.Conn {
	sc, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc
	}
	c := &restingConn{Conn: nc, raw: raw}
	c.probe = c.try
	return c
}

func (c *restingConn) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", c.err)}
	case c.ahead == nil:
		return c.Conn.Read(p)
	}
	n := copy(p, (*c.ahead)[c.r:c.w])
	if c.r += n; c.r == c.w {
		aheadPool.Put(c.ahead)
		c.ahead = nil
	}
	return n, nil
}

// wait blocks until a Read would not, or has its deadline.
func (c *restingConn) wait() error {
	if c.ahead != nil || c.err != nil {
		return nil
	}
	return c.raw.Read(c.probe)
}

// try reads without blocking. It reports false when there is nothing yet.
func (c *restingConn) try(fd uintptr) bool {
	b := aheadPool.Get().(*[]byte)
	for {
		n, err := unix.Read(int(fd), *b)
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			c.ahead, c.r, c.w = b, 0, n
			return true
		}
		aheadPool.Put(b)
		if err != nil && err != unix.EAGAIN {
			c.err = err
		}
		return err != unix.EAGAIN // the end of the stream is there to be read again
	}
}

// Rest waits until the client says something, or the read deadline is over, and keeps
// no memory meanwhile. It may return before; a Read must follow in either case. For the
// goroutine that reads, between two Reads.
func (c *heardConn) Rest() error {
	if below := emptied(c.Conn); below != nil {
		return below.wait()
	}
	return nil
}

// lean is a connection before the login: whatever a client sends and does not end, TLS's
// buffers do not wait for the rest of it.
type lean struct{ net.Conn }

func (c lean) Read(p []byte) (int, error) {
	if below := emptied(c.Conn); below != nil {
		if err := below.wait(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// emptied makes TLS let go of its buffers and gives what is below it, to wait there; nil
// where that cannot be. Who waits stands on its caller's frame, not on this one's.
func emptied(conn net.Conn) *restingConn {
	below := socketBelow(conn)
	if t, ok := conn.(*tls.Conn); ok && (below == nil || !tlsInside.letGo(t)) {
		return nil
	}
	return below
}

// socketBelow is conn, or what is below its TLS; nil where that is no socket.
func socketBelow(conn net.Conn) *restingConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	below, _ := conn.(*restingConn)
	return below
}

// tlsInside is where crypto/tls keeps what it received. Nothing public tells whether a
// Conn has bytes in hand, nor makes it let its buffers go. Where a version of Go is
// made otherwise the buffers stay and Reads wait inside TLS: TestTLSInside tells.
var tlsInside = findTLSInside(reflect.TypeFor[tls.Conn]())

type insideTLS struct {
	known                   bool
	rawInput, input, handIn uintptr // bytes.Buffer, bytes.Reader, bytes.Buffer
}

func findTLSInside(conn reflect.Type) (in insideTLS) {
	in.known = true
	for _, f := range []struct {
		name string
		kind reflect.Type
		at   *uintptr
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer](), &in.rawInput},
		{"input", reflect.TypeFor[bytes.Reader](), &in.input},
		{"hand", reflect.TypeFor[bytes.Buffer](), &in.handIn},
	} {
		field, ok := conn.FieldByName(f.name)
		in.known = in.known && ok && field.Type == f.kind
		*f.at = field.Offset
	}
	return in
}

// smallBuffer is one that a record with a usual command fits in: it may stay.
const smallBuffer = 1 << 10

// letGo makes a connection whose handshake is done forget its buffers. It reports false
// where bytes are in them, or nobody knows.
func (in insideTLS) letGo(c *tls.Conn) bool {
	if !in.known {
		return false
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), in.rawInput)) // #nosec G103 -- findTLSInside saw the type at the offset
	plain := (*bytes.Reader)(unsafe.Add(unsafe.Pointer(c), in.input))  // #nosec G103 -- as above
	hand := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), in.handIn))  // #nosec G103 -- as above
	if plain.Len()+hand.Len() == 0 && raw.Len() > 0 && raw.Cap() > 4*raw.Len()+smallBuffer {
		// The beginning of a record in what the records before it had need of.
		*raw = *bytes.NewBuffer(slices.Clone(raw.Bytes()))
		plain.Reset(nil)
	}
	if raw.Len()+plain.Len()+hand.Len() > 0 {
		return false
	}
	if raw.Cap() > smallBuffer {
		*raw = bytes.Buffer{}
		plain.Reset(nil) // it lies in raw's
	}
	*hand = bytes.Buffer{}
	return true
}

var _ io.Reader = (*restingConn)(nil)
