package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"roost/auth"
)

// Options say whose tokens count.
type Options struct {
	Issuer string // as its tokens and its configuration spell it

	// Audience are the names of this service, of which a token has to be for one; "*"
	// alone takes tokens for anybody.
	Audience []string

	Scopes []string // that a token has to have, all of them
	Claim  string   // that names the user

	// ClientID and SecretFile are by which the issuer knows this service, where it is
	// asked about each token; without, tokens are checked by its keys.
	ClientID, SecretFile string
	IntrospectionURL     string // where; "" where the issuer's configuration says

	CA string // file of authorities for https, PEM; "" for the machine's

	// Ahead asks the issuer for what is needed before the first token comes.
	Ahead bool

	Log *slog.Logger // nil: slog.Default()
}

// Verifier checks the tokens of one issuer; an auth.Tokens. Safe for concurrent use.
type Verifier struct {
	opt  Options
	http *http.Client
	now  func() time.Time

	tokens   *oidc.IDTokenVerifier
	keys     *lookup[[]jose.JSONWebKey]
	endpoint *lookup[string]
	asking   chan struct{}
}

// Open makes a Verifier. The issuer need not answer yet.
func Open(opt Options) (*Verifier, error) {
	return open(opt, time.Now)
}

func open(opt Options, now func() time.Time) (*Verifier, error) {
	client, err := newClient(opt.CA)
	if err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	v := &Verifier{opt: opt, http: client, now: now, asking: make(chan struct{}, maxAsking)}
	v.keys = newLookup("keys", opt.Log, now, v.fetchKeys)
	v.endpoint = newLookup("configuration", opt.Log, now, v.findEndpoint)
	// claims.go looks at the claims: it says which one failed.
	config := &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true}
	for _, a := range algorithms {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(a))
	}
	v.tokens = oidc.NewVerifier(opt.Issuer, &keySet{v.keys}, config)
	if opt.Ahead {
		v.ahead()
	}
	return v, nil
}

// ahead starts the first question.
func (v *Verifier) ahead() {
	gone, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for the answer
	switch {
	case v.opt.ClientID == "":
		v.keys.get(gone, false)
	case v.opt.IntrospectionURL == "":
		v.endpoint.get(gone, false)
	}
}

// Close ends what is asked.
func (v *Verifier) Close() error {
	v.keys.close()
	v.endpoint.close()
	v.http.CloseIdleConnections()
	return nil
}

// Hint is for clients without a token that does.
func (v *Verifier) Hint() auth.TokenHint {
	h := auth.TokenHint{Configuration: strings.TrimSuffix(v.opt.Issuer, "/") + "/.well-known/openid-configuration"}
	if len(v.opt.Scopes) > 0 {
		h.Scope = v.opt.Scopes[0] // "a space-separated list of scopes is NOT RECOMMENDED"
	}
	return h
}

// Verify says whom a token names.
func (v *Verifier) Verify(ctx context.Context, token string, say func(format string, args ...any)) (auth.Token, error) {
	if say == nil {
		say = func(string, ...any) {}
	}
	if v.opt.ClientID != "" {
		say("the issuer %s is asked about the token", v.opt.Issuer)
		return v.introspect(ctx, token, say)
	}
	h, err := parseHeader(token)
	if err != nil {
		return auth.Token{}, &auth.TokenError{Reason: err.Error()}
	}
	say("it is a JWT: alg %.20q, kid %.80q, typ %.20q", h.alg, h.kid, h.typ)
	switch {
	case !h.taken():
		return auth.Token{}, failed("alg", "%.20q is not taken: only signatures that the issuer alone can make", h.alg)
	case !h.access():
		return auth.Token{}, failed("typ", "%.20q is no access token", h.typ)
	}
	var cause error
	idToken, err := v.tokens.Verify(context.WithValue(ctx, causeKey{}, &cause), token)
	var silent silence
	switch {
	case ctx.Err() != nil:
		return auth.Token{}, ctx.Err()
	case errors.As(cause, &silent):
		return auth.Token{}, &auth.TokenError{Kind: auth.TokenUnavailable, Reason: "the keys of " + v.opt.Issuer + " cannot be had: " + shortened(silent)}
	case cause != nil:
		return auth.Token{}, &auth.TokenError{Reason: fmt.Sprintf("%v; kid is %.80q, and the keys were asked for %v ago", cause, h.kid, v.keys.age())}
	case err != nil:
		return auth.Token{}, &auth.TokenError{Reason: "it is no JWT, or what is signed are not claims"}
	}
	say("the signature is that of a key of %s", v.opt.Issuer)
	var c claims
	if err := idToken.Claims(&c); err != nil {
		return auth.Token{}, &auth.TokenError{Reason: "what is signed is not the claims of a JWT"}
	}
	return v.check(c, true, say)
}
