package courier

import (
	"strings"
	"unicode/utf8"
)

// SubscribedName is the file of subscriptions, in the root: one name a line.
//
//	INBOX
//	INBOX.Projects.é        UTF-8 since version 5, modified UTF-7 before
//	#shared.box             of another account
const SubscribedName = "courierimapsubscribed"

// Inbox is the first level of every name of the user's own.
const Inbox = "INBOX"

// A Decoder reads one level of a name in modified UTF-7; false when it is none.
type Decoder func(level string) (string, bool)

// Subscribed is what courierimapsubscribed says.
type Subscribed struct {
	// Names are the user's own, by their levels below INBOX; INBOX itself has none.
	Names  [][]string
	Shared []string // lines of other accounts' mailboxes, as they stand
	Bad    int      // lines that are no name
}

// ParseSubscribed reads a courierimapsubscribed, of any version of Courier.
func ParseSubscribed(b []byte, decode Decoder, limit Limits) (s Subscribed) {
	for line := range lines(b, limit, &s.Bad) {
		levels, ok := Levels(line, decode)
		switch {
		case line == "":
		case line[0] == '#':
			s.Shared = append(s.Shared, line)
		case ok && strings.EqualFold(levels[0], Inbox):
			s.Names = append(s.Names, levels[1:])
		default:
			s.Bad++
		}
	}
	return s
}

// Levels parts a name as Courier's files have it: a line of courierimapsubscribed, or
// a name in courierimaphieracl. A level that is modified UTF-7 is read as that,
// whatever the version, and one that is not stands for itself; ok is false when it is
// no UTF-8, or empty.
func Levels(name string, decode Decoder) (levels []string, ok bool) {
	levels = strings.Split(name, ".")
	for i, level := range levels {
		if utf8Only(level) {
			if !utf8.ValidString(level) {
				return nil, false
			}
			continue
		}
		if text, ok := decode(level); ok {
			levels[i] = text
		}
		if levels[i] == "" {
			return nil, false
		}
	}
	return levels, true
}

// utf8Only reports whether a level has bytes that modified UTF-7 has not.
func utf8Only(level string) bool {
	return strings.ContainsFunc(level, func(r rune) bool { return r >= 0x7f })
}
