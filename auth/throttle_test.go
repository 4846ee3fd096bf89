package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// oracle is a Source whose users all have the password "secret", and which takes down
// when others were looked at.
type oracle struct {
	mu   sync.Mutex
	seen []time.Time
	cost time.Duration // of a look
}

func (o *oracle) Name() string { return "oracle" }
func (o *oracle) Dummy() (Hash, bool) {
	return Hash{Scheme: "PLAIN", match: func(_, _ string) bool { return false }}, true
}
func (o *oracle) Reload() error { return nil }
func (o *oracle) Close() error  { return nil }

func (o *oracle) Find(_ context.Context, login string, _ Attempt) (*Account, error) {
	return &Account{User: User{Name: login, Login: login}, Check: func(_ context.Context, password string) (Verdict, *Account, error) {
		time.Sleep(o.cost)
		if password == "secret" {
			return Right, nil, nil
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen = append(o.seen, time.Now())
		return Wrong, nil, nil
	}}, nil
}

// most is how many were looked at in the worst minute.
func (o *oracle) most() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, begin := range o.seen {
		j := i
		for j < len(o.seen) && o.seen[j].Sub(begin) < time.Minute {
			j++
		}
		n = max(n, j-i)
	}
	return n
}

func from(addr string) Attempt {
	return Attempt{Addr: netip.MustParseAddr(addr), Secure: true, Protocol: "imap"}
}

func try(t *testing.T, a *Auth, user, password, addr string) (time.Duration, error) {
	start := time.Now()
	_, err := a.Login(t.Context(), user, password, from(addr))
	return time.Since(start), err
}

// fails lets an address fail n times, at its own pace.
func fails(t *testing.T, a *Auth, user, addr string, n int) {
	t.Helper()
	for i := range n {
		if _, err := try(t, a, user, fmt.Sprint("wrong", i, addr), addr); !errors.Is(err, ErrDenied) {
			t.Fatalf("failure %d of %s from %s: %v", i+1, user, addr, err)
		}
		time.Sleep(maxDelay)
	}
}

func throttled(t *testing.T, opt ThrottleOptions) (*Auth, *oracle) {
	o := &oracle{}
	return newTestAuth(t, Options{Sources: []Source{o}, Throttle: opt}), o
}

// Dovecot lets 20 connections guess 81 times a minute.
func TestConnectionsShareOneBudget(t *testing.T) {
	for _, c := range []struct {
		name  string
		user  func(i, n int) string
		addr  func(i int) string
		cost  time.Duration
		locks time.Duration
	}{
		{"one user", func(int, int) string { return "ann" }, func(int) string { return "192.0.2.7" }, 100 * time.Millisecond, -1},
		{"one user, with locks", func(int, int) string { return "ann" }, func(int) string { return "192.0.2.7" }, 0, 0},
		{"a user each", func(i, _ int) string { return fmt.Sprint("user", i) }, func(int) string { return "192.0.2.7" }, 0, -1},
		{"another user each time", func(i, n int) string { return fmt.Sprint("user", i, "-", n) }, func(int) string { return "192.0.2.7" }, 3 * time.Second, -1},
		{"the addresses of one IPv6 site", func(int, int) string { return "ann" }, func(i int) string { return fmt.Sprint("2001:db8:1:1::", i) }, 0, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, o := throttled(t, ThrottleOptions{LockTime: c.locks})
				o.cost = c.cost
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
				defer cancel()
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							a.Login(ctx, c.user(i, n), fmt.Sprint("guess", i, n), from(c.addr(i)))
							time.Sleep(time.Millisecond) // a round trip: who is refused at once must not hold up the clock
						}
					})
				}
				wg.Wait()
				if n := o.most(); n > 12 {
					t.Errorf("%d guesses in a minute", n)
				}
				if n := len(o.seen); c.locks < 0 && n < 100 || c.locks == 0 && (n < 10 || n > 20) {
					t.Errorf("%d guesses in 20 minutes", n)
				}
			})
		})
	}
}

// Guessing gets slower for the address, and for others nothing changes.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := throttled(t, ThrottleOptions{})
		for i, want := range []time.Duration{1, 2, 4, 8} {
			if took, _ := try(t, a, "ann", fmt.Sprint("guess", i), "192.0.2.7"); took != want*time.Second {
				t.Errorf("failure %d answered after %v, want %v s", i+1, took, want)
			}
		}
		if took, err := try(t, a, "ann", "secret", "198.51.100.1"); took != 0 || err != nil {
			t.Errorf("the owner elsewhere waits %v, %v", took, err)
		}
		time.Sleep(time.Hour)
		if took, err := try(t, a, "ann", "secret", "192.0.2.7"); took != 0 || err != nil {
			t.Errorf("after an hour: %v, %v", took, err)
		}
		if n := len(a.throttle.subjects[ofPair]) + len(a.throttle.subjects[ofAddress]); n != 0 {
			t.Errorf("%d records of nobody are left", n)
		}
	})
}

