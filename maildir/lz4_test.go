package maildir

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestUnpackLZ4(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		ok             bool
	}{
		{"literals", "\x30abc", "abc", true},
		{"nothing", "", "", true},
		{"empty last", "\x00", "", true},
		{"a run", "\x15a\x01\x00\x10b", "aaaaaaaaaab", true},
		{"two back", "\x20ab\x02\x00\x00", "ababab", true},
		{"long literals", "\xf0\x05" + strings.Repeat("x", 20), strings.Repeat("x", 20), true},
		{"long match", "\x1fa\x01\x00\xff\x00\x10b", strings.Repeat("a", 1+4+15+255) + "b", true},
		{"before the start", "\x10a\x02\x00", "", false},
		{"offset 0", "\x10a\x00\x00", "", false},
		{"cut off literals", "\x30ab", "", false},
		{"cut off offset", "\x10a\x01", "", false},
		{"cut off length", "\xf0\xff", "", false},
		{"above the limit", "\x1fa\x01\x00" + strings.Repeat("\xff", 4) + "\x00", "", false},
	} {
		if got, ok := unpackLZ4(nil, []byte(c.in), 1000); ok != c.ok || ok && string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, ok)
		}
	}
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte(lz4Magic + "\x00\x01\x00\x00\x00\x00\x00\x07\x15a\x01\x00\x10b."))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newLZ4(bytes.NewReader(b))
		if err != nil {
			return
		}
		// The worst chunk is runs: 255 bytes for one.
		if n, _ := io.Copy(io.Discard, r); n > 256*int64(len(b)) {
			t.Fatalf("%d bytes became %d", len(b), n)
		}
	})
}
