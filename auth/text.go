package auth

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"strconv"
)

// same compares in a time that depends on the lengths only.
func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// parsePlain is the password itself.
func parsePlain(_ string, data []byte) (Hash, error) {
	return Hash{
		Scheme: "PLAIN",
		clear:  string(data),
		match:  func(_, password string) bool { return same(data, []byte(password)) },
	}, nil
}

// parsePlainTrunc is `<max>-<prefix>`: the first max bytes are compared.
func parsePlainTrunc(_ string, data []byte) (Hash, error) {
	digits, prefix, ok := bytes.Cut(data, []byte("-"))
	limit, err := strconv.ParseUint(string(digits), 10, 16)
	if !ok || err != nil {
		return Hash{}, fmt.Errorf("%w: it is not length, minus, text", ErrBadHash)
	}
	cut := func(b []byte) []byte { return b[:min(len(b), int(limit))] }
	return Hash{
		match: func(_, password string) bool { return same(cut(prefix), cut([]byte(password))) },
	}, nil
}