// A device that repeats an old password is no guesser: it is counted once, and never locked.
func TestThrottleCountsPasswordsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := throttled(t, ThrottleOptions{})
		for i := range 100 {
			took, err := try(t, a, "ann", "last year's", "192.0.2.7")
			if took != firstDelay || !errors.Is(err, ErrDenied) {
				t.Fatalf("%v, %v", took, err)
			}
			var r *Refusal
			if errors.As(err, &r); r.Repeated != (i > 0) || r.Guess() != (i == 0) {
				t.Fatalf("number %d: %+v", i, r)
			}
		}
		var first atomic.Int32
		var wg sync.WaitGroup
		for range 12 { // at one time
			wg.Go(func() {
				_, err := try(t, a, "ann", "of two years ago", "192.0.2.7")
				var r *Refusal
				if errors.As(err, &r); r.Guess() {
					first.Add(1)
				}
			})
		}
		wg.Wait()
		if n := first.Load(); n != 1 {
			t.Errorf("%d of twelve are guesses", n)
		}
		if r := (&Refusal{Err: ErrUnavailable}); r.Guess() {
			t.Error("what could not be looked up is a guess")
		}
		if took, err := try(t, a, "ann", "secret", "192.0.2.7"); took != 0 || err != nil {
			t.Fatalf("%v, %v", took, err)
		}
	})
}

// A phone opens a dozen connections at once. By SCRAM each sends something else.
func TestADozenConnectionsAreNoGuesses(t *testing.T) {
	for name, secret := range map[string]func(int) string{
		"PLAIN": func(int) string { return "secret" },
		"SCRAM": func(i int) string { return fmt.Sprint("proof", i) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := throttled(t, ThrottleOptions{})
				var wg sync.WaitGroup
				for i := range 12 {
					wg.Go(func() {
						start := time.Now()
						_, err := a.attempt(t.Context(), "ann", from("192.0.2.7"), secret(i), func() (decision, error) {
							time.Sleep(100 * time.Millisecond)
							return decision{login: "ann", user: User{Name: "ann"}}, nil
						})
						if took := time.Since(start); err != nil || took > 300*time.Millisecond {
							t.Errorf("connection %d: %v after %v", i, err, took)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// Who goes on guessing is turned away, longer each time, without a look at the password;
// others are let in.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o := throttled(t, ThrottleOptions{})
		fails(t, a, "ann", "192.0.2.7", 10) // then ann is locked there
		seen := len(o.seen)
		took, err := try(t, a, "ann", "secret", "192.0.2.7")
		if !errors.Is(err, ErrThrottled) || took != refusedDelay {
			t.Errorf("%v after %v", err, took)
		}
		var r *Refusal
		if !errors.As(err, &r) || !strings.Contains(r.Reason, "user ann from 192.0.2.7 is locked until") {
			t.Errorf("the reason is %+v", r)
		}
		if took, err := try(t, a, "ben", "secret", "192.0.2.7"); err != nil || took != 0 {
			t.Errorf("ben, there: %v after %v", err, took)
		}
		fails(t, a, "ben", "192.0.2.7", 9)
		fails(t, a, "cleo", "192.0.2.7", 1) // then the address is
		seen += 10
		for _, user := range []string{"dora", "ann"} {
			if _, err := try(t, a, user, "secret", "192.0.2.7"); !errors.Is(err, ErrThrottled) {
				t.Errorf("%s, there: %v", user, err)
			}
			if took, err := try(t, a, user, "secret", "192.0.2.8"); err != nil || took != 0 {
				t.Errorf("%s, next door: %v after %v", user, err, took)
			}
		}
		if len(o.seen) != seen {
			t.Errorf("%d passwords were looked at", len(o.seen)-seen)
		}
		list := a.Locked()
		if len(list) < 2 || list[0].What != "address 192.0.2.7" || list[1].What != "user ann from 192.0.2.7" {
			t.Errorf("%+v", list)
		}
		until := list[0].Until
		time.Sleep(time.Until(until))
		if took, err := try(t, a, "dora", "secret", "192.0.2.7"); err != nil || took != 0 {
			t.Errorf("after the lock: %v after %v", err, took)
		}
		fails(t, a, "ed", "192.0.2.7", 9)
		fails(t, a, "fay", "192.0.2.7", 4)
		if again := a.Locked()[0]; again.What != "address 192.0.2.7" || again.Locks != 2 || time.Until(again.Until) < 25*time.Minute {
			t.Errorf("the second lock: %+v, now %v", again, time.Now())
		}
	})
}

// Whoever fails from wherever, one with the right password is let in at once from a
// network that has not failed.
func TestNobodyCanLockOutAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o := throttled(t, ThrottleOptions{})
		o.cost = 0
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				for n := range 4 {
					a.Login(t.Context(), "ann", fmt.Sprint(i, "-", n), from(fmt.Sprintf("10.%d.%d.1", i/250+1, i%250)))
				}
			})
		}
		wg.Wait()
		for _, addr := range []string{"192.0.2.7", "2001:db8::1", "10.99.1.1"} {
			if took, err := try(t, a, "ann", "secret", addr); err != nil || took != 0 {
				t.Errorf("ann from %s: %v after %v", addr, err, took)
			}
		}
		// While so many guess, a network that is not hers has one try.
		if _, err := try(t, a, "ann", "first", "203.0.113.1"); !errors.Is(err, ErrDenied) {
			t.Error(err)
		}
		if _, err := try(t, a, "ann", "second", "203.0.113.1"); !errors.Is(err, ErrThrottled) {
			t.Error(err)
		}
		try(t, a, "ann", "typo", "192.0.2.7")
		if _, err := try(t, a, "ann", "secret", "192.0.2.7"); err != nil {
			t.Error("ann, where she is at home, after a typing error:", err)
		}
	})
}

