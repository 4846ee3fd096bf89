package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A stored password is `{SCHEME}data`, `{SCHEME.HEX}data` or `{SCHEME.B64}data`, or
// without scheme what crypt(3) makes, `$6$salt$hash`. Dovecot, Apache's htpasswd and
// OpenSMTPD write such; passwd(5) has no colon in it.
//
// The families: text.go (PLAIN and those that keep the password), digest.go (SHA, MD5,
// salted ones, hex and base64), crypt3.go (`$1$` to `$y$`), kdf.go (ARGON2, PBKDF2,
// SCRAM). write.go makes new ones.
//
// Refused, with the reason: DES and BSDi crypt (13 characters, `_`), gost-yescrypt
// (`$gy$`), OTP, and what Dovecot itself no longer reads (NTLM, LANMAN, RPA, SKEY).

// Hash is a stored password, read and checked as far as that goes without a password.
type Hash struct {
	Scheme string // in capitals, without suffix: "SHA512-CRYPT"
	Locked bool   // no password matches it: "!", "*", "!$6$...", or empty

	// class is equal for hashes that cost about the same to compute.
	class string
	match func(user, password string) bool

	clear string     // the password, where it is kept in the clear
	scram *scramKeys // of the mechanism that Scheme names; nil for others

	seed [sha256.Size]byte // as secret as the stored password itself
}

// scramAble reports whether a user with this password can log in by SCRAM.
func (h Hash) scramAble(mech string) bool {
	return !h.Locked && (h.Scheme == "PLAIN" || h.Scheme == mech && h.scram != nil)
}

// Matches reports whether password is the stored one. user is the whole login name,
// which DIGEST-MD5 alone has in its hash. It takes as long as the scheme wants, and the
// time does not depend on where the difference is.
func (h Hash) Matches(user, password string) bool {
	return !h.Locked && h.match(user, password)
}

// What is wrong with a stored password. An unsupported one is whole; another program
// may well read it.
var (
	ErrUnsupported = errors.New("not supported")
	ErrBadHash     = errors.New("damaged hash")
)

// Bounds on what a stored password may ask for: a file that somebody else can write to
// must not be able to stall the server.
const (
	maxRounds     = 10_000_000
	maxMemory     = 1 << 30 // bytes
	maxTraffic    = 1 << 34 // bytes, memory times passes
	maxBcryptCost = 16
)

// scheme is one row of the table of schemes.
type scheme struct {
	raw   spelling // how the data is written when no suffix says it
	parse func(name string, data []byte) (Hash, error)
}

type spelling int

const (
	asText   spelling = iota // the data is text and taken as it is
	asBase64                 // or hex where the length says so
	asHex                    // or base64
)

// schemes of Dovecot, as spelled in its documentation.
var schemes map[string]scheme

func init() { // not a literal: crypt3 looks into the table again
	schemes = map[string]scheme{
		"PLAIN":         {asText, parsePlain},
		"CLEAR":         {asText, parsePlain},
		"CLEARTEXT":     {asText, parsePlain},
		"PLAIN-TRUNC":   {asText, parsePlainTrunc},
		"CRYPT":         {asText, parseCrypt},
		"DES-CRYPT":     {asText, parseCrypt},
		"BLF-CRYPT":     {asText, parseBlowfish},
		"SHA256-CRYPT":  {asText, parseCrypt},
		"SHA512-CRYPT":  {asText, parseCrypt},
		"MD5-CRYPT":     {asText, parseMD5},
		"MD5":           {asText, parseMD5},
		"ARGON2I":       {asText, parseArgon2},
		"ARGON2ID":      {asText, parseArgon2},
		"PBKDF2":        {asText, parsePBKDF2},
		"SCRAM-SHA-1":   {asText, parseSCRAM},
		"SCRAM-SHA-256": {asText, parseSCRAM},
		"SHA":           {asBase64, parseDigest},
		"SHA1":          {asBase64, parseDigest},
		"SHA256":        {asBase64, parseDigest},
		"SHA512":        {asBase64, parseDigest},
		"SSHA":          {asBase64, parseSalted},
		"SSHA256":       {asBase64, parseSalted},
		"SSHA512":       {asBase64, parseSalted},
		"SMD5":          {asBase64, parseSalted},
		"LDAP-MD5":      {asBase64, parseDigest},
		"PLAIN-MD5":     {asHex, parseDigest},
		"PLAIN-MD4":     {asHex, parseDigest},
		"CRAM-MD5":      {asHex, parseCRAM},
		"HMAC-MD5":      {asHex, parseCRAM},
		"DIGEST-MD5":    {asHex, parseDigestMD5},
		"OTP":           {asText, unsupported("one-time passwords")},
		"SKEY":          {asText, unsupported("one-time passwords")},
		"NTLM":          {asText, unsupported("NTLM hashes")},
		"LANMAN":        {asText, unsupported("LAN Manager hashes")},
		"RPA":           {asText, unsupported("RPA hashes")},
	}
}

func unsupported(what string) func(string, []byte) (Hash, error) {
	return func(string, []byte) (Hash, error) { return Hash{}, fmt.Errorf("%s: %w", what, ErrUnsupported) }
}

// ParseHash reads a stored password. The errors wrap ErrUnsupported and ErrBadHash, and
// never contain the hash.
func ParseHash(stored string) (Hash, error) {
	// What starts with '!' or '*' was locked by an admin or by passwd -l.
	if stored == "" || stored[0] == '!' || stored[0] == '*' || stored == "x" {
		return Hash{Locked: true}, nil
	}
	seed := sha256.Sum256([]byte(stored))
	if stored[0] != '{' {
		h, err := parseCrypt("CRYPT", []byte(stored))
		h.seed = seed
		return h, err
	}
	name, data, ok := strings.Cut(stored[1:], "}")
	if !ok {
		return Hash{}, fmt.Errorf("%w: no } behind the scheme", ErrBadHash)
	}
	name, suffix, _ := strings.Cut(strings.ToUpper(name), ".")
	s, ok := schemes[name]
	if !ok {
		return Hash{}, fmt.Errorf("scheme %.40q: %w", name, ErrUnsupported)
	}
	raw, err := s.decode(name, suffix, data)
	if err != nil {
		return Hash{}, fmt.Errorf("scheme %s: %w", name, err)
	}
	h, err := s.parse(name, raw)
	if err != nil {
		return Hash{}, fmt.Errorf("scheme %s: %w", name, err)
	}
	if h.Scheme == "" {
		h.Scheme = name
	}
	if h.class == "" {
		h.class = h.Scheme
	}
	h.seed = seed
	return h, nil
}

// decode takes the encoding off that the suffix names, or the scheme's own.
func (s scheme) decode(name, suffix, data string) ([]byte, error) {
	how := s.raw
	switch suffix {
	case "":
		// Hex digests are found where base64 is usual and the other way round, and the
		// length tells them apart.
		if n := digestSize(name); n > 0 && len(data) == 2*n {
			how = asHex
		} else if n > 0 {
			how = asBase64
		}
	case "HEX":
		how = asHex
	case "B64", "BASE64":
		how = asBase64
	default:
		return nil, fmt.Errorf("suffix %.20q: %w", suffix, ErrUnsupported)
	}
	var raw []byte
	var err error
	switch how {
	case asHex:
		raw, err = hex.DecodeString(data)
	case asBase64:
		raw, err = base64.StdEncoding.Strict().DecodeString(data)
	default:
		return []byte(data), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it is neither whole hex nor whole base64", ErrBadHash)
	}
	return raw, nil
}
