package server

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trusted := netip.MustParsePrefix("127.0.0.0/8")
		p := newPlaces(placeLimits{Total: 6, PerAddress: 2, PerUserAddress: 2, PerUser: 3, MakeRoom: 30 * time.Minute, Trusted: []netip.Prefix{trusted}})
		one, two, local := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.1")

		first, err := p.connect(one)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = p.connect(netip.AddrFrom16(one.As16())); err != nil {
			t.Fatal(err)
		}
		if _, err = p.connect(one); !errors.Is(err, errAddressFull) {
			t.Errorf("third of an address: %v", err)
		}
		first.login(true) // counts for the server, and no more for the address
		first.login(true)
		if _, err = p.connect(one); err != nil {
			t.Errorf("after one has logged in: %v", err)
		}
		if _, err = p.connect(one); err == nil {
			t.Error("a login counted twice")
		}
		first.leave()
		first.leave()
		for range 3 {
			if _, err = p.connect(local); err != nil {
				t.Errorf("trusted: %v", err)
			}
		}
		if _, err = p.connect(two); err != nil {
			t.Error(err)
		}
		if _, err = p.connect(local); !errors.Is(err, errServerFull) {
			t.Errorf("seventh of all: %v", err)
		}

		now := func() func() time.Time { at := time.Now(); return func() time.Time { return at } }
		var left []int
		leave := func(n int) func() { return func() { left = append(left, n) } }
		p.enter("ann", one, now(), leave(1))
		p.enter("ann", one, now(), leave(2))
		p.enter("ben", one, now(), leave(3))
		if _, err := p.enter("ann", one, now(), leave(4)); !errors.Is(err, errUserFull) {
			t.Errorf("third from one address: %v", err)
		}
		out, err := p.enter("ann", two, now(), leave(5))
		if err != nil {
			t.Error(err)
		}
		if _, err := p.enter("ann", local, now(), leave(6)); !errors.Is(err, errUserFull) {
			t.Errorf("fourth of the user: %v", err)
		}
		out()
		if _, err := p.enter("ann", local, now(), leave(6)); err != nil {
			t.Errorf("after one has gone: %v", err)
		}
		time.Sleep(30 * time.Minute)
		if _, err := p.enter("ann", one, now(), leave(7)); err != nil || len(left) != 1 || left[0] != 1 {
			t.Errorf("%v, %v: the one that is silent for longest does not make room", err, left)
		}
	})
}

// What counts as one address: of IPv6 the network that one site has.
func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1/32",
		"::ffff:192.0.2.1":     "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::9": "2001:db8:1:2::/64",
		"2001:db8:1:3::1":      "2001:db8:1:3::/64",
		"fe80::1%eth0":         "fe80::/64",
	} {
		if got := network(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if got := network(netip.Addr{}); got.IsValid() {
		t.Errorf("no address counts as %s", got)
	}
}

// However connections come and go, the counts end where they began.
func TestPlacesRace(t *testing.T) {
	p := newPlaces(placeLimits{Total: 20, PerAddress: 8, PerUserAddress: 2, PerUser: 4, MakeRoom: -1})
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(i, 1))
			for range 500 {
				addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))})
				seat, err := p.connect(addr)
				if err != nil {
					continue
				}
				seat.login(r.IntN(2) == 0)
				seat.login(r.IntN(2) == 0)
				if out, err := p.enter(string(rune('a'+r.IntN(3))), addr, time.Now, func() {}); err == nil {
					out()
				}
				seat.leave()
			}
		})
	}
	wg.Wait()
	if p.total != 0 || len(p.addrs) != 0 || len(p.users) != 0 {
		t.Errorf("left behind: %d, %v, %v", p.total, p.addrs, p.users)
	}
}
