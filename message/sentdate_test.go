package message

import (
	"testing"
	"time"
)

func TestParseSentDate(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"31 Dec 2000 16:01:33 -0800", "2001-01-01T00:01:33Z"}, // RFC 5256 section 2.2
		{"Mon, 1 Jan 2001 00:01:33 +0000", "2001-01-01T00:01:33Z"},
		{"Mon, 1 Jan 2001 12:00:00 +9999", "2001-01-01T12:00:00Z"},
		{"Mon, 1 Jan 2001 12:00:00 +1", "2001-01-01T12:00:00Z"},
		{"Mon, 1 Jan 2001 25:00:00 +0100", "2001-01-01T00:00:00Z"},
		{"Mon, 1 Jan 2001", "2001-01-01T00:00:00Z"},
		{"1 Jan 2001 soon", "2001-01-01T00:00:00Z"},
		{"31 Feb 2001 12:00:00 +0000", ""},
		{"yesterday", ""},
		{"", ""},
	} {
		got, ok := ParseSentDate([]byte(c.value))
		if ok != (c.want != "") || ok && got.UTC().Format(time.RFC3339) != c.want {
			t.Errorf("ParseSentDate(%q) = %v, %v; want %q", c.value, got, ok, c.want)
		}
		if strict, strictly := ParseDate([]byte(c.value)); strictly && !strict.Equal(got) {
			t.Errorf("%q: %v, but strictly %v", c.value, got, strict)
		}
	}
}
