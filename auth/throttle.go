package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	firstDelay = time.Second      // of the answer to a failure; doubles with each one
	maxDelay   = 8 * time.Second  // below the 30 s that a connection has to log in
	maxQueue   = 20 * time.Second // an attempt that would wait longer is refused
	maxWaiting = 64               // attempts that wait for one subject; more are refused
	forgive    = 5 * time.Minute  // takes one failure from the count
	coolness   = 24 * time.Hour   // after a lock, then the next is a first one again

	// refusedDelay is that of the answer to an attempt that was not looked at: what
	// hammers at a closed door fills no log.
	refusedDelay = 2 * time.Second
)

// ThrottleOptions are the numbers of the throttle. What is zero is the default.
type ThrottleOptions struct {
	Guesses   int           // different wrong passwords a minute from one address; 12, at least 3
	LockAfter int           // failures of an address until it is locked; 20, at least 4
	LockTime  time.Duration // of the first lock; each further one is twice as long; 15 min; negative for none
	LockMax   time.Duration // of any lock; 4 h
}

func (o ThrottleOptions) withDefaults() ThrottleOptions {
	if o.Guesses <= 0 {
		o.Guesses = 12
	}
	if o.LockAfter <= 0 {
		o.LockAfter = 20
	}
	if o.LockTime == 0 {
		o.LockTime = 15 * time.Minute
	}
	if o.LockMax <= 0 {
		o.LockMax = 4 * time.Hour
	}
	o.Guesses, o.LockAfter = max(o.Guesses, 3), max(o.LockAfter, 4)
	return o
}

// throttle slows down those who guess, and turns them away for a time when they go on.
//
// Failures are counted, never logins: a phone opens a dozen connections when it starts.
// The same wrong password again is not counted again: what a device with an old password
// repeats is no guessing. (SCRAM sends another proof each time; there it is counted.)
//
// They are counted of four kinds of subjects: an address (of IPv6 a /64), the network
// around it, a user at one address, a user. The first three have a budget of attempts
// whose outcome is not known or was a failure; what is beyond it waits its turn, and
// after many failures the subject is locked. However many connections there are, there is
// one budget: an attempt takes of it before the password is looked at and gives back
// what it did not use.
//
// Failures of a user delay only the answers to failures, for they may come from
// anywhere: nobody can lock out another. And a user who has logged in from a network
// before is not made to wait by others in it.
type throttle struct {
	familiar *familiar

	mu       sync.Mutex // guards all below
	opt      ThrottleOptions
	trusted  []netip.Prefix
	subjects [kinds]map[subject]*penalty
	gateways map[netip.Addr]bool // addresses behind which everybody is
	changed  bool                // since the state was taken
}

func newThrottle(opt ThrottleOptions, trusted []netip.Prefix) *throttle {
	t := &throttle{familiar: newFamiliar(), opt: opt.withDefaults(), trusted: trusted, gateways: map[netip.Addr]bool{}}
	for k := range t.subjects {
		t.subjects[k] = map[subject]*penalty{}
	}
	return t
}

// tune puts other numbers in force.
func (t *throttle) tune(opt ThrottleOptions, trusted []netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opt, t.trusted = opt.withDefaults(), trusted
}

// A ticket is leave to try one password. Attempts with the same one at one time share it.
type ticket struct {
	user   string // of the attempt, shortened
	secret mac
	holds  int        // attempts that share it
	spent  []*penalty // of whose budget it is
	count  []*penalty // who counts a failure: the user first, then the pair, then others
	pair   *penalty
	failed bool // it was counted
}

// admit waits until user may try from addr what secret stands for. It gives a ticket that
// settle takes back; without one, why there is none; the error is that of ctx.
func (t *throttle) admit(ctx context.Context, now time.Time, user string, addr netip.Addr, secret mac) (*ticket, string, error) {
	deadline := now.Add(maxQueue)
	for {
		tk, blocked := t.take(now, user, addr, secret)
		if tk != nil {
			return tk, "", ctx.Err()
		}
		if blocked.why != "" || !now.Before(deadline) {
			return nil, blocked.reason(), ctx.Err()
		}
		err := blocked.wait(ctx, min(blocked.until.Sub(now), deadline.Sub(now)))
		t.leave(blocked)
		if err != nil {
			return nil, "", err
		}
		now = time.Now()
	}
}

