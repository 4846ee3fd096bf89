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

	mu    sync.Mutex // guards all below
	right map[mac]remembered
	busy  map[mac]*flight
}

// outcome is what became of a password.
type outcome struct {
	verdict Verdict
	account *Account // what is known of the user by the password alone; nil: nothing more

	token *Token      // of a token, not a password
	bad   *TokenError // why there is none
}

type remembered struct {
	outcome
	until time.Time
}

// flight is one computation that others wait for; out and err are set before done is closed.
type flight struct {
	done chan struct{}
	out  outcome
	err  error // it did not come to an end
}

func newCache(ttl time.Duration) *cache {
	c := &cache{ttl: ttl, right: map[mac]remembered{}, busy: map[mac]*flight{}}
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
// computes it. The error is that of ctx or of compute.
func (c *cache) verify(ctx context.Context, m mac, compute func() (outcome, error)) (outcome, error) {
	for {
		c.mu.Lock()
		if r, ok := c.right[m]; ok {
			if time.Now().Before(r.until) {
				c.mu.Unlock()
				return r.outcome, nil
			}
			delete(c.right, m)
		}
		f := c.busy[m]
		if f == nil {
			break
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		}
		if f.err == nil {
			return f.out, nil
		}
		// The other hung up before his turn came. Our own ctx may be fine.
	}
	f := &flight{done: make(chan struct{})}
	c.busy[m] = f
	c.mu.Unlock()

	out, err := compute()

	c.mu.Lock()
	defer c.mu.Unlock()
	f.out, f.err = out, err
	delete(c.busy, m)
	close(f.done)
	if out.verdict == Right && err == nil && c.ttl > 0 {
		c.rememberLocked(m, out)
	}
	return out, err
}

func (c *cache) rememberLocked(m mac, out outcome) {
	now := time.Now()
	if len(c.right) >= maxCached {
		for k, r := range c.right {
			if !now.Before(r.until) {
				delete(c.right, k)
			}
		}
	}
	for k := range c.right { // still full: anyone goes, it costs him one hash
		if len(c.right) < maxCached {
			break
		}
		delete(c.right, k)
	}
	until := now.Add(c.ttl)
	if out.token != nil && !out.token.Expires.IsZero() && out.token.Expires.Before(until) {
		until = out.token.Expires
	}
	c.right[m] = remembered{out, until}
}
