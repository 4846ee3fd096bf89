package maildir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// A tree is one root of mailboxes, shared by all accounts that use it alike.
//
//	Maildir++   ROOT/{cur,new,tmp}          INBOX
//	            ROOT/.A.B/{cur,new,tmp}     A/B; A need not exist
//	fs          ROOT/{cur,new,tmp}          INBOX
//	            ROOT/A/B/{cur,new,tmp}      A/B; A without cur is \Noselect
//	            ROOT/A/B/x/{cur,new,tmp}    A/B with MailDir x; INBOX is ROOT/INBOX/x
//	CONTROL and INDEX, where apart, hold .INBOX and .A.B, or INBOX and A/B.
//
// subscriptions and dovecot-uidvalidity lie in ROOT, or in CONTROL.
type tree struct {
	key     string
	refs    int // guarded by trees.mu
	user    string
	fs      fsys.FS
	clock   store.Clock
	log     *slog.Logger
	hiding  func(path string) bool // true once a path
	env     *uidlist.Env
	lent    *atomic.Uint32 // nil: none
	among   *trees         // nil: none
	root    store.Root
	spell   spelling
	mail    fsys.Dir
	control fsys.Dir // nil: in the mailboxes themselves, and in mail
	index   fsys.Dir // nil: in the mailboxes themselves

	// mu orders changes of names within this process: CREATE, DELETE, RENAME,
	// SUBSCRIBE. Between processes each step is one atomic call. It is taken before
	// any lock of a mailbox.
	mu sync.Mutex

	validities validities

	uses       useCache
	configured map[store.Name][]imap.MailboxAttr

	guids guids

	watching watching // who wants to know of changes of names
}

// trees are those in use, by what they were opened with.
type trees struct {
	env  *uidlist.Env
	lent atomic.Uint32 // the highest UIDVALIDITY that nobody keeps: uidvalidity.go

	mu     sync.Mutex // guards open, the refs of each tree, and hidden
	open   map[string]*tree
	hidden map[string]struct{} // paths that the log was told of
}

// hiding is true the first time that it is asked for a path.
func (ts *trees) hiding(path string) bool {
	const limit = 10_000
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if _, told := ts.hidden[path]; told || len(ts.hidden) >= limit {
		return false
	}
	if ts.hidden == nil {
		ts.hidden = map[string]struct{}{}
	}
	ts.hidden[path] = struct{}{}
	return true
}

// get opens a tree, or gives the one that is open. put must be called for each. The
// lock is not held over file calls: a filesystem that hangs holds up its own users.
func (ts *trees) get(opt Options, user string, root store.Root, sep byte) (*tree, error) {
	id, err := json.Marshal(struct {
		Root store.Root
		Sep  byte
	}{root, sep})
	if err != nil {
		return nil, err
	}
	key := string(id)
	if t := ts.share(key, nil); t != nil {
		if t.current() {
			return t, nil
		}
		ts.mu.Lock()
		if ts.open[key] == t {
			delete(ts.open, key) // who has it keeps it until he asks again
		}
		ts.mu.Unlock()
		ts.put(t)
	}
	made, err := openTree(opt, user, root, sep)
	if err != nil {
		return nil, err
	}
	made.key, made.hiding, made.env, made.lent, made.among = key, ts.hiding, ts.env, &ts.lent, ts
	t := ts.share(key, made)
	if t != made {
		made.close() // another session was faster
	}
	return t, nil
}

// share counts one more user of the tree that is open; where there is none it is made.
func (ts *trees) share(key string, made *tree) *tree {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[key]
	if t == nil {
		if t = made; t == nil {
			return nil
		}
		if ts.open == nil {
			ts.open = map[string]*tree{}
		}
		ts.open[key] = t
	}
	t.refs++
	return t
}

// retain keeps a tree open that somebody has open, until what it gives is called.
func (t *tree) retain() func() {
	t.among.mu.Lock()
	defer t.among.mu.Unlock()
	t.refs++
	return func() { t.among.put(t) }
}

func (ts *trees) put(t *tree) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.refs--; t.refs == 0 {
		if ts.open[t.key] == t {
			delete(ts.open, t.key)
		}
		t.close()
	}
}

