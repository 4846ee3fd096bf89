package faultfs

import (
	"cmp"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"roost/maildir/fsys"
)

// memDir is an open directory of a Mem.
type memDir struct {
	m      *Mem
	n      *inode
	path   string
	closed bool
}

func (d *memDir) join(name string) string {
	if name == "" {
		return d.path
	}
	return strings.TrimSuffix(d.path, "/") + "/" + name
}

// with runs a call on a name, with the tree locked.
func (d *memDir) with(op, name string, call func() error) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	var err error
	switch {
	case d.closed:
		err = fs.ErrClosed
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		err = fs.ErrInvalid
	case len(name) > 255:
		err = syscall.ENAMETOOLONG
	default:
		err = call()
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: d.join(name), Err: err}
	}
	return nil
}

func (d *memDir) open(op, name string, appends, writes bool) (f *memFile, err error) {
	err = d.with(op, name, func() error {
		n := d.n.names[name]
		switch {
		case n == nil:
			return syscall.ENOENT
		case n.mode.IsDir():
			return fsys.ErrNotRegular
		}
		f = &memFile{m: d.m, n: n, dir: d.n, name: name, path: d.join(name), appends: appends, writes: writes}
		return nil
	})
	return f, err
}

func (d *memDir) Open(name string) (fsys.File, error) {
	return fileOr(d.open("open", name, false, false))
}

func (d *memDir) OpenStat(name string) (fsys.File, fsys.Stat, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, fsys.Stat{}, err
	}
	st, err := f.Stat()
	return f, st, err
}

func (d *memDir) Append(name string) (fsys.File, error) {
	return fileOr(d.open("open", name, true, true))
}

// fileOr keeps a nil *memFile from becoming a File that is not nil.
func fileOr(f *memFile, err error) (fsys.File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *memDir) Create(name string, mode fs.FileMode) (fsys.File, error) {
	var f *memFile
	err := d.with("create", name, func() error {
		if d.n.names[name] != nil {
			return syscall.EEXIST
		}
		n := d.m.node(mode.Perm())
		d.m.edit(change{{dir: d.n, name: name, to: n}})
		f = &memFile{m: d.m, n: n, dir: d.n, name: name, path: d.join(name), writes: true}
		return nil
	})
	return fileOr(f, err)
}

func (d *memDir) Update(name string, mode fs.FileMode) (fsys.File, error) {
	f, err := d.open("open", name, false, true)
	if err == nil {
		return f, nil
	}
	if file, cerr := d.Create(name, mode); cerr == nil {
		return file, nil
	}
	return nil, err
}

// two runs a call on a name here, which must be there, and a name in to.
func (d *memDir) two(op, old string, to fsys.Dir, name string, call func(n *inode, t *memDir) error) error {
	t, ok := to.(*memDir)
	err := d.with(op, old, func() error {
		switch {
		case !ok || t.m != d.m:
			return syscall.EXDEV
		case t.closed:
			return fs.ErrClosed
		case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
			return fs.ErrInvalid
		case d.n.names[old] == nil:
			return syscall.ENOENT
		}
		return call(d.n.names[old], t)
	})
	if pe, ok := err.(*fs.PathError); ok {
		return &os.LinkError{Op: op, Old: d.join(old), New: to.Path() + "/" + name, Err: pe.Err}
	}
	return nil
}

func (d *memDir) Link(old string, to fsys.Dir, name string) error {
	return d.two("link", old, to, name, func(n *inode, t *memDir) error {
		switch {
		case t.n.names[name] != nil:
			return syscall.EEXIST
		case n.mode.IsDir():
			return syscall.EPERM
		}
		d.m.edit(change{{dir: t.n, name: name, to: n}})
		return nil
	})
}

func (d *memDir) Move(old string, to fsys.Dir, name string) error {
	return d.two("move", old, to, name, func(n *inode, t *memDir) error {
		if t.n.names[name] != nil {
			return syscall.EEXIST
		}
		d.m.edit(change{{dir: d.n, name: old, to: nil}, {dir: t.n, name: name, to: n}})
		return nil
	})
}

