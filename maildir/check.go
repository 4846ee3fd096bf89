package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// Kinds of Finding.
const (
	FoundUnreadable    = "mailbox-unreadable"    // a mailbox cannot be looked at
	FoundUIDList       = "uidlist-damaged"       // dovecot-uidlist has lines that prove nothing
	FoundKeywords      = "keywords-damaged"      // dovecot-keywords or roost-keywords has
	FoundLetters       = "keywords-lost"         // letters in file names that no keyword has
	FoundMetadata      = "metadata-damaged"      // roost-metadata or roost-server-metadata has a line that cannot be read
	FoundSubscriptions = "subscriptions-damaged" // subscriptions has lines that are no names
	FoundState         = "state-damaged"         // roost-state cannot be read
	FoundLockLeft      = "lock-left"             // a lock that nobody holds
	FoundLockHeld      = "lock-held"             // one that somebody holds for long
	FoundIndexHeld     = "index-held"            // roost.lock is another process's
	FoundTmp           = "tmp-left"              // what a delivery left in tmp/
	FoundLink          = "link-refused"          // a folder that is a link to where none may lead
	FoundOdd           = "odd-files"             // entries of cur/ and new/ that are no messages
	FoundInbox         = "inbox-twice"           // .INBOX beside the INBOX that the root is
	FoundHidden        = "mailbox-hidden"        // a directory with mail that no client could name
	FoundNoEvents      = "no-events"             // a filesystem on which changes are not told
	FoundClock         = "clock-behind"          // files of a later time than now
)

// Finding is one thing about a user's mail that an admin may have to do something about.
type Finding struct {
	Kind    string
	Mailbox store.Name // "" where it is the tree's
	Path    string     // of the file or directory
	What    string     // half a sentence about it

	Names []string // entries of Path that are meant, the first findingNames of them
	Count int      // of them in all

	PID  int       // of the process that is meant; 0 for none
	Host string    // where that is, when not here
	Time time.Time // since when, or of when, as far as that is meant
}

const findingNames = 20

// CheckOptions are what Check looks with.
type CheckOptions struct {
	FS  fsys.FS      // fsys.OS
	Env *uidlist.Env // uidlist.System(): clock and processes

	// Held gives the process that holds the flock of a file; 0 for none. nil: nobody
	// knows.
	Held func(st fsys.Stat) (pid int)
	// Server is the process that serves the mail; 0 for none.
	Server int

	// Files is how many more files may be looked at; nil for as many as there are. Check
	// counts down, and stops below 0.
	Files *int
}

// Checked counts what Check has looked at.
type Checked struct {
	Mailboxes, Messages int
	Cut                 bool // not all: Files came to its end
}

// Check looks at the trees of a user without changing anything, whatever it finds, and
// calls report for each finding. A tree that is not there is fs.ErrNotExist. It reads
// beside a running server, which it never holds up: no lock is taken.
func Check(ctx context.Context, who store.Identity, opt CheckOptions, report func(Finding)) (Checked, error) {
	if opt.FS == nil {
		opt.FS = fsys.OS
	}
	if opt.Env == nil {
		opt.Env = uidlist.System()
	}
	c := &checking{ctx: ctx, opt: opt, report: report, told: map[string]bool{}}
	for _, root := range who.Roots {
		if err := c.root(who, root); err != nil {
			return c.done, fmt.Errorf("mail of %s: %w", who.User, err)
		}
	}
	return c.done, ctx.Err()
}

// checking is one Check.
type checking struct {
	ctx    context.Context
	opt    CheckOptions
	report func(Finding)
	done   Checked
	latest Finding // the file that is farthest in the future
	told   map[string]bool
}

