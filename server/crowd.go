package server

import (
	"net/netip"
	"slices"
	"sync"
)

// crowd finds out whether nearly all clients come from one private address: that of a
// container's gateway, behind which nobody can be told from the others. The zero value is
// ready.
type crowd struct {
	gateways []netip.Addr // of this machine's own routes; set before the first login

	mu    sync.Mutex // guards all below; a leaf
	last  [50]came   // logins, the newest anywhere
	n     int        // so far
	found bool       // it is known; nothing is taken down any more
}

// came is one login.
type came struct {
	addr netip.Addr
	user string
}

// note takes down a login. It reports, once, that nearly all come from its address.
func (c *crowd) note(addr netip.Addr, user string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found {
		return false
	}
	c.last[c.n%len(c.last)] = came{addr, user}
	c.n++
	seen := c.last[:min(c.n, len(c.last))]
	known := slices.Contains(c.gateways, addr)
	if !addr.IsPrivate() && !known || len(seen) < 10 || !known && len(seen) < len(c.last) {
		return false
	}
	from := 0
	var users []string
	for _, l := range seen {
		if l.addr != addr {
			continue
		}
		if from++; len(users) < 3 && !slices.Contains(users, l.user) {
			users = append(users, l.user)
		}
	}
	// A house where one person reads mail has one address too.
	c.found = from*10 >= len(seen)*9 && (known || len(users) == 3)
	return c.found
}
