package maildir

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

// metadataFile is roost-metadata, in the control directory of a mailbox: what has to
// be kept with it and has no place in Dovecot's files, as annotations (RFC 5464).
//
//	roost-metadata 1                   first line: format 1
//	/private/specialuse TAB \Sent      entry TAB value LF
//
// Entry and value are escaped as in subscriptions: 0x01 then 1, t, n, r, 0 stands for
// 0x01, TAB, LF, CR, NUL. A line without TAB is not ours and is kept. The file is
// replaced whole. When it is missing there are no annotations.
const metadataFile = "roost-metadata"

const (
	metadataHeader   = "roost-metadata 1\n"
	metadataTmp      = "roost-metadata.tmp"
	metadataLimit    = 1 << 20
	entrySpecialUse  = "/private/specialuse" // RFC 6154 section 4
	maxSpecialUseLen = 1000
)

// metadata is the content of a roost-metadata file.
type metadata struct {
	values  map[string]string
	foreign []string // lines without TAB, without their LF
}

func parseMetadata(b []byte) metadata {
	m := metadata{values: map[string]string{}}
	body, _ := strings.CutPrefix(string(b), metadataHeader)
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		entry, value, ok := strings.Cut(line, "\t")
		if !ok || entry == "" {
			if line != "" {
				m.foreign = append(m.foreign, line)
			}
			continue
		}
		m.values[tabUnescape(entry)] = tabUnescape(value)
	}
	return m
}

func (m metadata) encode() []byte {
	out := []byte(metadataHeader)
	for _, line := range m.foreign {
		out = append(append(out, line...), '\n')
	}
	for _, entry := range slices.Sorted(maps.Keys(m.values)) {
		out = append(out, tabEscape(entry)+"\t"+tabEscape(m.values[entry])+"\n"...)
	}
	return out
}

// tabEscapes are Dovecot's, for values in files of lines and tabs.
var (
	tabEscapes   = strings.NewReplacer("\x01", "\x011", "\t", "\x01t", "\n", "\x01n", "\r", "\x01r", "\x00", "\x010")
	tabUnescapes = strings.NewReplacer("\x011", "\x01", "\x01t", "\t", "\x01n", "\n", "\x01r", "\r", "\x010", "\x00")
)

func tabEscape(s string) string   { return tabEscapes.Replace(s) }
func tabUnescape(s string) string { return tabUnescapes.Replace(s) }

// specialUses are those of RFC 6154 section 2 and RFC 8457 section 3 that a mailbox
// can be made with: \All and \Flagged would need a view over other mailboxes.
var specialUses = []imap.MailboxAttr{
	imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk,
	imap.MailboxAttrSent, imap.MailboxAttrTrash, imap.MailboxAttrImportant,
}

// parseUses reads the value of /private/specialuse: attributes parted by spaces.
func parseUses(value string) []imap.MailboxAttr {
	if len(value) > maxSpecialUseLen {
		return nil
	}
	var out []imap.MailboxAttr
	for _, word := range strings.Fields(value) {
		if use, ok := canonicalUse(imap.MailboxAttr(word)); ok && !slices.Contains(out, use) {
			out = append(out, use)
		}
	}
	return out
}

// canonicalUse gives the spelling of a special use; false for what cannot be kept.
func canonicalUse(use imap.MailboxAttr) (imap.MailboxAttr, bool) {
	for _, known := range specialUses {
		if strings.EqualFold(string(known), string(use)) {
			return known, true
		}
	}
	return "", false
}

// saveUses writes the special uses of a mailbox into its control directory; durable.
func saveUses(control fsys.Dir, mode fs.FileMode, uses []imap.MailboxAttr) error {
	old, err := fsys.ReadFile(control, metadataFile, metadataLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m := parseMetadata(old)
	words := make([]string, len(uses))
	for i, use := range uses {
		words[i] = string(use)
	}
	m.values[entrySpecialUse] = strings.Join(words, " ")
	return fsys.Replace(control, metadataFile, metadataTmp, m.encode(), mode, true)
}

// useCache remembers the special uses of mailboxes by the state of their directory,
// so that LIST of many opens no file. Safe for concurrent use.
type useCache struct {
	mu     sync.Mutex // guards byPath
	byPath map[string]cachedUse
}

type cachedUse struct {
	ino   uint64
	mtime int64
	uses  []imap.MailboxAttr
}

func (c *useCache) get(path string, st fsys.Stat) ([]imap.MailboxAttr, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.byPath[path]
	return u.uses, ok && u.ino == st.Ino && u.mtime == st.Mtime
}

func (c *useCache) put(path string, st fsys.Stat, uses []imap.MailboxAttr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPath == nil {
		c.byPath = map[string]cachedUse{}
	}
	c.byPath[path] = cachedUse{st.Ino, st.Mtime, uses}
}

// forget drops all: names have changed.
func (c *useCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byPath = nil
}

// usesOf reads the special uses that are kept with a mailbox. What cannot be read
// is none: LIST answers the rest.
func (t *tree) usesOf(rel []string) []imap.MailboxAttr {
	base := t.controlRoot()
	path := strings.Join(rel, "/")
	if len(rel) == 1 {
		st, err := base.Stat(rel[0])
		if err != nil {
			return nil
		}
		if uses, ok := t.uses.get(path, st); ok && st.Mode.IsDir() {
			return uses
		}
	}
	d, err := descend(base, rel, false)
	if err != nil {
		return nil
	}
	defer d.Close()
	st, err := d.Self()
	if err != nil {
		return nil
	}
	if uses, ok := t.uses.get(path, st); ok {
		return uses
	}
	var uses []imap.MailboxAttr
	if b, err := fsys.ReadFile(d, metadataFile, metadataLimit); err == nil {
		uses = parseUses(parseMetadata(b).values[entrySpecialUse])
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	t.uses.put(path, st, uses)
	return uses
}

// configuredUse is what the configuration says of a name.
func (t *tree) configuredUse(n store.Name) []imap.MailboxAttr {
	var out []imap.MailboxAttr
	for _, f := range t.root.Folders {
		if f.Use != "" && f.Name.Canonical(t.spell.sep) == n {
			out = append(out, imap.MailboxAttr(f.Use))
		}
	}
	return out
}
