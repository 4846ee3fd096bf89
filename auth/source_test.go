package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
)

// asked is a source that is asked for passwords, as a directory is.
type asked struct {
	has   map[string]string // passwords
	blind bool              // it cannot tell without a password whom it has
	err   error
	calls int // of Check

	dummies int // of Dummy
}

func (s *asked) Name() string        { return "test source" }
func (s *asked) Dummy() (Hash, bool) { s.dummies++; return Hash{}, false }
func (s *asked) Reload() error       { return nil }
func (s *asked) Close() error        { return nil }
func (s *asked) Find(_ context.Context, login string, at Attempt) (*Account, error) {
	if s.err != nil {
		return nil, s.err
	}
	want, ok := s.has[login]
	if !ok && !s.blind {
		return nil, nil
	}
	acc := &Account{Version: "1"}
	acc.Check = func(_ context.Context, password string) (Verdict, *Account, error) {
		s.calls++
		switch {
		case ok && password == want:
			better := &Account{}
			better.Describe(login, map[string]string{"userdb_home": "/home/%u"}, at)
			return Right, better, nil
		case s.blind:
			return Unknown, nil, nil
		}
		return Wrong, nil, nil
	}
	return acc, nil
}

// The first source that has a user decides, and what it cannot tell the next one is asked.
func TestSourcesAreAskedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blind := &asked{has: map[string]string{"cat": "secret"}, blind: true}
		last := &asked{has: map[string]string{"ann": "other", "ben": "secret", "cat": "other"}}
		a := newTestAuth(t, Options{File: writeFile(t, "ann:{PLAIN}secret\nlocked:!\n"), Sources: []Source{blind, last}})
		for _, c := range []struct {
			user, password string
			want           error
		}{
			{"ann", "secret", nil},
			{"ann", "other", ErrDenied}, // the file has her
			{"locked", "secret", ErrDenied},
			{"ben", "secret", nil},
			{"cat", "secret", nil},
			{"cat", "other", nil}, // blind does not know this password
			{"dan", "secret", ErrDenied},
			{"cat", "", ErrDenied},
		} {
			u, err := a.Login(t.Context(), c.user, c.password, Attempt{Secure: true})
			if !errors.Is(err, c.want) || err == nil && u.Name != c.user {
				t.Errorf("%s with %q: %q, %v", c.user, c.password, u.Name, err)
			}
			if c.user == "ben" && u.Home != "/home/ben" {
				t.Errorf("home of ben is %q", u.Home)
			}
			_, _, ok := a.Explain(t.Context(), c.user, &c.password, Attempt{Secure: true})
			if ok != (c.want == nil) {
				t.Errorf("Explain of %s with %q: %v", c.user, c.password, ok)
			}
		}
		before := last.calls
		if u, err := a.Login(t.Context(), "ben", "secret", Attempt{Secure: true}); err != nil || u.Home != "/home/ben" || last.calls != before {
			t.Errorf("what was right a moment ago: %+v, %v, asked %d times", u, err, last.calls-before)
		}
	})
}

// Whom no source has costs a hash, and so does a wrong password where another program
// computes it.
func TestWrongPasswordElsewhereCostsAHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, blind := range []bool{false, true} {
			src := &asked{has: map[string]string{"ann": "secret"}, blind: blind}
			a := newTestAuth(t, Options{Sources: []Source{src}})
			for _, c := range []struct {
				user, password string
				hashes         int
			}{{"ann", "secret", 0}, {"ann", "wrong", 1}, {"ben", "secret", 1}} {
				before := src.dummies
				a.Login(t.Context(), c.user, c.password, Attempt{Secure: true}) // whether it succeeds is told elsewhere
				if got := src.dummies - before; got != c.hashes {
					t.Errorf("blind %v: %s with %q costs %d hashes, want %d", blind, c.user, c.password, got, c.hashes)
				}
			}
		}
	})
}

