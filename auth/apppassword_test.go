package auth

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"
)

// appFile makes a password file and an empty file of app passwords beside it.
func appFile(t *testing.T, users string) (passwd, apps string) {
	t.Helper()
	passwd = writeFile(t, users)
	return passwd, passwd + ".apps"
}

// addApp adds an app password and gives it back.
func addApp(t *testing.T, passwd, apps string, p AppPassword) string {
	t.Helper()
	main, err := Stored(passwd, p.User)
	if err != nil {
		t.Fatal(err)
	}
	password := ""
	if err := EditApps(apps, passwd, func(f *AppFile) (err error) { password, err = f.Add(p, main); return err }); err != nil {
		t.Fatal(err)
	}
	return password
}

// A device gets in by a password of its own, where and while that is good, and nothing but
// its revocation ends it.
func TestAppPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passwd, apps := appFile(t, "ann:{PLAIN}secret\nben:{PLAIN}secret\nonly:\noff:!{PLAIN}x\nclosed:{PLAIN}x::::::nologin\n")
		now := time.Now()
		phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
		short := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "short", Expires: now.Add(time.Hour)})
		smtp := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "printer", Services: []string{"smtp"}})
		away := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "away", Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		old := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "old"})
		only := addApp(t, passwd, apps, AppPassword{User: "only", Name: "x"})
		off := addApp(t, passwd, apps, AppPassword{User: "off", Name: "x"})
		closed := addApp(t, passwd, apps, AppPassword{User: "closed", Name: "x"})
		if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Revoke("ann", "old") }); err != nil {
			t.Fatal(err)
		}
		bar := newTestAuth(t, Options{File: passwd, Apps: apps, AppsOnly: []string{"imap"}, Trusted: everywhere})
		free := newTestAuth(t, Options{File: passwd, Apps: apps, Trusted: everywhere})
		submission := home
		submission.Protocol = "smtp"
		for _, c := range []struct {
			a              *Auth
			user, password string
			at             Attempt
			app            string
			want           error
			reason         string
		}{
			{free, "ann", phone, home, "phone", nil, ""},
			{free, "ann", short, home, "short", nil, ""},
			{free, "ann", "secret", home, "", nil, ""},
			{free, "ann", smtp, home, "", ErrDenied, `app password "printer" is for smtp only`},
			{free, "ann", smtp, submission, "printer", nil, ""},
			{free, "ann", away, home, "", ErrDenied, "may not come from 192.0.2.7"},
			{free, "ann", old, home, "", ErrDenied, `app password "old" was revoked on`},
			{free, "ann", strings.ToUpper(phone), home, "", ErrDenied, "wrong password"},
			{free, "ben", phone, home, "", ErrDenied, "wrong password"},
			{free, "zoe", phone, home, "", ErrDenied, "unknown user"},
			{free, "only", only, home, "x", nil, ""},
			{free, "only", "", home, "", ErrDenied, "has no password"},
			{free, "off", off, home, "", ErrDenied, "disabled"},
			{free, "closed", closed, home, "", ErrUnavailable, "nologin"},
			{bar, "ann", "secret", home, "", ErrDenied, "barred from imap"},
			{bar, "ann", "secret", submission, "", nil, ""},
			{bar, "ann", phone, home, "phone", nil, ""},
			{bar, "ben", "secret", home, "", nil, ""}, // he has none
		} {
			u, err := c.a.Login(t.Context(), c.user, c.password, c.at)
			var r *Refusal
			switch errors.As(err, &r); {
			case !errors.Is(err, c.want) || u.Proof.App != c.app:
				t.Errorf("%s with %q: %v, by %q", c.user, c.password, err, u.Proof.App)
			case r != nil && !strings.Contains(r.Reason, c.reason):
				t.Errorf("%s with %q: the log has %q", c.user, c.password, r.Reason)
			case (r != nil && r.Event == "app_password_revoked") != (c.password == old):
				t.Errorf("%s with %q: event %q", c.user, c.password, r.Event)
			}
		}
		time.Sleep(time.Hour)
		if _, err := free.Login(t.Context(), "ann", short, home); !errors.Is(err, ErrDenied) {
			t.Errorf("after its end: %v", err)
		}
		// Once the last is gone the main password is good again.
		if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Remove("ann", "") }); err != nil {
			t.Fatal(err)
		}
		if _, err := bar.Login(t.Context(), "ann", "secret", home); err != nil {
			t.Errorf("without app passwords: %v", err)
		}
		if _, err := free.Login(t.Context(), "ann", phone, home); !errors.Is(err, ErrDenied) {
			t.Errorf("by a removed one, a moment after it was right: %v", err)
		}
	})
}

