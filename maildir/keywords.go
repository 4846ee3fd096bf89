package maildir

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxLetters is how many keywords of a mailbox have a letter in file names.
const maxLetters = 26

// letterTable is the content of dovecot-keywords, which Dovecot shares:
//
//	0 $Forwarded        index SP keyword LF; index 0 is the letter 'a', 25 is 'z'
//	1 Work
//
// A keyword keeps its letter for ever; lines are never taken away. A line that is
// no such line is carried along. Both programs replace the file whole, under the
// uidlist's lock. When it is lost, the letters in the file names remain, and their
// keywords are called "unknown-0" and so on, as by Dovecot.
type letterTable struct {
	names   [maxLetters]string // as in the file; "" is free
	foreign []string           // lines that are not understood, without LF
}

// parseLetters reads a dovecot-keywords file. The first line of an index counts,
// and the first spelling of a keyword.
func parseLetters(b []byte) letterTable {
	var t letterTable
	for line := range bytes.Lines(b) {
		s := strings.TrimRight(string(line), "\r\n")
		if s == "" {
			continue
		}
		digits, name, _ := strings.Cut(s, " ")
		i, err := strconv.ParseUint(digits, 10, 8)
		if err != nil || i >= maxLetters || name == "" || t.names[i] != "" || t.find(name) >= 0 {
			t.foreign = append(t.foreign, s)
			continue
		}
		t.names[i] = name
	}
	return t
}

// encode is the file's new content.
func (t *letterTable) encode() []byte {
	var out []byte
	for i, name := range t.names {
		if name != "" {
			out = fmt.Appendf(out, "%d %s\n", i, name)
		}
	}
	for _, s := range t.foreign {
		out = append(append(out, s...), '\n')
	}
	return out
}

// name is the keyword behind a letter. What could not be sent to a client (it is no
// atom, RFC 9051 section 9) or was never written goes by the number of its letter.
func (t *letterTable) name(i int) string {
	if s := t.names[i]; isKeyword(s) {
		return s
	}
	return "unknown-" + strconv.Itoa(i)
}

// namesOf are the keywords of a message by its letters.
func (t *letterTable) namesOf(set letterSet) []string {
	if set == 0 {
		return nil
	}
	var out []string
	for i := range maxLetters {
		if set.has(i) {
			out = append(out, t.name(i))
		}
	}
	return out
}

// all are the keywords that have a letter, in the order of the letters.
func (t *letterTable) all() []string {
	var out []string
	for i, s := range t.names {
		if s != "" {
			out = append(out, t.name(i))
		}
	}
	return out
}

// given are the letters that have a line.
func (t *letterTable) given() (set letterSet) {
	for i, s := range t.names {
		if s != "" {
			set |= 1 << i
		}
	}
	return set
}

// find gives the index of a keyword, whatever its case, or -1.
func (t *letterTable) find(keyword string) int {
	for i, s := range t.names {
		if s != "" && strings.EqualFold(s, keyword) {
			return i
		}
	}
	if digits, ok := cutPrefixFold(keyword, "unknown-"); ok {
		if i, err := strconv.ParseUint(digits, 10, 8); err == nil && i < maxLetters && strconv.Itoa(int(i)) == digits && !isKeyword(t.names[i]) {
			return int(i)
		}
	}
	return -1
}

// add gives a keyword a letter that is neither in the table nor in used, which are
// the letters of file names. fresh says that the file must be written before the
// letter is used; the index is -1 when all are taken.
func (t *letterTable) add(keyword string, used letterSet) (i int, fresh bool) {
	if i = t.find(keyword); i >= 0 {
		return i, false
	}
	for i = range maxLetters {
		if t.names[i] == "" && !used.has(i) {
			t.names[i] = keyword
			return i, true
		}
	}
	return -1, false
}

// isKeyword reports whether a client could be told and could send this keyword:
// a flag-keyword is an atom (RFC 9051 section 9).
func isKeyword(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// extraKeywords is the content of roost-keywords: the keywords of messages for which
// no letter was left, by the base of the message's file.
//
//	roost-keywords 1                               first line: format 1
//	$Junk Later :1795464818.M371232P56.mail,S=67   keywords, SP ":" base LF
//	 :1795464818.M371232P56.mail,S=67              a later line replaces an earlier one; this takes all away
//
// A base holds no ':', so the last " :" of a line parts it. Changes are appended; a
// last line without LF was not finished and does not count. The file is kept, unlike
// roost.*: nothing else knows these keywords. When it is missing there are none.
type extraKeywords struct {
	byBase map[string][]string
	lines  int // in the file, those that no longer count too
}

const extraHeader = "roost-keywords 1\n"

// parseExtra reads a roost-keywords file. Lines that are none are left out. torn
// means that something must be done about the end or the head before the next append.
func parseExtra(b []byte) (x extraKeywords, torn bool) {
	x.byBase = map[string][]string{}
	if len(b) == 0 {
		return x, true
	}
	body, ok := bytes.CutPrefix(b, []byte(extraHeader))
	torn = !ok
	for line := range bytes.Lines(body) {
		s, whole := strings.CutSuffix(string(line), "\n")
		if !whole {
			torn = true
			break
		}
		i := strings.LastIndex(s, " :")
		if i < 0 || i+2 == len(s) {
			continue
		}
		keywords := strings.Fields(s[:i])
		if slices.ContainsFunc(keywords, func(k string) bool { return !isKeyword(k) }) {
			continue
		}
		x.set(s[i+2:], keywords)
	}
	return x, torn
}

// set notes the keywords of a base; none forgets it.
func (x *extraKeywords) set(base string, keywords []string) {
	x.lines++
	if len(keywords) == 0 {
		delete(x.byBase, base)
		return
	}
	x.byBase[base] = keywords
}

// wasteful says that the file is mostly lines that no longer count.
func (x *extraKeywords) wasteful() bool { return x.lines > 2*len(x.byBase)+64 }

// extraLine is what is appended for one message.
func extraLine(base string, keywords []string) string {
	return strings.Join(keywords, " ") + " :" + base + "\n"
}

// encode is the whole file anew, sorted so that equal contents are equal files.
func (x *extraKeywords) encode() []byte {
	out := []byte(extraHeader)
	bases := make([]string, 0, len(x.byBase))
	for base := range x.byBase {
		bases = append(bases, base)
	}
	slices.SortFunc(bases, func(a, b string) int { return cmp.Or(compareNew(a, b), strings.Compare(a, b)) })
	for _, base := range bases {
		out = append(out, extraLine(base, x.byBase[base])...)
	}
	return out
}
