package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/GehirnInc/crypt/common"
	"github.com/GehirnInc/crypt/sha512_crypt"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What new hashes cost: about 150 ms on a small server, Argon2 with the parameters of
// Dovecot's own tool.
var newArgon2 = argon2Params{memory: 64 << 10, passes: 3, threads: 1}

const (
	newBcryptCost   = 12
	newSHA512Rounds = 100_000
	argon2KeySize   = 32
	saltSize        = 16
)

// WriteSchemes are the schemes that NewHash makes, the default first.
var WriteSchemes = []string{"argon2id", "bcrypt", "sha512-crypt", "scram-sha-256"}

// ErrScheme: NewHash does not make hashes of this scheme.
var ErrScheme = errors.New("no scheme for new passwords")

// NewHash makes a stored password. With bare it has no {SCHEME} before it: an OpenSMTPD
// table takes only what crypt(3) knows, which Argon2 is not.
func NewHash(scheme, password string, bare bool) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	if len(password) > maxPassword {
		return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	if strings.ContainsRune(password, 0) {
		return "", errors.New("a password with a NUL in it can never be sent") // RFC 4616 section 2
	}
	var prefix, hash string
	switch scheme {
	case "argon2id":
		if bare {
			return "", fmt.Errorf("%w: OpenSMTPD does not know argon2id; use bcrypt or sha512-crypt", ErrScheme)
		}
		prefix, hash = "{ARGON2ID}", makeArgon2(password, newArgon2)
	case "bcrypt":
		if len(password) > 72 {
			return "", errors.New("bcrypt looks at 72 bytes only, and the password is longer; use argon2id")
		}
		b, err := bcrypt.GenerateFromPassword([]byte(password), newBcryptCost)
		if err != nil {
			return "", err
		}
		// $2a$ was written by faulty programs too; $2b$ names the right one, and OpenBSD
		// knows no $2y$.
		prefix, hash = "{BLF-CRYPT}", "$2b$"+strings.TrimPrefix(string(b), "$2a$")
	case "sha512-crypt":
		salt := make([]byte, 12)
		rand.Read(salt)
		h, err := sha512_crypt.New().Generate([]byte(password),
			fmt.Appendf(nil, "$6$rounds=%d$%s", newSHA512Rounds, common.Base64_24Bit(salt)))
		if err != nil {
			return "", err
		}
		prefix, hash = "{SHA512-CRYPT}", h
	case "scram-sha-256":
		if bare {
			return "", fmt.Errorf("%w: OpenSMTPD does not know scram-sha-256; use bcrypt or sha512-crypt", ErrScheme)
		}
		h, err := makeScram(password)
		if err != nil {
			return "", err
		}
		prefix, hash = "{SCRAM-SHA-256}", h
	default:
		return "", fmt.Errorf("%w: %q; there are %s", ErrScheme, scheme, strings.Join(WriteSchemes, ", "))
	}
	if bare {
		return hash, nil
	}
	return prefix + hash, nil
}

func makeArgon2(password string, p argon2Params) string {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, p.passes, p.memory, p.threads, argon2KeySize)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$%s$%s$%s", p, enc.EncodeToString(salt), enc.EncodeToString(key))
}

// makeScram makes the keys of RFC 7677, in the form that Dovecot reads too.
func makeScram(password string) (string, error) {
	keys, err := makeScramKeys(sha256.New, prepared(password), random(saltSize), newScramIterations)
	if err != nil {
		return "", err
	}
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%d,%s,%s,%s", keys.iterations, enc(keys.salt), enc(keys.stored), enc(keys.server)), nil
}

// dummyArgon2 is what a password costs where the file has none to compare with.
func dummyArgon2() Hash {
	return Hash{
		Scheme: "ARGON2ID",
		match: func(_, password string) bool {
			argon2.IDKey([]byte(password), make([]byte, saltSize), newArgon2.passes, newArgon2.memory, newArgon2.threads, argon2KeySize)
			return false
		},
	}
}