// By SCRAM each of a user's passwords works, though the server must name one salt before it
// knows which it is; where that cannot be, SCRAM is not offered.
func TestAppPasswordsByScram(t *testing.T) {
	keys, err := NewHash("scram-sha-256", "secret", false)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		for name, main := range map[string]string{"keys": keys, "clear": "{PLAIN}secret"} {
			passwd, apps := appFile(t, "ann:"+main+"\n")
			a := newTestAuth(t, Options{File: passwd, Apps: apps, Trusted: everywhere})
			bar := newTestAuth(t, Options{File: passwd, Apps: apps, AppsOnly: []string{"imap"}, Trusted: everywhere})
			phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
			tablet := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "tablet", Expires: time.Now().Add(time.Hour)})
			old := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "old"})
			if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Revoke("ann", "old") }); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				a        *Auth
				password string
				app      string
				want     error
			}{
				{a, "secret", "", nil}, {a, phone, "phone", nil}, {a, tablet, "tablet", nil}, {a, old, "", ErrDenied}, {a, "wrong", "", ErrDenied},
				{bar, "secret", "", ErrDenied}, {bar, phone, "phone", nil},
			} {
				client, err := scram.SHA256.NewClient("ann", c.password, "")
				if err != nil {
					t.Fatal(err)
				}
				u, err := converse(t, c.a, "SCRAM-SHA-256", home, client.NewConversation())
				if !errors.Is(err, c.want) || u.Proof.App != c.app {
					t.Errorf("%s, %q: %v, by %q", name, c.password, err, u.Proof.App)
				}
			}
			if got := offered(a, home); got != "SCRAM-SHA-256 PLAIN LOGIN " {
				t.Errorf("%s: offered %s", name, got)
			}
		}
		// The main password's new salt is not that of the app passwords.
		passwd, apps := appFile(t, "ann:{PLAIN}x\nben:$6$abcdefgh$U4pgEIulZKy0lQsRnAZP6jVochJ.6m1cIgtqABrewJ/CFcC3SCz6TfpkDuAa32YETvVmjCa/9wKp0IkFcnm1S0\n")
		addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
		a := newTestAuth(t, Options{File: passwd, Apps: apps, AppsOnly: []string{"imap"}})
		if got := offered(a, home); got != "PLAIN LOGIN " {
			t.Errorf("one user has no keys: offered %s", got)
		}
		addApp(t, passwd, apps, AppPassword{User: "ben", Name: "phone"})
		if got := offered(a, home); got != "SCRAM-SHA-256 PLAIN LOGIN " {
			t.Errorf("all have app passwords, and the others are barred: offered %s", got)
		}
		if err := Edit(passwd, false, false, func(f *PasswordFile) error {
			return errors.Join(f.SetPassword("ann", keys), f.SetPassword("ben", keys))
		}); err != nil {
			t.Fatal(err)
		}
		free := newTestAuth(t, Options{File: passwd, Apps: apps})
		if got := offered(free, home); got != "PLAIN LOGIN " {
			t.Errorf("two salts: offered %s", got)
		}
	})
}

// What a login rests on is asked again when it changes.
func TestStands(t *testing.T) {
	passwd, apps := appFile(t, "ann:{PLAIN}secret\nben:{PLAIN}secret\n")
	phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
	addApp(t, passwd, apps, AppPassword{User: "ann", Name: "tablet"})
	a := newTestAuth(t, Options{File: passwd, Apps: apps})
	heard := make(chan struct{}, 100)
	a.OnChange(func() { heard <- struct{}{} })
	in := func(password string) User {
		u, err := a.Login(t.Context(), "ann", password, home)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	main, app := in("secret"), in(phone)
	d, err := a.vouched(t.Context(), "ann", home)
	if err != nil || d.refusal != nil {
		t.Fatal(err, d.refusal)
	}
	cert := d.user
	edit := func(what string, fn func(*PasswordFile) error, ofMain, ofApp, ofCert error) {
		t.Helper()
		if err := Edit(passwd, false, false, fn); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			by   string
			u    User
			want error
		}{{"main password", main, ofMain}, {"app password", app, ofApp}, {"certificate", cert, ofCert}} {
			if err := a.Stands(t.Context(), c.u); !errors.Is(err, c.want) {
				t.Errorf("%s, login by %s: %v, want %v", what, c.by, err, c.want)
			}
		}
		select {
		case <-heard:
		default:
			t.Errorf("%s: nobody is told", what)
		}
	}
	edit("another user", func(f *PasswordFile) error { return f.SetPassword("ben", "{PLAIN}x") }, nil, nil, nil)
	edit("disabled", func(f *PasswordFile) error { return f.Disable("ann") }, ErrUserGone, ErrUserGone, ErrUserGone)
	edit("enabled", func(f *PasswordFile) error { return f.Enable("ann") }, nil, nil, nil)
	edit("another password", func(f *PasswordFile) error { return f.SetPassword("ann", "{PLAIN}other") }, ErrPasswordChanged, nil, nil)
	edit("no password", func(f *PasswordFile) error { return f.SetPassword("ann", "") }, ErrUserGone, nil, nil)
	edit("gone", func(f *PasswordFile) error { return f.Remove("ann") }, ErrUserGone, ErrUserGone, ErrUserGone)
	edit("back", func(f *PasswordFile) error { return f.Add("ann", "{PLAIN}secret") }, nil, nil, nil)
	for _, name := range []string{"tablet", "phone"} {
		if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Revoke("ann", name) }); err != nil {
			t.Fatal(err)
		}
		if err := a.Stands(t.Context(), app); (err != nil) != (name == "phone") {
			t.Errorf("after %s was revoked: %v", name, err)
		}
	}
	if err := os.Remove(apps); err != nil {
		t.Fatal(err)
	}
	if err := a.Stands(t.Context(), app); !errors.Is(err, ErrAppRevoked) {
		t.Errorf("without the file: %v", err)
	}
}