// Users lists each once, and says which source cannot list.
func TestUsersOfSeveralSources(t *testing.T) {
	second, err := OpenFile(writeFile(t, "ann:{PLAIN}x\nzoe:{PLAIN}x\nbroken:{NONE}x\n"), FileOptions{NoWatch: true})
	if err != nil {
		t.Fatal(err)
	}
	a := newTestAuth(t, Options{File: writeFile(t, "cat:{PLAIN}x\nann:!\n"), Sources: []Source{&asked{}, second}})
	names, silent, err := a.Users(t.Context())
	if got := strings.Join(names, " "); err != nil || got != "cat ann zoe" || len(silent) != 1 || silent[0] != "test source" {
		t.Errorf("%q, %q, %v", got, silent, err)
	}
}

// While a source cannot be asked nobody behind it is let in, and nothing is counted
// against anybody.
func TestSourceThatIsDownRefusesForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &asked{err: errors.New("connection refused")}
		last := &asked{has: map[string]string{"ann": "secret"}}
		a := newTestAuth(t, Options{Sources: []Source{down, last}, Log: slog.New(slog.DiscardHandler)})
		for range 20 {
			_, err := a.Login(t.Context(), "ann", "secret", home)
			var r *Refusal
			if !errors.As(err, &r) || !errors.Is(err, ErrUnavailable) || !strings.Contains(r.Reason, "test source: connection refused") {
				t.Fatalf("refused by %v", err)
			}
		}
		if steps, _, ok := a.Explain(t.Context(), "ann", nil, home); ok || !strings.Contains(strings.Join(steps, "\n"), "connection refused") {
			t.Errorf("Explain: %v, %v", steps, ok)
		}
		down.err = nil
		if _, err := a.Login(t.Context(), "ann", "secret", home); err != nil {
			t.Error(err)
		}
	})
}

// Fields that cannot be used refuse the account where they would let in more than was meant.
func TestDescribeRefusesWhatItCannotUse(t *testing.T) {
	for fields, refused := range map[string]bool{
		"userdb_uid=0": true, "userdb_uid=nobodyhere": true, "userdb_gid=x y": true,
		"userdb_uid=1000": false, "allow_nets=broken": false,
	} {
		key, value, _ := strings.Cut(fields, "=")
		var acc Account
		problems := acc.Describe("ann", map[string]string{key: value}, home)
		if (acc.Refused != "") != refused {
			t.Errorf("%s: refused %q, %v", fields, acc.Refused, problems)
		}
		if key == "allow_nets" && acc.Rules.allows(home.Addr) {
			t.Error("a network that cannot be read lets in")
		}
	}
}

// picky lets ann in for IMAP, from its own network.
type picky struct{ oracle }

func (p *picky) Find(_ context.Context, login string, at Attempt) (*Account, error) {
	return &Account{User: User{Name: login, Login: login}, Version: "picky", Check: func(_ context.Context, password string) (Verdict, *Account, error) {
		if password == "secret" && at.Protocol == "imap" && netip.MustParsePrefix("192.0.2.0/24").Contains(at.Addr) {
			return Right, nil, nil
		}
		return Wrong, nil, nil
	}}, nil
}

// PAM, a Dovecot and a command of the admin's are told service and address, and decide by
// them: a password that was right a moment ago is right there only.
func TestRememberedPasswordIsNoWayRoundOfNetworksAndServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{Sources: []Source{&picky{}}})
		if _, err := a.Login(t.Context(), "ann", "secret", from("192.0.2.7")); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Login(t.Context(), "ann", "secret", from("198.51.100.1")); !errors.Is(err, ErrDenied) {
			t.Errorf("from elsewhere: %v", err)
		}
		smtp := from("192.0.2.7")
		smtp.Protocol = "smtp"
		if _, err := a.Login(t.Context(), "ann", "secret", smtp); !errors.Is(err, ErrDenied) {
			t.Errorf("for another service: %v", err)
		}
	})
}
