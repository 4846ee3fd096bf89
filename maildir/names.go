package maildir

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-maildir/maildirpp"

	"roost/store"
)

// A mailbox name has three forms: the client's, UTF-8 with a separator; its levels,
// UTF-8 each; and the disk's:
//
//	client             levels              Maildir++                  fs
//	Lists/Ümläut       Lists, Ümläut       .Lists.&ANw-ml&AOQ-ut      Lists/&ANw-ml&AOQ-ut
//	v1.0 notes         v1.0 notes          .v1\2e0 notes (backslash)  v1.0 notes
//	                                       .v1&AC4-0 notes (courier)
//
// Other programs made directories that no name is spelled as. Those are shown too,
// as well as can be, and found again by looking through the directory: see decode.

// maxLevels bounds the depth of names, and so what a walk of the tree may meet.
const maxLevels = 64

// maxComponent is the longest name of a directory entry on all common filesystems.
const maxComponent = 255

// spelling says how the levels of names are written on disk in one tree.
type spelling struct {
	layout   store.Layout
	escape   store.Escape
	utf8     bool
	sep      byte   // of the client's names
	mailDir  string // fs: the directory in each mailbox that holds cur, new, tmp; "" for none
	prefixed bool   // names stand behind a prefix, so that a first level "INBOX" is not INBOX
}

// storageSep stands between the levels of names in subscriptions of version 1.
func (s spelling) storageSep() byte {
	if s.layout == store.LayoutFS {
		return '/'
	}
	return '.'
}

// split parts a client's name, without the prefix of its root. ErrCannot.
func (s spelling) split(name string) ([]string, error) {
	levels := strings.Split(name, string(s.sep))
	if len(levels) > maxLevels {
		return nil, fmt.Errorf("mailbox name of more than %d levels: %w", maxLevels, store.ErrCannot)
	}
	for _, level := range levels {
		if level == "" {
			return nil, fmt.Errorf("mailbox name %q has an empty level: %w", name, store.ErrCannot)
		}
	}
	return levels, nil
}

// join is the reverse of split. It fails when a level holds the separator.
func (s spelling) join(levels []string) (string, bool) {
	for _, level := range levels {
		if level == "" || strings.IndexByte(level, s.sep) >= 0 {
			return "", false
		}
	}
	return strings.Join(levels, string(s.sep)), len(levels) > 0
}

// checkNew refuses names that can be read, but should not be made. ErrCannot.
func (s spelling) checkNew(levels []string) error {
	for i, level := range levels {
		switch {
		case strings.ContainsFunc(level, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' }):
			return fmt.Errorf("mailbox name %q has a control character: %w", level, store.ErrCannot)
		case i == 0 && level[0] == '~' && s.escape == store.EscapeNone:
			return fmt.Errorf("mailbox name %q begins with '~': %w", level, store.ErrCannot)
		case s.layout == store.LayoutFS && isMetadata(level):
			return fmt.Errorf("mailbox name %q is that of a file of the mailbox: %w", level, store.ErrCannot)
		}
	}
	return nil
}

// isMetadata reports whether a name is one that Dovecot or Roost give to files beside
// the mail.
func isMetadata(name string) bool {
	for _, prefix := range []string{"dovecot-", "dovecot.", "roost-", "roost.", "courierimap"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"subscriptions", "subscriptions.lock", "maildirfolder", "maildirsize", "mailboxes.lock"}, name)
}

// encode spells one level; i is its index in the name. ErrCannot when it has no spelling.
func (s spelling) encode(level string, i int) (string, error) {
	if !utf8.ValidString(level) || strings.IndexByte(level, 0) >= 0 || level == "" {
		return "", fmt.Errorf("mailbox name %q is not UTF-8: %w", level, store.ErrCannot)
	}
	out := level
	if !s.utf8 {
		out = encodeMUTF7(level, s.coded())
	}
	if s.escape == store.EscapeBackslash {
		out = s.escaped(out, i)
	}
	if s.cannotStand(out, i) {
		return "", fmt.Errorf("mailbox name %q cannot be a directory here: %w", level, store.ErrCannot)
	}
	return out, nil
}

// coded are the characters that are written in modified UTF-7 though it allows them.
func (s spelling) coded() string {
	if s.escape == store.EscapeCourier {
		return courierCoded
	}
	return ""
}

// courierCoded are the characters that Courier wrote so before its version 5.
const courierCoded = "/.~:"

