package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenIssuer is an issuer of tokens, and what signs them.
func tokenIssuer(t *testing.T) (url string, sign func(claims map[string]any) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]any{"issuer": "http://" + r.Host, "jwks_uri": "http://" + r.Host + "/keys",
				"authorization_endpoint": "http://" + r.Host + "/auth", "token_endpoint": "http://" + r.Host + "/token"})
		case "/keys":
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	return srv.URL, func(claims map[string]any) string {
		t.Helper()
		all := map[string]any{"iss": srv.URL, "aud": "mail.example.org", "preferred_username": "ann", "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range claims {
			all[k] = v
		}
		text, err := jwt.Signed(signer).Claims(all).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// A bearer token goes from the client through the front to the desk, which alone looks at
// it, and what is wrong with one comes back (RFC 7628 section 3.2.3). The session that it
// began is known to the next desk too.
func TestWorkersOAuthBearer(t *testing.T) {
	issuer, sign := tokenIssuer(t)
	s := startWorkers(t, fmt.Sprintf("[auth.oauth2]\nissuer = %q\nclaim = \"preferred_username\"\n", issuer))
	bearer := func(user, token string) string {
		return base64.StdEncoding.EncodeToString([]byte("n,a=" + user + ",\x01auth=Bearer " + token + "\x01\x01"))
	}
	k := s.dial()
	for i, c := range []struct {
		user   string
		claims map[string]any
		want   string // of the answer
		hint   bool   // is told first
		log    string
	}{
		{"ann", map[string]any{"aud": "another.example.org"}, "NO [AUTHENTICATIONFAILED]", true, "claim aud"},
		{"ann", map[string]any{"iss": issuer + "/"}, "NO [AUTHENTICATIONFAILED]", true, "claim iss"},
		{"ann", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, "NO [EXPIRED]", true, "event=token_expired"},
		{"ben", nil, "NO [AUTHORIZATIONFAILED]", false, "the client wants to be"},
	} {
		tag := fmt.Sprint("a", i)
		fmt.Fprintf(k, "%s AUTHENTICATE OAUTHBEARER %s\r\n", tag, bearer(c.user, sign(c.claims)))
		if c.hint {
			line := strings.TrimSpace(strings.TrimPrefix(k.until("+ "), "+ "))
			if b, err := base64.StdEncoding.DecodeString(line); err != nil || !strings.Contains(string(b), issuer+"/.well-known/openid-configuration") {
				t.Errorf("%v: %q, %v", c.claims, b, err)
			}
			fmt.Fprint(k, "AQ==\r\n")
		}
		if got := k.until(tag + " "); !strings.HasPrefix(got, tag+" "+c.want) {
			t.Errorf("%v: %s", c.claims, got)
		}
		s.wait(c.log)
	}
	if strings.Contains(strings.Join(s.log(), "\n"), "eyJ") {
		t.Error("a token is in the log")
	}
	token := sign(nil)
	k.say("b AUTHENTICATE OAUTHBEARER "+bearer("ann", token)+"\r\n", "b OK")
	k.say("c SELECT INBOX\r\n", "c OK")
	if s.worker(annUID) == 0 {
		t.Error(s.processes())
	}

	syscall.Kill(s.processes()["desk"], syscall.SIGKILL)
	s.wait("event=isolation_died role=desk")
	for {
		other := s.dial()
		if got := other.say("a LOGIN ben s3cretword\r\n", "a "); strings.HasPrefix(got, "a OK") {
			break
		}
		other.Close()
	}
	k.say("d NOOP\r\n", "d OK")
	s.write("next", fmt.Sprintf("ben:{PLAIN}s3cretword:%d:%[1]d::%s/home/ben::\n", benUID, s.dir), 0o644)
	if err := os.Rename(filepath.Join(s.dir, "next"), filepath.Join(s.dir, "passwd")); err != nil {
		t.Fatal(err)
	}
	k.until("* BYE The user may not log in any more")
}
