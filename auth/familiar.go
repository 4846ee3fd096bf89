package auth

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	maxFamiliar = 16                   // networks of a user
	maxUsers    = 50_000               // whose networks are known
	familiarFor = 180 * 24 * time.Hour // since the last login
	noteEvery   = time.Hour            // how exactly that is known
)

// familiar knows from which networks users have logged in: /24, of IPv6 /48.
type familiar struct {
	mu      sync.Mutex // guards all below; a leaf
	users   map[string][]visited
	changed bool // since the state was taken
}

// visited is a network that a user has logged in from.
type visited struct {
	net  netip.Prefix
	last time.Time
}

func newFamiliar() *familiar { return &familiar{users: map[string][]visited{}} }

func neighbourhood(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, _ := addr.Prefix(bits) // the zero Prefix where there is no address
	return p
}

// has reports whether a user has logged in from the network of an address before.
func (f *familiar) has(user string, addr netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := neighbourhood(addr)
	return at.IsValid() && slices.ContainsFunc(f.users[user], func(v visited) bool {
		return v.net == at && time.Since(v.last) < familiarFor
	})
}

// note takes down a login. It reports whether the network is new for a user who has
// logged in from another one before.
func (f *familiar) note(now time.Time, user string, addr netip.Addr) (strange bool) {
	at := neighbourhood(addr)
	if !at.IsValid() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.users[user]
	for i, v := range list {
		if v.net != at {
			continue
		}
		strange = now.Sub(v.last) >= familiarFor && len(list) > 1
		if now.Sub(v.last) >= noteEvery {
			list[i].last, f.changed = now, true
		}
		return strange
	}
	f.changed = true
	f.addLocked(user, visited{at, now})
	return len(list) > 0
}

// addLocked adds a network, in place of the one that is longest ago where there are many.
func (f *familiar) addLocked(user string, v visited) {
	list := f.users[user]
	if list == nil && len(f.users) >= maxUsers {
		for other := range f.users { // anyone goes
			delete(f.users, other)
			break
		}
	}
	if len(list) >= maxFamiliar {
		i := 0
		for j := range list {
			if list[j].last.Before(list[i].last) {
				i = j
			}
		}
		list = slices.Delete(list, i, i+1)
	}
	f.users[user] = append(list, v)
}
