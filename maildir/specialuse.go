package maildir

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

const maxSpecialUseLen = 1000

// specialUses are those of RFC 6154 section 2 and RFC 8457 section 3 that a mailbox
// can be made with: \All and \Flagged would need a view over other mailboxes.
var specialUses = []imap.MailboxAttr{
	imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk,
	imap.MailboxAttrSent, imap.MailboxAttrTrash, imap.MailboxAttrImportant,
}

// parseUses reads the value of /private/specialuse: attributes parted by spaces.
func parseUses(value []byte) []imap.MailboxAttr {
	if len(value) > maxSpecialUseLen {
		return nil
	}
	var out []imap.MailboxAttr
	for _, word := range store.SplitUses(value) {
		if use, ok := canonicalUse(word); ok && !slices.Contains(out, use) {
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

// saveUses writes the special uses of a new mailbox into its control directory; durable.
func (t *tree) saveUses(control fsys.Dir, uses []imap.MailboxAttr) error {
	return t.editMetadata(context.Background(), control, metadataFile, func(m *metadata) (bool, error) {
		return m.set(store.SpecialUseEntry, store.JoinUses(uses)), nil
	})
}

// useCache remembers the special uses of mailboxes by the state of their directory, and
// of their roost-metadata where there is one, so that LIST of many opens no file. Safe for
// concurrent use.
type useCache struct {
	mu     sync.Mutex // guards byPath
	byPath map[string]cachedUse
}

type cachedUse struct {
	ino   uint64 // of the directory
	mtime int64
	file  fileStamp // of roost-metadata; zero: missing
	uses  []imap.MailboxAttr
}

// none reports whether the directory is known to hold no roost-metadata. One that is
// written in place does not change it.
func (u cachedUse) none(dir fsys.Stat) bool {
	return u.ino == dir.Ino && u.mtime == dir.Mtime && u.file == fileStamp{}
}

func (c *useCache) get(path string) cachedUse {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byPath[path]
}

func (c *useCache) put(path string, u cachedUse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPath == nil {
		c.byPath = map[string]cachedUse{}
	}
	c.byPath[path] = u
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
	path := strings.Join(rel, "/")
	u := t.uses.get(path)
	if len(rel) == 1 {
		st, err := t.controlRoot().Stat(rel[0])
		if err != nil || st.Mode.IsDir() && u.none(st) {
			return nil
		}
	}
	d, err := t.controlOf(rel)
	if err != nil {
		return nil
	}
	defer d.Close()
	st, err := d.Self()
	if err != nil || u.none(st) {
		return nil
	}
	file, err := d.Stat(metadataFile)
	now := cachedUse{ino: st.Ino, mtime: st.Mtime}
	switch {
	case err == nil:
		if now.file = fileStampOf(file); now.ino == u.ino && now.mtime == u.mtime && now.file == u.file {
			return u.uses
		}
		m, err := readMetadata(d, metadataFile)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return nil
		}
		now.uses = parseUses(m.get(store.SpecialUseEntry))
	case !errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// What changed just now may change once more under the same time.
	if t.clock().UnixNano()-max(st.Mtime, now.file.mtime, now.file.ctime) > int64(settleAfter) {
		t.uses.put(path, now)
	}
	return now.uses
}

// controlOf opens the directory of roost-metadata of a mailbox other than INBOX.
func (t *tree) controlOf(rel []string) (fsys.Dir, error) {
	if t.control != nil {
		return descend(t.control, rel, false)
	}
	at := t.mail
	for _, name := range rel {
		sub, _, err := t.subOrLink(at, name)
		if at != t.mail {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = sub
	}
	return at, nil
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
