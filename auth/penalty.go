package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"
)

// kind is what failures are counted of.
type kind uint8

const (
	ofUser    kind = iota
	ofPair         // a user at an address
	ofAddress      // of IPv6 a /64, which one site has
	ofNetwork      // around it: /24; /56 and /48
	kinds
)

// maxPenalties are kept of each kind: 20 MB in all when somebody tries hard.
const maxPenalties = 20_000

// widths say what counts as one subject, and how much more than an address it may do.
var widths = [kinds]widthsOf{
	ofPair:    {v4: []int{32}, v6: []int{64}, times4: []int{1}, times6: []int{1}},
	ofAddress: {v4: []int{32}, v6: []int{64}, times4: []int{1}, times6: []int{1}},
	ofNetwork: {v4: []int{24}, v6: []int{56, 48}, times4: []int{4}, times6: []int{4, 16}},
}

type widthsOf struct {
	v4, v6         []int // bits of the prefixes
	times4, times6 []int // beside each
}

// subject is whom failures are counted of.
type subject struct {
	kind kind
	user string       // shortened; "" for addresses and networks
	net  netip.Prefix // the zero Prefix for users
}

func (s subject) String() string {
	where := s.net.String()
	if s.net.Addr().Is4() && s.net.IsSingleIP() {
		where = s.net.Addr().String()
	}
	switch s.kind {
	case ofUser:
		return "user " + s.user
	case ofPair:
		return "user " + s.user + " from " + where
	case ofAddress:
		return "address " + where
	}
	return "network " + where
}

// penalty is the record of one subject.
type penalty struct {
	subject  subject
	failures int
	last     time.Time // of the last failure, or of the last forgiveness
	due      time.Time // when the budget is whole again
	until    time.Time // locked
	locks    int       // so far

	recent []mac    // the wrong passwords counted last; of pairs only
	users  []uint32 // hashes of those for whom it failed; of addresses only
	held   map[mac]*ticket

	flying  int // tickets that are out
	waiting int
	wake    chan struct{} // closed when something was given back; nil: nobody waits
}

// free is when the next attempt may be looked at.
func (p *penalty) free(c pace) time.Time { return p.due.Add(-time.Duration(c.burst-1) * c.every) }

func (p *penalty) take(now time.Time, c pace) {
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(c.every)
	p.flying++
}

// giveBack is the end of a ticket, which was not used up where unused.
func (p *penalty) giveBack(c pace, unused bool) {
	p.flying--
	if unused {
		p.due = p.due.Add(-c.every)
		p.wakeAll()
	}
}

func (p *penalty) wakeAll() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

func (p *penalty) fail(now time.Time) {
	p.age(now)
	p.failures++
	p.last = now
}

// failsFor counts users. It reports that they have just become many.
func (p *penalty) failsFor(user string) bool {
	sum := crc32.ChecksumIEEE([]byte(user)) // two of one sum are one: nothing hangs on it
	if len(p.users) >= manyUsers || slices.Contains(p.users, sum) {
		return false
	}
	p.users = append(p.users, sum)
	return len(p.users) == manyUsers
}

// remember keeps the last four: who is at a loss tries them in turn.
func (p *penalty) remember(secret mac) {
	p.recent = slices.Insert(p.recent, 0, secret)
	p.recent = p.recent[:min(len(p.recent), 4)]
}

// age takes back what time has forgiven.
func (p *penalty) age(now time.Time) {
	if n := int(now.Sub(p.last) / forgive); n > 0 {
		p.failures = max(0, p.failures-n)
		p.last = p.last.Add(time.Duration(n) * forgive)
		if p.failures == 0 {
			p.recent, p.users = nil, nil
		}
	}
	if !p.until.IsZero() && now.Sub(p.until) > coolness {
		p.until, p.locks = time.Time{}, 0
	}
}

// idle reports whether nothing would be lost with the record.
func (p *penalty) idle(now time.Time) bool {
	return p.failures == 0 && p.locks == 0 && p.flying == 0 && p.waiting == 0 && len(p.held) == 0 && !p.due.After(now)
}

// getLocked gives the record of a subject as it is now, a new one where there is none.
func (t *throttle) getLocked(now time.Time, s subject) *penalty {
	m := t.subjects[s.kind]
	p := m[s]
	if p == nil {
		if len(m) >= maxPenalties {
			evict(m, now)
		}
		p = &penalty{subject: s, last: now}
		m[s] = p
	}
	p.age(now)
	return p
}

// tidyLocked lets go of a record that says nothing any more.
func (t *throttle) tidyLocked(s subject, p *penalty) {
	if p.idle(time.Now()) && t.subjects[s.kind][s] == p {
		delete(t.subjects[s.kind], s)
	}
}

// evict removes the oldest of eight: maps are walked in random order, so that whoever
// floods the map with new keys mostly removes his own. One that is locked or in use goes
// last.
func evict(m map[subject]*penalty, now time.Time) {
	var oldest subject
	var best time.Time
	n := 0
	for key, p := range m {
		at := p.last
		if p.until.After(now) || p.flying+p.waiting > 0 {
			at = p.until.Add(coolness)
		}
		if n == 0 || at.Before(best) {
			oldest, best = key, at
		}
		if n++; n == 8 {
			break
		}
	}
	delete(m, oldest)
}

// bits are the lengths of the prefixes that are counted around an address.
func (w *widthsOf) bits(addr netip.Addr) []int {
	if addr.Is4() {
		return w.v4
	}
	return w.v6
}

// times is how much more than an address a subject may do.
func (w *widthsOf) times(s subject) int {
	bits, times := w.v6, w.times6
	if s.net.Addr().Is4() {
		bits, times = w.v4, w.times4
	}
	if i := slices.Index(bits, s.net.Bits()); i >= 0 {
		return times[i]
	}
	return 1
}

// around is the i-th network of a kind that an address is in; the zero Prefix where the
// connection has none.
func around(addr netip.Addr, k kind, i int) netip.Prefix {
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	p, _ := addr.Prefix(widths[k].bits(addr)[i])
	return p
}

// private addresses are reached from nearby only; behind one there may be a gateway.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || sharedSpace.Contains(addr)
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// shortened bounds a name that a stranger sends.
func shortened(user string) string {
	if len(user) <= 128 {
		return user
	}
	sum := sha256.Sum256([]byte(user))
	return fmt.Sprintf("%.32q...%s", user, hex.EncodeToString(sum[:8]))
}