// root looks at one tree.
func (c *checking) root(who store.Identity, root store.Root) error {
	look := lookOnly{c.opt.FS}
	root.Create = false
	meta := true
	if root.Control != "" {
		d, err := look.Root(root.Control)
		switch {
		case errors.Is(err, fs.ErrNotExist): // made when it is first needed
			root.Control, meta = "", false
		case err != nil:
			return err
		default:
			d.Close()
		}
	}
	root.Index = "" // caches: nothing in them can be wrong so that mail suffers
	t, err := openTree(Options{FS: look, Clock: c.opt.Env.Now}, who.User, root, who.Sep())
	if err != nil {
		return err
	}
	defer t.close()
	var hidden []string
	t.hiding = func(path string) bool {
		hidden = append(hidden, path)
		return false
	}
	if t.mail.Remote() {
		c.found(Finding{Kind: FoundNoEvents, Path: root.Mail, What: "the filesystem does not tell of changes that others make"})
	}
	if meta {
		c.subscriptions(t)
		c.metadata("", t.controlRoot(), serverMetadataFile)
	}
	inbox := t.inbox()
	err = t.statBox(&inbox)
	if err == nil {
		c.mailbox(inbox, meta)
	} else if !isGone(err) {
		c.found(Finding{Kind: FoundUnreadable, Mailbox: store.Inbox, Path: inbox.path, What: plain(err)})
	}
	c.links(t, t.mail, 0)
	seen := map[store.Name]bool{}
	if err := t.walk(maxLevels, func(f found) bool {
		if c.ctx.Err() != nil || c.over() {
			return false
		}
		if !f.selectable && root.Layout == store.LayoutFS {
			return true
		}
		if seen[f.name] && !f.canonical {
			return true
		}
		seen[f.name] = true
		s, err := t.lookup(f.name)
		if err != nil {
			c.found(Finding{Kind: FoundUnreadable, Mailbox: f.name, Path: root.Mail + "/" + strings.Join(f.rel, "/"), What: plain(err)})
			return true
		}
		c.mailbox(s, meta)
		return true
	}); err != nil {
		return err
	}
	for _, path := range hidden {
		if !c.told[path] {
			c.found(Finding{Kind: FoundHidden, Path: path, What: "it holds mail, and is not shown: no client could name it"})
		}
	}
	if c.latest.Kind != "" {
		c.found(c.latest)
	}
	return nil
}

// over reports whether enough was looked at.
func (c *checking) over() bool {
	if c.opt.Files != nil && *c.opt.Files < 0 {
		c.done.Cut = true
	}
	return c.done.Cut
}

// count takes one file off the bound, and reports whether another may be looked at.
func (c *checking) count() bool {
	if c.opt.Files != nil {
		*c.opt.Files--
	}
	return !c.over()
}

func (c *checking) found(f Finding) {
	c.told[f.Path] = true
	c.report(f)
}

// plain is an error without the path, which the finding has.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// mailbox looks at one mailbox.
func (c *checking) mailbox(s spot, meta bool) {
	c.done.Mailboxes++
	wrong := func(path string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.found(Finding{Kind: FoundUnreadable, Mailbox: s.name, Path: path, What: plain(err)})
		}
	}
	box, err := s.openBox()
	if err != nil {
		wrong(s.path, err)
		return
	}
	defer box.Close()
	var used letterSet
	for _, name := range []string{"cur", "new", "tmp"} {
		d, err := box.Sub(name)
		if err != nil {
			wrong(s.path+"/"+name, err)
			continue
		}
		if st, err := d.Self(); err == nil {
			c.inTime(s.name, d.Path(), time.Unix(0, st.Ctime))
		}
		if name == "tmp" {
			err = c.tmp(s.name, d)
		} else {
			err = c.messages(s.name, d, &used)
		}
		wrong(d.Path(), err)
		d.Close()
	}
	if c.opt.Held != nil {
		if st, err := box.Stat(ownerFile); err == nil {
			if pid := c.opt.Held(st); pid != 0 && pid != c.opt.Server {
				c.found(Finding{Kind: FoundIndexHeld, Mailbox: s.name, Path: box.Path() + "/" + ownerFile, PID: pid,
					What: fmt.Sprintf("process %d holds the index of this mailbox", pid)})
			}
		}
	}
	control := box
	if s.tree.control != nil {
		if control, err = descend(s.tree.control, s.meta, false); err != nil {
			wrong(s.tree.root.Control, err)
			return
		}
		defer control.Close()
	}
	if meta {
		c.files(s.name, control, used)
	}
}

// messages looks at the names in cur or new.
func (c *checking) messages(mailbox store.Name, d fsys.Dir, used *letterSet) error {
	odd := Finding{Kind: FoundOdd, Mailbox: mailbox, Path: d.Path()}
	err := d.Names(func(name string, kind fs.FileMode) bool {
		if name[0] == '.' {
			return true
		}
		if !c.count() || c.ctx.Err() != nil {
			return false
		}
		if kind == fs.ModeIrregular {
			st, err := d.Stat(name)
			if err != nil {
				return true
			}
			kind = st.Mode.Type()
		}
		if kind != 0 || !isMessageName(name) {
			odd.add(name)
			return true
		}
		c.done.Messages++
		_, letters := flagsOf(name)
		*used |= letters
		return true
	})
	if odd.Count > 0 {
		odd.What = plural(odd.Count, "entry is", "entries are") + " no message: a link, a directory, or a name with a line end"
		c.found(odd)
	}
	return err
}