// blocked says whom an attempt has to wait for.
type blocked struct {
	subject
	penalty *penalty
	until   time.Time     // when its turn comes, if nobody gives back before
	wake    chan struct{} // closed when somebody did
	why     string        // waiting is of no use
}

func (b blocked) reason() string {
	if b.why != "" {
		return b.why
	}
	return "too many wrong passwords: " + b.subject.String() + " has to wait"
}

// wait ends when the turn may have come.
func (b blocked) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-b.wake:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *throttle) leave(b blocked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.penalty.waiting--
	t.tidyLocked(b.subject, b.penalty)
}

// take gives a ticket, or says what is in the way; then the caller is among its waiters.
func (t *throttle) take(now time.Time, user string, addr netip.Addr, secret mac) (*ticket, blocked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.subjectsLocked(user, addr)
	one := list[1] // the user at the address
	pair := t.getLocked(now, one)
	if tk := pair.held[secret]; tk != nil {
		tk.holds++
		return tk, blocked{}
	}
	tk := &ticket{user: list[0].user, secret: secret, holds: 1, pair: pair}
	for _, s := range list {
		tk.count = append(tk.count, t.getLocked(now, s))
	}
	limits := list[1:]
	if t.trustedLocked(addr) {
		limits = nil
	}
	b := t.blockedLocked(now, list[0], limits)
	if b.penalty != nil && pair.failures == 0 && pair.until.IsZero() && t.familiar.has(list[0].user, addr) {
		// Somebody of this network is at home here: one try at a time, whatever the
		// neighbours did.
		if b = (blocked{}); len(pair.held) > 0 {
			b = blocked{subject: one, penalty: pair, until: now.Add(maxQueue)}
		}
		limits = limits[:1]
	}
	if b.penalty != nil {
		t.queueLocked(&b)
		for i, s := range list {
			t.tidyLocked(s, tk.count[i])
		}
		return nil, b
	}
	for _, s := range limits {
		p := t.getLocked(now, s)
		p.take(now, t.pace(s))
		tk.spent = append(tk.spent, p)
	}
	if pair.held == nil {
		pair.held = map[mac]*ticket{}
	}
	pair.held[secret] = tk
	return tk, blocked{}
}

// blockedLocked finds what keeps an attempt from being looked at now.
func (t *throttle) blockedLocked(now time.Time, user subject, limits []subject) (worst blocked) {
	for _, s := range limits {
		p := t.getLocked(now, s)
		b := blocked{subject: s, penalty: p, until: p.free(t.pace(s))}
		switch {
		case p.until.After(now):
			b.until, b.why = p.until, s.String()+" is locked until "+p.until.UTC().Format(time.RFC3339)
			return b
		case s.kind == ofPair && p.failures > 0 && t.getLocked(now, user).failures >= 5*t.opt.LockAfter && !t.familiar.has(s.user, s.net.Addr()):
			b.why = "many guess at " + user.user + ", and this network has failed before"
			return b
		case b.until.After(now) && b.until.After(worst.until):
			worst = b
		}
	}
	return worst
}

// queueLocked puts an attempt among the waiters of what blocks it, where that is of use.
func (t *throttle) queueLocked(b *blocked) {
	p := b.penalty
	switch {
	case b.why != "":
	case p.waiting >= maxWaiting, p.flying == 0 && time.Until(b.until) > maxQueue:
		b.why = b.reason()
	}
	if b.why != "" {
		return
	}
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	p.waiting++
	b.wake = p.wake
}

// settlement is what becomes of a ticket that was taken back.
type settlement struct {
	delay    time.Duration // of the answer to a failure
	locked   []Locked      // who is from now on
	many     bool          // the address has just failed for many users
	repeated bool          // the password was known to be wrong
}

