package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"roost/maildir/fsys"
)

// ErrStopped is what all calls fail with after Stop.
var ErrStopped = errors.New("the world has stopped")

// FS is an fsys.FS whose calls can fail. Safe for concurrent use.
type FS struct {
	// EachName makes a call more behind each name that a directory gives, so that
	// something can happen between two. Set before use.
	EachName bool

	inner fsys.FS

	mu    sync.Mutex // guards what follows
	root  string     // of the transcript's names
	calls int
	fault func(n int, call string) error
	lines []string
}

// New wraps an FS.
func New(inner fsys.FS) *FS { return &FS{inner: inner} }

// Fail lets call n, counted from the first since New or Reset, fail with err instead
// of being done.
func (f *FS) Fail(n int, err error) {
	f.FailWhere(func(k int, _ string) error {
		if k == n {
			return err
		}
		return nil
	})
}

// Stop lets call n and all later ones fail with ErrStopped.
func (f *FS) Stop(n int) {
	f.FailWhere(func(k int, _ string) error {
		if k >= n {
			return ErrStopped
		}
		return nil
	})
}

// FailWhere asks fault before each call, which is written as in the transcript.
func (f *FS) FailWhere(fault func(n int, call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Reset counts from 1 again, without faults and with an empty transcript.
func (f *FS) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.fault, f.lines = 0, nil, nil
}

// Calls is how many calls were made, those that failed included.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Transcript is what changed the tree or was synced, one call a line, with names
// relative to the directory that was opened first: "link tmp/A new/A", "write tmp/A
// 312", "sync new/". Calls that failed end with "!".
func (f *FS) Transcript() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.lines, "")
}

// reads are the calls that the transcript leaves out.
var reads = map[string]bool{"root": true, "under": true, "open": true, "stat": true, "names": true, "readlink": true, "sub": true, "readdir": true, "read": true, "close": true}

// do runs one call, or its fault.
func (f *FS) do(op, args string, call func() error) error {
	f.mu.Lock()
	f.calls++
	line := strings.TrimSpace(op + " " + args)
	var err error
	if f.fault != nil {
		err = f.fault(f.calls, line)
	}
	at := -1
	if !reads[op] {
		at = len(f.lines)
		f.lines = append(f.lines, line+"\n")
	}
	f.mu.Unlock()
	if err != nil {
		err = &fs.PathError{Op: op, Path: args, Err: err}
	} else {
		err = call()
	}
	if err != nil && at >= 0 {
		f.mu.Lock()
		if at < len(f.lines) {
			f.lines[at] = line + " !\n"
		}
		f.mu.Unlock()
	}
	return err
}

// name writes a path for the transcript.
func (f *FS) name(p string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rest, ok := strings.CutPrefix(p, f.root); ok && f.root != "" {
		return strings.TrimPrefix(rest, "/")
	}
	return p
}

func (f *FS) opened(d fsys.Dir, err error) (fsys.Dir, error) {
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == "" {
		f.root = d.Path()
	}
	return &dir{f, d}, nil
}

// Root, Make and Under are those of fsys.FS.
func (f *FS) Root(p string) (fsys.Dir, error) {
	var d fsys.Dir
	err := f.do("root", p, func() (err error) { d, err = f.inner.Root(p); return err })
	return f.opened(d, err)
}

func (f *FS) Make(p string, mode fs.FileMode) (fsys.Dir, error) {
	var d fsys.Dir
	err := f.do("make", f.name(p), func() (err error) { d, err = f.inner.Make(p, mode); return err })
	return f.opened(d, err)
}

func (f *FS) Under(base, rel string) (fsys.Dir, error) {
	var d fsys.Dir
	err := f.do("under", path.Join(base, rel), func() (err error) { d, err = f.inner.Under(base, rel); return err })
	return f.opened(d, err)
}

// dir is a directory whose calls go through its FS. All but the numbering is the
// inner one's.
type dir struct {
	f     *FS
	inner fsys.Dir
}

func (d *dir) name(n string) string { return d.f.name(d.inner.Path() + "/" + n) }