// escaped writes the bytes that must not stand there as backslash and two digits. "cur"
// and its like stay, and are refused: Dovecot would not show such a name.
func (s spelling) escaped(level string, i int) string {
	var out strings.Builder
	for k := range len(level) {
		c := level[k]
		if c == '/' || c == '\\' || c == s.storageSep() || k == 0 && (c == '~' || s.misread(level, i) && !s.reserved(level)) {
			fmt.Fprintf(&out, `\%02x`, c)
			continue
		}
		out.WriteByte(c)
	}
	return out.String()
}

// cannotStand reports whether a spelled level cannot be a part of a directory's name.
func (s spelling) cannotStand(level string, i int) bool {
	return level == "" || len(level) > maxComponent || strings.IndexByte(level, '/') >= 0 ||
		strings.IndexByte(level, s.storageSep()) >= 0 || s.misread(level, i)
}

// misread reports whether a spelled level would be taken for something else.
func (s spelling) misread(level string, i int) bool {
	if i == 0 && s.prefixed && strings.EqualFold(level, string(store.Inbox)) {
		return true
	}
	return s.layout == store.LayoutFS && (level == "." || level == ".." || level == trashName || s.reserved(level))
}

// reserved reports whether a directory of an fs tree holds mail rather than mailboxes.
func (s spelling) reserved(name string) bool {
	return name == "cur" || name == "new" || name == "tmp" || name == s.mailDir
}

// decode reads one level. It never fails: what no encode could have written is shown
// as it stands when that is UTF-8, else as if its bytes were Latin-1. canonical says
// that encode gives the same bytes again.
func (s spelling) decode(disk string, i int) (level string, canonical bool) {
	if s.plain(disk) {
		return disk, !s.cannotStand(disk, i)
	}
	return s.decodeAny(disk, i)
}

// decodeAny is decode without a look at whether there is anything to decode.
func (s spelling) decodeAny(disk string, i int) (level string, canonical bool) {
	raw := disk
	if s.escape == store.EscapeBackslash {
		raw = unescaped(disk)
	}
	ok := utf8.ValidString(raw)
	level = raw
	if !s.utf8 {
		level, ok = decodeMUTF7(raw, s.coded())
		if !ok && s.coded() != "" {
			level, ok = decodeMUTF7(raw, "") // by a program that knows no escapes
		}
	}
	if !ok {
		level = raw
		if !utf8.ValidString(raw) {
			level = fromLatin1(raw)
		}
	}
	again, err := s.encode(level, i)
	return level, err == nil && again == disk
}

// plain reports whether nothing of a name on disk is written otherwise than it reads.
func (s spelling) plain(disk string) bool {
	for k := range len(disk) {
		switch c := disk[k]; {
		case c < ' ', c > '~', c == '&', c == '\\', c == '/', c == s.storageSep(),
			k == 0 && c == '~' && s.escape == store.EscapeBackslash, s.escape == store.EscapeCourier && strings.IndexByte(courierCoded, c) >= 0:
			return false
		}
	}
	return true
}

// unescaped reads the escapes of EscapeBackslash; a backslash without two digits is one.
func unescaped(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(c))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func fromLatin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// components spells a name as directories below the root: one in Maildir++, one a
// level in fs. ErrCannot.
func (s spelling) components(levels []string) ([]string, error) {
	out := make([]string, len(levels))
	for i, level := range levels {
		var err error
		if out[i], err = s.encode(level, i); err != nil {
			return nil, err
		}
	}
	if s.layout == store.LayoutFS {
		return out, nil
	}
	dir, err := maildirpp.Join(out)
	if err != nil || len(dir) > maxComponent {
		return nil, fmt.Errorf("mailbox name %q cannot be a directory here: %w", strings.Join(levels, string(s.sep)), store.ErrCannot)
	}
	return []string{dir}, nil
}

// fromDirectory reads the name of a directory in a Maildir++ root. ok is false for
// what is no mailbox: "..DOVECOT-TRASHED", ".nfs0001", names with an empty level.
func (s spelling) fromDirectory(dir string) (levels []string, canonical, ok bool) {
	if strings.HasPrefix(dir, "..") || strings.HasPrefix(dir, ".nfs") && isHex(dir[4:]) {
		return nil, false, false
	}
	disk, err := maildirpp.Split(dir)
	if err != nil || len(disk) > maxLevels {
		return nil, false, false
	}
	canonical = true
	for i, d := range disk {
		level, same := s.decode(d, i)
		if level == "" || strings.IndexByte(level, 0) >= 0 {
			return nil, false, false
		}
		canonical = canonical && same
		levels = append(levels, level)
	}
	return levels, canonical, true
}

// isHex reports whether s is only digits of the kind that NFS clients put behind
// ".nfs" when a file is removed while open.
func isHex(s string) bool {
	return len(s) >= 8 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
