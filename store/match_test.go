package store

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		name    Name
		want    bool
	}{
		{"*", "INBOX", true},
		{"*", "a/b/c", true},
		{"%", "a", true},
		{"%", "a/b", false},
		{"%/%", "a/b", true},
		{"a/%", "a/b/c", false},
		{"a/*", "a/b/c", true},
		{"a/*", "a", false},
		{"a*", "a", true},
		{"*b%", "a/bc", true},
		{"*b%", "b/c", false},
		{"*/%c", "a/b/xc", true},
		{"%b*", "ab/c", true},
		{"inbox", "INBOX", true},
		{"iNb*", "INBOX", true},
		{"inbox/sent", "INBOX/sent", true},
		{"inbox/SENT", "INBOX/sent", false},
		{"inboxes", "INBOXes", false},
		{"a", "A", false},
		{"", "", true},
		{"", "a", false},
		{"*%*", "", true},
	} {
		if got := Match(c.pattern, c.name, '/'); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*%b", "a/b")
	f.Add("%/*", "INBOX/x")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		pattern, name = pattern[:min(len(pattern), 50)], name[:min(len(name), 50)]
		if strings.HasPrefix(name, "INBOX") {
			return // the fold is in TestMatch
		}
		var re strings.Builder
		re.WriteString(`(?s)^`)
		for i := range len(pattern) {
			switch c := pattern[i]; c {
			case '*':
				re.WriteString(`.*`)
			case '%':
				re.WriteString(`[^/]*`)
			default:
				re.WriteString(regexp.QuoteMeta(string(rune(c))))
			}
		}
		re.WriteString(`$`)
		want := regexp.MustCompile(re.String()).MatchString(latin1(name))
		if got := Match(pattern, Name(name), '/'); got != want {
			t.Errorf("Match(%q, %q) = %v", pattern, name, got)
		}
	})
}

// latin1 makes a rune of each byte, for regexp matches runes and Match bytes.
func latin1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// A pattern of 16 KiB of wildcards took a millisecond and more for each name.
func TestPatternOfManyWildcardsCostsItsLength(t *testing.T) {
	name := Name(strings.Repeat("aaa/", 60) + "aaa")
	for _, c := range []struct {
		pattern string
		want    bool
	}{
		{strings.Repeat("%*", 8000), true},
		{strings.Repeat("*", 16000), true},
		{strings.Repeat("%", 16000), false},
		{strings.Repeat("*a", 8000), false},
		{strings.Repeat("%/", 8000), false},
		{strings.Repeat("%%/", 60) + "%%", true},
		{"*%*a%*" + strings.Repeat("%", 16000), true},
	} {
		simpler, possible := simple(c.pattern, len(name))
		if possible && len(simpler) > 2*len(name)+1 {
			t.Errorf("%.20s... of %d is looked at as a pattern of %d", c.pattern, len(c.pattern), len(simpler))
		}
		if got := Match(c.pattern, name, '/'); got != c.want {
			t.Errorf("%.20s...: %v", c.pattern, got)
		}
	}
}
