package server

import "golang.org/x/sys/unix"

// Hurry acknowledges at once what came of a command whose rest is waited for. A client that
// writes a literal and the end of its line apart, as Python's imaplib does, has its kernel
// hold the second back until the first is acknowledged (Nagle), and ours would wait 40 ms
// for an answer to send the acknowledgement with.
func (c *heardConn) Hurry() {
	if r := socketBelow(c.Conn); r != nil {
		// Where it fails nothing is lost but time.
		_ = r.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}
