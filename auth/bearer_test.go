package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// issuer knows tokens: an auth.Tokens.
type issuer struct {
	knows map[string]Token
	bad   map[string]*TokenError
	err   error
	calls int
}

func (i *issuer) Verify(ctx context.Context, token string, say func(string, ...any)) (Token, error) {
	i.calls++
	if i.err != nil {
		return Token{}, i.err
	}
	if say != nil {
		say("the issuer looks at it")
	}
	if tok, ok := i.knows[token]; ok {
		return tok, nil
	}
	if bad := i.bad[token]; bad != nil {
		return Token{}, bad
	}
	return Token{}, &TokenError{Reason: "it is forged"}
}

func (i *issuer) Hint() TokenHint {
	return TokenHint{Scope: "imap", Configuration: "https://id.example.org/.well-known/openid-configuration"}
}
func (i *issuer) Close() error { return nil }

func newIssuer() *issuer {
	return &issuer{
		knows: map[string]Token{
			"ann-1": {Login: "Ann"}, "nobody-1": {Login: "nobody"}, "off-1": {Login: "off"}, "closed-1": {Login: "closed"}, "other-1": {Login: "other"},
			"far-1": {Login: "far@example.net"}, "path-1": {Login: "../ann"}, "empty-1": {Login: "empty"}, "nets-1": {Login: "nets"},
		},
		bad: map[string]*TokenError{
			"old-1":   {Kind: TokenExpired, Claim: "exp", Reason: "it has expired"},
			"scope-1": {Kind: TokenScope, Claim: "scope", Reason: "it has no imap"},
			"later-1": {Kind: TokenUnavailable, Reason: "the issuer is silent"},
		},
	}
}

func oauthBearer(user, token string) string {
	return "n,a=" + user + ",\x01host=mail.example.org\x01port=993\x01auth=Bearer " + token + "\x01\x01"
}

func xoauth2(user, token string) string {
	return "user=" + user + "\x01auth=Bearer " + token + "\x01\x01"
}

// bear goes through an exchange of one message.
func bear(t *testing.T, a *Auth, mech, msg string, at Attempt) (User, string, error) {
	t.Helper()
	ex, err := a.Start(mech, at)
	if err != nil {
		t.Fatal(err)
	}
	if first, done, err := ex.Next(t.Context(), nil); len(first) > 0 || first == nil || done || err != nil {
		t.Fatalf("without an initial response: %q, %v, %v", first, done, err)
	}
	challenge, done, err := ex.Next(t.Context(), []byte(msg))
	if done != (err == nil) {
		t.Fatalf("%v, %v", done, err)
	}
	return ex.User(), string(challenge), err
}

