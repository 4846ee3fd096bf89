package oidc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// algorithms that are taken: those by which who can verify cannot sign. "none" and the
// HMACs are no such.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// header is what is looked at of a JOSE header (RFC 7515 section 4).
type header struct {
	alg, kid, typ string
}

const (
	maxJOSE  = 4 << 10 // bytes of a header; keys themselves, which some put into it, are not looked at
	maxDepth = 8       // of lists and objects in it
)

// What is said of a token that is no JWT: never with any of its bytes.
var (
	errOpaque    = errors.New("it is no JWT, and whether it counts only its issuer can tell: set auth.oauth2.client_id")
	errEncrypted = errors.New("it is encrypted (JWE), and for somebody else")
	errHeader    = errors.New("its header is not that of a JWT")
	errCritical  = errors.New("its header asks for what is not known here (crit)")
)

// parseHeader reads the header of a signed JWT in its compact form, RFC 7515 section 7.1.
// Nothing of it is proved.
func parseHeader(token string) (h header, err error) {
	switch strings.Count(token, ".") {
	case 2:
	case 4:
		return h, errEncrypted
	default:
		return h, errOpaque
	}
	first, _, _ := strings.Cut(token, ".")
	if len(first) > base64.RawURLEncoding.EncodedLen(maxJOSE) {
		return h, errHeader
	}
	b, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil || depth(b) > maxDepth {
		return h, errHeader
	}
	var fields map[string]json.RawMessage // a struct would take "ALG" for "alg", which others do not
	if json.Unmarshal(b, &fields) != nil || fields == nil {
		return h, errHeader
	}
	if _, ok := fields["crit"]; ok {
		return h, errCritical
	}
	for name, to := range map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ} {
		if raw, ok := fields[name]; ok && json.Unmarshal(raw, to) != nil {
			return h, errHeader
		}
	}
	return h, nil
}

// depth is at most how deep lists and objects of a JSON text lie in each other; brackets
// inside of strings count too.
func depth(b []byte) (deepest int) {
	n := 0
	for _, c := range b {
		switch c {
		case '{', '[':
			n++
			deepest = max(deepest, n)
		case '}', ']':
			n--
		}
	}
	return deepest
}

func (h header) taken() bool { return slices.Contains(algorithms, jose.SignatureAlgorithm(h.alg)) }

// access reports whether the header is that of an access token: RFC 9068 section 2.1, or
// one that does not say. "dpop+jwt", "logout+jwt" and others are for something else.
func (h header) access() bool {
	typ := strings.TrimPrefix(strings.ToLower(h.typ), "application/")
	return typ == "" || typ == "jwt" || typ == "at+jwt"
}
