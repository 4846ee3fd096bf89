package maildir

import (
	"context"
	"runtime"
)

// That a message came can be told before it has a UID: an EXISTS needs none, and the
// uidlist's lock and line take as long as all else. Whoever was told so waits for Settled
// before he asks for more, so that no UID is seen that was not kept.

// foretoldFew is how many sessions are told of what is coming: each writes to its client while
// files are held, some 20 us. Of more the others hear when the message has its UID.
const foretoldFew = 4

// coming is what Mailbox.Coming tells. Guarded by mailbox.mu.
type coming struct {
	n       int
	settled chan struct{} // closed when n is 0 again; nil: it is
}

// less says that n of them were shown, or will not be now.
func (c *coming) less(n int) {
	if c.n = max(c.n-n, 0); c.n == 0 && c.settled != nil {
		close(c.settled)
		c.settled = nil
	}
}

// foretell wakes the sessions for n messages that adopt gives UIDs next, where nothing
// speaks against that; over must be called when it did. Called with files held.
func (m *mailbox) foretell(n int) (over func()) {
	l := &m.list
	if n == 0 || m.doubt || l.volatile || l.foreign || l.birth != nil || len(l.claims) > 0 {
		return func() {}
	}
	m.mu.Lock()
	if len(m.queue) > 0 || len(m.holds) == 0 || m.dead != nil { // others come first, or nobody listens
		m.mu.Unlock()
		return func() {}
	}
	m.coming = coming{n, make(chan struct{})}
	wakes := m.wakesOfHoldsLocked()
	m.mu.Unlock()
	wakeAll(wakes[:min(len(wakes), foretoldFew)])
	// Who could not write here and now (session.Prompt) has a goroutine, which is next in this
	// thread's queue: it writes first.
	runtime.Gosched()
	return func() {
		m.mu.Lock()
		var wakes []func()
		if m.coming.n > 0 {
			wakes = m.wakesOfHoldsLocked()
			m.coming.less(m.coming.n)
		}
		m.mu.Unlock()
		wakeAll(wakes)
	}
}

// Coming implements store.Mailbox.
func (h *hold) Coming() (n int, recent bool) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return h.m.coming.n, len(h.m.holds) == 1 // else it is known when one of them claims it
}

// Settled implements store.Mailbox.
func (h *hold) Settled(ctx context.Context) error {
	h.m.mu.Lock()
	settled := h.m.coming.settled
	h.m.mu.Unlock()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
