package maildir

import (
	"errors"
	"slices"
	"strings"

	"roost/maildir/courier"
	"roost/maildir/fsys"
	"roost/maildir/watch"
	"roost/store"
)

// level is one directory in which mailboxes or the subscriptions lie.
type level struct {
	sub  *watch.Sub
	dir  fsys.Dir // kept where it is polled
	lost bool     // guarded by accountWatch.mu
}

// watchRoots watches the directories in which the trees begin.
func (w *accountWatch) watchRoots(paths map[string]bool) (more bool) {
	for _, t := range w.a.trees {
		more = w.watchDir(t, t.mail, paths) || more
		if t.control != nil {
			more = w.watchDir(t, t.control, paths) || more
		}
	}
	return more
}

// watchLevel watches a directory of the fs layout.
func (w *accountWatch) watchLevel(t *tree, rel []string, paths map[string]bool) (more bool) {
	path := t.mail.Path() + "/" + strings.Join(rel, "/")
	if l := w.levels[path]; l != nil && !w.isLost(l) {
		paths[path] = true
		return false
	}
	d, err := descend(t.mail, rel, false)
	if err != nil {
		return false // gone, which the level above tells; or a link, whose inside is not followed
	}
	defer d.Close()
	return w.watchDir(t, d, paths)
}

// watchDir watches one directory, and reports whether that is new. d stays the caller's.
func (w *accountWatch) watchDir(t *tree, d fsys.Dir, paths map[string]bool) (fresh bool) {
	path := d.Path()
	paths[path] = true
	if l := w.levels[path]; l != nil {
		if !w.isLost(l) {
			return false
		}
		l.close()
		delete(w.levels, path)
	}
	l := &level{}
	own, err := t.fs.Root(path)
	if err != nil {
		return false
	}
	st, err := own.Self()
	if have, herr := d.Self(); err != nil || herr != nil || !st.SameFile(have) {
		own.Close() // it is elsewhere by now, which the level above tells
		return false
	}
	sub, err := w.a.s.watch.Add(own, t.user, func() { w.levelChanged(t, l) })
	if err != nil {
		own.Close()
		if !errors.Is(err, watch.ErrMoved) {
			w.a.s.opt.Log.Warn("a directory cannot be watched; changes of mailboxes in it are not seen", "event", "watch_failed", "user", t.user, "path", path, "err", err)
		}
		return false
	}
	if sub.Polled() {
		l.dir = own
	} else {
		own.Close()
	}
	w.mu.Lock()
	l.sub = sub
	w.mu.Unlock()
	w.levels[path] = l
	w.levelChanged(t, l) // by an event that was faster
	return true
}

func (l *level) close() {
	l.sub.Close()
	if l.dir != nil {
		l.dir.Close()
	}
}

func (w *accountWatch) isLost(l *level) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.lost
}

// leaveLevels ends the watches of directories that are none of paths.
func (w *accountWatch) leaveLevels(paths map[string]bool) {
	for path, l := range w.levels {
		if !paths[path] {
			l.close()
			delete(w.levels, path)
		}
	}
}

// levelChanged is called by the goroutine that drains the kernel's queue.
func (w *accountWatch) levelChanged(t *tree, l *level) {
	w.mu.Lock()
	sub := l.sub
	w.mu.Unlock()
	if sub == nil {
		return // watchDir looks once it has it
	}
	r := sub.Pull()
	if r.Lost {
		w.mu.Lock()
		l.lost = true
		w.mu.Unlock()
	}
	if r.Look || slices.ContainsFunc(r.Names, t.isOfNames) {
		w.namesChanged()
	}
}

// isOfNames reports whether an entry of a directory of the tree may have to do with the
// names of mailboxes: not the files that come and go in INBOX with each delivery.
func (t *tree) isOfNames(entry string) bool {
	switch {
	case entry == "":
		return false
	case entry == t.root.SubsFile, entry == courier.SubscribedName:
		return true
	case t.root.Layout != store.LayoutFS:
		return entry[0] == '.'
	case entry == "new", entry == "tmp", entry == t.root.SubsFile+".lock", entry == "maildirsize":
		return false
	}
	for _, ours := range []string{"dovecot-uidlist", "dovecot-keywords", "dovecot.index", "dovecot.list.index", "dovecot.map.index", "dovecot.mailbox.log", "roost.", "roost-"} {
		if strings.HasPrefix(entry, ours) {
			return false
		}
	}
	return true
}
