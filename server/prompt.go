package server

import (
	"golang.org/x/sys/unix"

	"roost/server/session"
)

// The line that tells an idling client of a delivery is written by the goroutine that saw the
// delivery (session.Prompt). Others wait for that one, so it waits for no client: TLS writes
// into memory, and what the socket does not take at once is left to Finish.

var _ session.Prompt = (*heardConn)(nil)

// Gather implements session.Prompt. It is refused where somebody writes already: he may hold
// TLS's lock, and wait.
func (c *heardConn) Gather() bool {
	below := socketBelow(c.Conn)
	return below != nil && below.gather()
}

// Send implements session.Prompt.
func (c *heardConn) Send() (all bool, err error) { return socketBelow(c.Conn).sendNow() }

// Finish implements session.Prompt.
func (c *heardConn) Finish() error { return socketBelow(c.Conn).finish() }

// gather has what is written from now on, by whomever, wait in memory for sendNow.
func (c *restingConn) gather() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing > 0 || c.gathered != nil || c.failed != nil {
		return false
	}
	c.gatherLocked()
	return true
}

// sendNow sends as much of what was gathered as goes without waiting. What is left stays
// gathered, and what is written comes behind it, until finish.
func (c *restingConn) sendNow() (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = true
	for next := *c.gathered; len(next) > 0 && c.failed == nil; next, c.queued = c.queued, nil {
		c.mu.Unlock()
		n, err := c.put(next)
		c.mu.Lock()
		if c.failed = err; err == nil && n < len(next) {
			*c.gathered = append((*c.gathered)[:0], next[n:]...)
			return false, nil
		}
	}
	c.sending = false
	*c.gathered = (*c.gathered)[:0]
	c.releaseLocked()
	return c.failed == nil, c.failed
}

// finish sends what sendNow left, and waits for the client.
func (c *restingConn) finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gathered != nil {
		c.sendLocked()
		c.releaseLocked()
	}
	return c.failed
}

// put writes to the socket without waiting. No deadline holds for it.
func (c *restingConn) put(p []byte) (n int, err error) {
	cerr := c.raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Write(int(fd), p); err != unix.EINTR {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case err == unix.EAGAIN:
		return 0, nil
	}
	return max(n, 0), err
}
