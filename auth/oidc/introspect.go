package oidc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"roost/auth"
)

// maxAsking are questions about tokens that are under way at one time.
const maxAsking = 8

// introspect asks the issuer about a token: RFC 7662 section 2.
func (v *Verifier) introspect(ctx context.Context, token string, say func(string, ...any)) (auth.Token, error) {
	select {
	case v.asking <- struct{}{}:
		defer func() { <-v.asking }()
	case <-ctx.Done():
		return auth.Token{}, ctx.Err()
	}
	c, err := v.ask(ctx, token)
	if ctx.Err() != nil {
		return auth.Token{}, ctx.Err()
	}
	if err != nil {
		return auth.Token{}, &auth.TokenError{Kind: auth.TokenUnavailable, Reason: shortened(err)}
	}
	if string(c["active"]) != "true" {
		return auth.Token{}, failed("active", "the issuer says that the token does not count: it has expired, was revoked, or is none of its own")
	}
	say("the issuer says that the token is active")
	return v.check(c, false, say)
}

func (v *Verifier) ask(ctx context.Context, token string) (claims, error) {
	endpoint := v.opt.IntrospectionURL
	if endpoint == "" {
		var err error
		if endpoint, err = v.endpoint.get(ctx, false); err != nil {
			return nil, err
		}
	}
	secret, err := v.secret()
	if err != nil {
		return nil, err
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(v.opt.ClientID), url.QueryEscape(secret)) // RFC 6749 section 2.3.1
	var c claims
	if err := v.do(req, &c); err != nil {
		return nil, err
	}
	return c, nil
}

// secret reads the client's secret, so that a new one needs no restart.
func (v *Verifier) secret() (string, error) {
	b, err := os.ReadFile(v.opt.SecretFile)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return "", fmt.Errorf("secret of the client, %s: %w", v.opt.SecretFile, err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("secret of the client, %s: it is empty", v.opt.SecretFile)
	}
	return s, nil
}

// findEndpoint asks the issuer where to ask about tokens.
func (v *Verifier) findEndpoint(ctx context.Context) (string, error) {
	d, err := v.discover(ctx)
	if err == nil && d.Introspection == "" {
		err = errors.New("its configuration names no introspection_endpoint: set auth.oauth2.introspection_url, or no client_id")
	}
	return d.Introspection, err
}
