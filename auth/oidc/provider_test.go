package oidc

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roost/auth"
	"roost/test/neighbour"
)

// A real provider: its tokens count for whom they were made, its keys are followed, and
// what it revoked is no longer taken where it is asked.
func TestRealProvider(t *testing.T) {
	p, err := neighbour.StartProvider("../..", t.TempDir())
	var missing neighbour.Missing
	if errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	get := func(client string) string {
		t.Helper()
		access, _, err := p.Tokens(client, "openid email imap", "ann@example.org")
		if err != nil {
			t.Fatal(err)
		}
		return access
	}
	now := &clock{now: time.Now()}
	opt := Options{Issuer: p.Issuer, Audience: []string{"thunderbird", "short", "opaque"}, Scopes: []string{"imap"}, Claim: "email", Log: slog.New(slog.DiscardHandler)}
	v, err := open(opt, now.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })

	first := get("thunderbird")
	counts(t, v, first)
	fails(t, v, get("wiki"), "aud", auth.TokenInvalid)
	fails(t, v, get("short"), "exp", auth.TokenExpired)
	fails(t, v, get("opaque"), "", auth.TokenInvalid)
	if _, id, err := p.Tokens("thunderbird", "openid email imap", "ann@example.org"); err != nil || id == "" {
		t.Error(err)
	} else {
		fails(t, v, id, "at_hash", auth.TokenInvalid)
	}
	for user, claim := range map[string]string{"unverified@example.org": "email_verified"} {
		token, _, err := p.Tokens("thunderbird", "openid email imap", user)
		if err != nil {
			t.Fatal(err)
		}
		fails(t, v, token, claim, auth.TokenInvalid)
	}
	if token, _, err := p.Tokens("thunderbird", "openid email", "ann@example.org"); err != nil {
		t.Error(err)
	} else {
		fails(t, v, token, "scope", auth.TokenScope)
	}

	// It signs by another key, and publishes both.
	if err := p.Rotate(false); err != nil {
		t.Fatal(err)
	}
	second := get("thunderbird")
	fails(t, v, second, "", auth.TokenInvalid) // within the pause
	now.add(pause)
	counts(t, v, second)
	counts(t, v, first)
	// Then it withdraws them.
	if err := p.Rotate(true); err != nil {
		t.Fatal(err)
	}
	now.add(pause)
	counts(t, v, get("thunderbird"))
	fails(t, v, first, "", auth.TokenInvalid)
	fails(t, v, second, "", auth.TokenInvalid)

	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(neighbour.ProviderSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	opt.ClientID, opt.SecretFile = "roost", secret
	asking, err := open(opt, now.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { asking.Close() })
	for _, client := range []string{"thunderbird", "opaque"} {
		token := get(client)
		counts(t, asking, token)
		if err := p.Revoke(client, token); err != nil {
			t.Error(client, err)
		}
		fails(t, asking, token, "active", auth.TokenInvalid)
	}
	fails(t, asking, get("wiki"), "aud", auth.TokenInvalid)
	fails(t, asking, "no-token-at-all", "active", auth.TokenInvalid)

	token := get("thunderbird")
	p.Close()
	fails(t, asking, token, "", auth.TokenUnavailable)
	counts(t, v, token) // by the keys that are known
}
