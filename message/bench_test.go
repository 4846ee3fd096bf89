package message

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkScan is what APPEND pays for a message beside storing it.
func BenchmarkScan(b *testing.B) {
	line := strings.Repeat("A", 76) + "\r\n"
	var hostile strings.Builder
	prefix := strings.Repeat("b", 900)
	for i := range 98 {
		fmt.Fprintf(&hostile, "Content-Type: multipart/mixed; boundary=%s%d\n\n--%s%d\n", prefix, i, prefix, i)
	}
	hostile.WriteString("\n")
	for _, c := range []struct{ name, text string }{
		{"text", "Subject: x\r\n\r\n" + strings.Repeat(line, 100_000)},
		{"attachment", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(line, 100_000)},
		{"dashes", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + strings.Repeat("--\n", 1_000_000)},
		{"hostile", hostile.String() + strings.Repeat("--"+prefix+"\n", 2000)},
		{"parts", "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\nContent-Type: text/html\r\n\r\nbody\r\n", 10_000)},
	} {
		text := []byte(c.text)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				s := NewScanner(Limits{})
				for p := text; len(p) > 0; p = p[min(len(p), 32<<10):] {
					s.Write(p[:min(len(p), 32<<10)])
				}
				s.Finish()
			}
		})
	}
}
