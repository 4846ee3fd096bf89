package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// maxKeys are looked at of an issuer's.
const maxKeys = 64

// keySet verifies signatures by the keys of the issuer; an oidc.KeySet.
type keySet struct {
	known *lookup[[]jose.JSONWebKey]
}

var errSignature = errors.New("the signature is not that of a key of the issuer")

// silence is that the keys cannot be had.
type silence struct{ error }

// causeKey is where in a context a *error is that VerifySignature fills: the library in
// between forgets which one it was.
type causeKey struct{}

// VerifySignature gives what is signed. The error is errSignature, a silence, or that of
// ctx. A signature that no key made has the keys asked for again, for the issuer may have
// new ones.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.verify(ctx, token)
	if to, ok := ctx.Value(causeKey{}).(*error); ok {
		*to = err
	}
	return payload, err
}

func (k *keySet) verify(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errSignature
	}
	for _, newer := range []bool{false, true} {
		keys, err := k.known.get(ctx, newer)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, silence{err}
		}
		if payload, ok := verified(jws, keys); ok {
			return payload, nil
		}
	}
	return nil, errSignature
}

// verified tries the keys that a signature may be of.
func verified(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	head := jws.Signatures[0].Header
	for _, key := range keys {
		if head.KeyID != "" && head.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != head.Algorithm || !fits(key.Key, head.Algorithm) {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// fits reports whether a public key can be of an algorithm.
func fits(key any, alg string) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, "ES")
	case ed25519.PublicKey:
		return alg == string(jose.EdDSA)
	}
	return false
}

// discovery is what is looked at of OpenID Connect Discovery section 3.
type discovery struct {
	Keys          string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
}

// discover asks the issuer for its configuration.
func (v *Verifier) discover(ctx context.Context) (d discovery, err error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, v.http), v.opt.Issuer)
	if err != nil {
		return d, err
	}
	return d, p.Claims(&d)
}

// fetchKeys asks the issuer for its keys, and where they are.
func (v *Verifier) fetchKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	d, err := v.discover(ctx)
	if err != nil {
		return nil, err
	}
	if d.Keys == "" {
		return nil, errors.New("its configuration names no jwks_uri")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, d.Keys, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		// What is not understood is passed over: RFC 7517 section 5.
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if keys = append(keys, key); len(keys) == maxKeys {
			break
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key that could be used", d.Keys)
	}
	return keys, nil
}

// get asks for JSON.
func (v *Verifier) get(ctx context.Context, url string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	return v.do(req, to)
}

// do sends a request and reads the JSON of the answer.
func (v *Verifier) do(req *http.Request, to any) error {
	resp, err := v.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", where(req.URL), resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", where(req.URL), err)
	}
	if json.Unmarshal(b, to) != nil { // its error would quote what was sent
		return fmt.Errorf("%s: the answer is not the JSON that was asked for", where(req.URL))
	}
	return nil
}