// What a neighbour did to the address harms no user who is at home there.
func TestNeighboursOfAGuesser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o := throttled(t, ThrottleOptions{})
		if _, err := try(t, a, "ann", "secret", "192.0.2.7"); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			fails(t, a, fmt.Sprint("user", i), "192.0.2.7", 1)
		}
		if _, err := try(t, a, "ben", "secret", "192.0.2.7"); !errors.Is(err, ErrThrottled) {
			t.Errorf("the address is not locked: %v", err)
		}
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if took, err := try(t, a, "ann", "secret", "192.0.2.7"); err != nil || took != 0 {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		wg.Wait()
		// It gives a guesser there one more try at her, not more.
		seen := len(o.seen)
		for i := range 10 {
			wg.Go(func() { try(t, a, "ann", fmt.Sprint("guess", i), "192.0.2.7") })
		}
		wg.Wait()
		if n := len(o.seen) - seen; n > 1 {
			t.Errorf("%d more guesses", n)
		}
	})
}

// A guesser who has a whole network changes his address in vain.
func TestNetworksAreLocked(t *testing.T) {
	for name, c := range map[string]struct {
		addr            func(i int) string
		inside, outside string
		want            string
	}{
		"/24": {func(i int) string { return fmt.Sprintf("192.0.2.%d", i%250) }, "192.0.2.254", "192.0.3.1", "network 192.0.2.0/24"},
		"/56": {func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i%250) }, "2001:db8:1:fe::1", "2001:db8:1:100::1", "network 2001:db8:1::/56"},
		"/48": {func(i int) string { return fmt.Sprintf("2001:db8:1:%x00::1", i%250) }, "2001:db8:1:1234::1", "2001:db8:2::1", "network 2001:db8:1::/48"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, o := throttled(t, ThrottleOptions{LockTime: time.Hour})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				var wg sync.WaitGroup
				for i := range 200 {
					wg.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							a.Login(ctx, fmt.Sprint("user", i), fmt.Sprint(i, n), from(c.addr(i)))
						}
					})
				}
				wg.Wait()
				if n := o.most(); n > 16*12 || name != "/48" && n > 4*12 {
					t.Errorf("%d guesses in a minute", n)
				}
				if !slices.ContainsFunc(a.Locked(), func(l Locked) bool { return l.What == c.want && !l.Until.IsZero() }) {
					t.Errorf("%s is not locked", c.want)
				}
				if _, err := try(t, a, "zoe", "secret", c.inside); !errors.Is(err, ErrThrottled) {
					t.Errorf("inside: %v", err)
				}
				if _, err := try(t, a, "zoe", "secret", c.outside); err != nil {
					t.Errorf("outside: %v", err)
				}
			})
		})
	}
}

