package store

import "strings"

// Match reports whether a mailbox name matches a LIST pattern, in which '*'
// stands for anything and '%' for anything within one level (RFC 9051 section
// 6.3.9). INBOX as the first level matches whatever its case. Time is at most
// len(pattern) * len(name), whatever the pattern.
func Match(pattern string, n Name, sep byte) bool {
	if pattern == "*" {
		return true
	}
	name := string(n)
	folded := 0 // how many bytes at the start compare without case
	if i := strings.IndexByte(name, sep); name == string(Inbox) || i >= 0 && name[:i] == string(Inbox) {
		folded = len(Inbox)
	}
	// at[i]: the bytes of name so far may be used up by pattern[:i].
	at := make([]bool, len(pattern)+1)
	at[0] = true
	skipWildcards(at, pattern)
	next := make([]bool, len(at))
	for i := range len(name) {
		clear(next)
		some := false
		for p := range len(pattern) {
			if !at[p] {
				continue
			}
			switch c := pattern[p]; {
			case c == '*', c == '%' && name[i] != sep:
				next[p], some = true, true
			case c == '%':
			case c == name[i], i < folded && upper(c) == name[i]:
				next[p+1], some = true, true
			}
		}
		if !some {
			return false
		}
		skipWildcards(next, pattern)
		at, next = next, at
	}
	return at[len(pattern)]
}

// skipWildcards lets a wildcard stand for nothing.
func skipWildcards(at []bool, pattern string) {
	for p := range len(pattern) {
		if at[p] && (pattern[p] == '*' || pattern[p] == '%') {
			at[p+1] = true
		}
	}
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}
