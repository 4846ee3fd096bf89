package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"roost/auth"
)

// issuer is one that does what a test wants; test/peers has a real one.
type issuer struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex // guards all below
	keys   []jose.JSONWebKey
	asked  map[string]int
	answer map[string]http.HandlerFunc // in place of the issuer's own
	active map[string]map[string]any
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, asked: map[string]int{}, answer: map[string]http.HandlerFunc{}, active: map[string]map[string]any{}}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	other := i.answer[r.URL.Path]
	keys := i.keys
	i.mu.Unlock()
	if other != nil {
		other(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "introspection_endpoint": i.URL + "/introspect"})
	case "/keys":
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys})
	case "/introspect":
		id, secret, _ := r.BasicAuth()
		if id != "roost%2B1" || secret != "s%3Acret" { // as RFC 6749 section 2.3.1 spells them
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if c := i.active[r.PostFormValue("token")]; c != nil {
			json.NewEncoder(w).Encode(c)
		} else {
			json.NewEncoder(w).Encode(map[string]any{"active": false})
		}
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) instead(path string, f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer[path] = f
}

func (i *issuer) count(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// key is one that signs.
type key struct {
	kid  string
	alg  jose.SignatureAlgorithm
	priv crypto.Signer
}

func newKey(t *testing.T, kid string, alg jose.SignatureAlgorithm) key {
	t.Helper()
	var priv crypto.Signer
	var err error
	switch alg[0] {
	case 'R', 'P':
		priv, err = rsa.GenerateKey(rand.Reader, 2048)
	case 'E':
		if alg == jose.EdDSA {
			_, priv, err = ed25519.GenerateKey(rand.Reader)
		} else {
			priv, err = ecdsa.GenerateKey(map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}[alg], rand.Reader)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return key{kid, alg, priv}
}

// publish makes these the issuer's keys.
func (i *issuer) publish(keys ...key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = nil
	for _, k := range keys {
		i.keys = append(i.keys, jose.JSONWebKey{Key: k.priv.Public(), KeyID: k.kid, Algorithm: string(k.alg), Use: "sig"})
	}
}

func (k key) sign(t *testing.T, typ string, payload []byte) string {
	t.Helper()
	opt := &jose.SignerOptions{}
	if typ != "" {
		opt = opt.WithType(jose.ContentType(typ))
	}
	if k.kid != "" {
		opt = opt.WithHeader("kid", k.kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: k.priv}, opt)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// good are the claims of a token that counts.
func (i *issuer) good() map[string]any {
	return map[string]any{
		"iss": i.URL, "aud": []string{"account", "mail.example.org"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "sub": "4711",
		"email": "ann@example.org", "email_verified": true, "scope": "openid email imap", "typ": "Bearer",
	}
}

func with(c map[string]any, change map[string]any) map[string]any {
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (i *issuer) token(k key, change map[string]any) string {
	return k.sign(i.t, "at+jwt", marshal(i.t, with(i.good(), change)))
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func verifier(t *testing.T, i *issuer, change func(*Options)) (*Verifier, *clock) {
	t.Helper()
	opt := Options{Issuer: i.URL, Audience: []string{"mail.example.org"}, Claim: "email", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opt)
	}
	c := &clock{now: time.Now()}
	v, err := open(opt, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v, c
}

// fails checks that a token does not count because of a claim, and that nothing of the token
// is told.
func fails(t *testing.T, v *Verifier, token, claim string, kind auth.TokenFailure) {
	t.Helper()
	var steps []string
	tok, err := v.Verify(t.Context(), token, func(f string, args ...any) { steps = append(steps, fmt.Sprintf(f, args...)) })
	var bad *auth.TokenError
	if !errors.As(err, &bad) || bad.Claim != claim || bad.Kind != kind || tok != (auth.Token{}) {
		t.Errorf("want %q, kind %d; got %+v, %v", claim, kind, tok, err)
		return
	}
	text := bad.Error() + strings.Join(steps, "\n")
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(text, part[:8]) {
			t.Errorf("the token is told: %s", text)
		}
	}
}

func counts(t *testing.T, v *Verifier, token string) auth.Token {
	t.Helper()
	tok, err := v.Verify(t.Context(), token, nil)
	if err != nil || tok.Login != "ann@example.org" {
		t.Errorf("%+v, %v", tok, err)
	}
	return tok
}

// One key of each kind signs.
func TestSignatures(t *testing.T) {
	i := newIssuer(t)
	var keys []key
	for n, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS384, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA} {
		keys = append(keys, newKey(t, fmt.Sprint("key ", n), alg))
	}
	i.publish(keys...)
	v, _ := verifier(t, i, nil)
	for _, k := range keys {
		tok := counts(t, v, i.token(k, nil))
		if tok.Expires.IsZero() {
			t.Error("it has no end")
		}
		k.kid = "" // then all are tried
		counts(t, v, i.token(k, nil))
	}
	if n := i.count("/keys"); n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
}

// Tokens that nobody but the issuer should be able to make, made by others.
func TestForgedTokens(t *testing.T) {
	i := newIssuer(t)
	ours, other := newKey(t, "ours", jose.RS256), newKey(t, "ours", jose.RS256)
	i.publish(ours)
	v, _ := verifier(t, i, nil)
	good := i.token(ours, nil)
	counts(t, v, good)
	parts := strings.Split(good, ".")
	payload := parts[1]

	public, err := x509.MarshalPKIXPublicKey(ours.priv.Public())
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	hmac := func(secret []byte) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, (&jose.SignerOptions{}).WithHeader("kid", "ours"))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(marshal(t, i.good()))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := jws.CompactSerialize()
		return text
	}
	embedded := func() string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other.priv}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(marshal(t, i.good()))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := jws.CompactSerialize()
		return text
	}
	for _, c := range []struct{ what, token, claim string }{
		{"alg none", b64(`{"alg":"none","kid":"ours"}`) + "." + payload + ".", "alg"},
		{"alg None", b64(`{"alg":"None","kid":"ours"}`) + "." + payload + ".", "alg"},
		{"alg none with a signature", b64(`{"alg":"none","kid":"ours"}`) + "." + payload + "." + parts[2], "alg"},
		{"two algs", b64(`{"alg":"none","ALG":"RS256","kid":"ours"}`) + "." + payload + "." + parts[2], "alg"},
		{"no alg", b64(`{"kid":"ours"}`) + "." + payload + "." + parts[2], "alg"},
		{"HS256 by the public key, PEM", hmac(pemKey), "alg"},
		{"HS256 by the public key, DER", hmac(public), "alg"},
		{"no signature", parts[0] + "." + payload + ".", ""},
		{"another key of that name", i.token(other, nil), ""},
		{"a key of its own", embedded(), ""},
		{"another payload", parts[0] + "." + b64(string(marshal(t, with(i.good(), map[string]any{"email": "ben@example.org"})))) + "." + parts[2], ""},
		{"another header", b64(`{"alg":"RS256","kid":"ours","typ":"JWT"}`) + "." + payload + "." + parts[2], ""},
		{"another algorithm of that key", b64(`{"alg":"PS256","kid":"ours"}`) + "." + payload + "." + parts[2], ""},
		{"critical header", b64(`{"alg":"RS256","kid":"ours","crit":["b64"],"b64":false}`) + "." + payload + "." + parts[2], ""},
		{"a key from elsewhere", b64(`{"alg":"RS256","jku":"`+i.URL+`/other"}`) + "." + payload + "." + parts[2], ""},
		{"encrypted", "a.b.c.d.e", ""},
		{"opaque", "2YotnFZFEjr1zCsicMWpAA", ""},
		{"two parts", parts[0] + "." + payload, ""},
		{"header that is a list", b64(`["RS256"]`) + "." + payload + "." + parts[2], ""},
		{"header that is null", b64(`null`) + "." + payload + "." + parts[2], ""},
		{"header that is endless", b64(`{"alg":"RS256","x":"`+strings.Repeat("x", maxJOSE)+`"}`) + "." + payload + "." + parts[2], ""},
		{"header that is deep", b64(`{"alg":"RS256","x":`+strings.Repeat("[", 1000)) + "." + payload + "." + parts[2], ""},
		{"alg that is a number", b64(`{"alg":256}`) + "." + payload + "." + parts[2], ""},
		{"padding", parts[0] + "=." + payload + "." + parts[2], ""},
		{"a DPoP proof", ours.sign(t, "dpop+jwt", marshal(t, i.good())), "typ"},
		{"a logout token", ours.sign(t, "logout+jwt", marshal(t, i.good())), "typ"},
		{"signed, but no claims", ours.sign(t, "", []byte("[1]")), ""},
		{"signed, but no JSON", ours.sign(t, "", []byte("x")), ""},
	} {
		t.Run(c.what, func(t *testing.T) { fails(t, v, c.token, c.claim, auth.TokenInvalid) })
	}
	counts(t, v, good)
	if i.count("/other") > 0 {
		t.Error("keys were taken from where a token says")
	}
}