// settle takes a ticket back. wrong says that the password was, right that the user has
// proved who they are.
func (t *throttle) settle(now time.Time, tk *ticket, wrong, right bool) (end settlement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end.repeated = wrong && (tk.failed || slices.Contains(tk.pair.recent, tk.secret))
	if wrong && !tk.failed && !slices.Contains(tk.pair.recent, tk.secret) {
		tk.failed = true
		tk.pair.remember(tk.secret)
		for _, p := range tk.count {
			p.fail(now)
			end.many = p.subject.kind == ofAddress && p.failsFor(tk.user) || end.many
			if l, ok := t.lockLocked(now, p); ok {
				end.locked = append(end.locked, l)
			}
		}
		t.changed = true
	}
	if right {
		t.forgiveLocked(tk)
	}
	if wrong {
		worst := 1
		for _, p := range tk.count {
			if p.subject.kind != ofNetwork {
				worst = max(worst, p.failures)
			}
		}
		end.delay = delayAfter(worst)
	}
	if tk.holds--; tk.holds > 0 {
		return end
	}
	delete(tk.pair.held, tk.secret)
	tk.pair.wakeAll()
	for _, p := range tk.spent {
		p.giveBack(t.pace(p.subject), !tk.failed)
	}
	for _, p := range tk.count {
		t.tidyLocked(p.subject, p)
	}
	return end
}

// forgiveLocked takes back what was counted of a user at an address, who is there now.
// What they did to others there stays.
func (t *throttle) forgiveLocked(tk *ticket) {
	n := tk.pair.failures
	if n == 0 {
		return
	}
	for _, p := range tk.count {
		p.failures = max(0, p.failures-n)
	}
	tk.pair.recent = nil
	t.changed = true
}

// lockLocked locks a subject that failed too often.
func (t *throttle) lockLocked(now time.Time, p *penalty) (Locked, bool) {
	s := p.subject
	after := t.opt.LockAfter * widths[s.kind].times(s) / 2
	if s.kind != ofPair {
		after *= 2
	}
	if s.kind == ofUser || t.opt.LockTime < 0 || p.failures < after || p.until.After(now) || t.sparedLocked(s) {
		return Locked{}, false
	}
	long := min(t.opt.LockTime, t.opt.LockMax)
	for range min(p.locks, 64) {
		long = min(2*long, t.opt.LockMax) // a shift would overflow
	}
	p.until = now.Add(long)
	p.locks++
	p.failures = after / 2
	p.wakeAll() // to be refused
	return p.locked(), true
}

// sparedLocked: a private address may be a gateway with everybody behind it. Only the
// user is locked there, and not even that at one that is known for a gateway.
func (t *throttle) sparedLocked(s subject) bool {
	addr := s.net.Addr()
	return !addr.IsValid() || t.gateways[addr] || s.kind != ofPair && private(addr) || t.trustedLocked(addr)
}

// maxGateways are known: whoever tells of them may have been taken over.
const maxGateways = 1000

// gateway notes that everybody is behind an address, which is a private one.
func (t *throttle) gateway(addr netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	addr = addr.Unmap().WithZone("")
	if !private(addr) || len(t.gateways) >= maxGateways {
		return
	}
	t.gateways[addr] = true
	for k := range t.subjects {
		for s, p := range t.subjects[k] {
			if s.net.IsValid() && s.net.Contains(addr) {
				p.until = time.Time{}
			}
		}
	}
}

func (t *throttle) trustedLocked(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return !addr.IsValid() || slices.ContainsFunc(t.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// subjectsLocked are whom an attempt is counted for: the user, the user at the address,
// and but for trusted addresses and gateways the address and what is around it.
func (t *throttle) subjectsLocked(user string, addr netip.Addr) []subject {
	addr = addr.Unmap().WithZone("")
	user = shortened(user)
	list := []subject{{ofUser, user, netip.Prefix{}}, {ofPair, user, around(addr, ofPair, 0)}}
	if t.trustedLocked(addr) || t.gateways[addr] {
		return list
	}
	list = append(list, subject{ofAddress, "", around(addr, ofAddress, 0)})
	if private(addr) {
		return list // neighbours have nothing in common there
	}
	for i := range widths[ofNetwork].bits(addr) {
		list = append(list, subject{ofNetwork, "", around(addr, ofNetwork, i)})
	}
	return list
}

// pace says how fast a subject may fail: so many at once, then one after each interval.
// It is made so that no minute has more than the number that was asked for.
func (t *throttle) pace(s subject) pace {
	n := t.opt.Guesses * widths[s.kind].times(s)
	burst := max(1, n/3)
	return pace{burst, time.Minute / time.Duration(max(1, n-burst))}
}

type pace struct {
	burst int
	every time.Duration
}

// delayAfter is the delay after n failures, n from 1.
func delayAfter(n int) time.Duration {
	return min(firstDelay<<min(max(n-1, 0), 10), maxDelay)
}
