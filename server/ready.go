package server

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ready tells whether a Read would give something at once. For the goroutine that reads,
// between two Reads.
func (c *heardConn) Ready() bool {
	below := socketBelow(c.Conn)
	if below == nil {
		return false
	}
	if t, secure := c.Conn.(*tls.Conn); secure {
		return tlsInside.ready(t, below)
	}
	return below.arrived(nil) > 0
}

// recordHead is the head of a TLS record, whose last two bytes are the length of the rest.
const recordHead = 5

// ready tells whether a connection whose handshake is done has bytes in hand, or a whole
// record on the way: with a part of one a Read would wait for the rest.
func (in insideTLS) ready(c *tls.Conn, below *restingConn) bool {
	if !in.known {
		return false
	}
	raw := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), in.rawInput)) // #nosec G103 -- findTLSInside saw the type at the offset
	plain := (*bytes.Reader)(unsafe.Add(unsafe.Pointer(c), in.input))  // #nosec G103 -- as above
	if plain.Len() > 0 {
		return true
	}
	var head [recordHead]byte
	n := copy(head[:], raw.Bytes())
	if n == recordHead && raw.Len() >= recordSize(head) {
		return true
	}
	more := below.arrived(head[n:])
	return n+more >= recordHead && raw.Len()+more >= recordSize(head)
}

func recordSize(head [recordHead]byte) int {
	return recordHead + int(binary.BigEndian.Uint16(head[recordHead-2:]))
}

// arrived counts the bytes that Reads would give without waiting, and copies the first of
// them to head.
func (c *restingConn) arrived(head []byte) int {
	if c.err != nil {
		return 0
	}
	n := 0
	if c.ahead != nil {
		n = c.w - c.r
		head = head[copy(head, (*c.ahead)[c.r:c.w]):]
	}
	_ = c.raw.Control(func(fd uintptr) { // where it fails nothing is known to be there
		k, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		if err != nil || k <= 0 {
			return
		}
		if len(head) > 0 {
			if _, _, err := unix.Recvfrom(int(fd), head, unix.MSG_PEEK|unix.MSG_DONTWAIT); err != nil {
				return
			}
		}
		n += k
	})
	return n
}