// Tokens of the issuer that are not for this service, not for now, not for this use, or
// name nobody.
func TestClaims(t *testing.T) {
	i := newIssuer(t)
	k := newKey(t, "ours", jose.ES256)
	i.publish(k)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, c := range []struct {
		what   string
		opt    func(*Options)
		change map[string]any
		claim  string // "": it counts
		kind   auth.TokenFailure
	}{
		{"good", nil, nil, "", 0},
		{"another issuer", nil, map[string]any{"iss": "https://other.example.org"}, "iss", 0},
		{"issuer with a slash", nil, map[string]any{"iss": i.URL + "/"}, "iss", 0},
		{"no issuer", nil, map[string]any{"iss": nil}, "iss", 0},
		{"another service", nil, map[string]any{"aud": "wiki.example.org"}, "aud", 0},
		{"no audience", nil, map[string]any{"aud": nil}, "aud", 0},
		{"audience of no texts", nil, map[string]any{"aud": []any{1, "mail.example.org"}}, "", 0}, // the library says no
		{"one audience", nil, map[string]any{"aud": "mail.example.org"}, "", 0},
		{"audience *", nil, map[string]any{"aud": "*"}, "aud", 0},
		{"any audience", func(o *Options) { o.Audience = []string{"*"} }, map[string]any{"aud": "wiki.example.org"}, "", 0},
		{"any audience, none there", func(o *Options) { o.Audience = []string{"*"} }, map[string]any{"aud": nil}, "", 0},
		{"one of two audiences", func(o *Options) { o.Audience = []string{"imap", "account"} }, nil, "", 0},
		{"no audience wanted at all", func(o *Options) { o.Audience = nil }, nil, "aud", 0},
		{"expired", nil, map[string]any{"exp": in(-2 * time.Minute)}, "exp", auth.TokenExpired},
		{"expired by a clock that differs", nil, map[string]any{"exp": in(-leeway / 2)}, "", 0},
		{"expired, and of another service", nil, map[string]any{"exp": in(-time.Hour), "aud": "wiki"}, "aud", 0},
		{"no end", nil, map[string]any{"exp": nil}, "exp", 0},
		{"not yet", nil, map[string]any{"nbf": in(2 * time.Minute)}, "nbf", 0},
		{"almost", nil, map[string]any{"nbf": in(leeway / 2)}, "", 0},
		{"no nbf", nil, map[string]any{"nbf": nil}, "", 0},
		{"scope", func(o *Options) { o.Scopes = []string{"imap"} }, nil, "", 0},
		{"no scope", func(o *Options) { o.Scopes = []string{"imap"} }, map[string]any{"scope": nil}, "scope", auth.TokenScope},
		{"another scope", func(o *Options) { o.Scopes = []string{"imap"} }, map[string]any{"scope": "openid imaps"}, "scope", auth.TokenScope},
		{"one of two scopes", func(o *Options) { o.Scopes = []string{"imap", "smtp"} }, nil, "scope", auth.TokenScope},
		{"scopes as a list", func(o *Options) { o.Scopes = []string{"imap"} }, map[string]any{"scope": []string{"openid", "imap"}}, "", 0},
		{"Microsoft's scopes", func(o *Options) { o.Scopes = []string{"IMAP.AccessAsUser.All"} }, map[string]any{"scope": nil, "scp": "IMAP.AccessAsUser.All User.Read"}, "", 0},
		{"Okta's scopes", func(o *Options) { o.Scopes = []string{"imap"} }, map[string]any{"scope": nil, "scp": []string{"imap"}}, "", 0},
		{"no user", nil, map[string]any{"email": nil}, "email", 0},
		{"a user that is a number", nil, map[string]any{"email": 7}, "email", 0},
		{"an address that is not verified", nil, map[string]any{"email_verified": false}, "email_verified", 0},
		{"an address of which that is not told", nil, map[string]any{"email_verified": nil}, "email_verified", 0},
		{"Cognito's true", nil, map[string]any{"email_verified": "true"}, "", 0},
		{"another claim", func(o *Options) { o.Claim = "mailbox" }, map[string]any{"mailbox": "ann@example.org", "email": nil, "email_verified": nil}, "", 0},
		{"an ID token", nil, map[string]any{"at_hash": "x"}, "at_hash", 0},
		{"Keycloak's ID token", nil, map[string]any{"typ": "ID"}, "typ", 0},
		{"Keycloak's refresh token", nil, map[string]any{"typ": "Refresh"}, "typ", 0},
		{"Cognito's ID token", nil, map[string]any{"token_use": "id"}, "token_use", 0},
		{"bound to a key", nil, map[string]any{"cnf": map[string]any{"jkt": "x"}}, "cnf", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			v, _ := verifier(t, i, c.opt)
			token := i.token(k, c.change)
			switch {
			case c.what == "audience of no texts":
				fails(t, v, token, "", auth.TokenInvalid)
			case c.claim == "":
				counts(t, v, token)
			default:
				fails(t, v, token, c.claim, c.kind)
			}
		})
	}
}