func TestBearer(t *testing.T) {
	const again = `{"status":"invalid_token","scope":"imap","openid-configuration":"https://id.example.org/.well-known/openid-configuration"}`
	const xagain = `{"status":"401","schemes":"bearer","scope":"imap"}`
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: newIssuer(), Trusted: everywhere})
		for _, c := range []struct {
			what, user, token string
			want              error
			hint, xhint       string
			login             string
		}{
			{"good", "ann", "ann-1", nil, "", "", "ann"},
			{"whose entry is another's mail", "other", "other-1", nil, "", "", "ann"},
			{"by that name", "ann", "other-1", nil, "", "", "ann"},
			{"for another user", "smtpd", "ann-1", ErrUnauthorized, "", "", ""},
			{"forged", "ann", "ann-2", ErrDenied, again, xagain, ""},
			{"unknown user", "nobody", "nobody-1", ErrDenied, again, xagain, ""},
			{"disabled user", "off", "off-1", ErrDenied, again, xagain, ""},
			{"of another network", "nets", "nets-1", ErrDenied, again, xagain, ""},
			{"user without a password", "empty", "empty-1", nil, "", "", "empty"},
			{"user with nologin", "closed", "closed-1", ErrUnavailable, "", "", ""},
			{"a name that is a path", "ann", "path-1", ErrDenied, again, xagain, ""},
			{"expired", "ann", "old-1", ErrExpired, again, xagain, ""},
			{"without the scope", "ann", "scope-1", ErrDenied, strings.Replace(again, "invalid_token", "insufficient_scope", 1), strings.Replace(xagain, "401", "403", 1), ""},
			{"that cannot be checked", "ann", "later-1", ErrUnavailable, "", "", ""},
		} {
			for mech, msg := range map[string]string{"OAUTHBEARER": oauthBearer(c.user, c.token), "XOAUTH2": xoauth2(c.user, c.token)} {
				u, hint, err := bear(t, a, mech, msg, home)
				want := c.hint
				if mech == "XOAUTH2" {
					want = c.xhint
				}
				if !errors.Is(err, c.want) || hint != want || u.Name != c.login {
					t.Errorf("%s, %s: %+v, %v, hint %s", mech, c.what, u, err, hint)
				}
				var r *Refusal
				if errors.As(err, &r) && (r.User != c.user || strings.Contains(r.Error()+r.Reason, c.token)) {
					t.Errorf("%s, %s: %+v", mech, c.what, r)
				}
			}
		}
		// Whom the token names, when the client says nothing.
		if u, _, err := bear(t, a, "OAUTHBEARER", "n,,\x01auth=bearer ann-1\x01\x01", home); err != nil || u.Login != "ann" || !u.Proof.Token {
			t.Errorf("%+v, %v", u, err)
		}
		// RFC 7628 section 4.3.
		if _, hint, err := bear(t, a, "OAUTHBEARER", "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=\x01\x01", home); !errors.Is(err, ErrNoToken) || hint != again {
			t.Errorf("the question which token is wanted: %s, %v", hint, err)
		}
	})
}

// Mechanisms for tokens are offered where there is an issuer, and can be the only ones.
func TestBearerIsOfferedWithAnIssuer(t *testing.T) {
	both := []string{"OAUTHBEARER", "XOAUTH2"}
	file := writeFile(t, users)
	for _, c := range []struct {
		opt  Options
		at   Attempt
		want []string
	}{
		{Options{File: file}, home, []string{"PLAIN", "LOGIN"}},
		{Options{File: file, Tokens: newIssuer()}, home, append(slices.Clone(both), "PLAIN", "LOGIN")},
		{Options{File: file, Tokens: newIssuer()}, Attempt{}, nil}, // in the clear
		{Options{File: file, Tokens: newIssuer(), Mechanisms: both[:1]}, home, both[:1]},
		{Options{Tokens: newIssuer(), TokenDomains: []string{"*"}}, home, both},
	} {
		a := newTestAuth(t, c.opt)
		if got := a.Mechanisms(c.at); !slices.Equal(got, c.want) {
			t.Errorf("%v, and not %v", got, c.want)
		}
		if _, err := a.Start("XOAUTH2", c.at); (err == nil) != slices.Contains(c.want, "XOAUTH2") {
			t.Errorf("XOAUTH2 starts: %v", err)
		}
	}
}

// Forged tokens are counted as wrong passwords are; one that has expired is no guess,
// however often it comes, but has no answer at once either.
func TestExpiredTokensAreNoGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: newIssuer()})
		for range 100 {
			start := time.Now()
			if _, _, err := bear(t, a, "XOAUTH2", xoauth2("ann", "old-1"), home); !errors.Is(err, ErrExpired) || time.Since(start) != firstDelay {
				t.Fatal(err, time.Since(start))
			}
		}
		for range 100 { // nor is it to ask, or that the issuer is silent
			for _, token := range []string{"", "later-1"} {
				start := time.Now()
				if _, _, err := bear(t, a, "OAUTHBEARER", strings.Replace(oauthBearer("ann", token), "Bearer \x01", "\x01", 1), home); !errors.Is(err, ErrNoToken) && !errors.Is(err, ErrUnavailable) || time.Since(start) != 0 {
					t.Fatal(err, time.Since(start))
				}
			}
		}
		if len(a.Locked()) > 0 {
			t.Error(a.Locked())
		}
		var err error
		n := 0
		for ; n < 100 && !errors.Is(err, ErrThrottled); n++ {
			_, _, err = bear(t, a, "XOAUTH2", xoauth2("ann", fmt.Sprint("forged-", n)), home)
		}
		if n != 11 {
			t.Errorf("locked after %d forged tokens: %v", n, err)
		}
		if _, _, err := bear(t, a, "OAUTHBEARER", oauthBearer("ann", "ann-1"), home); !errors.Is(err, ErrThrottled) {
			t.Errorf("a good token where many were forged: %v", err)
		}
	})
}