// A private address may be a gateway with everybody behind it.
func TestPrivateAddressesAreNotLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o := throttled(t, ThrottleOptions{})
		for i := range 40 {
			fails(t, a, fmt.Sprint("user", i), "172.17.0.1", 1)
		}
		if took, err := try(t, a, "ben", "secret", "172.17.0.1"); err != nil || took > maxDelay {
			t.Errorf("%v after %v", err, took)
		}
		fails(t, a, "ann", "172.17.0.1", 10)
		if _, err := try(t, a, "ann", "secret", "172.17.0.1"); !errors.Is(err, ErrThrottled) {
			t.Errorf("a user is not locked at an address that is not known for a gateway: %v", err)
		}
		a.Gateway(netip.MustParseAddr("172.17.0.1"))
		if took, err := try(t, a, "ann", "secret", "172.17.0.1"); err != nil || took > maxDelay {
			t.Errorf("at a gateway: %v after %v", err, took)
		}
		// There the budget is that of each user.
		o.seen = nil
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					a.Login(ctx, "ann", fmt.Sprint(i, n), from("172.17.0.1"))
				}
			})
		}
		wg.Wait()
		if n := o.most(); n > 12 {
			t.Errorf("%d guesses in a minute", n)
		}
		if took, err := try(t, a, "ben", "secret", "172.17.0.1"); err != nil || took != 0 {
			t.Errorf("ben, behind the same gateway: %v after %v", err, took)
		}
		for _, l := range a.Locked() {
			if !l.Until.IsZero() {
				t.Errorf("locked: %+v", l)
			}
		}
	})
}

func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := throttled(t, ThrottleOptions{})
		lock := func() {
			t.Helper()
			fails(t, a, "ann", "192.0.2.7", 10)
			if _, err := try(t, a, "ann", "secret", "192.0.2.7"); !errors.Is(err, ErrThrottled) {
				t.Fatal("not locked", err)
			}
		}
		for _, what := range []string{"Ann", "192.0.2.7", "::ffff:192.0.2.7", "192.0.2.0/24"} {
			lock()
			if list, err := a.Unlock(what); err != nil || len(list) == 0 {
				t.Errorf("%s: %v, %v", what, list, err)
			}
			if took, err := try(t, a, "ann", "secret", "192.0.2.7"); took > maxDelay || err != nil {
				t.Errorf("after unlock %s: %v, %v", what, took, err)
			}
			a.Unlock("192.0.2.7")
		}
		for _, what := range []string{"ben", "198.51.100.1", ""} {
			if _, err := a.Unlock(what); !errors.Is(err, ErrNotLocked) {
				t.Errorf("%q: %v", what, err)
			}
		}
		// One who waits is let in.
		for i := range 9 {
			fails(t, a, fmt.Sprint(i), "192.0.2.7", 1)
		}
		for i := range 4 {
			go try(t, a, "ann", fmt.Sprint("x", i), "192.0.2.7")
		}
		synctest.Wait()
		done := make(chan time.Duration)
		go func() {
			took, _ := try(t, a, "dora", "secret", "192.0.2.7")
			done <- took
		}()
		synctest.Wait()
		a.Unlock("192.0.2.7")
		if took := <-done; took != 0 {
			t.Errorf("one who waited was let in after %v", took)
		}
	})
}

// What strangers make us remember is bounded.
func TestThrottleMemory(t *testing.T) {
	th := newThrottle(ThrottleOptions{}, nil)
	now := time.Now()
	for i := range maxPenalties + 1000 {
		addr := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})
		m := mac{byte(i), byte(i >> 8), byte(i >> 16)}
		if tk, _, _ := th.admit(t.Context(), now, strings.Repeat("x", 1000)+addr.String(), addr, m); tk != nil {
			th.settle(now, tk, true, false)
		}
	}
	for k := range kinds {
		if n := len(th.subjects[k]); n > maxPenalties || n < maxPenalties/2 {
			t.Errorf("%d records of kind %s", n, kindNames[k])
		}
		for s := range th.subjects[k] {
			if len(s.user) > 200 {
				t.Errorf("a name of %d bytes", len(s.user))
			}
			break
		}
	}
	f := newFamiliar()
	for i := range maxUsers + 1000 {
		f.note(now, fmt.Sprint(i), netip.AddrFrom4([4]byte{10, byte(i), 0, 1}))
	}
	for i := range 50 {
		f.note(now.Add(time.Duration(i)*time.Second), "ann", netip.AddrFrom4([4]byte{10, byte(i), 0, 1}))
	}
	if len(f.users) > maxUsers || len(f.users["ann"]) > maxFamiliar || !f.has("ann", netip.MustParseAddr("10.49.0.9")) {
		t.Errorf("%d users, %d networks", len(f.users), len(f.users["ann"]))
	}
}

