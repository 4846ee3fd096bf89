package auth

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Locked is a subject that is locked, or slowed down by its failures.
type Locked struct {
	What     string       // "address 192.0.2.7", "user ann from 192.0.2.7", "network 192.0.2.0/24", "user ann"
	User     string       // as it was sent, shortened; "" for none
	Network  netip.Prefix // the zero Prefix for a user anywhere
	Failures int          // that are not forgiven
	Last     time.Time    // when one was counted or forgiven last
	Until    time.Time    // zero: slowed down only
	Locks    int          // how often it was locked lately
}

func (p *penalty) locked() Locked {
	return Locked{
		What: p.subject.String(), User: p.subject.user, Network: p.subject.net,
		Failures: p.failures, Last: p.last, Until: p.until, Locks: p.locks,
	}
}

// Locked lists who is locked now, the longest first, and then who has failed.
func (a *Auth) Locked() (list []Locked) {
	t, now := a.throttle, time.Now()
	t.mu.Lock()
	for k := range t.subjects {
		for _, p := range t.subjects[k] {
			p.age(now)
			if !p.until.After(now) && p.failures == 0 {
				continue
			}
			l := p.locked()
			if !p.until.After(now) {
				l.Until = time.Time{}
			}
			list = append(list, l)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(list, func(a, b Locked) int {
		return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(b.Failures, a.Failures), strings.Compare(a.What, b.What))
	})
	return list
}

// ErrNotLocked: nothing is counted of whom Unlock was asked to.
var ErrNotLocked = errors.New("nothing is counted against it")

// Unlock forgets what is counted of a user, everywhere, or of an address or network, with
// what lies in it and around it, and says of whom. ErrNotLocked.
func (a *Auth) Unlock(what string) (list []Locked, err error) {
	t := a.throttle
	within, isNet := parseNetwork(what)
	user, err := a.foldName(what)
	if err != nil {
		user = what
	}
	user = shortened(user)
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.subjects {
		for s, p := range t.subjects[k] {
			if isNet && s.net.IsValid() && s.net.Overlaps(within) || s.user != "" && (s.user == user || s.user == what) {
				if p.failures > 0 || p.locks > 0 {
					list = append(list, p.locked())
				}
				p.failures, p.locks, p.until, p.due, p.recent = 0, 0, time.Time{}, time.Time{}, nil
				p.wakeAll()
				t.tidyLocked(s, p)
				t.changed = true
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", what, ErrNotLocked)
	}
	slices.SortFunc(list, func(a, b Locked) int { return strings.Compare(a.What, b.What) })
	return list, nil
}

func parseNetwork(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), err == nil
}
