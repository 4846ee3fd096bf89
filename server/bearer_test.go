package server

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/auth"
	"roost/test/talk"
)

// tokens are named for what becomes of them.
type tokens struct{ life time.Duration }

func (i tokens) Verify(ctx context.Context, token string, say func(string, ...any)) (auth.Token, error) {
	switch token {
	case "ann", "ben":
		return auth.Token{Login: token, Expires: time.Now().Add(i.life)}, nil
	case "old":
		return auth.Token{}, &auth.TokenError{Kind: auth.TokenExpired, Claim: "exp", Reason: "it has expired"}
	case "later":
		return auth.Token{}, &auth.TokenError{Kind: auth.TokenUnavailable, Reason: "the issuer is silent"}
	}
	return auth.Token{}, &auth.TokenError{Claim: "aud", Reason: "it is for the wiki"}
}

func (tokens) Hint() auth.TokenHint {
	return auth.TokenHint{Scope: "imap", Configuration: "https://id.example.org/.well-known/openid-configuration"}
}
func (tokens) Close() error { return nil }

// tokenGate is a gate that takes tokens, and what it logs.
func tokenGate(t *testing.T, life, outlive time.Duration) (*testGate, *bytes.Buffer) {
	t.Helper()
	g := newTestGate(t, gateLimits{})
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte(gateUsers), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{File: path, NoWatch: true, Log: slog.New(slog.DiscardHandler), Tokens: tokens{life}, TokenOutlive: outlive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	log := &bytes.Buffer{} // read when all of the bubble waits
	g.gate.auth, g.gate.log = a, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return g, log
}

// What clients say that have a token, and what they are told whose token does not do: RFC
// 7628 section 4, and the notes of Google and Microsoft on XOAUTH2.
func TestBearerTalk(t *testing.T) {
	oauth := func(token string) string {
		return b64("n,a=ann,\x01host=mail.example.org\x01port=993\x01auth=Bearer " + token + "\x01\x01")
	}
	x := func(token string) string { return b64("user=ann\x01auth=Bearer " + token + "\x01\x01") }
	hint := b64(`{"status":"invalid_token","scope":"imap","openid-configuration":"https://id.example.org/.well-known/openid-configuration"}`)
	xhint := b64(`{"status":"401","schemes":"bearer","scope":"imap"}`)
	for _, c := range []struct{ name, talk, logged string }{
		{"offered", `
A< * OK [CAPABILITY ...AUTH=OAUTHBEARER AUTH=XOAUTH2 AUTH=PLAIN AUTH=LOGIN] ...`, ""},
		{"at once", `
A> a1 AUTHENTICATE OAUTHBEARER ` + oauth("ann") + `
A< a1 OK [CAPABILITY ...] ...
A> a2 SELECT INBOX
A< ...`, "event=login user=ann"},
		{"asked for", `
A> a1 AUTHENTICATE XOAUTH2
A< + 
A> ` + x("ann") + `
A< a1 OK ...`, "event=login user=ann"},
		{"refused, then got another", `
A> a1 AUTHENTICATE OAUTHBEARER ` + oauth("wiki") + `
A< + ` + hint + `
A> AQ==
A< a1 NO [AUTHENTICATIONFAILED] ...
A> a2 AUTHENTICATE OAUTHBEARER ` + oauth("ann") + `
A< a2 OK ...`, `event=login_refused user=ann method=OAUTHBEARER reason="token: claim aud: it is for the wiki"`},
		{"refused and broken off", `
A> a1 AUTHENTICATE OAUTHBEARER ` + oauth("wiki") + `
A< + ` + hint + `
A> *
A< a1 NO [AUTHENTICATIONFAILED] ...
A> a2 NOOP`, "event=login_refused user=ann"},
		{"refused, and an empty line, as Google asks for", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("wiki") + `
A< + ` + xhint + `
A> 
A< a1 NO [AUTHENTICATIONFAILED] ...
A> a2 NOOP`, "event=login_refused user=ann method=XOAUTH2"},
		{"refused, and something else", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("wiki") + `
A< + ` + xhint + `
A> ` + x("ann") + `
A< a1 NO [AUTHENTICATIONFAILED] ...
A> a2 NOOP`, "event=login_refused"},
		{"refused, and no base64", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("wiki") + `
A< + ` + xhint + `
A> a2 LOGOUT
A< a1 NO [AUTHENTICATIONFAILED] ...
A> a3 NOOP`, "event=login_refused"},
		// An attempt is logged though the client hangs up on the answer.
		{"refused and gone", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("wiki") + `
A< + ` + xhint, "event=login_refused"},
		{"expired", `
A> a1 AUTHENTICATE OAUTHBEARER ` + oauth("old") + `
A< + ` + hint + `
A> AQ==
A< a1 NO [EXPIRED] ...`, "level=INFO msg=\"login refused\" sess=1 addr=192.0.2.7 event=token_expired user=ann"},
		{"the question which is wanted", `
A> a1 AUTHENTICATE OAUTHBEARER ` + b64("n,a=ann,\x01host=server.example.com\x01port=143\x01auth=\x01\x01") + `
A< + ` + hint + `
A> AQ==
A< a1 NO ...`, "level=DEBUG msg=\"login refused\" sess=1 addr=192.0.2.7 event=token_wanted user=ann"},
		{"cannot be checked", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("later") + `
A< a1 NO [UNAVAILABLE] Tokens cannot be checked now...`, `reason="token: the issuer is silent"`},
		{"another's", `
A> a1 AUTHENTICATE XOAUTH2 ` + x("ben") + `
A< a1 NO [AUTHORIZATIONFAILED] ...`, `the token is of \"ben\", and the client wants to be \"ann\"`},
		{"malformed", `
A> a1 AUTHENTICATE OAUTHBEARER ` + x("ann") + `
A< a1 BAD ...
A> a2 AUTHENTICATE XOAUTH2 AQ==
A< a2 BAD ...
A> a3 NOOP`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, log := tokenGate(t, time.Hour, 0)
				talk.Run(t, c.talk, talk.Options{Dial: g.dial, Greeting: true})
				synctest.Wait()
				if !strings.Contains(log.String(), c.logged) {
					t.Errorf("the log has no %q:\n%s", c.logged, log)
				}
				for _, secret := range []string{oauth("wiki"), "Bearer"} {
					if strings.Contains(log.String(), secret) {
						t.Errorf("the log has %q", secret)
					}
				}
			})
		})
	}
}

