package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// ReadFile reads a small file whole. A file above limit bytes is an error that
// wraps syscall.EFBIG.
func ReadFile(d Dir, name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, limit)
}

// ReadAll reads an open file from its start to its end, whatever was read before.
func ReadAll(f File, limit int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size > limit {
		return nil, fmt.Errorf("file of %d bytes, of which at most %d are read: %w", st.Size, limit, syscall.EFBIG)
	}
	b := make([]byte, st.Size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil // it became shorter since
	}
	return b[:n], err
}

// Replace puts data in place of the file name, whole or not at all: it is written
// to tmp, which is renamed over name. With durable the bytes are synced before the
// rename and the directory after it. A tmp left by a crash is removed first, so two
// writers need a lock of their own.
func Replace(d Dir, name, tmp string, data []byte, mode fs.FileMode, durable bool) (err error) {
	f, err := d.Create(tmp, mode)
	if errors.Is(err, fs.ErrExist) {
		if err = d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err = d.Create(tmp, mode)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Datasync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.Rename(tmp, d, name)
	}
	if err != nil {
		d.Remove(tmp) // best effort: the first error is the one to tell
		return err
	}
	if durable {
		return d.Sync()
	}
	return nil
}

// Put is Replace of a file that is not there. With durable all of it reaches the disk
// together, which takes half the time: until then a power cut may leave the file empty or in
// part, and whoever reads it must take that for none.
func Put(d Dir, name, tmp string, data []byte, mode fs.FileMode, durable bool) error {
	if err := Replace(d, name, tmp, data, mode, false); err != nil || !durable {
		return err
	}
	f, err := d.Open(name)
	if err == nil {
		err = f.Datasync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		d.Remove(name) // best effort: nobody was told of it
	}
	return err
}

// RemoveTree removes a directory and all below it, never through a link, and is
// content when it is already gone. It goes at most depth levels deep, which bounds
// the descriptors held.
func RemoveTree(d Dir, name string, depth int) error {
	if depth <= 0 {
		return &fs.PathError{Op: "remove", Path: d.Path() + "/" + name, Err: syscall.ELOOP}
	}
	sub, err := d.Sub(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	err = removeAllIn(sub, depth)
	sub.Close()
	if err != nil {
		return err
	}
	if err := d.Rmdir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeAllIn empties a directory. The names are gathered first: removing while
// reading may skip some.
func removeAllIn(d Dir, depth int) error {
	type entry struct {
		name string
		kind fs.FileMode
	}
	var all []entry
	if err := d.Names(func(name string, kind fs.FileMode) bool {
		all = append(all, entry{name, kind})
		return true
	}); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else removed it
		}
		return err
	}
	for _, e := range all {
		if e.kind == fs.ModeIrregular {
			st, err := d.Stat(e.name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			e.kind = st.Mode.Type()
		}
		var err error
		if e.kind == fs.ModeDir {
			err = RemoveTree(d, e.name, depth-1)
		} else {
			err = d.Remove(e.name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
