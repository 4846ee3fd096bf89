package oidc

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"roost/auth"
)

// leeway is by how much clocks may differ.
const leeway = time.Minute

// claims are what the issuer says of a token: RFC 7519 section 4, RFC 9068 section 2.2,
// RFC 7662 section 2.2.
type claims map[string]json.RawMessage

func failed(claim, format string, args ...any) *auth.TokenError {
	return &auth.TokenError{Claim: claim, Reason: fmt.Sprintf(format, args...)}
}

// text gives a claim that is text; "" where it is not, or not there.
func (c claims) text(name string) (s string) {
	json.Unmarshal(c[name], &s)
	return s
}

// list gives a claim that is a list of texts, or one.
func (c claims) list(name string) (list []string) {
	if s := c.text(name); s != "" {
		return []string{s}
	}
	if json.Unmarshal(c[name], &list) != nil {
		return nil
	}
	return list
}

// time gives a NumericDate (RFC 7519 section 2); ok is false where it is none, there
// whether it is there.
func (c claims) time(name string) (t time.Time, ok, there bool) {
	raw, there := c[name]
	var n float64
	if !there || string(raw) == "null" {
		return t, false, false
	}
	if json.Unmarshal(raw, &n) != nil || math.IsNaN(n) || n < 0 || n > 1<<40 {
		return t, false, true
	}
	return time.Unix(int64(n), 0).UTC(), true, true
}

// scopes gives what a token is for: "scope", a text with blanks between or a list, and
// "scp", as Microsoft and Okta call it.
func (c claims) scopes() (list []string) {
	for _, name := range []string{"scope", "scp"} {
		for _, s := range c.list(name) {
			list = append(list, strings.Fields(s)...)
		}
	}
	return list
}

// check says whether a token of which the issuer says so counts here and now. signed: it is
// said by the token itself, which then has to say more.
func (v *Verifier) check(c claims, signed bool, say func(string, ...any)) (auth.Token, error) {
	var none auth.Token
	if iss := c.text("iss"); iss != v.opt.Issuer && (signed || iss != "") && !(v.opt.Issuer == google && iss == strings.TrimPrefix(google, "https://")) {
		return none, failed("iss", "it is %.100q, and the issuer %q", iss, v.opt.Issuer)
	}
	if err := c.access(); err != nil {
		return none, err
	}
	aud := c.list("aud")
	if !slices.Equal(v.opt.Audience, []string{"*"}) && !slices.ContainsFunc(aud, func(a string) bool { return a != "*" && slices.Contains(v.opt.Audience, a) }) {
		return none, failed("aud", "it is for %.200q, and not for %q: have the issuer put that in, or set auth.oauth2.audience", aud, v.opt.Audience)
	}
	say("aud is %.200q, and may be %q", aud, v.opt.Audience)
	scopes := c.scopes()
	for _, want := range v.opt.Scopes {
		if !slices.Contains(scopes, want) {
			err := failed("scope", "it is %.200q, and %q has to be in it", scopes, want)
			err.Kind = auth.TokenScope
			return none, err
		}
	}
	say("scope is %.200q, and has to have %q", scopes, v.opt.Scopes)

	login, err := v.login(c)
	if err != nil {
		return none, err
	}
	now := v.now()
	if t, ok, there := c.time("nbf"); there && !ok {
		return none, failed("nbf", "it is no time")
	} else if ok && now.Add(leeway).Before(t) {
		return none, failed("nbf", "it begins to count at %s", t.Format(time.RFC3339))
	}
	ends, ok, there := c.time("exp")
	switch {
	case there && !ok:
		return none, failed("exp", "it is no time")
	case !ok && signed:
		return none, failed("exp", "it is not there, and a token without end is not taken")
	case ok && !now.Before(ends.Add(leeway)):
		err := failed("exp", "it has expired at %s", ends.Format(time.RFC3339))
		err.Kind = auth.TokenExpired
		return none, err
	case ok:
		say("exp is %s, in %v", ends.Format(time.RFC3339), ends.Sub(now).Round(time.Second))
	}
	return auth.Token{Login: login, Expires: ends}, nil
}

const google = "https://accounts.google.com" // whose tokens may have it without https://

// access refuses what the issuer made, but not so that its bearer gets at mail.
func (c claims) access() error {
	// Keycloak says it in typ, Hydra and Cognito in token_use.
	for _, name := range []string{"typ", "token_use"} {
		switch kind := strings.ToLower(c.text(name)); kind {
		case "", "bearer", "access", "access_token", "jwt", "at+jwt":
		default:
			return failed(name, "it is %.20q: no access token", kind)
		}
	}
	if kind := c.text("token_type"); kind != "" && !strings.EqualFold(kind, "bearer") && !strings.EqualFold(kind, "access_token") {
		return failed("token_type", "it is %.20q: no bearer token", kind)
	}
	if _, ok := c["at_hash"]; ok { // OpenID Connect Core section 3.1.3.6
		return failed("at_hash", "it is an ID token, and no access token")
	}
	if _, ok := c["cnf"]; ok { // RFC 9449 section 6, RFC 8705 section 3: who steals it must not be able to use it
		return failed("cnf", "it is bound to a key of the client, and OAUTHBEARER cannot prove that")
	}
	return nil
}

// login is whom a token names. An address that the issuer has not seen to belong to its
// user is nobody's: anybody may have written it into their account there.
func (v *Verifier) login(c claims) (string, error) {
	name := v.opt.Claim
	login := c.text(name)
	if login == "" {
		return "", failed(name, "it is not there, or no text, and has to name the user: have the issuer put it in, or set auth.oauth2.claim")
	}
	if name == "email" {
		var yes bool
		if raw := c["email_verified"]; string(raw) == `"true"` { // Cognito
			yes = true
		} else {
			json.Unmarshal(raw, &yes)
		}
		if !yes {
			return "", failed("email_verified", "it is not true, so %.64q may be anybody's: set auth.oauth2.claim to one that users cannot choose", login)
		}
	}
	return login, nil
}