// A key that the issuer has from now on is found when the first token of it comes; tokens
// of keys that it never had do not make us ask more than once in a pause.
func TestKeysAreRotated(t *testing.T) {
	i := newIssuer(t)
	first, second, third := newKey(t, "1", jose.ES256), newKey(t, "2", jose.ES256), newKey(t, "3", jose.ES256)
	i.publish(first)
	v, clock := verifier(t, i, nil)
	counts(t, v, i.token(first, nil))
	clock.add(pause)
	i.publish(first, second)
	counts(t, v, i.token(second, nil))
	counts(t, v, i.token(first, nil))
	if n := i.count("/keys"); n != 2 {
		t.Fatalf("asked %d times", n)
	}
	for range 50 {
		fails(t, v, i.token(third, nil), "", auth.TokenInvalid)
	}
	if n := i.count("/keys"); n != 2 {
		t.Errorf("forged tokens made us ask %d times", n-2)
	}
	clock.add(pause)
	for range 50 {
		fails(t, v, i.token(third, nil), "", auth.TokenInvalid)
	}
	if n := i.count("/keys"); n != 3 {
		t.Errorf("forged tokens made us ask %d times in one pause", n-2)
	}
	// What the issuer has withdrawn counts until its keys are asked for again.
	i.publish(second)
	clock.add(maxAge)
	counts(t, v, i.token(second, map[string]any{"exp": clock.Now().Add(time.Hour).Unix()})) // starts to ask
	v.keys.wg.Wait()
	clock.add(pause)
	fails(t, v, i.token(first, nil), "", auth.TokenInvalid)
}

