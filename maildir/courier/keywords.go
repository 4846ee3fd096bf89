package courier

import (
	"strconv"
	"strings"
)

// The directory courierimapkeywords of a mailbox says which keywords its messages
// have. One file has them all, as they once were:
//
//	:list     $Junk LF         keywords; the first has the index 0
//	          Work LF
//	          LF
//	          BASE:0 1 LF      a message, and the indexes of its keywords
//
// Files beside it, one a message, are newer:
//
//	BASE      Work LF          the message's keywords; none where the file is empty
//	.N.BASE                    the same; the larger N is the newer, BASE newer than all
//
// What belongs to messages that are gone stays there for a while.
const (
	KeywordsDir = "courierimapkeywords"
	ListName    = ":list"
)

// A KeywordList is what :list says.
type KeywordList struct {
	Keywords []string // in the order of the file
	Messages []Tagged
	Bad      int // lines and indexes that were left out
}

// Tagged is a message and its keywords, by their index in KeywordList.Keywords.
type Tagged struct {
	Base     string
	Keywords []int
}

// ParseKeywordList reads :list.
func ParseKeywordList(b []byte, limit Limits) (l KeywordList) {
	names := true
	for line := range lines(b, limit, &l.Bad) {
		switch {
		case names && line == "":
			names = false
		case names:
			l.Keywords = append(l.Keywords, line)
		default:
			l.message(line)
		}
	}
	return l
}

// message reads "BASE:0 1".
func (l *KeywordList) message(line string) {
	base, indexes, ok := strings.Cut(line, ":")
	if !ok || base == "" {
		l.Bad++
		return
	}
	t := Tagged{Base: base}
	for digits := range strings.FieldsSeq(indexes) {
		i, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || int(i) >= len(l.Keywords) {
			l.Bad++
			continue
		}
		t.Keywords = append(t.Keywords, int(i))
	}
	l.Messages = append(l.Messages, t)
}

// ParseKeywords reads the file of one message; never nil, for an empty file says that
// the message has no keywords.
func ParseKeywords(b []byte, limit Limits) (keywords []string, bad int) {
	keywords = []string{}
	for line := range lines(b, limit, &bad) {
		if line == "" {
			bad++
			continue
		}
		keywords = append(keywords, line)
	}
	return keywords, bad
}

// A State is the file of one message in courierimapkeywords.
type State struct {
	Name string // of the file
	Base string // of the message
	age  uint64
}

// latest is the age of a file whose name is the base alone.
const latest = 1<<64 - 1

// StateOf reads the name of a file in courierimapkeywords; false for what is none of a
// message.
func StateOf(name string) (State, bool) {
	if name == "" || strings.IndexByte(name, ':') >= 0 {
		return State{}, false
	}
	rest, dotted := strings.CutPrefix(name, ".")
	if !dotted {
		return State{name, name, latest}, true
	}
	digits, base, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || base == "" {
		return State{}, false
	}
	return State{name, base, n}, true
}

// Newer reports whether s says what holds after t, of the same message.
func (s State) Newer(t State) bool {
	return s.age > t.age || s.age == t.age && s.Name > t.Name // ".01.x" and ".1.x"
}
