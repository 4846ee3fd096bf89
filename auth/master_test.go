package auth

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"
)

const mailUsers = "ann:{PLAIN}secret::::/home/ann\noff:!{PLAIN}secret\nclosed:{PLAIN}secret::::::nologin\nbroken:{PLAIN}secret:0:0\n" +
	"away:{PLAIN}secret::::::proxy host=x\nboss:{PLAIN}bosspass\nalias:{PLAIN}secret::::::user=boss\n"

const masters = "boss:{PLAIN}master\nroot:{PLAIN}master\nnear:{PLAIN}master::::::allow_nets=2001:db8:99::/48\nonly:{PLAIN}master::::::allow_services=imap\nout:!{PLAIN}master\n"

// A master user opens the mail of others by the name or by PLAIN's authorization identity,
// is named beside them, and gets nowhere else.
func TestMasterUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		opt := Options{File: writeFile(t, mailUsers), MasterFile: writeFile(t, masters), MasterSeparator: "*", Log: slog.New(slog.NewTextHandler(&log, nil))}
		a := newTestAuth(t, opt)
		none := newTestAuth(t, Options{File: opt.File})
		far := Attempt{Secure: true, Protocol: "smtp", Addr: home.Addr}
		for _, c := range []struct {
			user, password string
			at             Attempt
			want           error
			reason         string
		}{
			{"ann*root", "master", home, nil, ""},
			{"ANN*Root", "master", home, nil, ""},
			{"off*root", "master", home, nil, ""},
			{"closed*root", "master", home, nil, ""},
			{"ann*root", "secret", home, ErrDenied, "wrong password of a master user"},
			{"ann*root", "", home, ErrDenied, "wrong password"},
			{"ann*ann", "secret", home, ErrDenied, "unknown master user"},
			{"root*ann", "secret", home, ErrDenied, "unknown master user"},
			{"ann*out", "master", home, ErrDenied, "disabled"},
			{"ann*near", "master", home, ErrDenied, "allow_nets"},
			{"ann*only", "master", far, ErrUnavailable, "allow_services"},
			{"nobody*root", "master", home, ErrUnauthorized, "no user nobody"},
			{"broken*root", "master", home, ErrUnauthorized, "uid 0"},
			{"away*root", "master", home, ErrUnauthorized, "another server"},
			{"boss*root", "master", home, ErrUnauthorized, "master user too"},
			{"alias*root", "master", home, ErrUnauthorized, "master user too"},
			{"root*boss", "master", home, ErrUnauthorized, "master user too"},
			{"ann*", "master", home, ErrDenied, "unknown user"},
			{"*root", "master", home, ErrDenied, "unknown user"},
			{"../x*root", "master", home, ErrDenied, ""},
			{"root", "master", home, ErrDenied, "unknown user"},
			{"boss", "master", home, ErrDenied, "wrong password"},
			{"boss", "bosspass", home, nil, ""},
		} {
			u, err := a.Login(t.Context(), c.user, c.password, c.at)
			var r *Refusal
			if !errors.Is(err, c.want) || errors.As(err, &r) && !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s with %q: %v, %+v", c.user, c.password, err, r)
			}
			if name, _, by := strings.Cut(strings.ToLower(c.user), "*"); err == nil && by && (u.Name != name || u.Login != "root") {
				t.Errorf("%s is %q by %q", c.user, u.Name, u.Login)
			}
			if steps, _, ok := a.Explain(t.Context(), c.user, &c.password, c.at); ok != (err == nil) {
				t.Errorf("%s with %q is explained by %q", c.user, c.password, steps)
			}
			if _, err := none.Login(t.Context(), c.user, c.password, c.at); strings.Contains(c.user, "*") && err == nil {
				t.Errorf("%s is let in without a file of master users", c.user)
			}
			time.Sleep(time.Hour) // forgives
		}
		for _, c := range []struct {
			message string
			want    error
			name    string
		}{
			{"ann\x00root\x00master", nil, "ann"}, {"\x00ann*root\x00master", nil, "ann"}, {"ann\x00ann\x00secret", nil, "ann"},
			{"root\x00root\x00master", ErrUnauthorized, ""}, {"ann\x00root\x00wrong", ErrDenied, ""}, {"ann\x00boss\x00bosspass", ErrDenied, ""},
			{"off\x00ann\x00secret", ErrUnauthorized, ""}, {"\x00root\x00master", ErrDenied, ""},
		} {
			ex, err := a.Start("PLAIN", home)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = ex.Next(t.Context(), []byte(c.message))
			if !errors.Is(err, c.want) || ex.User().Name != c.name {
				t.Errorf("PLAIN %q: %v, %+v", c.message, err, ex.User())
			}
			time.Sleep(time.Hour)
		}
		if strings.Contains(log.String(), "=master") {
			t.Error("the log has the password")
		}
	})
}

