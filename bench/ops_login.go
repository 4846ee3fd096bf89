package main

import (
	"crypto/sha256"
	"encoding/base64"

	"golang.org/x/crypto/bcrypt"
)

// hashes of the password: one that costs nothing, and one that is meant to cost.
func hashes() (cheap, dear string, err error) {
	const salt = "saltsalt"
	sum := sha256.Sum256([]byte(password + salt))
	b, err := bcrypt.GenerateFromPassword([]byte(password), 10)
	return "{SSHA256}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...)), "{BLF-CRYPT}" + string(b), err
}