// While the issuer does not answer, the keys that are known go on; without any it is said
// that tokens cannot be checked, and not that they are bad.
func TestIssuerIsDown(t *testing.T) {
	i := newIssuer(t)
	k, unknown := newKey(t, "1", jose.ES256), newKey(t, "2", jose.ES256)
	i.publish(k)
	down := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	v, clock := verifier(t, i, nil)
	i.instead("/keys", down)
	fails(t, v, i.token(k, nil), "", auth.TokenUnavailable)
	fails(t, v, i.token(k, nil), "", auth.TokenUnavailable)
	if n := i.count("/keys"); n != 1 {
		t.Errorf("asked %d times at once", n)
	}
	i.instead("/keys", nil)
	clock.add(firstPause)
	counts(t, v, i.token(k, nil))
	i.instead("/.well-known/openid-configuration", down)
	for range 5 {
		clock.add(maxAge)
		counts(t, v, i.token(k, map[string]any{"exp": clock.Now().Add(time.Hour).Unix()}))
		v.keys.wg.Wait()
	}
	fails(t, v, i.token(unknown, nil), "", auth.TokenInvalid)
}

// Who hangs up does not wait for the issuer, and does not keep others from its answer.
func TestWaitingForKeysEnds(t *testing.T) {
	i := newIssuer(t)
	k := newKey(t, "1", jose.ES256)
	i.publish(k)
	reached, goOn := make(chan struct{}), make(chan struct{})
	i.instead("/keys", func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-goOn
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	})
	v, _ := verifier(t, i, nil)
	token := i.token(k, nil)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := v.Verify(ctx, token, nil); gone <- err }()
	<-reached
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(goOn)
	counts(t, v, token)
}

