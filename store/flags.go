package store

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// systemFlags pairs each bit with its name, in the order in which Roost writes them.
var systemFlags = [...]struct {
	bit  Flags
	name imap.Flag
}{
	{FlagAnswered, imap.FlagAnswered},
	{FlagFlagged, imap.FlagFlagged},
	{FlagDeleted, imap.FlagDeleted},
	{FlagSeen, imap.FlagSeen},
	{FlagDraft, imap.FlagDraft},
}

// SplitFlags parts a list of flags into system flags and keywords. A name that
// starts with a backslash and is no system flag is returned as unknown.
func SplitFlags(list []imap.Flag) (sys Flags, keywords []string, unknown imap.Flag) {
next:
	for _, f := range list {
		if !strings.HasPrefix(string(f), `\`) {
			keywords = append(keywords, string(f))
			continue
		}
		for _, s := range systemFlags {
			if strings.EqualFold(string(s.name), string(f)) {
				sys |= s.bit
				continue next
			}
		}
		unknown = f
	}
	return sys, keywords, unknown
}

// Names lists the system flags that are set.
func (f Flags) Names() []imap.Flag {
	var out []imap.Flag
	for _, s := range systemFlags {
		if f&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	return out
}
