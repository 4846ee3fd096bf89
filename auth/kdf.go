package auth

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1" // #nosec G505 -- PBKDF2's, in an HMAC
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// argon2Params are what stands in `$argon2id$v=19$m=65536,t=3,p=1$`. m is in KiB.
type argon2Params struct {
	memory  uint32
	passes  uint32
	threads uint8
}

func (p argon2Params) String() string {
	return fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.passes, p.threads)
}

// parseArgon2 is `$argon2id$v=19$m=65536,t=3,p=1$salt$hash`, base64 without padding.
func parseArgon2(_ string, data []byte) (Hash, error) {
	parts := strings.Split(string(data), "$")
	if len(parts) != 6 || parts[0] != "" {
		return Hash{}, fmt.Errorf("%w: it has not the five parts of an Argon2 hash", ErrBadHash)
	}
	var compute func(password, salt []byte, t, m uint32, p uint8, n uint32) []byte
	name := ""
	switch parts[1] {
	case "argon2id":
		name, compute = "ARGON2ID", argon2.IDKey
	case "argon2i":
		name, compute = "ARGON2I", argon2.Key
	default:
		return Hash{}, fmt.Errorf("%.20q: %w", parts[1], ErrUnsupported)
	}
	if parts[2] != "v=19" {
		return Hash{}, fmt.Errorf("Argon2 version %.20q: %w", parts[2], ErrUnsupported)
	}
	p, err := parseArgon2Params(parts[3])
	if err != nil {
		return Hash{}, err
	}
	enc := base64.RawStdEncoding.Strict()
	salt, err1 := enc.DecodeString(parts[4])
	key, err2 := enc.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) == 0 || len(key) < 4 {
		return Hash{}, fmt.Errorf("%w: salt or hash is not whole base64", ErrBadHash)
	}
	return Hash{
		Scheme: name,
		class:  name + " " + p.String(),
		match: func(_, password string) bool {
			return same(key, compute([]byte(password), salt, p.passes, p.memory, p.threads, uint32(len(key))))
		},
	}, nil
}

func parseArgon2Params(s string) (argon2Params, error) {
	var values [3]uint64
	fields := strings.Split(s, ",")
	for i, key := range []string{"m=", "t=", "p="} {
		if len(fields) != 3 || !strings.HasPrefix(fields[i], key) {
			return argon2Params{}, fmt.Errorf("%w: parameters are not m=,t=,p=", ErrBadHash)
		}
		n, err := strconv.ParseUint(fields[i][len(key):], 10, 32)
		if err != nil || n == 0 {
			return argon2Params{}, fmt.Errorf("%w: parameter %s is no number", ErrBadHash, key)
		}
		values[i] = n
	}
	m, t, p := values[0], values[1], values[2]
	if m<<10 > maxMemory || t > maxRounds || m<<10*t > maxTraffic || p > 255 {
		return argon2Params{}, fmt.Errorf("m=%d,t=%d,p=%d costs too much: %w", m, t, p, ErrUnsupported)
	}
	return argon2Params{uint32(m), uint32(t), uint8(p)}, nil
}

// parsePBKDF2 is `$1$salt$rounds$hash`: HMAC-SHA1, 20 bytes in hex, and the salt is its
// own text.
func parsePBKDF2(_ string, data []byte) (Hash, error) {
	parts := strings.Split(string(data), "$")
	if len(parts) != 5 || parts[0] != "" || parts[1] != "1" || parts[2] == "" {
		return Hash{}, fmt.Errorf("%w: it is not $1$salt$rounds$hash", ErrBadHash)
	}
	rounds, err := parseRounds(parts[3])
	if err != nil {
		return Hash{}, err
	}
	key, err := hex.DecodeString(parts[4])
	if err != nil || len(key) != sha1.Size {
		return Hash{}, fmt.Errorf("%w: the hash is not 40 hex digits", ErrBadHash)
	}
	return Hash{
		class: "PBKDF2 " + parts[3],
		match: func(_, password string) bool {
			got, err := pbkdf2.Key(sha1.New, password, []byte(parts[2]), rounds, len(key))
			return err == nil && same(key, got)
		},
	}, nil
}

// parseSCRAM is `iterations,salt,StoredKey,ServerKey`, base64 (RFC 5802 section 3).
// Dovecot makes the keys of the password as it is, RFC 5802 wants it prepared by SASLprep:
// both are right. For ASCII it is the same.
func parseSCRAM(name string, data []byte) (Hash, error) {
	newHash := scramHash(name)
	parts := bytes.Split(data, []byte(","))
	if len(parts) != 4 {
		return Hash{}, fmt.Errorf("%w: it is not iterations,salt,StoredKey,ServerKey", ErrBadHash)
	}
	rounds, err := parseRounds(string(parts[0]))
	if err != nil {
		return Hash{}, err
	}
	enc := base64.StdEncoding.Strict()
	size := newHash().Size()
	salt, err1 := enc.DecodeString(string(parts[1]))
	stored, err2 := enc.DecodeString(string(parts[2]))
	server, err3 := enc.DecodeString(string(parts[3]))
	if err1 != nil || err2 != nil || err3 != nil || len(salt) == 0 || len(stored) != size || len(server) != size {
		return Hash{}, fmt.Errorf("%w: salt or keys are not whole base64", ErrBadHash)
	}
	return Hash{
		class: name + " " + string(parts[0]),
		scram: &scramKeys{salt: salt, iterations: rounds, stored: stored, server: server},
		match: func(_, password string) bool {
			right := scramMatches(newHash, password, salt, rounds, stored)
			if p := prepared(password); p != password {
				right = scramMatches(newHash, p, salt, rounds, stored) || right
			}
			return right
		},
	}, nil
}

func scramMatches(newHash func() hash.Hash, password string, salt []byte, rounds int, stored []byte) bool {
	keys, err := makeScramKeys(newHash, password, salt, rounds)
	return err == nil && same(stored, keys.stored)
}

// parseRounds reads a count of rounds within the bounds.
func parseRounds(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: the count of rounds is no number", ErrBadHash)
	}
	if n > maxRounds {
		return 0, fmt.Errorf("%d rounds are more than %d: %w", n, maxRounds, ErrUnsupported)
	}
	return int(n), nil
}
