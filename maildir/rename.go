package maildir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// relocated says that an open mailbox lies elsewhere now.
type relocated struct {
	key  placeKey
	path string
}

// rename gives a mailbox and all below it other names; durable. Each mailbox moves
// whole, by one rename of its directory, what is below it first: a crash leaves some
// under the old name and the rest under the new, each readable and none in both, and the
// same RENAME, given again, does what is left. follow is called before the last step, so
// that it is done again too, and with back when that step fails. What was moved is told in
// failure too. t.mu is held.
//
// ErrNotFound, ErrExists, ErrCannot.
func (t *tree) rename(from, to store.Name, follow func(back bool) error) (moved []relocated, err error) {
	if to == store.Inbox {
		return nil, store.ErrExists
	}
	if err := t.checkNew(to); err != nil {
		return nil, err
	}
	var steps []renaming
	taken := map[store.Name]bool{}
	err = t.walk(maxLevels, func(f found) bool {
		taken[f.name] = f.selectable || taken[f.name]
		if f.selectable && (f.name == from || strings.HasPrefix(string(f.name), string(from)+string(t.spell.sep))) {
			steps = append(steps, renaming{old: spot{name: f.name}, to: to + f.name[len(from):]})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, store.ErrNotFound
	}
	slices.SortFunc(steps, func(a, b renaming) int { return strings.Compare(string(b.old.name), string(a.old.name)) })
	steps = slices.CompactFunc(steps, func(a, b renaming) bool { return a.old.name == b.old.name })
	if taken[to] {
		return nil, store.ErrExists
	}
	for i := range steps {
		if taken[steps[i].to] {
			return nil, store.ErrExists
		}
		if err := t.checkNew(steps[i].to); err != nil {
			return nil, err
		}
		if steps[i].old, err = t.find(steps[i].old.name); err != nil {
			return nil, err
		}
	}
	if err := t.createParents(to); err != nil {
		return nil, err
	}
	if t.root.Layout == store.LayoutFS {
		spots := make([]spot, len(steps))
		for i, s := range steps {
			spots[i] = s.old
		}
		defer t.lockLists(spots...)()
		if err := followed(follow, func() error { return t.renameFS(from, to) }); err != nil {
			return nil, err
		}
		return t.relocations(steps), t.syncRoots()
	}
	for i, s := range steps {
		step := func() error {
			comps, err := t.components(s.to)
			if err != nil {
				return err
			}
			defer t.lockLists(s.old)()
			return t.renameDirectory(s.old.rel[0], comps[0])
		}
		if i < len(steps)-1 {
			err = step()
		} else if err = t.syncRoots(); err == nil {
			err = followed(follow, step)
		}
		if err != nil {
			t.syncRoots()
			return t.relocations(steps[:i]), err
		}
	}
	return t.relocations(steps), t.syncRoots()
}

// followed is the last step of a rename, and what must be done before it.
func followed(follow func(back bool) error, step func() error) error {
	if err := follow(false); err != nil {
		return err
	}
	err := step()
	if err != nil {
		follow(true) // best effort: what is subscribed and not there can be seen and mended
	}
	return err
}

// lockLists takes the uidlists' locks of mailboxes that are about to get another name,
// or none. A Dovecot that works there goes by paths: its lock and its half-written
// uidlist would stay in the directory, in the name of a living process. Whoever does
// not let go in a while is not waited for: the rename itself needs no lock. They are
// taken in the order of MOVE, and go with their directories.
func (t *tree) lockLists(spots ...spot) (unlock func()) {
	const (
		patience = 7 * time.Second // an empty lock, which names nobody, is respected for 5
		most     = 200             // each costs a descriptor
	)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	spots = slices.Clone(spots)
	slices.SortFunc(spots, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.box.Dev, b.box.Dev), cmp.Compare(a.box.Ino, b.box.Ino))
	})
	var release []func()
	for _, s := range spots[:min(len(spots), most)] {
		d, err := s.openControl()
		if err != nil {
			continue // nobody has a uidlist there
		}
		lock, err := uidlist.Dotlock(ctx, d, uidlist.LockName, uidlist.Name, t.env)
		if err != nil {
			d.Close()
			continue
		}
		release = append(release, func() {
			lock.Unlock() // best effort: of a deleted mailbox it is gone
			d.Close()
		})
	}
	return func() {
		for _, f := range release {
			f()
		}
	}
}

// renaming is one mailbox of a RENAME.
type renaming struct {
	old spot
	to  store.Name
}

// relocations says where mailboxes lie now. A link leads where it led.
func (t *tree) relocations(done []renaming) []relocated {
	var out []relocated
	for _, r := range done {
		if now, err := t.find(r.to); err == nil && now.path != r.old.path {
			out = append(out, relocated{placeKey{r.old.box.Dev, r.old.box.Ino}, now.path})
		}
	}
	return out
}