// Who has a token of their own and claims to be another user proves nothing of that user:
// neither are their failures forgiven, nor are they at home there.
func TestTokenOfOneProvesNothingOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: newIssuer()})
		for n := range 3 {
			bear(t, a, "XOAUTH2", xoauth2("smtpd", fmt.Sprint("forged-", n)), home)
		}
		if _, _, err := bear(t, a, "XOAUTH2", xoauth2("smtpd", "ann-1"), home); !errors.Is(err, ErrUnauthorized) {
			t.Fatal(err)
		}
		if a.throttle.familiar.has("smtpd", home.Addr) {
			t.Error("smtpd is at home where only ann proved who she is")
		}
		start := time.Now()
		if _, err := a.Login(t.Context(), "smtpd", "wrong", home); !errors.Is(err, ErrDenied) || time.Since(start) < 8*time.Second {
			t.Errorf("the fourth failure was answered after %v: %v", time.Since(start), err)
		}
	})
}

// A dozen connections with one token are one question to the issuer, and so are those of
// the next minute, but not beyond the token's end.
func TestTokenIsRememberedUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer()
		i.knows["ann-1"] = Token{Login: "ann", Expires: time.Now().Add(30 * time.Second)}
		a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: i})
		enter := func() error {
			_, _, err := bear(t, a, "XOAUTH2", xoauth2("ann", "ann-1"), home)
			return err
		}
		for range 12 {
			if err := enter(); err != nil {
				t.Fatal(err)
			}
		}
		if i.calls != 1 {
			t.Errorf("the issuer was asked %d times", i.calls)
		}
		time.Sleep(31 * time.Second)
		i.knows, i.bad["ann-1"] = nil, &TokenError{Kind: TokenExpired}
		if err := enter(); !errors.Is(err, ErrExpired) {
			t.Errorf("beyond its end: %v", err)
		}
		enter()
		if i.calls != 3 {
			t.Errorf("what does not count is remembered: %d calls", i.calls)
		}
	})
}

// The issuer decides alone on the users of domains that are named, and of no other.
func TestTokenDomains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := writeFile(t, users)
		for _, c := range []struct {
			domains []string
			token   string
			want    error
		}{
			{nil, "far-1", ErrDenied},
			{[]string{"example.org"}, "far-1", ErrDenied},
			{[]string{"net"}, "far-1", ErrDenied},
			{[]string{"EXAMPLE.net"}, "far-1", nil},
			{[]string{"*"}, "far-1", nil},
			{[]string{"*"}, "nobody-1", nil},
			{[]string{"example.net"}, "nobody-1", ErrDenied},
			{[]string{"*"}, "off-1", ErrDenied}, // a source has them, and says no
			{[]string{"*"}, "path-1", ErrDenied},
		} {
			a := newTestAuth(t, Options{File: file, Tokens: newIssuer(), TokenDomains: c.domains, Trusted: everywhere})
			u, _, err := bear(t, a, "OAUTHBEARER", "n,,\x01auth=Bearer "+c.token+"\x01\x01", home)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, %s: %v", c.domains, c.token, err)
			}
			if err == nil && (a.Stands(t.Context(), u) != nil || u.Name == "") {
				t.Errorf("%v, %s: %+v stands: %v", c.domains, c.token, u, a.Stands(t.Context(), u))
			}
			// The password is nobody's.
			if _, err := a.Login(t.Context(), "far@example.net", "secret", home); !errors.Is(err, ErrDenied) {
				t.Errorf("%v: by password: %v", c.domains, err)
			}
		}
	})
}

