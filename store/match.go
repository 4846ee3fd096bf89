package store

import "strings"

// Match reports whether a mailbox name matches a LIST pattern, in which '*'
// stands for anything and '%' for anything within one level (RFC 9051 section
// 6.3.9). INBOX as the first level matches whatever its case. Time is at most
// len(pattern) + 2 * len(name) * len(name), whatever the pattern.
func Match(pattern string, n Name, sep byte) bool {
	if pattern == "*" {
		return true
	}
	name := string(n)
	var possible bool
	if pattern, possible = simple(pattern, len(name)); !possible {
		return false
	}
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

// simple makes of each run of wildcards the one that matches the same: '*' where there is one
// in it, else '%'. It is false where the pattern has more than most bytes that are no wildcards,
// which no name of that length matches.
func simple(pattern string, most int) (string, bool) {
	plain, runs, last := 0, false, byte(0)
	for i := range len(pattern) {
		switch c := pattern[i]; {
		case c != '*' && c != '%':
			if plain++; plain > most {
				return "", false
			}
		case last == '*' || last == '%':
			runs = true
		}
		last = pattern[i]
	}
	if !runs {
		return pattern, true
	}
	out := make([]byte, 0, 2*plain+1)
	for i := range len(pattern) {
		c := pattern[i]
		if n := len(out); n > 0 && (c == '*' || c == '%') && (out[n-1] == '*' || out[n-1] == '%') {
			if c == '*' {
				out[n-1] = c
			}
			continue
		}
		out = append(out, c)
	}
	return string(out), true
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
