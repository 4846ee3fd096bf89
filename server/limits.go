package server

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// placeLimits bound connections. Each must be above 0.
type placeLimits struct {
	Total          int            // of the server
	PerAddress     int            // of one address that are not logged in
	PerUserAddress int            // of one user from one address
	PerUser        int            // of one user
	Trusted        []netip.Prefix // networks that speak for many: PerAddress does not count there
	MakeRoom       time.Duration  // a connection silent for so long gives way to a new one of its user
}

// Why a connection is refused; the texts are for the client.
var (
	errServerFull  = errors.New("too many connections, try again later")
	errAddressFull = errors.New("too many connections from your address")
	errUserFull    = errors.New("too many connections of this user; close a client, or raise connections_per_user")
)

// places counts who is here. Safe for concurrent use.
type places struct {
	mu     sync.Mutex // guards all below
	limits placeLimits
	total  int
	addrs  map[netip.Prefix]int
	users  map[string][]*place
}

// place is one session of a user.
type place struct {
	addr  netip.Prefix
	heard func() time.Time // when the client sent something last
	leave func()           // asks the session to end
}

func newPlaces(limits placeLimits) *places {
	return &places{limits: limits, addrs: map[netip.Prefix]int{}, users: map[string][]*place{}}
}

// setLimits puts other limits in force; who is here stays.
func (p *places) setLimits(limits placeLimits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = limits
}

// network is what counts as one address: of IPv6 what a site has.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // the zero Prefix where there is no address
	return p
}

// A seat is the place of one connection. Its methods are for one goroutine.
type seat struct {
	places   *places
	addr     netip.Prefix
	loggedIn bool
	left     bool
}

// connect takes a place for a connection that nobody is logged in on.
func (p *places) connect(addr netip.Addr) (*seat, error) {
	key := network(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	trusted := !addr.IsValid() || within(p.limits.Trusted, addr)
	switch {
	case p.total >= p.limits.Total:
		return nil, errServerFull
	case !trusted && p.addrs[key] >= p.limits.PerAddress:
		return nil, errAddressFull
	}
	p.total++
	p.addrs[key]++
	return &seat{places: p, addr: key}, nil
}

// login tells whether somebody is logged in on the connection: then it does not count
// for its address, behind which a whole office may be.
func (s *seat) login(in bool) {
	if in == s.loggedIn || s.left {
		return
	}
	s.loggedIn = in
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	if in {
		s.places.forgetLocked(s.addr)
	} else {
		s.places.addrs[s.addr]++
	}
}

// move makes the connection one of another address. Where there is no room for one more
// of it, it stays what it was.
func (s *seat) move(addr netip.Addr) error {
	key, p := network(addr), s.places
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.left || key == s.addr {
		return nil
	}
	if !s.loggedIn {
		if !within(p.limits.Trusted, addr) && p.addrs[key] >= p.limits.PerAddress {
			return errAddressFull
		}
		p.forgetLocked(s.addr)
		p.addrs[key]++
	}
	s.addr = key
	return nil
}

// leave gives the place back. It may be called more than once.
func (s *seat) leave() {
	s.login(true)
	if s.left {
		return
	}
	s.left = true
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	s.places.total--
}

func (p *places) forgetLocked(addr netip.Prefix) {
	if p.addrs[addr]--; p.addrs[addr] == 0 {
		delete(p.addrs, addr)
	}
}

// enter takes a place for a session of user. Where there is none, the session of the
// user that was silent for longest must leave, if that was long enough: phones and
// laptops leave connections behind that nobody will use again. heard and leave are
// called from any goroutine; leave must not block.
func (p *places) enter(user string, addr netip.Addr, heard func() time.Time, leave func()) (release func(), err error) {
	pl := &place{addr: network(addr), heard: heard, leave: leave}
	p.mu.Lock()
	defer p.mu.Unlock()
	fromHere := func(other *place) bool { return other.addr == pl.addr }
	anywhere := func(*place) bool { return true }
	if !p.roomLocked(user, p.limits.PerUserAddress, fromHere) || !p.roomLocked(user, p.limits.PerUser, anywhere) {
		return nil, errUserFull
	}
	p.users[user] = append(p.users[user], pl)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.removeLocked(user, pl)
	}), nil
}

// roomLocked makes sure that user has less than limit sessions that counts names.
func (p *places) roomLocked(user string, limit int, counts func(*place) bool) bool {
	var oldest *place
	n := 0
	for _, other := range p.users[user] {
		if !counts(other) {
			continue
		}
		n++
		if oldest == nil || other.heard().Before(oldest.heard()) {
			oldest = other
		}
	}
	if n < limit {
		return true
	}
	if oldest == nil || time.Since(oldest.heard()) < p.limits.MakeRoom {
		return false
	}
	// Its place is free now, however long its end takes.
	p.removeLocked(user, oldest)
	oldest.leave()
	return true
}

func (p *places) removeLocked(user string, pl *place) {
	left := slices.DeleteFunc(p.users[user], func(other *place) bool { return other == pl })
	if len(left) == 0 {
		delete(p.users, user)
		return
	}
	p.users[user] = left
}
