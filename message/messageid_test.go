package message

import (
	"slices"
	"strings"
	"testing"
)

func TestMessageIDs(t *testing.T) {
	for _, c := range []struct {
		value string
		want  string // joined by |
	}{
		{"<a@b>", "a@b"},
		{` <"01KF8JCEOCBS0045PS"@xxx.yyy.com>`, "01KF8JCEOCBS0045PS@xxx.yyy.com"}, // RFC 5256 section 3
		{"<01KF8JCEOCBS0045PS@xxx.yyy.com>", "01KF8JCEOCBS0045PS@xxx.yyy.com"},
		{`<"a\"b@c>"@d>`, `a"b@c>@d`},
		{"<a@b> <c@d>\r\n\t<e@f>", "a@b|c@d|e@f"},
		{"<a@b><c@d>", "a@b|c@d"},
		{"<long.id.that.was\r\n cut@example.org>", "long.id.that.wascut@example.org"},
		{`Your message of "Mon, 1 Jan" <a@b> Ann <ann@example.org>`, "a@b|ann@example.org"},
		{"<nothing>", ""},
		{"<@b> <a@> <> <a@b", ""},
		{"a@b", ""},
		{"<a <b@c>", "b@c"},
		{`<"never closed@a> <b@c>`, ""},
		{"", ""},
	} {
		if got := strings.Join(slices.Collect(MessageIDs([]byte(c.value))), "|"); got != c.want {
			t.Errorf("MessageIDs(%q) = %q, want %q", c.value, got, c.want)
		}
	}
}

func FuzzMessageIDs(f *testing.F) {
	f.Add([]byte(`<"a\b"@c> x <d@e>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for id := range MessageIDs(b) {
			n += len(id)
			if i := strings.LastIndexByte(id, '@'); i < 1 || i == len(id)-1 {
				t.Fatalf("%q: %q", b, id)
			}
			if n > len(b) {
				t.Fatalf("%q: longer than what was read", b)
			}
		}
	})
}
