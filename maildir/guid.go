package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/index"
	"roost/maildir/uidlist"
	"roost/store"
)

// A mailbox is known by the GUID in its uidlist's header, with "F" in front (RFC 8474
// section 4): it stays when the directory gets another name. No two mailboxes of a tree may
// show one GUID, and "cp -a" makes two that have it. The copy is found when it is opened: its
// index, if it has one, is that of another directory. Only then are the uidlists of the tree
// looked through, once, and the younger of two gets a GUID of its own.

// madeGUID stands for the GUID of a mailbox whose uidlist has none: an old list, or one that
// cannot be written. It is the same each time for one directory and UIDVALIDITY.
func (m *mailbox) madeGUID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "roost %d %d", m.key.ino, m.list.validity))
	return hex.EncodeToString(sum[:16])
}

// isCopied reports whether another mailbox has the GUID of the uidlist, and had it first.
func (m *mailbox) isCopied(snap *index.Snapshot, guid string) bool {
	if guid == "" || m.hasTwin == nil || m.promise != nil {
		return false
	}
	if cur, err := m.dirs.cur.Self(); err != nil || snap != nil && snap.Head.Stamps.Cur.Ino == cur.Ino {
		return false // the index was made here
	}
	return m.hasTwin(guid, m.key, m.oldest)
}

// oldest is the ctime of what nobody touched for longest: in a copy nothing is as old
// as the copy is.
func (m *mailbox) oldest() int64 { return oldestIn(m.dirs.box, m.dirs.cur, m.dirs.new) }

func oldestIn(dirs ...fsys.Dir) (oldest int64) {
	oldest = 1<<63 - 1
	for _, d := range dirs {
		d.Names(func(name string, _ fs.FileMode) bool {
			if st, err := d.Stat(name); err == nil && st.Mode.IsRegular() {
				oldest = min(oldest, st.Ctime)
			}
			return true
		})
	}
	return oldest
}

// guids are the mailboxes of a tree by their GUIDs, as they were when that was first of
// interest. Many mailboxes are opened for the first time one after the other; then it is
// only memory.
type guids struct {
	mu     sync.Mutex // guards all; held while the tree is read, for the next needs it too
	known  map[string][]store.Name
	opened map[string]placeKey // those of the mailboxes that were opened since
	timer  *time.Timer
}

// keepGUIDs is how long they are kept after they were of use.
const keepGUIDs = time.Minute

func (g *guids) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known, g.opened = nil, nil
}

// twin reports whether another mailbox than that of key has the GUID and was shown
// before it, or is the older one.
func (t *tree) twin(guid string, key placeKey, oldest func() int64) bool {
	t.guids.mu.Lock()
	defer t.guids.mu.Unlock()
	if t.guids.known == nil {
		if err := t.readGUIDs(); err != nil {
			t.log.Warn("mailboxes cannot be compared; one that was copied may show the id of the other", "event", "guid", "user", t.user, "err", err)
			return false
		}
	}
	if t.guids.timer == nil {
		t.guids.timer = time.AfterFunc(keepGUIDs, t.guids.forget)
	} else {
		t.guids.timer.Reset(keepGUIDs)
	}
	if first, ok := t.guids.opened[guid]; ok && first != key && t.stillHas(first, guid) {
		return true
	}
	for _, n := range t.guids.known[guid] {
		s, now, err := t.guidOf(n)
		other := placeKey{s.box.Dev, s.box.Ino}
		if err != nil || now != guid || other == key {
			continue
		}
		theirs, ours := t.oldestOf(s), oldest()
		if theirs < ours || theirs == ours && other.less(key) {
			return true
		}
	}
	t.guids.opened[guid] = key
	return false
}

// stillHas reports whether some mailbox with this key has the GUID.
func (t *tree) stillHas(key placeKey, guid string) (yes bool) {
	for _, n := range t.names() {
		s, now, err := t.guidOf(n)
		if err == nil && now == guid && (placeKey{s.box.Dev, s.box.Ino}) == key {
			return true
		}
	}
	return false
}

// names are those of all mailboxes.
func (t *tree) names() []store.Name {
	names := []store.Name{store.Inbox}
	t.walk(maxLevels, func(f found) bool { // what was found counts
		if f.selectable {
			names = append(names, f.name)
		}
		return true
	})
	return names
}

func (t *tree) readGUIDs() error {
	known := map[string][]store.Name{}
	for _, n := range t.names() {
		_, guid, err := t.guidOf(n)
		switch {
		case err == nil && guid != "":
			known[guid] = append(known[guid], n)
		case err != nil && !isGone(err) && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrNoSelect):
			return err
		}
	}
	t.guids.known, t.guids.opened = known, map[string]placeKey{}
	return nil
}

// guidOf reads the GUID of a mailbox that need not be open; "" when it has none.
func (t *tree) guidOf(n store.Name) (s spot, guid string, err error) {
	if s, err = t.find(n); err != nil {
		return s, "", err
	}
	d, err := s.openControl()
	if err != nil {
		return s, "", err
	}
	defer d.Close()
	f, err := d.Open(uidlist.Name)
	if err != nil {
		return s, "", err
	}
	defer f.Close()
	const longest = 4 << 10
	head := make([]byte, longest)
	k, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return s, "", err
	}
	line, _, _ := strings.Cut(string(head[:k]), "\n")
	l, err := uidlist.Parse([]byte(line+"\n"), uidlist.DefaultLimits)
	if err != nil {
		return s, "", nil // damaged: it has none to show
	}
	return s, l.Header.GUID, nil
}

func (t *tree) oldestOf(s spot) int64 {
	box, err := s.openBox()
	if err != nil {
		return 1<<63 - 1
	}
	defer box.Close()
	dirs := []fsys.Dir{box}
	for _, name := range []string{"cur", "new"} {
		if d, err := box.Sub(name); err == nil {
			defer d.Close()
			dirs = append(dirs, d)
		}
	}
	return oldestIn(dirs...)
}