// Whoever guesses an admin's password is slowed down whichever user he names.
func TestGuessesAtMasterUsersShareOneCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{File: writeFile(t, mailUsers), MasterFile: writeFile(t, masters), MasterSeparator: "*"})
		var last time.Duration
		for i, user := range []string{"ann", "off", "closed", "boss", "nobody"} {
			start := time.Now()
			at := home
			for range i {
				at.Addr = at.Addr.Next()
			}
			_, err := a.Login(t.Context(), user+"*root", user+" guess", at)
			if took := time.Since(start); !errors.Is(err, ErrThrottled) && took <= last && last < 4*time.Second {
				t.Errorf("%d. guess: %v, after %v; the one before after %v", i+1, err, took, last)
			} else {
				last = took
			}
		}
	})
}

// A session of a master user ends when the admin goes, and not for what becomes of the
// user's password.
func TestMasterStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, file := writeFile(t, mailUsers), writeFile(t, masters)
		a := newTestAuth(t, Options{File: users, MasterFile: file, MasterSeparator: "*"})
		u, err := a.Login(t.Context(), "ann*root", "master", home)
		if err != nil {
			t.Fatal(err)
		}
		change := func(path, before, after string, want error) {
			t.Helper()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), before, after)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := a.Stands(t.Context(), u); !errors.Is(err, want) {
				t.Errorf("%q became %q: %v", before, after, err)
			}
		}
		change(users, "ann:{PLAIN}secret", "ann:{PLAIN}other", nil)
		change(file, "root:{PLAIN}master", "root:{PLAIN}other", ErrPasswordChanged)
		change(file, "root:", "#root:", ErrUserGone)
	})
}

// SCRAM says at once that it is not for master users, whoever is named, and what they are to
// use; that is no guess, and PLAIN lets them in without a delay. Users have it as before.
func TestScramIsRefusedToMasterUsersClearly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		opt := Options{File: writeFile(t, "ann:{PLAIN}secret\n"), MasterFile: writeFile(t, "root:{PLAIN}master\n"), MasterSeparator: "*", Log: slog.New(slog.NewTextHandler(&log, nil))}
		a := newTestAuth(t, opt)
		begin := time.Now()
		for mech, hash := range scramClients {
			if !slices.Contains(a.Mechanisms(home), mech) {
				t.Fatalf("%s is not offered: %q", mech, a.Mechanisms(home))
			}
			for _, c := range []struct{ name, authzid string }{
				{"ann*root", ""}, {"nobody*root", ""}, {"ann*nobody", ""}, {"root", "ann"}, {"nobody", "ann"}, {"ann", "nobody"}, {"ann*root", "ann"},
			} {
				client, err := hash.NewClient(c.name, "master", c.authzid)
				if err != nil {
					t.Fatal(err)
				}
				_, err = converse(t, a, mech, home, client.NewConversation())
				var r *Refusal
				if !errors.Is(err, ErrMechanism) || !errors.As(err, &r) || r.Guess() || !strings.Contains(r.Error(), mech+" does not do for master users: log in by PLAIN") {
					t.Errorf("%s for %+v: %v", mech, c, err)
				}
			}
			for _, authzid := range []string{"", "ann", "ANN"} {
				client, err := hash.NewClient("ann", "secret", authzid)
				if err != nil {
					t.Fatal(err)
				}
				if u, err := converse(t, a, mech, home, client.NewConversation()); err != nil || u.Name != "ann" {
					t.Errorf("%s for ann as %q: %+v, %v", mech, authzid, u, err)
				}
			}
		}
		ex, err := a.Start("PLAIN", home)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = ex.Next(t.Context(), []byte("\x00ann*root\x00master")); err != nil || ex.User().Login != "root" {
			t.Errorf("PLAIN: %+v, %v", ex.User(), err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("it was delayed by %v", took)
		}
		// Without master users such a name is one like another.
		none := newTestAuth(t, Options{File: opt.File, Log: opt.Log})
		client, err := scram.SHA256.NewClient("ann*root", "master", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := converse(t, none, "SCRAM-SHA-256", home, client.NewConversation()); !errors.Is(err, ErrDenied) {
			t.Errorf("without master users: %v", err)
		}
	})
}