// add notes one more entry.
func (f *Finding) add(name string) {
	if f.Count++; f.Count <= findingNames {
		f.Names = append(f.Names, name)
	}
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// tmp looks for what deliveries left behind.
func (c *checking) tmp(mailbox store.Name, d fsys.Dir) error {
	left := Finding{Kind: FoundTmp, Mailbox: mailbox, Path: d.Path()}
	before := c.opt.Env.Now().Add(-tmpAge)
	err := d.Names(func(name string, kind fs.FileMode) bool {
		if name[0] == '.' || kind.Type() != 0 && kind != fs.ModeIrregular {
			return true
		}
		if !c.count() {
			return false
		}
		st, err := d.Stat(name)
		if at := time.Unix(0, max(st.Mtime, st.Ctime)); err == nil && st.Mode.IsRegular() && at.Before(before) {
			left.add(name)
			if left.Time.IsZero() || at.Before(left.Time) {
				left.Time = at
			}
		}
		return true
	})
	if left.Count > 0 {
		left.What = plural(left.Count, "file", "files") + " of deliveries that were never finished, the oldest of " + left.Time.Format(time.DateTime)
		c.found(left)
	}
	return err
}

// inTime notes a file whose time has not come yet. A little ahead is another machine's
// clock.
func (c *checking) inTime(mailbox store.Name, path string, t time.Time) {
	if ahead := t.Sub(c.opt.Env.Now()); ahead > 2*time.Minute && t.After(c.latest.Time) {
		c.latest = Finding{Kind: FoundClock, Mailbox: mailbox, Path: path, Time: t,
			What: "it was written at " + t.Format(time.DateTime) + " by the clock of then, which is still to come"}
	}
}

// files looks at what lies beside the mail.
func (c *checking) files(mailbox store.Name, d fsys.Dir, used letterSet) {
	path := func(name string) string { return d.Path() + "/" + name }
	bad := func(kind, name, what string) {
		c.found(Finding{Kind: kind, Mailbox: mailbox, Path: path(name), What: what})
	}
	read := func(kind, name string, limit int64) ([]byte, bool) {
		b, err := fsys.ReadFile(d, name, limit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			bad(kind, name, "it cannot be read: "+plain(err))
		}
		return b, err == nil
	}
	if b, ok := read(FoundUIDList, uidlist.Name, uidlist.DefaultLimits.Bytes); ok && len(b) > 0 {
		list, err := uidlist.Parse(b, uidlist.DefaultLimits)
		switch {
		case err != nil:
			bad(FoundUIDList, uidlist.Name, err.Error())
		case list.Bad > 0:
			bad(FoundUIDList, uidlist.Name, plural(list.Bad, "line proves", "lines prove")+" nothing")
		case list.Torn:
			bad(FoundUIDList, uidlist.Name, "the last line has no end")
		}
		if list.Last >= uidlist.MaxUID {
			bad(FoundUIDList, uidlist.Name, "no UID is left to give")
		}
		// The mark is written a day ahead (markAhead).
		if at := time.UnixMicro(int64(list.Header.ModSeq)).Add(-markAhead); list.Header.ModSeq > 0 {
			c.inTime(mailbox, path(uidlist.Name), at)
		}
	}
	var letters letterTable
	if b, ok := read(FoundKeywords, lettersFile, maxKeywordBytes); ok {
		if letters = parseLetters(b); len(letters.foreign) > 0 {
			bad(FoundKeywords, lettersFile, plural(len(letters.foreign), "line is", "lines are")+" of no use")
		}
	}
	var lost []string
	for i := range maxLetters {
		if used.has(i) && letters.names[i] == "" {
			lost = append(lost, string(rune('a'+i)))
		}
	}
	if lost != nil {
		bad(FoundLetters, lettersFile, "messages have the keywords of the letters "+strings.Join(lost, ", ")+", which it does not name")
	}
	if b, ok := read(FoundKeywords, extraFile, maxKeywordBytes); ok && len(b) > 0 {
		if _, torn := parseExtra(b); torn {
			bad(FoundKeywords, extraFile, "its first line or its end is damaged")
		}
	}
	c.metadata(mailbox, d, metadataFile)
	if _, _, err := uidlist.ReadReserve(d); errors.Is(err, uidlist.ErrReserve) {
		bad(FoundState, uidlist.ReserveName, "it is damaged")
	}
	c.lock(mailbox, d, uidlist.LockName, uidlist.Name)
	c.lock(mailbox, d, lettersFile+".lock", lettersFile)
}

// metadata looks at a file of annotations.
func (c *checking) metadata(mailbox store.Name, d fsys.Dir, name string) {
	if _, err := readMetadata(d, name); err != nil {
		what := "it cannot be read: " + plain(err)
		var line *damagedError
		if errors.As(err, &line) {
			what = line.Error()
		}
		c.found(Finding{Kind: FoundMetadata, Mailbox: mailbox, Path: d.Path() + "/" + name, What: what})
	}
}

// lock looks at a dotlock.
func (c *checking) lock(mailbox store.Name, d fsys.Dir, name, guarded string) {
	h, err := uidlist.ReadLock(d, name, guarded, c.opt.Env)
	if err != nil {
		return // mostly there is none, or it is gone by now
	}
	f := Finding{Kind: FoundLockHeld, Mailbox: mailbox, Path: d.Path() + "/" + name, PID: h.PID, Time: h.Since}
	who := "nobody names himself in it"
	if h.PID != 0 {
		who = fmt.Sprintf("process %d", h.PID)
		if h.Host != c.opt.Env.Host {
			f.Host = h.Host
			who += " of host " + h.Host
		}
	}
	switch {
	case h.Left:
		f.Kind, f.What = FoundLockLeft, "the lock is left over ("+who+")"
	case c.opt.Env.Now().Sub(h.Since) < heldLong:
		return
	default:
		f.What = "the lock is held since " + h.Since.Format(time.DateTime) + " (" + who + ")"
	}
	c.found(f)
}

// heldLong is for how long nobody needs a lock.
const heldLong = 2 * time.Minute

// subscriptions looks at the file of the tree.
func (c *checking) subscriptions(t *tree) {
	d, name := t.controlRoot(), t.root.SubsFile
	bad := func(what string) {
		c.found(Finding{Kind: FoundSubscriptions, Path: d.Path() + "/" + name, What: what})
	}
	l, err := t.readSubscriptions()
	if err != nil {
		bad("it cannot be read: " + plain(err))
		return
	}
	n := 0
	for _, line := range l.lines {
		if _, ok := t.subscriptionName(l, line); !ok {
			n++
		}
	}
	if n > 0 {
		bad(plural(n, "line is", "lines are") + " no name of a mailbox")
	}
	c.lock("", d, name+".lock", name)
}

// links looks for links that are not followed in a directory of the tree, and for a
// directory that would be a second INBOX.
func (c *checking) links(t *tree, d fsys.Dir, depth int) {
	fsLayout := t.root.Layout == store.LayoutFS
	var below []string
	d.Names(func(name string, kind fs.FileMode) bool {
		if !c.count() {
			return false
		}
		if kind == fs.ModeIrregular {
			if st, err := d.Stat(name); err == nil {
				kind = st.Mode.Type()
			}
		}
		mayBe := false
		if fsLayout {
			mayBe = !t.hidden(name) && name[0] != '.' && !isMetadata(name)
		} else if levels, _, ok := t.spell.fromDirectory(name); ok && name[0] == '.' {
			mayBe = true
			if n, ok := t.nameOf(levels); !ok && n == store.Inbox && kind == fs.ModeDir {
				c.found(Finding{Kind: FoundInbox, Path: d.Path() + "/" + name, What: "its mail is not shown: INBOX is the directory above"})
			}
		}
		switch {
		case !mayBe:
		case kind == fs.ModeSymlink && !t.isDirectory(d, name, kind):
			target, err := d.Readlink(name)
			if err == nil {
				c.found(Finding{Kind: FoundLink, Path: d.Path() + "/" + name, What: "it leads to " + target, Names: []string{target}})
			}
		case kind == fs.ModeDir && fsLayout:
			below = append(below, name)
		}
		return true
	})
	if depth >= maxLevels {
		return
	}
	slices.Sort(below)
	for _, name := range below {
		if sub, err := d.Sub(name); err == nil {
			c.links(t, sub, depth+1)
			sub.Close()
		}
	}
}
