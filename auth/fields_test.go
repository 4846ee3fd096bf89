package auth

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/synctest"
)

func TestSplitFields(t *testing.T) {
	for in, want := range map[string]map[string]string{
		`a=1 b  c=x=y`:                 {"a": "1", "b": "", "c": "x=y"},
		`a="one two" b=3`:              {"a": "one two", "b": "3"},
		`a="one two"b=3`:               {"a": "one two", "b": "3"},
		`a="one two`:                   {"a": `"one`, "two": ""},
		`a="" b=1`:                     {"a": "", "b": "1"},
		`a=x"y z" b`:                   {"a": `x"y`, `z"`: "", "b": ""},
		"\ta=1\t b=2 a=3 ":             {"a": "1", "b": "2"},
		`deny_imap="No, ask anna" x="`: {"deny_imap": "No, ask anna", "x": `"`},
		``:                             {},
	} {
		if got := splitFields(in); !maps.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A user may be barred from a service, with a text that only one with the password is told,
// and from all but some.
func TestServicesOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const before = "ann:{PLAIN}secret::::::allow_services=imap\nben:{PLAIN}secret::::::deny_imap=\"Use the webmail\" deny_smtp\n"
		path := writeFile(t, before)
		a := newTestAuth(t, Options{File: path})
		for _, c := range []struct {
			user, password, service, text string
		}{
			{"ann", "secret", "imap", ""},
			{"ann", "secret", "smtp", "This user may not log in here"},
			{"ben", "secret", "imap", "Use the webmail"},
			{"ben", "secret", "smtp", "This user may not log in here"},
			{"ben", "secret", "pop3", ""},
			{"ben", "wrong", "imap", ErrDenied.Error()},
		} {
			_, err := a.Login(t.Context(), c.user, c.password, Attempt{Secure: true, Protocol: c.service})
			var r *Refusal
			if (err == nil) != (c.text == "") || err != nil && (!errors.As(err, &r) || r.Error() != c.text || r.Disabled != (c.password == "secret")) {
				t.Errorf("%s with %q by %s: %+v", c.user, c.password, c.service, r)
			}
		}
		u, err := a.Login(t.Context(), "ann", "secret", Attempt{Secure: true, Protocol: "imap"})
		if err != nil || a.Stands(t.Context(), u) != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(before, "=imap\n", "=smtp\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.Stands(t.Context(), u); !errors.Is(err, ErrUserGone) {
			t.Errorf("a session of a service that is barred now: %v", err)
		}
	})
}

// What another program says of a user has Dovecot's words too, and its text cannot be
// more than a line to a client.
func TestDescribe(t *testing.T) {
	var acc Account
	problems := acc.Describe("ann", map[string]string{
		"home": "/home/%u", "mail": "maildir:~/M", "uid": "1001", "gid": "1002", "quota_rule": "*:storage=10M", "userdb_quota_message_count": "7",
		"nologin": "", "reason": "away\r\na OK\x00" + strings.Repeat("é", 300), "allow_nets": "192.0.2.0/24",
	}, home)
	u := acc.User
	if len(problems) != 0 || u.Home != "/home/ann" || u.Mail != "maildir:~/M" || u.UID != 1001 || u.GID != 1002 || u.QuotaBytes != 10<<20 || u.QuotaMessages != 7 {
		t.Errorf("%+v, %q", u, problems)
	}
	d := decision{login: "ann"}
	acc.Rules.restricted = false
	if err := acc.Rules.apply(context.Background(), &d, home); err != nil || d.refusal == nil || d.refusal.Text != "away  a OK "+strings.Repeat("é", 189) {
		t.Errorf("%v, %+v", err, d.refusal)
	}
}
