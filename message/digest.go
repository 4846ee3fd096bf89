package message

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// DigestLen is the length of a digest in bytes.
const DigestLen = 20

// A Digest is an io.Writer that knows a message by its bytes: the first DigestLen bytes of
// their SHA-256, each bare LF counted as CRLF, so that it does not matter how a file ends
// its lines. Write never fails. One goroutine at a time.
type Digest struct {
	h  hash.Hash
	cr bool // the last byte was a CR
}

// NewDigest begins one message.
func NewDigest() *Digest { return &Digest{h: sha256.New()} }

var lineEnd = []byte("\r\n")

// Write implements io.Writer.
func (d *Digest) Write(p []byte) (int, error) {
	n, from := len(p), 0
	for at := 0; ; at++ {
		next := bytes.IndexByte(p[at:], '\n')
		if next < 0 {
			break
		}
		if at += next; at > 0 && p[at-1] == '\r' || at == 0 && d.cr {
			continue
		}
		d.h.Write(p[from:at])
		d.h.Write(lineEnd)
		from = at + 1
	}
	d.h.Write(p[from:])
	if n > 0 {
		d.cr = p[n-1] == '\r'
	}
	return n, nil
}

// Sum is the digest of what was written so far.
func (d *Digest) Sum() []byte { return d.h.Sum(nil)[:DigestLen] }