func (d *dir) file(op, name string, open func() (fsys.File, error)) (fsys.File, error) {
	var inner fsys.File
	err := d.f.do(op, d.name(name), func() (err error) { inner, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return &file{d.f, d.name(name), inner}, nil
}

func (d *dir) Open(name string) (fsys.File, error) {
	return d.file("open", name, func() (fsys.File, error) { return d.inner.Open(name) })
}

func (d *dir) OpenStat(name string) (f fsys.File, st fsys.Stat, err error) {
	f, err = d.file("open", name, func() (inner fsys.File, err error) {
		inner, st, err = d.inner.OpenStat(name)
		return inner, err
	})
	return f, st, err
}

func (d *dir) Create(name string, mode fs.FileMode) (fsys.File, error) {
	return d.file("create", name, func() (fsys.File, error) { return d.inner.Create(name, mode) })
}

func (d *dir) Append(name string) (fsys.File, error) {
	return d.file("open", name, func() (fsys.File, error) { return d.inner.Append(name) })
}

func (d *dir) Update(name string, mode fs.FileMode) (fsys.File, error) {
	return d.file("update", name, func() (fsys.File, error) { return d.inner.Update(name, mode) })
}

// two runs a call on two names.
func (d *dir) two(op, old string, to fsys.Dir, name string, call func(to fsys.Dir) error) error {
	t, ok := to.(*dir)
	return d.f.do(op, d.name(old)+" "+d.f.name(to.Path()+"/"+name), func() error {
		if ok {
			to = t.inner
		}
		return call(to)
	})
}

func (d *dir) Link(old string, to fsys.Dir, name string) error {
	return d.two("link", old, to, name, func(to fsys.Dir) error { return d.inner.Link(old, to, name) })
}

func (d *dir) Move(old string, to fsys.Dir, name string) error {
	return d.two("move", old, to, name, func(to fsys.Dir) error { return d.inner.Move(old, to, name) })
}

func (d *dir) Rename(old string, to fsys.Dir, name string) error {
	return d.two("rename", old, to, name, func(to fsys.Dir) error { return d.inner.Rename(old, to, name) })
}

func (d *dir) Remove(name string) error {
	return d.f.do("remove", d.name(name), func() error { return d.inner.Remove(name) })
}

func (d *dir) Rmdir(name string) error {
	return d.f.do("rmdir", d.name(name), func() error { return d.inner.Rmdir(name) })
}

func (d *dir) Mkdir(name string, mode fs.FileMode) error {
	return d.f.do("mkdir", d.name(name), func() error { return d.inner.Mkdir(name, mode) })
}

func (d *dir) Stat(name string) (st fsys.Stat, err error) {
	err = d.f.do("stat", d.name(name), func() (err error) { st, err = d.inner.Stat(name); return err })
	return st, err
}

func (d *dir) Self() (st fsys.Stat, err error) {
	err = d.f.do("stat", d.name(""), func() (err error) { st, err = d.inner.Self(); return err })
	return st, err
}

func (d *dir) Readlink(name string) (s string, err error) {
	err = d.f.do("readlink", d.name(name), func() (err error) { s, err = d.inner.Readlink(name); return err })
	return s, err
}

func (d *dir) NamesOnce(yield func(string, fs.FileMode) bool) error { return d.Names(yield) }

func (d *dir) Names(yield func(string, fs.FileMode) bool) error {
	var err error
	if err = d.f.do("names", d.name(""), func() error { return nil }); err != nil {
		return err
	}
	ierr := d.inner.Names(func(name string, kind fs.FileMode) bool {
		if !yield(name, kind) {
			return false
		}
		if d.f.EachName {
			err = d.f.do("readdir", d.name(""), func() error { return nil })
		}
		return err == nil
	})
	return errors.Join(err, ierr)
}

func (d *dir) SetTime(name string, t time.Time) error {
	return d.f.do("settime", d.name(name), func() error { return d.inner.SetTime(name, t) })
}

func (d *dir) Sync() error {
	return d.f.do("sync", d.name(""), d.inner.Sync)
}

// Together makes the calls in turn, so that each has its number, up to one that fails.
func (d *dir) Together(calls ...func() error) error { return inTurn(calls) }

func inTurn(calls []func() error) error {
	for _, call := range calls {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

func (d *dir) Sub(name string) (fsys.Dir, error) {
	var sub fsys.Dir
	err := d.f.do("sub", d.name(name), func() (err error) { sub, err = d.inner.Sub(name); return err })
	if err != nil {
		return nil, err
	}
	return &dir{d.f, sub}, nil
}

func (d *dir) Path() string   { return d.inner.Path() }
func (d *dir) Remote() bool   { return d.inner.Remote() }
func (d *dir) Writable() bool { return d.inner.Writable() }
func (d *dir) Close() error   { return d.inner.Close() } // not numbered: a process that stops closes too

type file struct {
	f     *FS
	name  string
	inner fsys.File
}

func (f *file) Read(b []byte) (n int, err error) {
	err = f.f.do("read", f.name, func() (err error) { n, err = f.inner.Read(b); return err })
	return n, err
}

func (f *file) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.f.do("read", f.name, func() (err error) { n, err = f.inner.ReadAt(b, off); return err })
	return n, err
}

func (f *file) Write(b []byte) (n int, err error) {
	err = f.f.do("write", fmt.Sprintf("%s %d", f.name, len(b)), func() (err error) { n, err = f.inner.Write(b); return err })
	return n, err
}

func (f *file) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.f.do("write", fmt.Sprintf("%s %d at %d", f.name, len(b), off), func() (err error) { n, err = f.inner.WriteAt(b, off); return err })
	return n, err
}

func (f *file) Stat() (st fsys.Stat, err error) {
	err = f.f.do("stat", f.name, func() (err error) { st, err = f.inner.Stat(); return err })
	return st, err
}

func (f *file) Truncate(size int64) error {
	return f.f.do("truncate", fmt.Sprintf("%s %d", f.name, size), func() error { return f.inner.Truncate(size) })
}

func (f *file) Sync() error     { return f.f.do("sync", f.name, f.inner.Sync) }
func (f *file) Datasync() error { return f.f.do("sync", f.name, f.inner.Datasync) }

func (f *file) TryLock() (ok bool, err error) {
	err = f.f.do("lock", f.name, func() (err error) { ok, err = f.inner.TryLock(); return err })
	return ok, err
}

// Close fails after Stop, or where a fault says so, but closes even then.
func (f *file) Close() error {
	err := f.f.do("close", f.name, f.inner.Close)
	if err != nil {
		f.inner.Close()
	}
	return err
}
