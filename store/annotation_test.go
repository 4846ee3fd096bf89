package store

import (
	"strings"
	"testing"
)

// RFC 5464 section 3.2.
func TestValidEntry(t *testing.T) {
	for _, c := range []struct {
		entry string
		ok    bool
	}{
		{"/private/comment", true},
		{"/SHARED/Comment", true},
		{"/shared/vendor/x/y z", true},
		{"/private", false},
		{"/private/", false},
		{"/private//x", false},
		{"/private/x/", false},
		{"/privateer/x", false},
		{"/comment", false},
		{"private/comment", false},
		{"", false},
		{"/private/a*", false},
		{"/private/a%", false},
		{"/private/a\tb", false},
		{"/private/a\x7f", false},
		{"/private/\u00e4", false},
		{"/private/" + strings.Repeat("x", 991), true},
		{"/private/" + strings.Repeat("x", 992), false},
	} {
		if got := ValidEntry(c.entry); got != c.ok {
			t.Errorf("ValidEntry(%q) = %v", c.entry, got)
		}
	}
}