// What is counted survives a restart, a damaged file does no harm, and no password is in it.
func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, stateName)
	var log strings.Builder
	open := func() *Auth {
		a := newTestAuth(t, Options{File: writeFile(t, users), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err := a.OpenState(dir); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	at := from("192.0.2.7")
	if _, err := a.Login(t.Context(), "ann", "secret", at); err != nil {
		t.Fatal(err)
	}
	lock := func(a *Auth) {
		for i := range 12 { // as attempt does, without its delays
			now := time.Now()
			if tk, _ := a.throttle.take(now, "b\tob", at.Addr, mac{byte(i)}); tk != nil {
				a.throttle.settle(now, tk, true, false)
				a.throttle.subjects[ofPair][tk.pair.subject].due = time.Time{}
				for _, p := range tk.count {
					p.due = time.Time{}
				}
			}
		}
	}
	lock(a)
	want := fmt.Sprint(a.Locked())
	if !strings.Contains(want, "192.0.2.7") {
		t.Fatal(want)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(whole), "secret") {
		t.Fatalf("%v\n%s", err, whole)
	}
	if fi, _ := os.Stat(path); fi.Mode() != 0o600 {
		t.Error(fi.Mode())
	}
	whats := func(list []Locked) (s []string) {
		for _, l := range list {
			s = append(s, fmt.Sprint(l.What, l.Failures, l.Locks, l.Until.Unix()))
		}
		return s
	}
	b := open()
	if got := whats(b.Locked()); fmt.Sprint(got) != fmt.Sprint(whats(a.Locked())) {
		t.Errorf("after a restart %v\nwant %v", got, whats(a.Locked()))
	}
	if !b.throttle.familiar.has("ann", at.Addr) {
		t.Error("ann is a stranger")
	}
	b.Close()
	for _, damaged := range [][]byte{whole[:len(whole)-1], whole[:len(whole)/2], []byte("x"), append([]byte("roost-throttle 2\n"), whole[len(stateHeader):]...), flip(whole, 30), append(whole, whole...)} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		c := open()
		if len(c.Locked()) != 0 || !strings.Contains(log.String(), "event=state_damaged") {
			t.Errorf("%.60q: %v, log %s", damaged, c.Locked(), log.String())
		}
		c.Close()
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || string(kept) != string(damaged) {
			t.Error("the damaged file is gone", err)
		}
	}
	if err := newTestAuth(t, Options{File: writeFile(t, users)}).OpenState(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there is no error")
	}
}

func flip(b []byte, i int) []byte {
	b = append([]byte(nil), b...)
	b[i] ^= 1
	return b
}

// A file of any bytes, with the right sum: no panic, and what was read is written again.
func FuzzState(f *testing.F) {
	f.Add("failures\tpair\t\"ann\"\t192.0.2.7/32\t3\t1700000000\t0\t0\t0\nfamiliar\t\"ann\"\t192.0.2.0/24\t1700000000\n")
	f.Add("failures\tuser\t\"\\n\"\t-\t999999999999\t0\t1\t1\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		now := time.Unix(1_700_000_100, 0)
		th := newThrottle(ThrottleOptions{}, nil)
		if err := th.unmarshal(sealed(text), now); err != nil {
			return
		}
		once, _ := th.marshal(now)
		again := newThrottle(ThrottleOptions{}, nil)
		if err := again.unmarshal(once, now); err != nil {
			t.Fatalf("%v in\n%s", err, once)
		}
		if twice, _ := again.marshal(now); len(twice) != len(once) {
			t.Errorf("%s\nbecame\n%s", once, twice)
		}
	})
}

func sealed(text string) []byte {
	b := []byte(stateHeader + text)
	return append(b, sumLine(b)...)
}

// However long the first lock is and however many there were, the next is as long as may be.
func TestTheLastOfManyLongLocksIsALock(t *testing.T) {
	day := 24 * time.Hour
	th := newThrottle(ThrottleOptions{LockTime: day, LockMax: 7 * day}, nil)
	now := time.Now()
	for _, locks := range []int{0, 1, 5, 17, 18, 1 << 20} {
		p := &penalty{subject: subject{ofAddress, "", netip.MustParsePrefix("192.0.2.7/32")}, failures: 1000, locks: locks}
		if _, ok := th.lockLocked(now, p); !ok || p.until.Sub(now) != min(day<<min(locks, 3), 7*day) {
			t.Errorf("lock number %d lasts %v", locks+1, p.until.Sub(now))
		}
	}
}