func (d *memDir) Rename(old string, to fsys.Dir, name string) error {
	return d.two("rename", old, to, name, func(n *inode, t *memDir) error {
		switch there := t.n.names[name]; {
		case there == n:
			return nil // rename(2): two names of one file stay
		case there != nil && there.mode.IsDir() && len(there.names) > 0:
			return syscall.ENOTEMPTY
		case there != nil && there.mode.IsDir() != n.mode.IsDir():
			return syscall.ENOTDIR
		}
		d.m.edit(change{{dir: d.n, name: old, to: nil}, {dir: t.n, name: name, to: n}})
		return nil
	})
}

func (d *memDir) Remove(name string) error {
	return d.with("remove", name, func() error {
		switch n := d.n.names[name]; {
		case n == nil:
			return syscall.ENOENT
		case n.mode.IsDir():
			return syscall.EISDIR
		}
		d.m.edit(change{{dir: d.n, name: name, to: nil}})
		return nil
	})
}

func (d *memDir) Rmdir(name string) error {
	return d.with("rmdir", name, func() error {
		switch n := d.n.names[name]; {
		case n == nil:
			return syscall.ENOENT
		case !n.mode.IsDir():
			return syscall.ENOTDIR
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.m.edit(change{{dir: d.n, name: name, to: nil}})
		return nil
	})
}

func (d *memDir) Mkdir(name string, mode fs.FileMode) error {
	return d.with("mkdir", name, func() error {
		if d.n.names[name] != nil {
			return syscall.EEXIST
		}
		d.m.edit(change{{dir: d.n, name: name, to: d.m.node(fs.ModeDir | mode.Perm())}})
		return nil
	})
}

func (d *memDir) Stat(name string) (st fsys.Stat, err error) {
	err = d.with("stat", name, func() error {
		n := d.n.names[name]
		if n == nil {
			return syscall.ENOENT
		}
		st = d.m.stat(n)
		return nil
	})
	return st, err
}

func (d *memDir) Self() (fsys.Stat, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.closed {
		return fsys.Stat{}, &fs.PathError{Op: "stat", Path: d.path, Err: fs.ErrClosed}
	}
	return d.m.stat(d.n), nil
}

func (m *Mem) stat(n *inode) fsys.Stat {
	return fsys.Stat{
		Ino: n.id, Dev: m.dev, Size: int64(len(n.data)), Mtime: n.mtime.UnixNano(), Ctime: n.ctime.UnixNano(),
		Nlink: n.nlink, Mode: n.mode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
	}
}

func (d *memDir) Readlink(name string) (string, error) {
	return "", d.with("readlink", name, func() error { return syscall.EINVAL })
}

func (d *memDir) NamesOnce(yield func(string, fs.FileMode) bool) error { return d.Names(yield) }

// Names goes through the names as they are at each step, in the order of their hashes: as
// on disk, one that is renamed meanwhile may come under either name, both, or none.
func (d *memDir) Names(yield func(string, fs.FileMode) bool) error {
	type entry struct {
		hash uint64
		name string
		kind fs.FileMode
	}
	compare := func(a, b entry) int { return cmp.Or(cmp.Compare(a.hash, b.hash), strings.Compare(a.name, b.name)) }
	var all []entry
	var last entry
	at, version := 0, uint64(0)
	for first := true; ; first = false {
		d.m.mu.Lock()
		if d.closed {
			d.m.mu.Unlock()
			return &fs.PathError{Op: "readdir", Path: d.path, Err: fs.ErrClosed}
		}
		if first || version != d.n.version {
			all, at, version = all[:0], 0, d.n.version
			for name, n := range d.n.names {
				if e := (entry{hashOf(name), name, n.mode.Type()}); first || compare(e, last) > 0 {
					all = append(all, e)
				}
			}
			slices.SortFunc(all, compare)
		}
		d.m.mu.Unlock()
		if at == len(all) {
			return nil
		}
		last = all[at]
		at++
		if !yield(last.name, last.kind) {
			return nil
		}
	}
}

// Order compares two names by when Names of a Mem comes to them, for a test that wants
// one to be missed: it is given a name of a place that readdir has passed.
func Order(a, b string) int {
	return cmp.Or(cmp.Compare(hashOf(a), hashOf(b)), strings.Compare(a, b))
}

// hashOf is the same in each run.
func hashOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

func (d *memDir) SetTime(name string, t time.Time) error {
	return d.with("settime", name, func() error {
		n := d.n.names[name]
		if n == nil {
			return syscall.ENOENT
		}
		n.mtime, n.ctime = t, d.m.now()
		return nil
	})
}

func (d *memDir) Sync() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.closed {
		return &fs.PathError{Op: "sync", Path: d.path, Err: fs.ErrClosed}
	}
	d.m.syncDir(d.n)
	return nil
}