// current reports whether the tree's path still leads to the directory that is open: a
// backup that is put back is another.
func (t *tree) current() bool {
	d, err := t.fs.Root(t.root.Mail)
	if err != nil {
		return false
	}
	defer d.Close()
	now, err := d.Self()
	have, herr := t.mail.Self()
	return err == nil && herr == nil && now.SameFile(have)
}

func openTree(opt Options, user string, root store.Root, sep byte) (_ *tree, err error) {
	switch root.Layout {
	case "":
		root.Layout = store.LayoutMaildirPP
	case store.LayoutMaildirPP, store.LayoutFS:
	default:
		return nil, fmt.Errorf("mail location %s has the layout %q: %w", root.Mail, root.Layout, store.ErrUnsupported)
	}
	if root.SubsFile == "" {
		root.SubsFile = "subscriptions"
	}
	if root.Layout != store.LayoutFS {
		root.MailDir = ""
	}
	t := &tree{user: user, fs: opt.FS, clock: opt.Clock, log: opt.Log, root: root}
	t.spell = spelling{
		layout: root.Layout, escape: root.Escape, utf8: root.UTF8, sep: sep,
		mailDir: root.MailDir, prefixed: root.Prefix != "",
	}
	t.configured = t.configuredUses()
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.mail, err = t.openRoot(root.Mail, root.Create); err != nil {
		return nil, err
	}
	if root.Inbox != "" && root.Create {
		inbox, err := t.fs.Make(root.Inbox, 0o700)
		if err != nil {
			return nil, fmt.Errorf("INBOX: %w: %w", store.ErrUnavailable, err)
		}
		inbox.Close()
	}
	if root.Control != "" && filepath.Clean(root.Control) != filepath.Clean(root.Mail) {
		if t.control, err = t.openRoot(root.Control, true); err != nil {
			return nil, err
		}
	}
	if root.Index != "" {
		t.index, err = t.openRoot(root.Index, true)
	}
	return t, err
}

func (t *tree) openRoot(path string, create bool) (fsys.Dir, error) {
	open := t.fs.Root
	if create {
		open = func(path string) (fsys.Dir, error) { return t.fs.Make(path, 0o700) }
	}
	d, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("mail location: %w: %w", store.ErrUnavailable, err)
	}
	return d, nil
}

func (t *tree) close() {
	for _, d := range []fsys.Dir{t.mail, t.control, t.index} {
		if d != nil {
			d.Close()
		}
	}
}

// controlRoot is where the files of the whole tree are.
func (t *tree) controlRoot() fsys.Dir {
	if t.control != nil {
		return t.control
	}
	return t.mail
}

// levels parts a name of this tree; INBOX itself has none. ErrCannot.
func (t *tree) levels(n store.Name) ([]string, error) {
	if n == store.Inbox {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(string(n), t.root.Prefix)
	if !ok || rest == "" {
		return nil, fmt.Errorf("mailbox name %q must begin with %q: %w", n, t.root.Prefix, store.ErrCannot)
	}
	return t.spell.split(rest)
}

// nameOf is the client's name of some levels; false when it has none, or when it
// would be INBOX.
func (t *tree) nameOf(levels []string) (store.Name, bool) {
	s, ok := t.spell.join(levels)
	n := store.Name(t.root.Prefix + s).Canonical(t.spell.sep)
	return n, ok && n != store.Inbox
}

// components spells a name as directories below the mail directory.
func (t *tree) components(n store.Name) ([]string, error) {
	levels, err := t.levels(n)
	if err != nil {
		return nil, err
	}
	return t.spell.components(levels)
}

// inbox is where INBOX lies, whether or not it is there yet.
func (t *tree) inbox() spot {
	s := spot{tree: t, name: store.Inbox, path: t.root.Mail, meta: []string{".INBOX"}}
	if t.root.Layout == store.LayoutFS {
		s.meta = []string{"INBOX"}
	}
	switch {
	case t.root.Inbox != "":
		s.path = t.root.Inbox
	case t.root.MailDir != "":
		s.rel = []string{"INBOX", t.root.MailDir}
		s.path = filepath.Join(t.root.Mail, "INBOX", t.root.MailDir)
	}
	return s
}

// find gives the mailbox of a name. ErrNotFound, ErrNoSelect, ErrCannot.
func (t *tree) find(n store.Name) (spot, error) {
	s, err := t.lookup(n)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, store.ErrNoSelect), errors.Is(err, store.ErrCannot):
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fsys.ErrNotDir):
		err = store.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w: %w", store.ErrNoPermission, err)
	}
	return spot{}, fmt.Errorf("mailbox %q: %w", n, err)
}

