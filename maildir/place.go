package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// A spot is a mailbox of a tree, found on disk: what place.open needs to know.
type spot struct {
	tree *tree
	name store.Name
	box  fsys.Stat // of the mailbox directory
	path string    // absolute path of the mailbox directory
	rel  []string  // its components below the tree's mail directory; nil for INBOX there
	link string    // the last component of rel is a link to this directory, below Root.FollowLinks
	meta []string  // components below the control and index directories, where those are apart
}

// place is the spot as the mailbox core takes it.
func (s spot) place() place {
	return place{
		key:         placeKey{s.box.Dev, s.box.Ino},
		name:        s.name,
		user:        s.tree.user,
		path:        s.path,
		open:        s.openToRead,
		unlisted:    s.openUnlisted,
		retain:      s.tree.retain,
		uidvalidity: s.tree.freshUIDValidity,
		lend:        s.tree.lendUIDValidity,
		hasTwin:     s.tree.twin,
	}
}

// open opens the directories of a mailbox. cur, new and tmp are made with the mode
// of the mailbox where they are missing, as Dovecot does.
func (s spot) open() (dirs, error) { return s.openDirs(false) }

// openToRead is open for a mailbox that may be readable only: a directory that is
// missing, and that nobody here may make, is an empty one.
func (s spot) openToRead() (dirs, error) { return s.openDirs(true) }

// openWhole is openToRead of a mailbox that somebody may be about to remove: what is missing
// of it is not made.
func (s spot) openWhole() (dirs, error) {
	box, err := s.openBox()
	if err != nil {
		return dirs{}, err
	}
	defer box.Close()
	for _, name := range []string{"cur", "new"} {
		if _, err := box.Stat(name); err != nil {
			return dirs{}, err
		}
	}
	return s.openToRead()
}

func (s spot) openDirs(lenient bool) (d dirs, err error) {
	defer func() {
		if err != nil {
			d.close()
			d, err = dirs{}, fmt.Errorf("open mailbox %q: %w", s.name, err)
		}
	}()
	if d.box, err = s.openBox(); err != nil {
		return d, err
	}
	st, err := d.box.Self()
	if err != nil {
		return d, err
	}
	mode, _ := st.Modes()
	for _, sub := range []struct {
		name string
		dir  *fsys.Dir
	}{{"tmp", &d.tmp}, {"new", &d.new}, {"cur", &d.cur}} { // cur last: with it an fs mailbox exists
		*sub.dir, err = subMade(d.box, sub.name, mode)
		if err != nil && lenient && canDoWithout(d.box, sub.name, err) {
			*sub.dir, err = absent{d.box.Path() + "/" + sub.name, err}, nil
		}
		if err != nil {
			return d, err
		}
	}
	d.control, d.index = d.box, d.box
	if s.tree.control != nil {
		if d.control, err = descend(s.tree.control, s.meta, true); err != nil {
			return d, err
		}
	}
	if s.tree.index != nil {
		if d.index, err = descend(s.tree.index, s.meta, true); err != nil {
			return d, err
		}
	}
	return d, nil
}

// canDoWithout reports whether messages can be read though a directory could not be
// opened or made. None is in tmp/; of the others nothing is known but that they are not
// there.
func canDoWithout(box fsys.Dir, name string, err error) bool {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) && !errors.Is(err, fsys.ErrNotDir) {
		return false
	}
	if name == "tmp" {
		return true
	}
	_, serr := box.Stat(name)
	return isNotExist(serr)
}

// errListed says that a mailbox has a uidlist.
var errListed = errors.New("it has a uidlist")

// openUnlisted opens what a mailbox without a uidlist is counted by: not tmp, where its files
// are all in one place. errListed.
func (s spot) openUnlisted() (d dirs, err error) {
	if s.tree.control != nil || s.tree.index != nil {
		if control, err := s.openControl(); err == nil {
			_, err = control.Stat(uidlist.Name)
			control.Close()
			if !isNotExist(err) {
				return d, errListed
			}
		}
		return s.openToRead()
	}
	defer func() {
		if err != nil {
			d.close()
			d = dirs{}
		}
	}()
	if d.box, err = s.openBox(); err != nil {
		return d, err
	}
	d.control, d.index = d.box, d.box
	if _, err := d.box.Stat(uidlist.Name); !isNotExist(err) { // mostly there is one
		return d, errListed
	}
	if d.cur, err = d.box.Sub("cur"); err == nil {
		d.new, err = d.box.Sub("new")
	}
	return d, err
}

// openBox opens the mailbox directory alone.
func (s spot) openBox() (fsys.Dir, error) {
	switch {
	case s.link != "":
		return s.tree.follow(s.link)
	case s.rel == nil:
		return s.tree.fs.Root(s.path) // INBOX, whose path the configuration names
	}
	return descend(s.tree.mail, s.rel, false)
}

// openControl opens the directory of its uidlist alone.
func (s spot) openControl() (fsys.Dir, error) {
	if s.tree.control != nil {
		return descend(s.tree.control, s.meta, false)
	}
	return s.openBox()
}

// descend opens a directory some components below d, never through a link. With
// make those that are missing are made, with the mode of what they are in.
func descend(d fsys.Dir, components []string, make bool) (fsys.Dir, error) {
	at := d
	for _, name := range components {
		var sub fsys.Dir
		var err error
		if make {
			var st fsys.Stat
			if st, err = at.Self(); err == nil {
				mode, _ := st.Modes()
				sub, err = subMade(at, name, mode)
			}
		} else {
			sub, err = at.Sub(name)
		}
		if at != d {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = sub
	}
	return at, nil
}

// subMade opens a directory below d, after making it where it is missing.
func subMade(d fsys.Dir, name string, mode fs.FileMode) (fsys.Dir, error) {
	sub, err := d.Sub(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return sub, err
	}
	if err := d.Mkdir(name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return d.Sub(name)
}

// linkTarget reads where a link in d points to, as an absolute path, when that is
// below one of the directories under which links may be followed.
func (t *tree) linkTarget(d fsys.Dir, name string) (string, bool) {
	if len(t.root.FollowLinks) == 0 {
		return "", false
	}
	target, err := d.Readlink(name)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(d.Path(), target)
	}
	target = filepath.Clean(target)
	_, _, ok := t.linkBase(target)
	return target, ok
}

// linkBase finds the allowed directory above a path, and the way from there.
func (t *tree) linkBase(path string) (base, rel string, ok bool) {
	for _, base := range t.root.FollowLinks {
		base = filepath.Clean(base)
		if rel, ok := strings.CutPrefix(path, strings.TrimSuffix(base, "/")+"/"); ok && rel != "" {
			return base, rel, true
		}
	}
	return "", "", false
}

// follow opens what a link points to. The path was read from a link that its owner
// may change: FS.Under holds it below the allowed directory, whatever it says.
func (t *tree) follow(path string) (fsys.Dir, error) {
	base, rel, ok := t.linkBase(path)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return t.fs.Under(base, rel)
}