// renameDirectory renames one Maildir++ directory with its control and index files.
func (t *tree) renameDirectory(old, name string) error {
	if _, err := t.mail.Stat(name); err == nil {
		return store.ErrExists // one that is no mailbox; rename would replace an empty one
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.mail.Rename(old, t.mail, name); err != nil {
		return err
	}
	for _, d := range []fsys.Dir{t.control, t.index} {
		if d == nil {
			continue
		}
		if err := t.removeMeta(d, []string{name}); err != nil {
			return err
		}
		if err := d.Rename(old, d, name); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// renameFS renames the one directory that holds a mailbox and all below it.
func (t *tree) renameFS(from, to store.Name) error {
	oldComps, err := t.actual(from)
	if err != nil {
		return err
	}
	newComps, err := t.components(to)
	if err != nil {
		return err
	}
	for i, d := range []fsys.Dir{t.mail, t.control, t.index} {
		if d == nil {
			continue
		}
		if err := renameBetween(d, oldComps, newComps, i > 0); err != nil && (i == 0 || !isGone(err)) {
			return err
		}
	}
	t.prune(oldComps[:len(oldComps)-1])
	return nil
}

// renameBetween renames within one tree of directories. With makeParents those that
// the new name needs are made, and an empty directory of that name is replaced.
func renameBetween(d fsys.Dir, old, name []string, makeParents bool) error {
	src, err := descend(d, old[:len(old)-1], false)
	if err != nil {
		return err
	}
	defer closeUnless(src, d)
	dst, err := descend(d, name[:len(name)-1], makeParents)
	if err != nil {
		return err
	}
	defer closeUnless(dst, d)
	last := name[len(name)-1]
	if _, err := dst.Stat(last); err == nil && !makeParents {
		return store.ErrExists
	}
	if err := src.Rename(old[len(old)-1], dst, last); err != nil {
		return err
	}
	return errors.Join(src.Sync(), dst.Sync())
}

func closeUnless(d, held fsys.Dir) {
	if d != held {
		d.Close()
	}
}

// actual gives the directories of a name of the fs layout as they are on disk, which
// need not be as we would spell them.
func (t *tree) actual(n store.Name) (comps []string, err error) {
	err = t.walk(maxLevels, func(f found) bool {
		if f.name == n && (comps == nil || f.canonical) {
			comps = f.rel
		}
		return comps == nil || !f.canonical
	})
	if err == nil && comps == nil {
		err = store.ErrNotFound
	}
	return comps, err
}

// syncRoots makes durable what was renamed in the roots.
func (t *tree) syncRoots() error {
	var errs []error
	for _, d := range []fsys.Dir{t.mail, t.control, t.index} {
		if d != nil {
			errs = append(errs, d.Sync())
		}
	}
	return errors.Join(errs...)
}

// trashName is where Dovecot puts a mailbox that is being deleted; it removes what it
// finds there, and so do we.
const trashName = "..DOVECOT-TRASHED"

// remove deletes a mailbox and its mail; durable. gone is called when it can no longer
// be found, before its files go. What lies below it stays. t.mu is held.
func (t *tree) remove(s spot, gone func()) error {
	parent, err := descend(t.mail, s.meta[:len(s.meta)-1], false)
	if err != nil {
		return err
	}
	defer closeUnless(parent, t.mail)
	last := s.meta[len(s.meta)-1]
	unlock := sync.OnceFunc(t.lockLists(s))
	defer unlock()
	switch {
	case s.link != "" && len(s.rel) == 1:
		err = parent.Remove(last) // the link; where it leads is not ours to delete
	case t.root.Layout == store.LayoutFS:
		err = t.removeFS(parent, last)
	default:
		err = t.trash(parent, last)
	}
	if err != nil {
		return err
	}
	if err := parent.Sync(); err != nil {
		return err
	}
	unlock() // who is opening the mailbox waits for it, and gone waits for them
	gone()
	for _, d := range []fsys.Dir{t.control, t.index} {
		if d != nil {
			if err := t.removeMeta(d, s.meta); err != nil {
				return err
			}
		}
	}
	// The mailbox is gone; should its files not go (a busy file on NFS), the next
	// deletion tries again, and so does Dovecot.
	fsys.RemoveTree(t.mail, trashName, 2*maxLevels)
	if t.root.Layout == store.LayoutFS {
		t.prune(s.meta[:len(s.meta)-1])
	}
	return nil
}

// trash takes a directory out of sight in one step.
func (t *tree) trash(d fsys.Dir, name string) error {
	// Another deletion may lie there, ours or another program's, and go or come meanwhile.
	full := func(err error) bool { return errors.Is(err, fs.ErrExist) } // ENOTEMPTY too
	const tries = 100
	for try := 1; ; try++ {
		err := d.Rename(name, t.mail, trashName)
		if err == nil || !full(err) || try == tries {
			return err
		}
		if err := fsys.RemoveTree(t.mail, trashName, 2*maxLevels); err != nil && !full(err) {
			return err
		}
	}
}

// removeFS deletes the mail of the mailbox parent/name, and the directory unless
// others lie in it.
func (t *tree) removeFS(parent fsys.Dir, name string) error {
	if t.root.MailDir != "" {
		box, err := parent.Sub(name)
		if err != nil {
			return err
		}
		defer box.Close()
		if err := t.trash(box, t.root.MailDir); err != nil {
			return err
		}
		if err := removeFiles(box, isMetadata); err != nil {
			return err
		}
		box.Sync() // the mailbox is gone by its mail; this is for tidiness
		if err := parent.Rmdir(name); err != nil && !hasEntries(parent, name) {
			return err
		}
		return nil
	}
	if !t.hasDirectories(parent, name) {
		return t.trash(parent, name)
	}
	box, err := parent.Sub(name)
	if err != nil {
		return err
	}
	defer box.Close()
	// Without cur it is no mailbox: that is the one step.
	if err := t.trash(box, "cur"); err != nil {
		return err
	}
	for _, sub := range []string{"new", "tmp"} {
		if err := fsys.RemoveTree(box, sub, maxLevels); err != nil {
			return err
		}
	}
	if err := removeFiles(box, isMetadata); err != nil {
		return err
	}
	return box.Sync()
}

// hasDirectories reports whether directories other than those of mail lie in d/name.
func (t *tree) hasDirectories(d fsys.Dir, name string) (yes bool) {
	sub, err := d.Sub(name)
	if err != nil {
		return false
	}
	defer sub.Close()
	sub.Names(func(entry string, kind fs.FileMode) bool {
		yes = !t.hidden(entry) && t.isDirectory(sub, entry, kind)
		return !yes
	})
	return yes
}

func hasEntries(d fsys.Dir, name string) (yes bool) {
	sub, err := d.Sub(name)
	if err != nil {
		return false
	}
	defer sub.Close()
	sub.Names(func(string, fs.FileMode) bool { yes = true; return false })
	return yes
}

// removeFiles removes the plain files of a directory that match.
func removeFiles(d fsys.Dir, match func(string) bool) error {
	var names []string
	if err := d.Names(func(name string, _ fs.FileMode) bool {
		if match(name) {
			names = append(names, name)
		}
		return true
	}); err != nil {
		return err
	}
	for _, name := range names {
		st, err := d.Stat(name)
		if err == nil && !st.Mode.IsDir() {
			err = d.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeMeta removes the control or index files of one mailbox from a tree of them.
func (t *tree) removeMeta(d fsys.Dir, comps []string) error {
	if t.root.Layout != store.LayoutFS {
		return fsys.RemoveTree(d, comps[0], maxLevels)
	}
	sub, err := descend(d, comps, false)
	if err != nil {
		if isGone(err) {
			return nil
		}
		return err
	}
	defer sub.Close()
	return removeFiles(sub, func(string) bool { return true })
}

// removeLevel deletes a directory of the fs layout that holds no mailbox.
func (t *tree) removeLevel(n store.Name) error {
	comps, err := t.actual(n)
	if err != nil {
		return err
	}
	parent, err := descend(t.mail, comps[:len(comps)-1], false)
	if err != nil {
		return err
	}
	defer closeUnless(parent, t.mail)
	if t.hasDirectories(parent, comps[len(comps)-1]) {
		return store.ErrHasChildren
	}
	if err := t.forgetLevel(parent, comps); err != nil {
		return err
	}
	if err := parent.Rmdir(comps[len(comps)-1]); err != nil {
		return err
	}
	return parent.Sync()
}

// forgetLevel removes what is kept with a level of the fs layout, unless something else
// lies there.
func (t *tree) forgetLevel(parent fsys.Dir, comps []string) error {
	d, err := parent.Sub(comps[len(comps)-1])
	if err != nil {
		return err
	}
	defer d.Close()
	alone := true
	if err := d.Names(func(name string, kind fs.FileMode) bool {
		alone = isMetadata(name) && kind != fs.ModeDir
		return alone
	}); err != nil || !alone {
		return err
	}
	if t.control != nil {
		return t.removeMeta(t.control, comps)
	}
	return removeFiles(d, isMetadata)
}

// prune removes directories of the fs layout that hold nothing any more, upwards.
func (t *tree) prune(comps []string) {
	for ; len(comps) > 0; comps = comps[:len(comps)-1] {
		parent, err := descend(t.mail, comps[:len(comps)-1], false)
		if err != nil {
			return
		}
		t.forgetLevel(parent, comps)            // best effort, as all here
		err = parent.Rmdir(comps[len(comps)-1]) // fails when something is in it
		closeUnless(parent, t.mail)
		if err != nil {
			return
		}
	}
}