func (t *tree) lookup(n store.Name) (spot, error) {
	if n == store.Inbox {
		s := t.inbox()
		if s.rel != nil {
			if d, err := descend(t.mail, s.rel, true); err == nil {
				d.Close()
			}
		}
		return s, t.statBox(&s)
	}
	levels, err := t.levels(n)
	if err != nil {
		return spot{}, err
	}
	if t.root.Layout == store.LayoutFS {
		return t.lookupFS(n, levels)
	}
	s := spot{tree: t, name: n}
	comps, spellErr := t.spell.components(levels)
	if spellErr == nil {
		s, err = t.spotAt(n, comps)
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	// Perhaps another program made it, by a spelling that is not ours.
	err = fs.ErrNotExist
	walkErr := t.walk(maxLevels, func(f found) bool {
		if f.name == n && !f.canonical {
			s, err = t.spotAt(n, f.rel)
			return false
		}
		return true
	})
	if walkErr != nil {
		return s, walkErr
	}
	if err != nil && spellErr != nil {
		err = spellErr
	}
	return s, err
}

// spotAt is the Maildir++ mailbox in a directory of the root.
func (t *tree) spotAt(n store.Name, comps []string) (spot, error) {
	s := spot{tree: t, name: n, rel: comps, meta: comps, path: filepath.Join(t.root.Mail, comps[0])}
	return s, t.statBox(&s)
}

// statBox fills in the stat of a mailbox directory, and follows its link.
func (t *tree) statBox(s *spot) (err error) {
	if len(s.rel) == 1 {
		if s.box, err = t.mail.Stat(s.rel[0]); err != nil {
			return err
		}
		if s.box.Mode.IsDir() {
			return nil
		}
		target, ok := t.linkTarget(t.mail, s.rel[0])
		if !ok {
			return fsys.ErrNotDir
		}
		s.link, s.path = target, target
	}
	d, err := s.openBox()
	if err != nil {
		return err
	}
	defer d.Close()
	s.box, err = d.Self()
	return err
}

// lookupFS goes down level by level.
func (t *tree) lookupFS(n store.Name, levels []string) (spot, error) {
	s := spot{tree: t, name: n, path: filepath.Clean(t.root.Mail)}
	at := t.mail
	defer func() {
		if at != t.mail {
			at.Close()
		}
	}()
	down := func(name string) error {
		sub, target, err := t.subOrLink(at, name)
		if err != nil {
			return err
		}
		if at != t.mail {
			at.Close()
		}
		at = sub
		s.path = filepath.Join(s.path, name)
		if target != "" {
			s.path, s.link = target, target
		} else if s.link != "" {
			s.link = s.path
		}
		s.rel = append(s.rel, name)
		return nil
	}
	for i, level := range levels {
		name, spellErr := t.spell.encode(level, i)
		err := spellErr
		if spellErr == nil {
			err = down(name)
		}
		if spellErr != nil || errors.Is(err, fs.ErrNotExist) {
			other, ok, namesErr := t.otherSpelling(at, level, i)
			switch {
			case namesErr != nil:
				return s, namesErr
			case ok:
				err = down(other)
			}
		}
		if err != nil {
			return s, err
		}
	}
	s.meta = s.rel[:len(s.rel):len(s.rel)]
	if t.root.MailDir != "" {
		if err := down(t.root.MailDir); err != nil {
			return s, noSelect(err)
		}
	}
	st, err := at.Stat("cur")
	if err == nil && !st.Mode.IsDir() {
		err = fsys.ErrNotDir
	}
	if err != nil {
		return s, noSelect(err)
	}
	s.box, err = at.Self()
	return s, err
}

func noSelect(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsys.ErrNotDir) {
		return store.ErrNoSelect
	}
	return err
}