func (d *memDir) Sub(name string) (fsys.Dir, error) {
	var sub *memDir
	err := d.with("open", name, func() error {
		n := d.n.names[name]
		switch {
		case n == nil:
			return syscall.ENOENT
		case !n.mode.IsDir():
			return fsys.ErrNotDir
		}
		sub = &memDir{m: d.m, n: n, path: d.join(name)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sub, nil
}

func (d *memDir) Path() string { return d.path }
func (d *memDir) Remote() bool { return false }

func (d *memDir) Writable() bool { return true }

func (d *memDir) Together(calls ...func() error) error { return inTurn(calls) }

func (d *memDir) Close() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.closed {
		return &fs.PathError{Op: "close", Path: d.path, Err: fs.ErrClosed}
	}
	d.closed = true
	return nil
}

// memFile is an open file of a Mem.
type memFile struct {
	m               *Mem
	n, dir          *inode
	name, path      string // when it was opened
	at              int64
	appends, writes bool
	closed          bool
}

// with runs a call with the tree locked.
func (f *memFile) with(op string, needWrite bool, call func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case needWrite && !f.writes:
		err = syscall.EBADF
	default:
		err = call()
	}
	if err != nil && err != io.EOF {
		return &fs.PathError{Op: op, Path: f.path, Err: err}
	}
	return err
}

func (f *memFile) readAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Read(b []byte) (n int, err error) {
	err = f.with("read", false, func() (err error) {
		n, err = f.readAt(b, f.at)
		f.at += int64(n)
		if n > 0 {
			err = nil
		}
		return err
	})
	return n, err
}

func (f *memFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.with("read", false, func() (err error) { n, err = f.readAt(b, off); return err })
	return n, err
}

func (f *memFile) writeAt(b []byte, off int64) {
	if grow := off + int64(len(b)) - int64(len(f.n.data)); grow > 0 {
		f.n.data = append(f.n.data, make([]byte, grow)...)
	}
	copy(f.n.data[off:], b)
	f.touch()
}

// touch notes that the bytes changed.
func (f *memFile) touch() {
	f.n.mtime, f.n.ctime = f.m.now(), f.m.now()
	if f.m.Changed != nil {
		f.m.Changed(Change{Dir: f.dir.id, Name: f.name, Written: true})
	}
}

func (f *memFile) Write(b []byte) (int, error) {
	err := f.with("write", true, func() error {
		if f.appends {
			f.at = int64(len(f.n.data))
		}
		f.writeAt(b, f.at)
		f.at += int64(len(b))
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.with("write", true, func() error { f.writeAt(b, off); return nil }); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memFile) Stat() (st fsys.Stat, err error) {
	err = f.with("stat", false, func() error { st = f.m.stat(f.n); return nil })
	return st, err
}

func (f *memFile) Truncate(size int64) error {
	return f.with("truncate", true, func() error {
		if size < int64(len(f.n.data)) {
			f.n.data = f.n.data[:size:size]
		} else {
			f.writeAt(nil, size)
		}
		f.touch()
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.with("sync", false, func() error { f.n.synced = slices.Clone(f.n.data); return nil })
}

func (f *memFile) Datasync() error { return f.Sync() }

func (f *memFile) TryLock() (ok bool, err error) {
	err = f.with("lock", false, func() error {
		if ok = f.n.locked == nil || f.n.locked == f; ok {
			f.n.locked = f
		}
		return nil
	})
	return ok, err
}

func (f *memFile) Close() error {
	return f.with("close", false, func() error {
		f.closed = true
		if f.n.locked == f {
			f.n.locked = nil
		}
		return nil
	})
}
