package maildir

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

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
// of their roost-metadata where there is one, so that LIST of many opens no file; and for
// usesGood, so that it does not ask for each of them again. Who changes them in this process
// calls forget. Safe for concurrent use.
type useCache struct {
	mu     sync.Mutex // guards what follows
	gen    uint64     // counts the calls of forget
	byPath map[string]cachedUse
}

// usesGood is for how long special uses are believed that were compared with the disk: so
// long another process may have changed them before LIST tells of it.
const usesGood = 10 * time.Second

type cachedUse struct {
	at    int64  // when it was compared last, unix nanoseconds; 0: nothing is believed
	ino   uint64 // of the directory; 0: it was too young for mtime to prove anything
	mtime int64
	file  fileStamp // of roost-metadata; zero: missing
	uses  []imap.MailboxAttr
}

// none reports whether the directory is known to hold no roost-metadata. One that is
// written in place does not change it.
func (u cachedUse) none(dir fsys.Stat) bool {
	return u.ino == dir.Ino && u.mtime == dir.Mtime && u.file == fileStamp{}
}

// good reports whether it need not be compared at that time.
func (u cachedUse) good(now int64) bool {
	return u.at != 0 && u.at <= now && now < u.at+int64(usesGood)
}

func (c *useCache) get(path string) (u cachedUse, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byPath[path], c.gen
}

// put keeps what was read since get gave gen.
func (c *useCache) put(path string, u cachedUse, gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
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
	c.gen++
}

// usesOf reads the special uses that are kept with a mailbox, as they were at most usesGood
// before now, unix nanoseconds; as they are where that is 0. What cannot be read is none: LIST answers the rest.
func (t *tree) usesOf(rel []string, now int64) []imap.MailboxAttr {
	path := rel[0]
	if len(rel) > 1 {
		path = strings.Join(rel, "/")
	}
	u, gen := t.uses.get(path)
	if u.good(now) {
		return u.uses
	}
	compared := func() []imap.MailboxAttr {
		u.at = now
		t.uses.put(path, u, gen)
		return u.uses
	}
	if len(rel) == 1 && u.ino != 0 {
		st, err := t.controlRoot().Stat(rel[0])
		switch {
		case err != nil:
			return nil
		case st.Mode.IsDir() && u.none(st):
			return compared()
		}
	}
	d, err := t.controlOf(rel)
	if err != nil {
		return nil
	}
	defer d.Close()
	st, err := d.Self()
	switch {
	case err != nil:
		return nil
	case u.none(st):
		return compared()
	}
	file, err := d.Stat(metadataFile)
	was := u
	u = cachedUse{ino: st.Ino, mtime: st.Mtime}
	switch {
	case err == nil:
		if u.file = fileStampOf(file); u.ino == was.ino && u.mtime == was.mtime && u.file == was.file {
			u.uses = was.uses
			return compared()
		}
		m, err := readMetadata(d, metadataFile)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return nil
		}
		u.uses = parseUses(m.get(store.SpecialUseEntry))
	case !errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// What changed just now may change once more under the same time: then it is read again,
	// and a file of it at once, for somebody may be editing it and look.
	if t.clock().UnixNano()-max(st.Mtime, u.file.mtime, u.file.ctime) <= int64(settleAfter) {
		if u.ino = 0; u.file != (fileStamp{}) {
			return u.uses
		}
	}
	return compared()
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
func (t *tree) configuredUse(n store.Name) []imap.MailboxAttr { return t.configured[n] }

// configuredUses are those of all names.
func (t *tree) configuredUses() map[store.Name][]imap.MailboxAttr {
	out := map[store.Name][]imap.MailboxAttr{}
	for _, f := range t.root.Folders {
		if n := f.Name.Canonical(t.spell.sep); f.Use != "" {
			out[n] = append(out[n], imap.MailboxAttr(f.Use))
		}
	}
	return out
}
