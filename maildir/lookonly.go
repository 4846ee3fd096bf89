package maildir

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"roost/maildir/fsys"
)

// lookOnly is a filesystem on which nothing can be changed: whatever the code above it
// tries fails with EROFS.
type lookOnly struct{ fsys.FS }

func (f lookOnly) Root(path string) (fsys.Dir, error) { return looking(f.FS.Root(path)) }

// Make makes nothing: what is missing stays so.
func (f lookOnly) Make(path string, _ fs.FileMode) (fsys.Dir, error) { return f.Root(path) }

func (f lookOnly) Under(base, rel string) (fsys.Dir, error) { return looking(f.FS.Under(base, rel)) }

func looking(d fsys.Dir, err error) (fsys.Dir, error) {
	if err != nil {
		return nil, err
	}
	return lookDir{d}, nil
}

// lookDir is a directory of it.
type lookDir struct{ fsys.Dir }

func (d lookDir) Sub(name string) (fsys.Dir, error) { return looking(d.Dir.Sub(name)) }

func (d lookDir) refuse(op, name string) error {
	return &fs.PathError{Op: op, Path: d.Path() + "/" + name, Err: syscall.EROFS}
}

func (d lookDir) refuseLink(op, old string, to fsys.Dir, name string) error {
	return &os.LinkError{Op: op, Old: d.Path() + "/" + old, New: to.Path() + "/" + name, Err: syscall.EROFS}
}

func (d lookDir) Create(name string, _ fs.FileMode) (fsys.File, error) {
	return nil, d.refuse("create", name)
}
func (d lookDir) Append(name string) (fsys.File, error) { return nil, d.refuse("open", name) }
func (d lookDir) Update(name string, _ fs.FileMode) (fsys.File, error) {
	return nil, d.refuse("open", name)
}
func (d lookDir) Link(old string, to fsys.Dir, name string) error {
	return d.refuseLink("link", old, to, name)
}
func (d lookDir) Move(old string, to fsys.Dir, name string) error {
	return d.refuseLink("move", old, to, name)
}
func (d lookDir) Rename(old string, to fsys.Dir, name string) error {
	return d.refuseLink("rename", old, to, name)
}
func (d lookDir) Remove(name string) error               { return d.refuse("remove", name) }
func (d lookDir) Rmdir(name string) error                { return d.refuse("rmdir", name) }
func (d lookDir) Mkdir(name string, _ fs.FileMode) error { return d.refuse("mkdir", name) }
func (d lookDir) SetTime(name string, _ time.Time) error { return d.refuse("settime", name) }
func (d lookDir) Sync() error                            { return nil }
