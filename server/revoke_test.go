package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roost/auth"
)

// A password that is changed, and an app password that is revoked, end the sessions that
// came by it at once, idle or not, and no other.
func TestRevokedLoginsEndTheirSessions(t *testing.T) {
	dir := t.TempDir()
	passwd, apps := filepath.Join(dir, "users"), filepath.Join(dir, "apps")
	write(t, passwd, []byte("ann:{PLAIN}secret\nben:{PLAIN}secret\n"))
	app := map[string]string{}
	for _, name := range []string{"phone", "tablet"} {
		if err := auth.EditApps(apps, passwd, func(f *auth.AppFile) (err error) {
			app[name], err = f.Add(auth.AppPassword{User: "ann", Name: name}, "")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := auth.New(auth.Options{File: passwd, Apps: apps, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	s := startServer(t, func(o *Options) { o.Auth = a }, Spec{"127.0.0.1:0", Implicit})
	in := func(user, password string) *client {
		c := s.dial(t, 0)
		c.do("LOGIN " + user + " " + password)
		return c
	}
	main, phone, tablet, ben := in("ann", "secret"), in("ann", app["phone"]), in("ann", app["tablet"]), in("ben", "secret")
	phone.do("SELECT INBOX")
	if _, err := phone.Write([]byte("i IDLE\r\n")); err != nil {
		t.Fatal(err)
	}
	phone.want("+ ")
	if err := auth.EditApps(apps, passwd, func(f *auth.AppFile) error { return f.Revoke("ann", "phone") }); err != nil {
		t.Fatal(err)
	}
	phone.want("* BYE The app password was revoked or has ended")
	if err := auth.Edit(passwd, false, false, func(f *auth.PasswordFile) error { return f.SetPassword("ann", "{PLAIN}other") }); err != nil {
		t.Fatal(err)
	}
	main.want("* BYE The password was changed")
	tablet.do("NOOP")
	ben.do("NOOP")
	if err := auth.Edit(passwd, false, false, func(f *auth.PasswordFile) error { return f.Remove("ann") }); err != nil {
		t.Fatal(err)
	}
	tablet.want("* BYE The user may not log in any more")
	ben.do("NOOP")
	if log := s.log.String(); strings.Count(log, "event=login_revoked") != 3 || !strings.Contains(log, "app=phone") {
		t.Errorf("the log:\n%s", log)
	}
}

// changedBetween is an Authenticator under which the password changes when it was just
// found to be right, before the session is known.
type changedBetween struct {
	*auth.Auth
	change func()
}

func (c changedBetween) Login(ctx context.Context, user, password string, at auth.Attempt) (auth.User, error) {
	u, err := c.Auth.Login(ctx, user, password, at)
	c.change()
	return u, err
}

func TestPasswordChangedDuringTheLoginDoesNotLetIn(t *testing.T) {
	passwd := filepath.Join(t.TempDir(), "users")
	write(t, passwd, []byte("ann:{PLAIN}secret\n"))
	a, err := auth.New(auth.Options{File: passwd, NoWatch: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	s := startServer(t, func(o *Options) {
		o.Auth = changedBetween{a, func() { os.WriteFile(passwd, []byte("ann:{PLAIN}other\n"), 0o600) }}
	}, Spec{"127.0.0.1:0", Implicit})
	c := s.dial(t, 0)
	if _, err := c.Write([]byte("a LOGIN ann secret\r\n")); err != nil {
		t.Fatal(err)
	}
	c.want("a NO [AUTHENTICATIONFAILED]")
}
