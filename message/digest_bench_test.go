package message

import (
	"bytes"
	"testing"
)

// What APPEND pays for EMAILID, a byte.
func BenchmarkDigest(b *testing.B) {
	for name, end := range map[string]string{"LF": "\n", "CRLF": "\r\n"} {
		text := bytes.Repeat([]byte("A line of a message as long as most of them are, 72 bytes without its end"+end), 1000)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				NewDigest().Write(text)
			}
		})
	}
}
