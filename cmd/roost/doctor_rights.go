package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"roost/store"
)

// asUser calls f with the rights of another user: what the doctor sees of the mail as
// root is then what the server sees. Only f's own goroutine has them. The error says that
// they could not be had, and f was not called.
func asUser(uid, gid int, groups []int, f func()) error {
	if uid < 0 || uid == os.Geteuid() {
		f()
		return nil
	}
	done := make(chan error, 1)
	go func() { // ends with f
		// Never unlocked, so that the thread ends with the goroutine: no other gets it.
		runtime.LockOSThread()
		err := become(uid, gid, groups)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// become changes the user of this thread alone, as package syscall's functions, which
// change that of the process, do not.
func become(uid, gid int, groups []int) error {
	list := make([]uint32, max(len(groups), 1))
	for i, g := range groups {
		list[i] = uint32(g)
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0); errno != 0 { // #nosec G103 -- the call takes an address
		return errno
	}
	const keep = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}

// may reports what keeps this user from a file or directory; nil for nothing. ACLs and
// read-only filesystems count. mode is of unix.R_OK, W_OK, X_OK.
func may(path string, mode uint32) error {
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
}

// opening gives the command that lets a group read a file, "" where it can be read.
func opening(file string, gid int) string {
	if may(file, unix.R_OK) == nil {
		return ""
	}
	var closed []string
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		if err := may(dir, unix.X_OK); err == nil {
			break
		}
		closed = append([]string{dir}, closed...)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	group := groupName(gid)
	var run []string
	if len(closed) > 0 {
		run = append(run, "chgrp "+shellWords(append([]string{group}, closed...)...), "chmod g+x "+shellWords(closed...))
	}
	run = append(run, "chgrp "+shellWords(group, file), "chmod g+r "+shellWord(file))
	return strings.Join(run, " && ")
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// keeper is the user who must be able to read and write the mail.
type keeper struct {
	uid, gid int
	groups   []int
	name     string // "vmail"
	owner    string // "vmail:vmail", for chown
}

// keeper gives mail.user, else the user of the server that runs, else whoever the doctor
// is. known is false where it is another whom he cannot be.
func (d *doctor) keeper() (k keeper, known bool) {
	uid, gid, groups, err := owner(d.config)
	if (err != nil || uid < 0) && d.server != nil {
		uid, gid, groups = d.server.UID, d.server.GID, groupsOf(d.server.UID, d.server.GID)
	}
	me := os.Geteuid()
	if known = uid == me || me == 0 || uid < 0 && (d.asked || d.config.Control.Path() == ""); uid < 0 || !known {
		uid, gid, groups = me, os.Getegid(), nil
	}
	k = keeper{uid: uid, gid: gid, groups: groups, name: userName(uid)}
	k.owner = k.name + ":" + groupName(gid)
	return k, known
}

// way looks at the directories down to path. kind is "" where the keeper gets there;
// else it names what f tells, and at is how far he gets.
func (k keeper) way(path string) (kind string, f finding, at string) {
	at = "/"
	parts := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for i, part := range parts {
		if err := may(at, unix.X_OK); err != nil {
			return "mail-closed", finding{Where: at, What: fmt.Sprintf("%s cannot go through it (%s)", k.name, modeOf(at)), Run: "chmod " + k.class(at) + "+x " + shellWord(at)}, at
		}
		next := filepath.Join(at, part)
		fi, err := os.Stat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			var missing []string
			for j := i; j < len(parts); j++ {
				missing = append(missing, filepath.Join(at, filepath.Join(parts[i:j+1]...)))
			}
			for _, sub := range []string{"cur", "new", "tmp"} {
				missing = append(missing, filepath.Join(path, sub))
			}
			return "mail-missing", finding{Where: path, What: "there is no such directory",
				Run: "install -d -o " + shellWord(k.name) + " -g " + shellWord(groupName(k.gid)) + " -m 0700 " + shellWords(missing...)}, at
		case err != nil:
			return "mail-unseen", finding{Where: next, What: bottom(err).Error()}, at
		case !fi.IsDir():
			return "mail-place", finding{Where: next, What: "it is a file, and no Maildir", Do: "mail.location means another path, or the file is an mbox, which has to be converted"}, at
		}
		at = next
	}
	return "", finding{}, at
}

// class says by which letter of a mode the keeper is meant.
func (k keeper) class(path string) string {
	fi, err := os.Lstat(path)
	if err != nil {
		return "o"
	}
	sys := fi.Sys().(*syscall.Stat_t)
	switch {
	case int(sys.Uid) == k.uid:
		return "u"
	case int(sys.Gid) == k.gid || slices.Contains(k.groups, int(sys.Gid)):
		return "g"
	}
	return "o"
}

// bottom is the error below a path error: the path is told already.
func bottom(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// modeOf tells who may what: "drwx------ root:root".
func modeOf(path string) string {
	fi, err := os.Lstat(path)
	if err != nil {
		return bottom(err).Error()
	}
	sys := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %s:%s", fi.Mode(), userName(int(sys.Uid)), groupName(int(sys.Gid)))
}

// budget is how many files of mail may still be looked at.
type budget struct {
	left int
	all  bool // there is no bound
}

// take takes one, and reports whether it was there.
func (b *budget) take() bool {
	if b.all {
		return true
	}
	b.left--
	return b.left >= 0
}

func (b *budget) over() bool { return !b.all && b.left < 0 }

// walk is a look at the rights of one tree.
type walk struct {
	keeper
	layout store.Layout
	files  *budget
	add    func(kind string, f finding)
	owned  []string // trees that are to be given to the keeper as a whole
	fixed  bool     // the filesystem is read-only, and it was told
}

// tree looks at a directory of mail and all mail below it.
func (w *walk) tree(dir string, depth int) {
	var closed []string
	for _, e := range w.directory(dir) {
		name := e.Name()
		path := filepath.Join(dir, name)
		switch {
		case !w.files.take():
			return
		case e.IsDir() && (name == "cur" || name == "new"):
			w.messages(path)
		case e.IsDir() && name == "tmp":
			w.directory(path)
		case e.IsDir() && depth > 0 && w.isMailbox(name):
			next := depth - 1
			if w.layout != store.LayoutFS {
				next = 0
			}
			w.tree(path, next)
		case e.Type().IsRegular() && isShared(name):
			if may(path, unix.R_OK|unix.W_OK) != nil {
				closed = append(closed, name)
			}
		}
	}
	w.report(dir, closed, "read and write")
}

// isMailbox reports whether a directory may hold mail.
func (w *walk) isMailbox(name string) bool {
	if w.layout == store.LayoutFS {
		return name[0] != '.'
	}
	return name[0] == '.' && !strings.HasPrefix(name, "..")
}

// isShared reports whether a file beside the mail is one that Roost reads and writes.
func isShared(name string) bool {
	switch name {
	case "dovecot-uidlist", "dovecot-keywords", "subscriptions", "roost-keywords", "roost-metadata", "roost-server-metadata", "roost-state", "roost.index", "roost.cache", "roost.fts", "roost.lock":
		return true
	}
	return false
}

// directory looks at the rights of one directory and gives what is in it.
func (w *walk) directory(dir string) []os.DirEntry {
	if !w.enter(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // told already
	}
	return entries
}

// enter looks at the rights of a directory; false when it is gone.
func (w *walk) enter(dir string) bool {
	err := may(dir, unix.R_OK|unix.W_OK|unix.X_OK)
	switch {
	case errors.Is(err, syscall.EROFS) && w.fixed:
	case errors.Is(err, syscall.EROFS):
		w.fixed = true
		w.add("mail-readonly", finding{Where: dir, What: "the filesystem is mounted read-only", Do: "mount -o remount,rw, after a look at dmesg: a disk that fails does this"})
	case errors.Is(err, fs.ErrPermission):
		w.reportDir(dir)
	case err != nil:
		return false
	}
	return true
}

// messages looks at the files of cur or new.
func (w *walk) messages(dir string) {
	if !w.enter(dir) {
		return
	}
	d, err := os.Open(dir)
	if err != nil {
		return // told already
	}
	defer d.Close()
	var closed []string
	for more := true; more; {
		var entries []os.DirEntry
		entries, err = d.ReadDir(1000) // of a million
		more = err == nil
		for _, e := range entries {
			if more = more && w.files.take(); !more {
				break
			}
			if e.Type().IsRegular() && e.Name()[0] != '.' && may(filepath.Join(dir, e.Name()), unix.R_OK) != nil {
				closed = append(closed, e.Name())
			}
		}
	}
	w.report(dir, closed, "read")
}

// reportDir tells of a directory. Where another user owns it, all below it is probably
// the same, and one command mends it.
func (w *walk) reportDir(dir string) {
	fi, err := os.Lstat(dir)
	if err != nil {
		return
	}
	for _, tree := range w.owned {
		if strings.HasPrefix(dir, tree+"/") {
			return
		}
	}
	f := finding{Where: dir, What: fmt.Sprintf("%s cannot read and write it (%s)", w.name, modeOf(dir))}
	if int(fi.Sys().(*syscall.Stat_t).Uid) != w.uid {
		w.owned = append(w.owned, dir)
		f.Run = "chown -R " + shellWords(w.owner, dir)
		if fi.Mode().Perm()&0o700 != 0o700 {
			f.Run += " && chmod u+rwx " + shellWord(dir)
		}
	} else {
		f.Run = "chmod u+rwx " + shellWord(dir)
	}
	w.add("mail-rights", f)
}

// report tells of files of one directory that the keeper cannot use.
func (w *walk) report(dir string, names []string, use string) {
	for _, tree := range w.owned {
		if dir == tree || strings.HasPrefix(dir, tree+"/") {
			return
		}
	}
	if len(names) == 0 {
		return
	}
	path := filepath.Join(dir, names[0])
	f := finding{Where: path, What: fmt.Sprintf("%s cannot %s it (%s)", w.name, use, modeOf(path))}
	if len(names) > 1 {
		f.Where, f.What = dir, fmt.Sprintf("%s cannot %s %s in it, %s (%s) for one", w.name, use, count(len(names), "file"), names[0], modeOf(path))
	}
	f.Run = fmt.Sprintf("find %s -maxdepth 1 -type f ! -user %s -exec chown %s {} + && find %[1]s -maxdepth 1 -type f -exec chmod u+rw {} +", shellWord(dir), shellWord(w.name), shellWord(w.owner))
	w.add("mail-rights", f)
}
