package store

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Annotation is one entry that a client keeps with a mailbox or with its account
// (RFC 5464).
type Annotation struct {
	// Entry is its name, as ValidEntry has it: "/private/comment". Names are compared
	// without case, and kept in the spelling of whoever set them first.
	Entry string
	Value []byte // any bytes; nil is no value, and given to Annotate removes the entry
}

// What one mailbox, or an account, may keep. RFC 5464 section 4.1 asks for 1024 bytes and
// 10 entries at least.
const (
	MaxAnnotation      = 64 << 10 // bytes of a value
	MaxAnnotations     = 1000
	MaxAnnotationBytes = 1 << 20 // of all names and values
	maxEntryBytes      = 1000
)

// SpecialUseEntry holds the special uses of a mailbox, parted by spaces (RFC 6154
// section 4). A Store keeps it together with what Create was given.
const SpecialUseEntry = "/private/specialuse"

// JoinUses is the value of SpecialUseEntry; nil, which removes it, for no use.
func JoinUses(uses []imap.MailboxAttr) []byte {
	if len(uses) == 0 {
		return nil
	}
	words := make([]string, len(uses))
	for i, use := range uses {
		words[i] = string(use)
	}
	return []byte(strings.Join(words, " "))
}

// SplitUses are the words of a value of SpecialUseEntry, whether or not they are uses.
func SplitUses(value []byte) (uses []imap.MailboxAttr) {
	for _, word := range strings.Fields(string(value)) {
		uses = append(uses, imap.MailboxAttr(word))
	}
	return uses
}

// ValidEntry reports whether s can be the name of an entry (RFC 5464 section 3.2):
// "/private/..." or "/shared/..." in ASCII without controls and wildcards.
func ValidEntry(s string) bool {
	_, ok := EntryBelow("/private", s)
	if !ok {
		_, ok = EntryBelow("/shared", s)
	}
	if !ok || len(s) > maxEntryBytes || strings.Contains(s, "//") || strings.HasSuffix(s, "/") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '*' || c == '%' {
			return false
		}
	}
	return true
}

// EntryBelow gives what the name of an entry has below another: ("values/x", true) for
// "/private/filters" and "/private/filters/values/x".
func EntryBelow(parent, entry string) (rest string, ok bool) {
	n := len(parent)
	if len(entry) <= n+1 || entry[n] != '/' || !strings.EqualFold(entry[:n], parent) {
		return "", false
	}
	return entry[n+1:], true
}

// IsPrivate tells entries of one user from those that are shared with others.
func (a Annotation) IsPrivate() bool {
	_, ok := EntryBelow("/private", a.Entry)
	return ok
}

// AnnotationWatch gathers the changes that others make to annotations. One goroutine at
// a time.
type AnnotationWatch interface {
	// Pull gives what changed since the last Pull, each mailbox once.
	Pull() []Annotated

	// Close ends the gathering; wake may be called once more.
	Close()
}

// Annotated says which entries of a mailbox have changed, the removed among them.
type Annotated struct {
	Name    Name     // "" is the account
	Entries []string // nil: too many to remember, any may be one
}