// A session that a token began ends some time after the token.
func TestTokenSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			life, outlive time.Duration
			want          time.Duration // 0: never
		}{
			{time.Hour, 24 * time.Hour, 25 * time.Hour},
			{0, 24 * time.Hour, 24 * time.Hour}, // the issuer has not said when it ends
			{time.Hour, -1, 0},
		} {
			i := newIssuer()
			if c.life > 0 {
				i.knows["ann-1"] = Token{Login: "ann", Expires: time.Now().Add(c.life)}
			}
			a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: i, TokenOutlive: c.outlive})
			u, _, err := bear(t, a, "XOAUTH2", xoauth2("ann", "ann-1"), home)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == 0 {
				if u.Proof.Ends != 0 {
					t.Errorf("%+v: it ends", c)
				}
				continue
			}
			time.Sleep(c.want - time.Second)
			if err := a.Stands(t.Context(), u); err != nil {
				t.Errorf("%+v: a second before: %v", c, err)
			}
			time.Sleep(time.Second)
			if err := a.Stands(t.Context(), u); !errors.Is(err, ErrTokenEnded) {
				t.Errorf("%+v: then: %v", c, err)
			}
		}
	})
}

// A user who is removed or disabled is gone, whatever the token says.
func TestTokenSessionsEndWithTheUser(t *testing.T) {
	path := writeFile(t, users)
	a := newTestAuth(t, Options{File: path, Tokens: newIssuer()})
	u, _, err := bear(t, a, "XOAUTH2", xoauth2("ann", "ann-1"), home)
	if err != nil || a.Stands(t.Context(), u) != nil {
		t.Fatal(err, a.Stands(t.Context(), u))
	}
	for _, change := range []func(f *PasswordFile) error{
		func(f *PasswordFile) error { return f.SetPassword("ann", "{PLAIN}new") },
		func(f *PasswordFile) error { return f.Remove("ann") },
	} {
		if err := Edit(path, false, false, change); err != nil {
			t.Fatal(err)
		}
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		err = a.Stands(t.Context(), u)
	}
	if !errors.Is(err, ErrUserGone) {
		t.Error(err)
	}
}

// What is not a message of the mechanism is malformed, costs no question to the issuer and
// counts against nobody.
func TestMalformedBearer(t *testing.T) {
	i := newIssuer()
	a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: i})
	for mech, list := range map[string][]string{
		"OAUTHBEARER": {
			"", "\x01", "n,a=ann,", "n,a=ann,\x01", "n,a=ann,\x01\x01", "n,a=ann,\x01auth=Bearer ann-1\x01", "n,a=ann,\x01auth=Bearer ann-1",
			"p=tls-exporter,a=ann,\x01auth=Bearer ann-1\x01\x01", "F,n,a=ann,\x01auth=Bearer ann-1\x01\x01", "n,ann,\x01auth=Bearer ann-1\x01\x01",
			"n,a=,\x01auth=Bearer ann-1\x01\x01", "n,a=an=n,\x01auth=Bearer ann-1\x01\x01", "n,a=ann,x\x01auth=Bearer ann-1\x01\x01",
			"n,a=ann,\x01auth=Basic ann-1\x01\x01", "n,a=ann,\x01auth=Bearer\x01\x01", "n,a=ann,\x01auth=Bearer \x01\x01", "n,a=ann,\x01auth=Bearer an n\x01\x01",
			"n,a=ann,\x01auth=Bearer ann-1&x=y\x01\x01", "n,a=ann,\x01auth=Bearer ann-1\r\nX: y\x01\x01", "n,a=ann,\x01auth=Bearer =\x01\x01",
			"n,a=ann,\x01auth=Bearer ann-1\x01auth=Bearer ann-2\x01\x01", "n,a=ann,\x01auth=Bearer ann-1\x01\x01x", "n,a=ann,\x01=x\x01auth=Bearer ann-1\x01\x01",
			"n,a=ann,\x01h0st=x\x01auth=Bearer ann-1\x01\x01", "n,a=a\x00nn,\x01auth=Bearer ann-1\x01\x01", "n,a=\xff,\x01auth=Bearer ann-1\x01\x01",
			"n,a=ann,\x01auth=Bearer " + strings.Repeat("x", maxToken+1) + "\x01\x01", xoauth2("ann", "ann-1"),
		},
		"XOAUTH2": {
			"", "\x01", "\x01\x01", "user=ann\x01\x01", "auth=Bearer ann-1\x01\x01", "user=\x01auth=Bearer ann-1\x01\x01", "user=ann\x01auth=Bearer ann-1\x01",
			"user=ann\x01user=ben\x01auth=Bearer ann-1\x01\x01", "user=an\x00n\x01auth=Bearer ann-1\x01\x01", oauthBearer("ann", "ann-1"),
		},
	} {
		for _, msg := range list {
			if _, hint, err := bear(t, a, mech, msg, home); !errors.Is(err, ErrMalformed) || hint != "" {
				t.Errorf("%s %.60q: %v, %s", mech, msg, err, hint)
			}
		}
	}
	if i.calls > 0 || len(a.Locked()) > 0 {
		t.Errorf("%d questions, %v", i.calls, a.Locked())
	}
	for _, msg := range []string{
		"y,a=a=2Cn=3Dn,\x01unknown=x\x01AUTH=BEARER   abc.-_~+/==\x01\x01", "n,,\x01auth=Bearer " + strings.Repeat("x", maxToken) + "\x01\x01",
		"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01", // RFC 7628 section 4.1
	} {
		if _, err := parseOAuthBearer([]byte(msg)); err != nil {
			t.Errorf("%.60q: %v", msg, err)
		}
	}
}