// An app password that ends is told of at that moment, without anybody touching a file.
func TestEndOfAppPasswordIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passwd, apps := appFile(t, "ann:{PLAIN}secret\n")
		phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone", Expires: time.Now().Add(48 * time.Hour)})
		a := newTestAuth(t, Options{File: passwd, Apps: apps})
		u, err := a.Login(t.Context(), "ann", phone, home)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		told := make(chan error, 1)
		a.OnChange(func() { told <- a.Stands(t.Context(), u) })
		if err := <-told; !errors.Is(err, ErrAppRevoked) || time.Since(began).Round(time.Minute) != 48*time.Hour {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// Damage keeps what was in force: a line that cannot be read may be what revokes or limits.
func TestDamagedAppsChangeNothing(t *testing.T) {
	passwd, apps := appFile(t, "ann:{PLAIN}secret\n")
	phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
	good, err := os.ReadFile(apps)
	if err != nil {
		t.Fatal(err)
	}
	a := newTestAuth(t, Options{File: passwd, Apps: apps})
	for _, bad := range []string{
		"ann:phone", "ann:ph one:{PLAIN}x", "ann::{PLAIN}x", "../x:phone:{PLAIN}x", "ann:phone:{NOSUCH}x", "ann:phone:{PLAIN}x:expires=tomorrow",
		"ann:phone:{PLAIN}x:allow_nets=10.0.0.0/40", "ann:phone:{PLAIN}x:revokd=20261127T193000Z", "ann:a:{PLAIN}x\nann:a:{PLAIN}y", "ann:\xff:{PLAIN}x",
	} {
		if err := os.WriteFile(apps, []byte("# x\n"+bad+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.Reload(); err == nil || !strings.Contains(err.Error(), apps+":") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := a.Login(t.Context(), "ann", phone, home); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := New(Options{File: passwd, Apps: apps, NoWatch: true, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%q: a server starts with it", bad)
		}
		if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Revoke("ann", "phone") }); err == nil {
			t.Errorf("%q: edited", bad)
		}
	}
	if err := os.WriteFile(apps, append([]byte("# kept\n\n"), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := EditApps(apps, passwd, func(f *AppFile) error { return f.Revoke("ann", "phone") }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(apps)
	if err != nil || !strings.HasPrefix(string(text), "# kept\n\n"+strings.TrimSuffix(string(good), "\n")) || !strings.Contains(string(text), " revoked=") {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// When each was used last outlives a restart.
func TestAppUses(t *testing.T) {
	passwd, apps := appFile(t, "ann:{PLAIN}secret\n")
	phone := addApp(t, passwd, apps, AppPassword{User: "ann", Name: "phone"})
	uses := filepath.Join(t.TempDir(), "app-uses")
	opt := Options{File: passwd, Apps: apps, AppUses: uses, NoWatch: true, Log: slog.New(slog.DiscardHandler)}
	for _, client := range []string{"Mail 1", "Mail 2"} {
		a, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		at := home
		at.Client = client
		if _, err := a.Login(t.Context(), "ann", phone, at); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Login(t.Context(), "ann", "secret", at); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := ReadAppUses(uses)
	if err != nil || len(list) != 1 || list[0].App != "phone" || list[0].Client != "Mail 2" || list[0].Addr != home.Addr || time.Since(list[0].At) > time.Hour {
		t.Errorf("%+v, %v", list, err)
	}
	if err := os.WriteFile(uses, []byte("damage\n{\"user\":\"ann\",\"app\":\"x\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := ReadAppUses(uses); err != nil || len(list) != 1 {
		t.Errorf("beside damage: %+v, %v", list, err)
	}
}

// Whatever stands in the file, it is read to its end without a panic, and what is read is
// written the same.
func FuzzApps(f *testing.F) {
	f.Add("ann:phone:{PLAIN}x:created=20261127T193000Z expires=20271127T193000Z revoked=20261128T193000Z services=imap,smtp allow_nets=10.0.0.0/8,::1\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parseApps("f", []byte(text))
		if err != nil {
			return
		}
		for _, u := range table.users {
			for _, p := range u.list {
				again, err := parseApp(p.String())
				if err != nil || again.String() != p.String() {
					t.Errorf("%q: %v", p, err)
				}
			}
		}
	})
}
