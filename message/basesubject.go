package message

import "strings"

// BaseSubject takes from a subject what replying, forwarding and mailing lists put
// around it: RFC 5256 section 2.1. The subject is decoded (DecodeText). reply tells that
// something was taken which marks a reply or a forward, which is how THREAD=REFERENCES
// tells one (RFC 5256 section 3). The words have no case; those of other languages than
// English are left, as the RFC demands.
func BaseSubject(subject string) (base string, reply bool) {
	s := singleSpaces(subject)
	for { // each step takes bytes away or ends; none looks at the same bytes twice but for a blob
		var found bool
		s, found = cutTrailers(s)
		reply = reply || found
		for {
			before := len(s)
			s = strings.TrimLeft(s, " ")
			blobs := skipBlobs(s)
			if rest, ok := cutReply(s[blobs:]); ok {
				s, reply = rest, true
			} else if blobs < len(s) {
				s = s[blobs:]
			} else if blobs > 0 { // what stands in the last blob is all there is
				s = s[lastBlob(s):]
			}
			if len(s) == before {
				break
			}
		}
		if !hasPrefixFold(s, forwardHeader) || !strings.HasSuffix(s, "]") {
			return s, reply
		}
		s, reply = s[len(forwardHeader):len(s)-1], true
	}
}

const (
	forwardHeader  = "[fwd:"
	forwardTrailer = "(fwd)"
)

// singleSpaces makes one space of each run of white space.
func singleSpaces(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		switch s[i] {
		case '\t', '\r', '\n':
			plain = false
		case ' ':
			plain = i == 0 || s[i-1] != ' '
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	space := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			if !space {
				b.WriteByte(' ')
			}
			space = true
		default:
			b.WriteByte(c)
			space = false
		}
	}
	return b.String()
}

// cutTrailers takes subj-trailer from the end, as often as it is there.
func cutTrailers(s string) (rest string, forwarded bool) {
	for {
		s = strings.TrimRight(s, " ")
		end := len(s) - len(forwardTrailer)
		if end < 0 || !strings.EqualFold(s[end:], forwardTrailer) {
			return s, forwarded
		}
		s, forwarded = s[:end], true
	}
}

// skipBlobs gives the length of the run of subj-blob that s begins with.
func skipBlobs(s string) int {
	n := 0
	for {
		end := blob(s[n:])
		if end == 0 {
			return n
		}
		n += end
	}
}

// lastBlob gives where the last blob of s begins, which is a run of them.
func lastBlob(s string) int { return max(0, strings.LastIndexByte(s, '[')) }

// blob gives the length of the subj-blob that s begins with: "[x] ". 0: none.
func blob(s string) int {
	if s == "" || s[0] != '[' {
		return 0
	}
	end := strings.IndexAny(s[1:], "[]") + 1
	if end == 0 || s[end] != ']' {
		return 0
	}
	end++
	for end < len(s) && s[end] == ' ' {
		end++
	}
	return end
}

// cutReply takes subj-refwd: "re:", "fw [list]:", "Fwd :".
func cutReply(s string) (rest string, ok bool) {
	switch {
	case hasPrefixFold(s, "fwd"):
		s = s[3:]
	case hasPrefixFold(s, "re"), hasPrefixFold(s, "fw"):
		s = s[2:]
	default:
		return s, false
	}
	s = strings.TrimLeft(s, " ")
	s = s[blob(s):]
	if s == "" || s[0] != ':' {
		return s, false
	}
	return s[1:], true
}

// hasPrefixFold compares ASCII without case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