// What the issuer answers that is too long, no JSON, or elsewhere.
func TestIssuersAnswers(t *testing.T) {
	k := newKey(t, "1", jose.ES256)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("we went elsewhere") }))
	t.Cleanup(elsewhere.Close)
	conf := "/.well-known/openid-configuration"
	config := func(change map[string]any) func(*issuer) http.HandlerFunc {
		return func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				json.NewEncoder(w).Encode(with(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}, change))
			}
		}
	}
	for _, c := range []struct {
		what, path string
		answer     func(i *issuer) http.HandlerFunc
		want       string // of the reason; "": it does
	}{
		{"another issuer", conf, config(map[string]any{"issuer": "https://other.example.org"}), "did not match"},
		{"no keys", conf, config(map[string]any{"jwks_uri": nil}), "no jwks_uri"},
		{"keys in the clear", conf, config(map[string]any{"jwks_uri": "http://192.0.2.1/keys"}), "not encrypted"},
		{"keys in a file", conf, config(map[string]any{"jwks_uri": "file:///etc/passwd"}), "no https URL"},
		{"redirected elsewhere", "/keys", func(i *issuer) http.HandlerFunc {
			return http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP
		}, "not followed"},
		{"redirected here", "/keys", func(i *issuer) http.HandlerFunc {
			return http.RedirectHandler(i.URL+"/keys2", http.StatusFound).ServeHTTP
		}, ""},
		{"redirected for ever", "/keys", func(i *issuer) http.HandlerFunc {
			return http.RedirectHandler(i.URL+"/keys", http.StatusFound).ServeHTTP
		}, "not followed"},
		{"no end", "/keys", func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				for line := strings.Repeat(" ", 64<<10); r.Context().Err() == nil; {
					if _, err := w.Write([]byte(line)); err != nil {
						return
					}
				}
			}
		}, "too long"},
		{"no end of the configuration", conf, func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				for line := strings.Repeat(" ", 64<<10); r.Context().Err() == nil; {
					if _, err := w.Write([]byte(line)); err != nil {
						return
					}
				}
			}
		}, "too long"},
		{"no JSON", "/keys", func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>")) }
		}, "not the JSON"},
		{"no keys that can be used", "/keys", func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"1"},{"kty":"new"},7,{"kty":"RSA"}]}`))
			}
		}, "no key that could be used"},
		{"one among others", "/keys", func(i *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				mine := string(marshal(t, i.keys[0]))
				w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"1"},{"kty":"new"},7,{"kty":"RSA"},` + strings.Replace(mine, `"use":"sig"`, `"use":"enc"`, 1) + "," + mine + `]}`))
			}
		}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			i := newIssuer(t)
			i.publish(k)
			i.instead(c.path, c.answer(i))
			i.instead("/keys2", func(w http.ResponseWriter, r *http.Request) {
				json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
			})
			v, _ := verifier(t, i, nil)
			_, err := v.Verify(t.Context(), i.token(k, nil), nil)
			var bad *auth.TokenError
			switch {
			case c.want == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &bad) || bad.Kind != auth.TokenUnavailable || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 600:
				t.Errorf("%v, and not %q", err, c.want)
			}
		})
	}
}

// By https, with an authority of the configuration and not without.
func TestAuthorityOfTheIssuer(t *testing.T) {
	i := newIssuer(t)
	i.Server.Close()
	i.Server = httptest.NewTLSServer(i)
	k := newKey(t, "1", jose.ES256)
	i.publish(k)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	v, _ := verifier(t, i, func(o *Options) { o.CA = ca })
	counts(t, v, i.token(k, nil))
	v, _ = verifier(t, i, nil)
	fails(t, v, i.token(k, nil), "", auth.TokenUnavailable)
	if _, err := Open(Options{CA: k.kid}); err == nil {
		t.Error("an authority that is not there")
	}
}