// A session ends when it has outlived its token, with a word on why; one by password goes
// on, and so does what comes after UNAUTHENTICATE.
func TestSessionEndsAfterItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, log := tokenGate(t, 5*time.Minute, 10*time.Minute)
		token := b64("user=ann\x01auth=Bearer ann\x01\x01")
		talk.Run(t, `
A> a1 AUTHENTICATE XOAUTH2 `+token+`
A> a2 IDLE
A< + ...
B> b1 LOGIN ann secret
C> c1 AUTHENTICATE XOAUTH2 `+token+`
C> c2 UNAUTHENTICATE
C> c3 LOGIN ann secret
! sleep 14m59s
A> DONE
A< a2 OK ...
A> a3 NOOP
A> a4 IDLE
A< + ...
! sleep 1s
A< * BYE The token has expired
A< EOF
B> b2 NOOP
C> c4 NOOP
`, talk.Options{Dial: g.dial, Greeting: true, Hooks: map[string]func([]string) error{
			"sleep": func(args []string) error {
				d, err := time.ParseDuration(args[0])
				time.Sleep(d)
				synctest.Wait()
				return err
			},
		}})
		synctest.Wait()
		if strings.Count(log.String(), "event=token_ended") != 1 {
			t.Errorf("the log:\n%s", log)
		}
	})
}
