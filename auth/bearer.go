package auth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxToken bounds a token that is looked at, in bytes.
const maxToken = 16 << 10

// bearer is OAUTHBEARER (RFC 7628), and XOAUTH2, which Google and Microsoft had before it
// and which has no RFC: other words around the same token.
type bearer struct {
	auth  *Auth
	at    Attempt
	parse func([]byte) (bearerMessage, error)
	hint  func(TokenHint, *TokenError) any
	user  User
}

// bearerMessage is what a client says.
type bearerMessage struct {
	user  string // whom it wants to be; "" for whom the token names
	token string // "": it asks which one is wanted
}

// tokens reports whether there is an issuer.
func (a *Auth) tokens(Attempt) bool { return a.opt.Tokens != nil }

func startOAuthBearer(a *Auth, at Attempt) Exchange {
	return &bearer{auth: a, at: at, parse: parseOAuthBearer, hint: func(h TokenHint, bad *TokenError) any {
		status := "invalid_token" // RFC 6750 section 3.1
		if bad != nil && bad.Kind == TokenScope {
			status = "insufficient_scope"
		}
		return struct {
			Status        string `json:"status"`
			Scope         string `json:"scope,omitempty"`
			Configuration string `json:"openid-configuration,omitempty"`
		}{status, h.Scope, h.Configuration}
	}}
}

func startXOAuth2(a *Auth, at Attempt) Exchange {
	return &bearer{auth: a, at: at, parse: parseXOAuth2, hint: func(h TokenHint, bad *TokenError) any {
		status := "401" // clients get a new token for that, and ask the user for 400
		if bad != nil && bad.Kind == TokenScope {
			status = "403"
		}
		return struct {
			Status  string `json:"status"`
			Schemes string `json:"schemes"`
			Scope   string `json:"scope,omitempty"`
		}{status, "bearer", h.Scope}
	}}
}

// Next takes the one message there is. Where the token does not do, there is a challenge
// beside the error, which says what would: RFC 7628 section 3.2.3.
func (b *bearer) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	msg, err := b.parse(response)
	if err != nil {
		return nil, false, &Refusal{Err: ErrMalformed, Text: err.Error()}
	}
	if msg.token == "" { // RFC 7628 section 4.3: no guess, and no login either
		return b.challenge(nil), false, &Refusal{Err: ErrNoToken, User: msg.user, Reason: "the client asks which token is wanted"}
	}
	var bad *TokenError
	user, err := b.auth.attempt(ctx, msg.user, b.at, msg.token, func() (d decision, err error) {
		d, bad, err = b.auth.tokenLogin(ctx, msg.token, msg.user, b.at)
		return d, err
	})
	switch {
	case errors.Is(err, ErrExpired):
		// What the issuer made is no guess, and is not counted: a phone that was asleep
		// brings it. But nobody hammers with it.
		if err := wait(ctx, firstDelay); err != nil {
			return nil, false, err
		}
		return b.challenge(bad), false, err
	case errors.Is(err, ErrDenied):
		return b.challenge(bad), false, err
	case err != nil:
		return nil, false, err
	}
	b.user = user
	return nil, true, nil
}

func (b *bearer) User() User { return b.user }

func (b *bearer) challenge(bad *TokenError) []byte {
	text, err := json.Marshal(b.hint(b.auth.opt.Tokens.Hint(), bad))
	if err != nil { // strings only
		return []byte("{}")
	}
	return text
}

var (
	errOAuthBearer = errors.New("OAUTHBEARER wants a GS2 header, and keys with their values of which one is auth=Bearer: RFC 7628 section 3.1")
	errXOAuth2     = errors.New("XOAUTH2 wants user=, ^A, auth=Bearer and a token, ^A^A")
)

// parseOAuthBearer reads
//
//	gs2-header kvsep *(key "=" value kvsep) kvsep
//
// of RFC 7628 section 3.1, where kvsep is ^A. host and port are not compared with anything:
// whoever has got hold of a token can write there what he wants, and a server has more
// names than it knows of.
func parseOAuthBearer(b []byte) (m bearerMessage, err error) {
	header, rest, ok := strings.Cut(string(b), "\x01")
	if !ok || !utf8.Valid(b) || strings.IndexByte(header, 0) >= 0 {
		return m, errOAuthBearer
	}
	// RFC 5801 section 4. There is nothing to bind a channel to ("p="), and no
	// non-standard flag.
	flag, header, ok1 := strings.Cut(header, ",")
	authzid, header, ok2 := strings.Cut(header, ",")
	if !ok1 || !ok2 || header != "" || flag != "n" && flag != "y" {
		return m, errOAuthBearer
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if ok {
			m.user, ok = unescape(name)
		}
		if !ok || m.user == "" {
			return m, errOAuthBearer
		}
	}
	if m.token, ok = bearerPairs(rest, nil); !ok {
		return m, errOAuthBearer
	}
	return m, nil
}

// parseXOAuth2 reads "user=" name ^A "auth=Bearer " token ^A ^A.
func parseXOAuth2(b []byte) (m bearerMessage, err error) {
	if !utf8.Valid(b) {
		return m, errXOAuth2
	}
	var ok bool
	if m.token, ok = bearerPairs(string(b), &m.user); !ok || m.user == "" || strings.IndexByte(m.user, 0) >= 0 {
		return m, errXOAuth2
	}
	return m, nil
}

// bearerPairs reads pairs, each with ^A behind it, up to one more ^A, and gives the token of
// auth; user, when not nil, gets the value of that key. Unknown keys do not count.
func bearerPairs(text string, user *string) (token string, ok bool) {
	seen := map[string]bool{}
	for {
		pair, rest, found := strings.Cut(text, "\x01")
		if !found {
			return "", false
		}
		if text = rest; pair == "" {
			break
		}
		key, value, found := strings.Cut(pair, "=")
		key = strings.ToLower(key)
		if !found || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz") != "" {
			return "", false
		}
		if key != "auth" && (key != "user" || user == nil) {
			continue
		}
		if seen[key] {
			return "", false
		}
		seen[key] = true
		if key == "user" {
			*user = value
			continue
		}
		if value == "" {
			continue // asks what is wanted
		}
		scheme, credentials, found := strings.Cut(value, " ")
		if token = strings.Trim(credentials, " "); !found || !strings.EqualFold(scheme, "Bearer") || !isToken(token) {
			return "", false
		}
	}
	return token, text == "" && seen["auth"]
}

// isToken reports whether text is the b64token of RFC 6750 section 2.1: what may be sent on
// to an issuer without being anything else there.
func isToken(text string) bool {
	return text != "" && len(text) <= maxToken && strings.IndexFunc(strings.TrimRight(text, "="), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~+/", r)
	}) < 0 && text[0] != '='
}
