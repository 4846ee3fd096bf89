package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	gehirn "github.com/GehirnInc/crypt"
	"github.com/GehirnInc/crypt/apr1_crypt"
	"github.com/GehirnInc/crypt/md5_crypt"
	"github.com/GehirnInc/crypt/sha256_crypt"
	"github.com/GehirnInc/crypt/sha512_crypt"
	sunsha "github.com/go-crypt/x/crypt"
	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
)

// parseCrypt reads what crypt(3) writes, told by its first characters.
func parseCrypt(_ string, data []byte) (Hash, error) {
	s := string(data)
	if s == "" || s[0] == '!' || s[0] == '*' {
		return Hash{Scheme: "CRYPT", Locked: true}, nil
	}
	magic := ""
	if s[0] == '$' {
		end := strings.IndexAny(s[1:], "$,")
		if end < 0 {
			return Hash{}, fmt.Errorf("%w: it ends behind the first $", ErrBadHash)
		}
		magic = s[1 : 1+end]
	}
	switch magic {
	case "1":
		return parseShaCrypt("MD5-CRYPT", md5_crypt.New(), s, 22)
	case "apr1":
		return parseShaCrypt("APR1", apr1_crypt.New(), s, 22)
	case "5":
		return parseShaCrypt("SHA256-CRYPT", sha256_crypt.New(), s, 43)
	case "6":
		return parseShaCrypt("SHA512-CRYPT", sha512_crypt.New(), s, 86)
	case "2a", "2b", "2y":
		return parseBcrypt(s)
	case "y":
		return parseYescrypt(s)
	case "7":
		return parseScrypt(s)
	case "sha1":
		return parseSHA1Crypt(s)
	case "md5":
		return parseSunMD5(s)
	case "argon2i", "argon2id", "argon2d":
		return parseArgon2("", data)
	case "gy":
		return Hash{}, fmt.Errorf("gost-yescrypt: %w", ErrUnsupported)
	case "2", "2x":
		return Hash{}, fmt.Errorf("bcrypt of the faulty kind $%s$: %w", magic, ErrUnsupported)
	}
	switch {
	case s[0] == '_' && len(s) == 20:
		return Hash{}, fmt.Errorf("BSDi's DES crypt: %w", ErrUnsupported)
	case len(s) == 13 && strings.Trim(s, crypt64) == "":
		return Hash{}, fmt.Errorf("DES crypt: %w", ErrUnsupported)
	case s[0] == '$':
		return Hash{}, fmt.Errorf("crypt(3) kind $%.10s$: %w", magic, ErrUnsupported)
	}
	return Hash{}, fmt.Errorf("%w: it starts neither with {SCHEME} nor as crypt(3) does", ErrBadHash)
}

// crypt64 are the digits of crypt(3).
const crypt64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// parseBlowfish is BLF-CRYPT, which must be bcrypt though other schemes take any kind.
func parseBlowfish(name string, data []byte) (Hash, error) {
	if !bytes.HasPrefix(data, []byte("$2")) {
		return Hash{}, fmt.Errorf("%w: it does not start with $2", ErrBadHash)
	}
	return parseCrypt(name, data)
}

// parseMD5 is `$1$...`, or, as old tables have it under {MD5}, the plain digest in hex.
func parseMD5(name string, data []byte) (Hash, error) {
	if raw, err := hex.DecodeString(string(data)); name == "MD5" && err == nil {
		return parseDigest("PLAIN-MD5", raw)
	}
	if !bytes.HasPrefix(data, []byte("$1$")) {
		return Hash{}, fmt.Errorf("%w: it does not start with $1$", ErrBadHash)
	}
	return parseCrypt(name, data)
}

// parseShaCrypt is `$5$rounds=N$salt$hash` and its kin, whose hash has the given length.
// The library's Verify doubles the $ behind the salt when there are rounds and refuses
// every such hash; its Generate is right when it is given the part before the hash.
func parseShaCrypt(name string, lib gehirn.Crypter, s string, length int) (Hash, error) {
	end := strings.LastIndexByte(s, '$')
	setting, digest := s[:end], s[end+1:]
	if strings.Count(setting, "$") < 2 || len(digest) != length || strings.Trim(digest, crypt64) != "" {
		return Hash{}, fmt.Errorf("%w: it is not $kind$salt$ and %d digits", ErrBadHash, length)
	}
	class := name
	if parts := strings.Split(setting, "$"); len(parts) > 3 || strings.HasPrefix(parts[2], "rounds=") {
		rounds, ok := strings.CutPrefix(parts[2], "rounds=")
		if !ok || len(parts) != 4 || name == "MD5-CRYPT" || name == "APR1" {
			return Hash{}, fmt.Errorf("%w: it has too many parts", ErrBadHash)
		}
		if _, err := parseRounds(rounds); err != nil {
			return Hash{}, err
		}
		class += " " + rounds
	}
	return Hash{
		Scheme: name,
		class:  class,
		match: func(_, password string) bool {
			got, err := lib.Generate([]byte(password), []byte(setting))
			return err == nil && same([]byte(digest), []byte(got[strings.LastIndexByte(got, '$')+1:]))
		},
	}, nil
}

