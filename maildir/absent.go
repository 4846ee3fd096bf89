package maildir

import (
	"io/fs"
	"time"

	"roost/maildir/fsys"
)

// absent stands for a directory of a mailbox that is not there and cannot be made: in a
// tree on a read-only disk, mostly. It holds nothing, and making something in it fails
// as making the directory did.
type absent struct {
	path string
	why  error
}

func (a absent) missing(op, name string) error {
	return &fs.PathError{Op: op, Path: a.path + "/" + name, Err: fs.ErrNotExist}
}

func (a absent) Open(name string) (fsys.File, error)                  { return nil, a.missing("open", name) }
func (a absent) Append(name string) (fsys.File, error)                { return nil, a.missing("open", name) }
func (a absent) Create(string, fs.FileMode) (fsys.File, error)        { return nil, a.why }
func (a absent) Update(string, fs.FileMode) (fsys.File, error)        { return nil, a.why }
func (a absent) Mkdir(string, fs.FileMode) error                      { return a.why }
func (a absent) Link(old string, _ fsys.Dir, _ string) error          { return a.missing("link", old) }
func (a absent) Move(old string, _ fsys.Dir, _ string) error          { return a.missing("move", old) }
func (a absent) Rename(old string, _ fsys.Dir, _ string) error        { return a.missing("rename", old) }
func (a absent) Remove(name string) error                             { return a.missing("remove", name) }
func (a absent) Rmdir(name string) error                              { return a.missing("rmdir", name) }
func (a absent) Stat(name string) (fsys.Stat, error)                  { return fsys.Stat{}, a.missing("stat", name) }
func (a absent) Readlink(name string) (string, error)                 { return "", a.missing("readlink", name) }
func (a absent) SetTime(name string, _ time.Time) error               { return a.missing("settime", name) }
func (a absent) Sub(name string) (fsys.Dir, error)                    { return nil, a.missing("open", name) }
func (a absent) Names(func(name string, kind fs.FileMode) bool) error { return nil }

func (a absent) NamesOnce(func(name string, kind fs.FileMode) bool) error { return nil }
func (a absent) Self() (fsys.Stat, error)                                 { return fsys.Stat{}, nil }
func (a absent) Sync() error                                              { return nil }
func (a absent) Together(calls ...func() error) error                     { return a.missing("sync", "") }
func (a absent) Path() string                                             { return a.path }
func (a absent) Remote() bool                                             { return false }
func (a absent) Writable() bool                                           { return false }
func (a absent) Close() error                                             { return nil }

func (a absent) OpenStat(name string) (fsys.File, fsys.Stat, error) {
	return nil, fsys.Stat{}, a.missing("open", name)
}

// isAbsent reports whether a directory of a mailbox was not there.
func isAbsent(d fsys.Dir) bool {
	_, yes := d.(absent)
	return yes
}
