package auth

import (
	"crypto/md5"  // #nosec G501 -- old files have such entries
	"crypto/sha1" // #nosec G505 -- old files have such entries
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"

	//lint:ignore SA1019 old files have PLAIN-MD4
	"golang.org/x/crypto/md4" // #nosec G506 -- old files have PLAIN-MD4
)

// digests of the unsalted and salted schemes.
var digests = map[string]func() hash.Hash{
	"SHA":       sha1.New,
	"SHA1":      sha1.New,
	"SHA256":    sha256.New,
	"SHA512":    sha512.New,
	"SSHA":      sha1.New,
	"SSHA256":   sha256.New,
	"SSHA512":   sha512.New,
	"SMD5":      md5.New,
	"LDAP-MD5":  md5.New,
	"PLAIN-MD5": md5.New,
	"PLAIN-MD4": md4.New,
}

// digestSize is the length of a scheme whose data has one length, and 0 for others.
func digestSize(name string) int {
	switch name {
	case "SSHA", "SSHA256", "SSHA512", "SMD5":
		return 0
	case "DIGEST-MD5":
		return md5.Size
	case "CRAM-MD5", "HMAC-MD5":
		return 2 * md5.Size
	}
	if newHash := digests[name]; newHash != nil {
		return newHash().Size()
	}
	return 0
}

func sum(newHash func() hash.Hash, parts ...[]byte) []byte {
	h := newHash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func wrongLength(got, want int) error {
	return fmt.Errorf("%w: %d bytes instead of %d", ErrBadHash, got, want)
}

// parseDigest is the digest of the password.
func parseDigest(name string, data []byte) (Hash, error) {
	newHash := digests[name]
	if want := newHash().Size(); len(data) != want {
		return Hash{}, wrongLength(len(data), want)
	}
	return Hash{
		match: func(_, password string) bool { return same(data, sum(newHash, []byte(password))) },
	}, nil
}

// parseSalted is the digest of password and salt, and behind it the salt, of any length.
func parseSalted(name string, data []byte) (Hash, error) {
	newHash := digests[name]
	size := newHash().Size()
	if len(data) <= size {
		return Hash{}, fmt.Errorf("%w: %d bytes have no room for a salt", ErrBadHash, len(data))
	}
	digest, salt := data[:size], data[size:]
	return Hash{
		match: func(_, password string) bool { return same(digest, sum(newHash, []byte(password), salt)) },
	}, nil
}

// parseDigestMD5 is MD5 of `user:realm:password`, RFC 2831's secret. Without a domain
// in the login name the realm is empty.
func parseDigestMD5(_ string, data []byte) (Hash, error) {
	if len(data) != md5.Size {
		return Hash{}, wrongLength(len(data), md5.Size)
	}
	return Hash{
		match: func(user, password string) bool {
			local, realm, _ := strings.Cut(user, "@")
			return same(data, sum(md5.New, []byte(local+":"+realm+":"+password)))
		},
	}, nil
}

// parseCRAM is what a server needs for CRAM-MD5: the states of the two MD5 of an HMAC
// after the first block, the outer one first, words little-endian.
func parseCRAM(_ string, data []byte) (Hash, error) {
	if len(data) != 2*md5.Size {
		return Hash{}, wrongLength(len(data), 2*md5.Size)
	}
	return Hash{
		Scheme: "CRAM-MD5",
		match: func(_, password string) bool {
			key := []byte(password)
			if len(key) > md5.BlockSize {
				key = sum(md5.New, key)
			}
			return same(data, append(padState(key, 0x5c), padState(key, 0x36)...))
		},
	}, nil
}

// padState is the state of MD5 after one block of key and pad.
func padState(key []byte, pad byte) []byte {
	block := make([]byte, md5.BlockSize)
	copy(block, key)
	for i := range block {
		block[i] ^= pad
	}
	h := md5.New() // #nosec G401 -- CRAM-MD5's entries in old files
	h.Write(block)
	// The standard library shows the state to those who want to store it: a magic of
	// four bytes, then the words, big-endian.
	saved, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(saved) < 4+md5.Size {
		return nil // matches nothing
	}
	out := make([]byte, md5.Size)
	for i := 0; i < md5.Size; i += 4 {
		binary.LittleEndian.PutUint32(out[i:], binary.BigEndian.Uint32(saved[4+i:]))
	}
	return out
}
