package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// maxCached is how many verified passwords are remembered; about 1 MB.
const maxCached = 10_000

// mac stands for a name, a password and the entry it was checked against; it cannot be
// computed, nor a guess be checked with it, outside of this process.
type mac [sha256.Size]byte

// cache remembers passwords that were right a short time ago, and lets those who bring
// the same password at one time wait for one computation: a phone opens twelve
// connections at once. The entry is part of the key, so that nothing is remembered
// across its change.
type cache struct {
	key [32]byte
	ttl time.Duration // not positive: nothing is remembered

	mu    sync.Mutex        // guards all below
	until map[mac]time.Time // right passwords, and how long
	busy  map[mac]*flight
}

// flight is one computation that others wait for; ok and err are set before done is closed.
type flight struct {
	done chan struct{}
	ok   bool
	err  error // it did not come to an end
}

func newCache(ttl time.Duration) *cache {
	c := &cache{ttl: ttl, until: map[mac]time.Time{}, busy: map[mac]*flight{}}
	rand.Read(c.key[:]) // never fails, says crypto/rand
	return c
}

// mac is the key for a name, a password and the text of an entry.
func (c *cache) mac(name, password, entry string) mac {
	h := hmac.New(sha256.New, c.key[:])
	for _, s := range []string{name, password, entry} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return mac(h.Sum(nil))
}

// verify gives what is remembered of m, or waits for who computes it already, or
// computes it. The error is that of ctx.
func (c *cache) verify(ctx context.Context, m mac, compute func() (bool, error)) (bool, error) {
	for {
		c.mu.Lock()
		if until, ok := c.until[m]; ok {
			if time.Now().Before(until) {
				c.mu.Unlock()
				return true, nil
			}
			delete(c.until, m)
		}
		f := c.busy[m]
		if f == nil {
			break
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		if f.err == nil {
			return f.ok, nil
		}
		// The other hung up before his turn came. Our own ctx may be fine.
	}
	f := &flight{done: make(chan struct{})}
	c.busy[m] = f
	c.mu.Unlock()

	ok, err := compute()

	c.mu.Lock()
	defer c.mu.Unlock()
	f.ok, f.err = ok, err
	delete(c.busy, m)
	close(f.done)
	if ok && err == nil && c.ttl > 0 {
		c.rememberLocked(m)
	}
	return ok, err
}

func (c *cache) rememberLocked(m mac) {
	now := time.Now()
	if len(c.until) >= maxCached {
		for k, until := range c.until {
			if !now.Before(until) {
				delete(c.until, k)
			}
		}
	}
	for k := range c.until { // still full: anyone goes, it costs him one hash
		if len(c.until) < maxCached {
			break
		}
		delete(c.until, k)
	}
	c.until[m] = now.Add(c.ttl)
}
