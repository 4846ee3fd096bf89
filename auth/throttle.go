package auth

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// freeFailures is how many different wrong passwords an address may send before its
	// next attempts have to wait: somebody who is at a loss tries three.
	freeFailures = 3

	firstDelay = time.Second      // of the answer to a failure; doubles with each one
	maxDelay   = 8 * time.Second  // below the 30 s that a connection has to log in
	maxQueue   = 20 * time.Second // an attempt that would wait longer is refused at once
	forgive    = time.Minute      // takes one failure from the count

	maxPenalties = 20_000 // kept by address, and as many by user: about 4 MB in all
)

// throttle slows down those who guess. Failures are counted, never logins: a phone
// opens a dozen connections when it starts. The same wrong password again is not
// counted again: what a device with an old password repeats is no guessing.
//
// Failures of an address delay all its later attempts, one after the other. Failures
// of a user delay only the answers to failures: nobody can lock out another.
type throttle struct {
	trusted []netip.Prefix

	mu    sync.Mutex // guards all below
	addrs penalties[netip.Prefix]
	users penalties[[sha256.Size]byte] // by hash, for names that strangers send may be long
}

type penalties[K comparable] map[K]*penalty

// penalty is the record of one address or user.
type penalty struct {
	failures int
	last     time.Time // of the last failure, or of the last forgiveness
	free     time.Time // when the next attempt may begin
	recent   [4]mac    // the wrong passwords counted last
}

func newThrottle(trusted []netip.Prefix) *throttle {
	return &throttle{
		trusted: trusted,
		addrs:   penalties[netip.Prefix]{},
		users:   penalties[[sha256.Size]byte]{},
	}
}

// admit waits until addr may try a password; false when that is too far away, or ctx ended.
func (t *throttle) admit(ctx context.Context, now time.Time, addr netip.Addr) bool {
	key, ok := t.network(addr)
	if !ok {
		return ctx.Err() == nil
	}
	delay, ok := t.reserve(now, key)
	return ok && wait(ctx, delay) == nil
}

// reserve takes the next turn of an address and says how far away it is.
func (t *throttle) reserve(now time.Time, key netip.Prefix) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.addrs[key]
	if p == nil {
		return 0, true
	}
	p.age(now)
	if p.failures <= freeFailures {
		return 0, true
	}
	at := p.free
	if at.Before(now) {
		at = now
	}
	if at.Sub(now) > maxQueue {
		return 0, false
	}
	p.free = at.Add(delayAfter(p.failures - freeFailures))
	return at.Sub(now), true
}

// fail counts a wrong password, which m stands for, and gives the delay of its answer.
func (t *throttle) fail(now time.Time, addr netip.Addr, user string, m mac) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.users.add(sha256.Sum256([]byte(user)), now, m)
	if key, ok := t.network(addr); ok {
		n = max(n, t.addrs.add(key, now, m))
	}
	return delayAfter(n)
}

// network is what is counted as one address: what a site has of IPv6 is a /64.
func (t *throttle) network(addr netip.Addr) (netip.Prefix, bool) {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || slices.ContainsFunc(t.trusted, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return netip.Prefix{}, false
	}
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	key, err := addr.Prefix(bits)
	return key, err == nil
}

// delayAfter is the delay after n failures, n from 1.
func delayAfter(n int) time.Duration {
	return min(firstDelay<<min(max(n-1, 0), 10), maxDelay)
}

// add counts a failure and gives the count. A full map lets go of the oldest of a few.
func (m penalties[K]) add(key K, now time.Time, secret mac) int {
	p := m[key]
	if p == nil {
		if len(m) >= maxPenalties {
			m.evict()
		}
		p = &penalty{last: now}
		m[key] = p
	}
	p.age(now)
	if !slices.Contains(p.recent[:], secret) {
		copy(p.recent[1:], p.recent[:])
		p.recent[0] = secret
		p.failures++
		p.last = now
	}
	return max(p.failures, 1)
}

// evict removes the oldest of eight: maps are walked in random order, so that whoever
// floods the map with new keys mostly removes his own.
func (m penalties[K]) evict() {
	var oldest K
	var at time.Time
	n := 0
	for key, p := range m {
		if n == 0 || p.last.Before(at) {
			oldest, at = key, p.last
		}
		if n++; n == 8 {
			break
		}
	}
	delete(m, oldest)
}

// age takes back what time has forgiven.
func (p *penalty) age(now time.Time) {
	if n := int(now.Sub(p.last) / forgive); n > 0 {
		p.failures = max(0, p.failures-n)
		p.last = p.last.Add(time.Duration(n) * forgive)
		if p.failures == 0 {
			p.recent = [4]mac{}
		}
	}
}