func TestExplainToken(t *testing.T) {
	a := newTestAuth(t, Options{File: writeFile(t, users), Tokens: newIssuer(), TokenOutlive: -1, TokenDomains: []string{"example.net"}})
	for _, c := range []struct {
		token, claimed string
		ok             bool
		want           []string
	}{
		{"ann-1", "", true, []string{"the issuer looks at it", `the token is good, and names "Ann"`, "the user is known", "the session ends when the client wants"}},
		{"far-1", "far@example.net", true, []string{"the issuer alone decides"}},
		{"ann-1", "ben", false, []string{`wants to be "ben"`, "the client is told: not authorized"}},
		{"old-1", "", false, []string{"refused: token: claim exp: it has expired"}},
		{"nobody-1", "", false, []string{`refused: unknown user "nobody", whom the token names`}},
		{"no token", "", false, []string{"no bearer token"}},
		{"later-1", "", false, []string{"the issuer is silent"}},
	} {
		steps, u, ok := a.ExplainToken(t.Context(), c.token, c.claimed, home)
		text := strings.Join(steps, "\n")
		if ok != c.ok || ok != (u.Name != "") {
			t.Errorf("%s: %v, %+v", c.token, ok, u)
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in:\n%s", c.token, want, text)
			}
		}
	}
	if steps, _, ok := newTestAuth(t, Options{File: writeFile(t, users)}).ExplainToken(t.Context(), "ann-1", "", home); ok || !strings.Contains(strings.Join(steps, ""), "no issuer") {
		t.Error(steps)
	}
}

// A message that is taken says the same when it is put together from what was understood.
func FuzzBearer(f *testing.F) {
	f.Add([]byte(oauthBearer("ann", "abc.def")))
	f.Add([]byte(xoauth2("ann", "abc.def==")))
	f.Add([]byte("y,a=a=2Cb=3D,\x01x=\r\n\x01auth=bearer  abc \x01\x01"))
	f.Add([]byte("n,,\x01auth=\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseOAuthBearer(b); err == nil {
			authzid := ""
			if m.user != "" {
				authzid = "a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(m.user)
			}
			auth := "auth="
			if m.token != "" {
				if !isToken(m.token) {
					t.Fatalf("the token %q", m.token)
				}
				auth += "Bearer " + m.token
			}
			if again, err := parseOAuthBearer([]byte("n," + authzid + ",\x01" + auth + "\x01\x01")); err != nil || again != m {
				t.Fatalf("%q: %+v, then %+v, %v", b, m, again, err)
			}
		}
		if m, err := parseXOAuth2(b); err == nil {
			auth := "auth="
			if m.token != "" {
				auth += "Bearer " + m.token
			}
			if again, err := parseXOAuth2([]byte("user=" + m.user + "\x01" + auth + "\x01\x01")); err != nil || again != m {
				t.Fatalf("%q: %+v, then %+v, %v", b, m, again, err)
			}
		}
	})
}
