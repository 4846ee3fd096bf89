package message

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// A digest is that of the bytes with CRLF, in whatever pieces they come and however
// their lines end.
func TestDigestOfLineEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(8474, 1))
	for _, text := range []string{"", "\n", "\r\n", "\r", "\r\r\n", "a\n\nb\r\nc\rd", "\n\r", "a: b\r\n\r\nbody\nend"} {
		for range 50 {
			d := NewDigest()
			for rest := []byte(text); len(rest) > 0; {
				k := 1 + r.IntN(len(rest))
				if n, err := d.Write(rest[:k]); n != k || err != nil {
					t.Fatal(n, err)
				}
				rest = rest[k:]
			}
			want := sha256.Sum256(crlf([]byte(text)))
			if !bytes.Equal(d.Sum(), want[:DigestLen]) {
				t.Fatalf("%q", text)
			}
		}
	}
	if NewDigest().Sum() == nil || len(NewDigest().Sum()) != DigestLen {
		t.Error("length")
	}
}