// RFC 7662.
func TestIntrospection(t *testing.T) {
	i := newIssuer(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("s:cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(o *Options) { o.ClientID, o.SecretFile = "roost+1", secret }
	active := func(change map[string]any) map[string]any {
		return with(with(i.good(), map[string]any{"active": true}), change)
	}
	for name, c := range map[string]map[string]any{
		"good": active(nil), "bare": active(map[string]any{"iss": nil, "exp": nil, "typ": nil, "token_type": "Bearer"}),
		"revoked": active(map[string]any{"active": false}), "yes": active(map[string]any{"active": "true"}), "mute": active(map[string]any{"active": nil}),
		"wiki": active(map[string]any{"aud": "wiki"}), "nobodys": active(map[string]any{"aud": nil}), "stranger": active(map[string]any{"iss": "https://other"}),
		"old": active(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "refresh": active(map[string]any{"token_use": "refresh_token"}),
		"scopeless": active(map[string]any{"scope": ""}), "bound": active(map[string]any{"token_type": "DPoP"}),
	} {
		i.active[name] = c
	}
	v, clock := verifier(t, i, ask)
	counts(t, v, "good")
	if tok := counts(t, v, "bare"); !tok.Expires.IsZero() {
		t.Error(tok)
	}
	for token, claim := range map[string]string{
		"unknown": "active", "revoked": "active", "yes": "active", "mute": "active", "wiki": "aud", "nobodys": "aud", "stranger": "iss", "refresh": "token_use", "bound": "token_type",
	} {
		fails(t, v, token, claim, auth.TokenInvalid)
	}
	fails(t, v, "old", "exp", auth.TokenExpired)
	scoped, _ := verifier(t, i, func(o *Options) { ask(o); o.Scopes = []string{"imap"}; o.IntrospectionURL = i.URL + "/introspect" })
	counts(t, scoped, "good")
	fails(t, scoped, "scopeless", "scope", auth.TokenScope)
	if n := i.count("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("the configuration was asked for %d times", n)
	}

	// Nothing of this is the token's fault.
	if err := os.WriteFile(secret, []byte("  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, v, "good", "", auth.TokenUnavailable)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	fails(t, v, "good", "", auth.TokenUnavailable)
	if err := os.WriteFile(secret, []byte("s:cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	counts(t, v, "good")
	for what, f := range map[string]http.HandlerFunc{
		"credentials are wrong": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"redirected": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		},
		"no JSON": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.PostFormValue("token"))) },
		"hangs up": func(w http.ResponseWriter, r *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		},
	} {
		i.instead("/introspect", f)
		t.Run(what, func(t *testing.T) { fails(t, v, "good-and-long-enough", "", auth.TokenUnavailable) })
	}
	i.instead("/introspect", nil)
	clock.add(2 * time.Hour)
	fails(t, v, "good", "exp", auth.TokenExpired)
	if i.count("/other") > 0 {
		t.Error("the token was sent on")
	}
}

// A server knows at its start that the issuer is not what it should be.
func TestIssuerIsAskedAhead(t *testing.T) {
	i := newIssuer(t)
	k := newKey(t, "1", jose.ES256)
	i.publish(k)
	v, _ := verifier(t, i, func(o *Options) { o.Ahead = true })
	v.keys.wg.Wait()
	i.Server.Close()
	counts(t, v, i.token(k, nil))

	var log strings.Builder
	lost, _ := verifier(t, i, func(o *Options) { o.Ahead, o.Log = true, slog.New(slog.NewTextHandler(&log, nil)) })
	lost.keys.wg.Wait()
	if !strings.Contains(log.String(), "event=oauth2_issuer") {
		t.Error(log.String())
	}
}

// Whatever it is, it is refused without a panic, and cheaply.
func FuzzToken(f *testing.F) {
	f.Add(b64(`{"alg":"RS256","kid":"ours"}`) + ".e30.AAAA")
	f.Add(b64(`{"alg":"none"}`) + ".e30.")
	f.Add(b64(`{"alg":"ES256","crit":["exp"]}`) + ".e30.AAAA")
	f.Add("a.b.c.d.e")
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	v, err := open(Options{Issuer: "https://id.example.org", Audience: []string{"*"}, Claim: "sub", Log: slog.New(slog.DiscardHandler)}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { v.Close() })
	v.keys.fetch = func(context.Context) ([]jose.JSONWebKey, error) {
		return []jose.JSONWebKey{{Key: &priv.PublicKey, KeyID: "ours"}}, nil
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.Verify(t.Context(), token, func(string, ...any) {}); err == nil {
			t.Fatalf("%q counts", token)
		}
	})
}

// Claims of every form give a token or a reason, and the same each time.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"https://id.example.org","aud":["*"],"exp":4000000000,"sub":"ann","scope":"a b","nbf":1}`))
	f.Add([]byte(`{"iss":"https://id.example.org","aud":"x","exp":1e400,"sub":7,"scp":["a"],"cnf":null}`))
	v := &Verifier{opt: Options{Issuer: "https://id.example.org", Audience: []string{"*"}, Claim: "sub", Scopes: []string{"a"}}, now: func() time.Time { return time.Unix(2_000_000_000, 0) }}
	say := func(string, ...any) {}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c claims
		if json.Unmarshal(b, &c) != nil {
			return
		}
		for _, signed := range []bool{true, false} {
			tok, err := v.check(c, signed, say)
			again, err2 := v.check(c, signed, say)
			if tok != again || (err == nil) != (err2 == nil) || (err == nil) != (tok.Login != "") {
				t.Fatalf("%s: %+v, %v, then %+v, %v", b, tok, err, again, err2)
			}
		}
	})
}
