package workers

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"

	"roost/auth"
)

// A seal is what the front keeps of a login for the desk, so that it can ask later whether
// that login still stands (auth.Auth.Stands): it can neither be read nor be made there. In
// the clear the front could ask about secrets of its own, and so try passwords of everybody
// without being counted.
//
// Of equal logins seals are equal, so that many sessions of a user are one question: the
// nonce is a hash of what is sealed, under a key of its own.
type seal struct {
	aead  cipher.AEAD
	nonce []byte
}

// keySize is that of AES-256.
const keySize = 32

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key) // never fails, says crypto/rand
	return key
}

func newSeal(key []byte) (seal, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return seal{}, err
	}
	aead, err := cipher.NewGCM(block)
	return seal{aead, keyed(key, []byte("nonce"))}, err
}

func keyed(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// sealed is what may be asked about later.
type sealed struct {
	Name, Login string
	Proof       auth.Proof
}

func (s seal) close(u auth.User) ([]byte, error) {
	b, err := json.Marshal(sealed{u.Name, u.Login, u.Proof})
	if err != nil {
		return nil, err
	}
	return s.wrap(b), nil
}

func (s seal) wrap(b []byte) []byte {
	nonce := keyed(s.nonce, b)[:s.aead.NonceSize()]
	return s.aead.Seal(nonce, nonce, b, nil)
}

var errSeal = errors.New("it is no seal of the desk")

func (s seal) open(b []byte) (u auth.User, err error) {
	text, err := s.unwrap(b)
	var k sealed
	if err != nil || json.Unmarshal(text, &k) != nil {
		return u, errSeal
	}
	return auth.User{Name: k.Name, Login: k.Login, Proof: k.Proof}, nil
}

func (s seal) unwrap(b []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(b) < n {
		return nil, errSeal
	}
	text, err := s.aead.Open(nil, b[:n], b[n:], nil)
	if err != nil {
		return nil, errSeal
	}
	return text, nil
}