// subOrLink opens a directory below d, through a link where the configuration
// allows it; target is then where the link goes.
func (t *tree) subOrLink(d fsys.Dir, name string) (sub fsys.Dir, target string, err error) {
	sub, err = d.Sub(name)
	if errors.Is(err, fsys.ErrNotDir) {
		var ok bool
		if target, ok = t.linkTarget(d, name); ok {
			sub, err = t.follow(target)
		}
	}
	return sub, target, err
}

// otherSpelling finds a directory that reads as level though it is not spelled so.
func (t *tree) otherSpelling(d fsys.Dir, level string, i int) (name string, ok bool, err error) {
	err = d.Names(func(entry string, kind fs.FileMode) bool {
		if got, canonical := t.spell.decode(entry, i); got == level && !canonical && !t.hidden(entry) {
			name, ok = entry, true
		}
		return !ok
	})
	return name, ok, err
}

// found is one name of a walk.
type found struct {
	name       store.Name
	rel        []string // the directories below the root; good after the walk
	canonical  bool     // rel is how we would spell the name
	selectable bool     // it holds mail
}

// walk yields the mailboxes of the tree but INBOX, and in the fs layout the
// directories without mail too, in no order, down to depth levels. A name may come
// twice when other programs spelled it in several ways; the canonical one counts.
func (t *tree) walk(depth int, yield func(found) bool) error {
	if t.root.Layout == store.LayoutFS {
		w := fsWalk{tree: t, depth: min(depth, maxLevels), yield: yield, linked: map[placeKey]bool{}, beside: map[placeKey]bool{}}
		w.own(t.mail, t.control, t.index)
		_, err := w.dir(t.mail, found{canonical: true}, nil)
		return err
	}
	return t.mail.Names(func(entry string, kind fs.FileMode) bool {
		if entry[0] != '.' {
			return true
		}
		levels, canonical, ok := t.spell.fromDirectory(entry)
		if !ok {
			t.tellUnnamed(t.mail, entry, "no client could name it")
			return true
		}
		if len(levels) > depth || !t.isDirectory(t.mail, entry, kind) {
			return true
		}
		n, ok := t.nameOf(levels)
		if !ok {
			t.tellUnnamed(t.mail, entry, "its name is INBOX's, or holds the separator")
			return true
		}
		return yield(found{name: n, rel: []string{entry}, canonical: canonical, selectable: true})
	})
}

// isDirectory tells directories from other entries, links by where they lead.
func (t *tree) isDirectory(d fsys.Dir, name string, kind fs.FileMode) bool {
	if kind == fs.ModeIrregular {
		st, err := d.Stat(name)
		if err != nil {
			return false
		}
		kind = st.Mode.Type()
	}
	if kind != fs.ModeSymlink {
		return kind == fs.ModeDir
	}
	sub, _, err := t.subOrLink(d, name)
	if err != nil {
		t.tell(d, name, "it is a link, and mail.follow_links names no directory that it ends in")
		return false
	}
	sub.Close()
	return true
}

// tell logs, once, what may be meant as a mailbox and is not shown.
func (t *tree) tell(d fsys.Dir, name, why string) {
	path := d.Path() + "/" + name
	if t.hiding != nil && t.hiding(path) {
		t.log.Warn("a directory is not shown as a mailbox: "+why, "event", "hidden_mailbox", "user", t.user, "path", path)
	}
}

// tellUnnamed is tell for a directory with mail.
func (t *tree) tellUnnamed(d fsys.Dir, name, why string) {
	if name == trashName || strings.HasPrefix(name, ".nfs") {
		return
	}
	sub, err := d.Sub(name)
	if err != nil {
		return
	}
	defer sub.Close()
	if st, err := sub.Stat("cur"); err == nil && st.Mode.IsDir() {
		t.tell(d, name, why)
	}
}

// fsWalk is one walk through a tree of the fs layout.
type fsWalk struct {
	tree   *tree
	depth  int
	yield  func(found) bool
	linked map[placeKey]bool // directories that were entered through a link, and are not again: links may go round
	beside map[placeKey]bool // directories that are not mail
}

