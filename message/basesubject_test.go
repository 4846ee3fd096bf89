package message

import (
	"strings"
	"testing"
)

func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		subject, base string
		reply         bool
	}{
		{"", "", false},
		{"   ", "", false},
		{"hello", "hello", false},
		{" two\t words\r\n more ", "two words more", false},
		// (2) subj-trailer
		{"hello (fwd)", "hello", true},
		{"hello (FWD) (fwd)  ", "hello", true},
		{"hello(fwd)", "hello", true},
		{"(fwd)", "", true},
		{"hello (fwd) there", "hello (fwd) there", false},
		// (3) subj-leader
		{"Re: hello", "hello", true},
		{"re:hello", "hello", true},
		{"FW: hello", "hello", true},
		{"Fwd : hello", "hello", true},
		{"fwd[5]: hello", "hello", true},
		{"Re [list] : hello", "hello", true},
		{"Re: Re: fw:FWD: hello", "hello", true},
		{"re: ", "", true},
		{"Re", "Re", false},
		{"Reply: hello", "Reply: hello", false},
		{"AW: hello", "AW: hello", false}, // RFC 5256 section 7: other languages stay
		{"fwdd: hello", "fwdd: hello", false},
		{"[go] Re: [dev] hello", "hello", true},
		{"[go][dev] Re[2]: hello", "hello", true},
		// (4) subj-blob, unless it is all there is
		{"[go] hello", "hello", false},
		{"[go] [dev] hello", "hello", false},
		{"[go]", "[go]", false},
		{"[go] [dev]", "[dev]", false},
		{"Re: [go]", "[go]", true},
		{"[a[b] c", "[a[b] c", false}, // no blob holds a bracket
		{"[open hello", "[open hello", false},
		{"[] hello", "hello", false},
		{"hello [go]", "hello [go]", false},
		// (6) subj-fwd
		{"[fwd: hello]", "hello", true},
		{"[Fwd: Re: [go] hello (fwd)]", "hello", true},
		{"[fwd: [FWD: hello]]", "hello", true},
		{"Re: [fwd: hello] (fwd)", "hello", true},
		{"[fwd: hello", "[fwd: hello", false},
		{"[fwd: a] b", "b", false}, // a blob like others
		{"[fwd:]", "", true},
		{"[fwd: ]", "", true},
		{"[fwd:[fwd:]]", "", true},
		// letters beyond ASCII
		{"Re: Größe", "Größe", true},
		{"ſe: x", "ſe: x", false},
	} {
		base, reply := BaseSubject(c.subject)
		if base != c.base || reply != c.reply {
			t.Errorf("BaseSubject(%q) = %q, %v; want %q, %v", c.subject, base, reply, c.base, c.reply)
		}
	}
}

// slowBase is the procedure of RFC 5256 section 2.1, one step after the other.
func slowBase(s string) string {
	s = singleSpaces(s)
	for {
		s, _ = cutTrailers(s)
		for {
			before := s
			for { // (3)
				if strings.HasPrefix(s, " ") {
					s = s[1:]
				} else if rest, ok := cutReply(s[skipBlobs(s):]); ok {
					s = rest
				} else {
					break
				}
			}
			if n := blob(s); n > 0 && n < len(s) { // (4)
				s = s[n:]
			}
			if s == before {
				break
			}
		}
		if !hasPrefixFold(s, "[fwd:") || !strings.HasSuffix(s, "]") {
			return s
		}
		s = s[5 : len(s)-1]
	}
}

func FuzzBaseSubject(f *testing.F) {
	for _, s := range []string{"", "[a] Re[b]: c (fwd)", "[fwd: [a][b] ]", "[[]]", "re:re [", "[x] (fwd)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, _ := BaseSubject(s)
		if want := slowBase(s); base != want {
			t.Fatalf("%q: %q, step by step %q", s, base, want)
		}
		if again, _ := BaseSubject(base); again != base {
			t.Fatalf("%q: %q has the base %q", s, base, again)
		}
	})
}

// What is made to be looked at again and again costs as much as other text.
func TestBaseSubjectIsLinear(t *testing.T) {
	for _, s := range []string{"[a]", "re:", "[fwd:", "(fwd)", "re[a]:", "[fwd:[a]", " ", "re["} {
		for _, end := range []string{"", "x", strings.Repeat("]", 1<<20)} {
			BaseSubject(strings.Repeat(s, 1<<20) + end) // seconds are minutes if it is not
		}
	}
}