// parseBcrypt: $2a$, $2b$ and $2y$ differ only where passwords are insane.
func parseBcrypt(s string) (Hash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	if err != nil || len(s) != 60 {
		return Hash{}, fmt.Errorf("%w: it is no whole bcrypt hash", ErrBadHash)
	}
	if cost > maxBcryptCost {
		return Hash{}, fmt.Errorf("bcrypt cost %d is more than %d: %w", cost, maxBcryptCost, ErrUnsupported)
	}
	return Hash{
		Scheme: "BLF-CRYPT",
		class:  "BLF-CRYPT " + strconv.Itoa(cost),
		match: func(_, password string) bool {
			return bcrypt.CompareHashAndPassword([]byte(s), []byte(password)) == nil
		},
	}, nil
}

// parseYescrypt is `$y$j9T$salt$hash`, what Debian and Ubuntu put into /etc/shadow. The
// library bounds memory to 1 GiB.
func parseYescrypt(s string) (Hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 5 || len(parts[2]) != 3 || parts[2][0] != 'j' || len(parts[4]) != 43 || yescrypt.Decode64([]byte(parts[3])) == nil {
		return Hash{}, fmt.Errorf("%w: it is not $y$jNr$salt$hash", ErrBadHash)
	}
	_, log2, r, err := yescrypt.DecodeSetting([]byte(parts[2]))
	if err != nil || log2 < 10 || log2 > 18 || r > 32 {
		return Hash{}, fmt.Errorf("yescrypt parameters %.10q: %w", parts[2], ErrUnsupported)
	}
	return Hash{
		Scheme: "YESCRYPT",
		class:  "YESCRYPT " + parts[2],
		match: func(_, password string) bool {
			got, err := yescrypt.Hash([]byte(password), []byte(s))
			return err == nil && same([]byte(s), got)
		},
	}, nil
}

// parseScrypt is `$7$Nrrrrrppppp<salt>$hash`: the logarithm of N in one digit of base
// 64, r and p in five, lowest first, and the salt as its own text.
func parseScrypt(s string) (Hash, error) {
	setting, digest, ok := strings.Cut(s[len("$7$"):], "$")
	if !ok || len(setting) < 12 || len(digest) != 43 {
		return Hash{}, fmt.Errorf("%w: it is not $7$, 11 digits, salt, $, 43 digits", ErrBadHash)
	}
	number := func(digits string) (n uint64, bad bool) {
		for i := range len(digits) {
			d := strings.IndexByte(crypt64, digits[i])
			bad = bad || d < 0
			n |= uint64(max(d, 0)) << (6 * i)
		}
		return n, bad
	}
	log2, bad1 := number(setting[:1])
	r, bad2 := number(setting[1:6])
	p, bad3 := number(setting[6:11])
	if bad1 || bad2 || bad3 || log2 == 0 || r == 0 || p == 0 {
		return Hash{}, fmt.Errorf("%w: its parameters are no digits", ErrBadHash)
	}
	if log2 > 23 || r > 1<<13 || p > 1<<13 || 128*r<<log2 > maxMemory || 128*r<<log2*p > maxTraffic {
		return Hash{}, fmt.Errorf("scrypt N=2^%d r=%d p=%d costs too much: %w", log2, r, p, ErrUnsupported)
	}
	return Hash{
		Scheme: "SCRYPT",
		class:  "SCRYPT " + setting[:11],
		match: func(_, password string) bool {
			key, err := scrypt.Key([]byte(password), []byte(setting[11:]), 1<<log2, int(r), int(p), 32)
			return err == nil && same([]byte(digest), yescrypt.Encode64(key))
		},
	}, nil
}

// parseSHA1Crypt is NetBSD's `$sha1$rounds$salt$hash`.
func parseSHA1Crypt(s string) (Hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 5 || parts[3] == "" || len(parts[4]) != 28 {
		return Hash{}, fmt.Errorf("%w: it is not $sha1$rounds$salt$hash", ErrBadHash)
	}
	rounds, err := parseRounds(parts[2])
	if err != nil {
		return Hash{}, err
	}
	return Hash{
		Scheme: "SHA1-CRYPT",
		class:  "SHA1-CRYPT " + parts[2],
		match: func(_, password string) bool {
			return same([]byte(parts[4]), sunsha.KeySHA1Crypt([]byte(password), []byte(parts[3]), uint32(rounds)))
		},
	}, nil
}

var errSunMD5 = errors.New("it is not $md5,rounds=N$salt$$hash")

// parseSunMD5 is Solaris' `$md5,rounds=N$salt$$hash`. The form with one $ before the
// hash has another salt, which the library cannot do.
func parseSunMD5(s string) (Hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 5 || parts[2] == "" || parts[3] != "" || len(parts[4]) != 22 {
		return Hash{}, fmt.Errorf("%w: %w", ErrBadHash, errSunMD5)
	}
	rounds := 0
	if parts[1] != "md5" {
		digits, ok := strings.CutPrefix(parts[1], "md5,rounds=")
		if !ok {
			return Hash{}, fmt.Errorf("%w: %w", ErrBadHash, errSunMD5)
		}
		var err error
		if rounds, err = parseRounds(digits); err != nil {
			return Hash{}, err
		}
	}
	return Hash{
		Scheme: "SUN-MD5",
		class:  fmt.Sprint("SUN-MD5 ", rounds),
		match: func(_, password string) bool {
			return same([]byte(parts[4]), sunsha.KeyMD5CryptSun([]byte(password), []byte(parts[2]), uint32(rounds)))
		},
	}, nil
}