// own keeps the walk out of the control and index directories, should they lie in the tree.
func (w *fsWalk) own(mail fsys.Dir, others ...fsys.Dir) {
	for _, d := range others {
		if d == nil {
			continue
		}
		if st, err := d.Self(); err == nil {
			w.beside[placeKey{st.Dev, st.Ino}] = true
		}
	}
}

// dir yields what lies below d, whose name is at; selectable is whether d holds mail.
func (w *fsWalk) dir(d fsys.Dir, at found, levels []string) (more bool, err error) {
	t := w.tree
	type entry struct {
		name string
		kind fs.FileMode
	}
	var entries []entry
	hasCur := false
	err = d.Names(func(name string, kind fs.FileMode) bool {
		switch {
		case name == "cur" && t.root.MailDir == "":
			hasCur = t.isDirectory(d, name, kind)
		case t.root.MailDir != "" && name == t.root.MailDir:
			hasCur = t.holdsMail(d)
		case kind != 0 && !t.hidden(name):
			entries = append(entries, entry{name, kind})
		}
		return true
	})
	if err != nil {
		return false, err
	}
	if len(levels) > 0 {
		at.selectable = hasCur
		if levels[len(levels)-1][0] == '.' && !hasCur {
			return true, nil // ".git": not a mailbox, and not the parent of one
		}
		if n, ok := t.nameOf(levels); ok {
			at.name = n
			if !w.yield(at) {
				return false, nil
			}
		} else if !strings.EqualFold(levels[0], string(store.Inbox)) {
			return true, nil // a level that no client could name
		}
	}
	if len(levels) == w.depth {
		return true, nil
	}
	for _, e := range entries {
		level, canonical := t.spell.decode(e.name, len(levels))
		if level == "" || strings.IndexByte(level, 0) >= 0 || !t.isDirectory(d, e.name, e.kind) {
			continue
		}
		sub, target, err := t.subOrLink(d, e.name)
		if err != nil {
			continue // gone meanwhile, or not ours to read
		}
		more, err := w.sub(sub, target != "", found{
			rel:       append(at.rel[:len(at.rel):len(at.rel)], e.name),
			canonical: at.canonical && canonical,
		}, append(levels[:len(levels):len(levels)], level))
		sub.Close()
		if !more && err == nil {
			return false, nil
		}
		// A directory that cannot be read hides what is below it, and nothing else.
	}
	return true, nil
}

// sub walks one directory, unless it is no mail, or a link leads there once more. What is
// there without a link is shown whatever leads there too.
func (w *fsWalk) sub(d fsys.Dir, linked bool, at found, levels []string) (more bool, err error) {
	st, err := d.Self()
	if err != nil {
		return true, nil
	}
	key := placeKey{st.Dev, st.Ino}
	if w.beside[key] || linked && w.linked[key] {
		return true, nil
	}
	if linked {
		w.linked[key] = true
	}
	return w.dir(d, at, levels)
}

// holdsMail reports whether the mailbox in d has its mail below MailDir.
func (t *tree) holdsMail(d fsys.Dir) bool {
	sub, err := d.Sub(t.root.MailDir)
	if err != nil {
		return false
	}
	defer sub.Close()
	st, err := sub.Stat("cur")
	return err == nil && st.Mode.IsDir()
}

// hidden reports whether an entry of an fs tree can be no mailbox.
func (t *tree) hidden(name string) bool {
	return t.spell.reserved(name) || name == trashName
}

// checkNew refuses a name that cannot or should not be made. ErrCannot.
func (t *tree) checkNew(n store.Name) error {
	if n == store.Inbox {
		return nil
	}
	levels, err := t.levels(n)
	if err != nil {
		return err
	}
	if err := t.spell.checkNew(levels); err != nil {
		return err
	}
	_, err = t.spell.components(levels)
	return err
}

// hasChildren reports whether some mailbox lies below a name.
func (t *tree) hasChildren(n store.Name) (yes bool) {
	err := t.walk(maxLevels, func(f found) bool {
		yes = f.selectable && strings.HasPrefix(string(f.name), string(n)+string(t.spell.sep))
		return !yes
	})
	return yes && err == nil
}

// isGone reports whether an error says that a file or directory is not there.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsys.ErrNotDir) }
