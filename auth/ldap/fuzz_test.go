package ldap

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// Whatever a client calls itself, the filter is one filter of the same shape: nobody writes a
// part of it.
func FuzzFilter(f *testing.F) {
	for _, user := range []string{"ann", "ann@example.org", "*", "a)(uid=*", `\2a`, "%n", "a\x00b", "ä", "a@*)(x=y"} {
		f.Add(user)
	}
	f.Fuzz(func(t *testing.T, user string) {
		text := expand("(&(objectClass=person)(uid=%u)(cn=%n)(o=%d))", user)
		p, err := ldap.CompileFilter(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if len(p.Children) != 4 {
			t.Fatalf("%q has %d parts", text, len(p.Children))
		}
		for i, part := range p.Children {
			// An equality has a name and a value; "*" that is not escaped makes another kind of it.
			if part.Tag != ldap.FilterEqualityMatch || len(part.Children) != 2 {
				t.Errorf("%q: part %d is of kind %d", text, i, part.Tag)
			}
		}
		if got := p.Children[1].Children[1].Data.String(); got != user {
			t.Errorf("%q asks for %q, not for %q", text, got, user)
		}
	})
}

// A userPassword of any kind is read without a panic, and an error never shows it.
func FuzzParseHash(f *testing.F) {
	for _, v := range []string{"secret", "{SSHA}x", "{CRYPT}$6$a$b", "{ARGON2}$argon2id$v=19$m=64,t=1,p=1$YWJjZGVmZ2g$YWJjZA", "{", "{}", ""} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h, err := parseHash(value)
		if err == nil && !strings.HasPrefix(value, "{") && !h.Locked && !h.Matches("ann", value) {
			t.Errorf("%q in the clear does not match itself", value)
		}
	})
}
