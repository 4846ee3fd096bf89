package server

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
)

// crypto/tls makes a call of the system for each record of 16 KiB. What a session writes at
// once is several of them where much is read; they are gathered below TLS and go with one
// call, which costs a fifth less, and wakes the client once.

const (
	// recordBytes is what a record holds at most.
	recordBytes = 16 << 10

	// gatherBytes hold four records with all that goes around them.
	gatherBytes = 4*recordBytes + 512
)

var gatherPool = sync.Pool{New: func() any { b := make([]byte, 0, gatherBytes); return &b }}

// gathering is the part of a restingConn that does it. Writes may come from several
// goroutines: Close sends an alert, Read may answer a request for new keys. None of them
// waits for a client that does not read, for Close could not end that.
type gathering struct {
	mu       sync.Mutex // guards what follows; no call of the system is made under it
	gathered *[]byte    // of gatherPool; nil: writes go at once
	sending  bool       // what was gathered, by the goroutine that gathers
	writing  int        // how many write what is not gathered
	queued   []byte     // what came meanwhile, and goes behind it
	failed   error      // of a write whose bytes TLS believes sent: nothing may follow them
}

func (c *restingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil && c.gathered == nil {
		c.writing++
		c.mu.Unlock()
		n, err := c.Conn.Write(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			n, err = c.late(p, err)
		}
		c.mu.Lock()
		c.writing--
		return n, err
	}
	if c.failed == nil && !c.sending && len(*c.gathered)+len(p) > gatherBytes {
		c.sendLocked()
	}
	switch {
	case c.failed != nil:
		return 0, c.failed
	case c.sending:
		c.queued = append(c.queued, p...)
	default:
		*c.gathered = append(*c.gathered, p...) // a record always fits
	}
	return len(p), nil
}

// late writes what its deadline has kept back, as far as that does not wait. The deadline is that
// of what the session wrote last: when TLS answers a request for new keys it may be long over,
// and what TLS does after an answer that failed makes the next record look forged.
func (c *restingConn) late(p []byte, over error) (int, error) {
	n, err := c.put(p)
	if err == nil && n < len(p) {
		err = over
	}
	return n, err
}

// sendLocked sends what was gathered. The lock is released meanwhile.
func (c *restingConn) sendLocked() {
	c.sending = true
	for next := *c.gathered; len(next) > 0 && c.failed == nil; next, c.queued = c.queued, nil {
		c.mu.Unlock()
		_, err := c.Conn.Write(next)
		c.mu.Lock()
		c.failed = err
	}
	c.sending = false
	*c.gathered = (*c.gathered)[:0]
}

func (c *restingConn) gatherLocked() { c.gathered = gatherPool.Get().(*[]byte) }

// releaseLocked lets writes go at once again.
func (c *restingConn) releaseLocked() {
	gatherPool.Put(c.gathered)
	c.gathered = nil
}

// writeGathered writes p to t, which is above c, in as few calls as may be. One goroutine
// at a time.
func (c *restingConn) writeGathered(t net.Conn, p []byte) (int, error) {
	c.mu.Lock()
	c.gatherLocked()
	c.mu.Unlock()
	n, err := t.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendLocked()
	c.releaseLocked()
	if err == nil && c.failed != nil {
		n, err = 0, c.failed
	}
	return n, err
}

// gathers gives the socket below TLS where p is more than one record; nil else.
func (c *heardConn) gathers(p []byte) *restingConn {
	if _, secure := c.Conn.(*tls.Conn); !secure || len(p) <= recordBytes {
		return nil
	}
	return socketBelow(c.Conn)
}
