package maildir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys"
	"roost/store"
)

// stoppingFS lets so many changes through; every later one fails, as if the process
// had been killed there.
type stoppingFS struct {
	fsys.FS
	left *int
}

func (f stoppingFS) Root(path string) (fsys.Dir, error) { return f.wrap(f.FS.Root(path)) }
func (f stoppingFS) Make(path string, mode fs.FileMode) (fsys.Dir, error) {
	return f.wrap(f.FS.Make(path, mode))
}

func (f stoppingFS) wrap(d fsys.Dir, err error) (fsys.Dir, error) {
	if err != nil {
		return nil, err
	}
	return stoppingDir{d, f}, nil
}

func (f stoppingFS) stop() error {
	if *f.left--; *f.left < 0 {
		return syscall.EIO
	}
	return nil
}

type stoppingDir struct {
	fsys.Dir
	fs stoppingFS
}

func unwrapped(d fsys.Dir) fsys.Dir {
	if s, ok := d.(stoppingDir); ok {
		return s.Dir
	}
	return d
}

func (d stoppingDir) Sub(name string) (fsys.Dir, error) { return d.fs.wrap(d.Dir.Sub(name)) }

func (d stoppingDir) Create(name string, mode fs.FileMode) (fsys.File, error) {
	if err := d.fs.stop(); err != nil {
		return nil, err
	}
	return d.Dir.Create(name, mode)
}

func (d stoppingDir) Update(name string, mode fs.FileMode) (fsys.File, error) {
	if err := d.fs.stop(); err != nil {
		return nil, err
	}
	return d.Dir.Update(name, mode)
}

func (d stoppingDir) Move(old string, to fsys.Dir, name string) error {
	return errors.Join(d.fs.stop(), d.ifRunning(func() error { return d.Dir.Move(old, unwrapped(to), name) }))
}

func (d stoppingDir) Rename(old string, to fsys.Dir, name string) error {
	return errors.Join(d.fs.stop(), d.ifRunning(func() error { return d.Dir.Rename(old, unwrapped(to), name) }))
}

func (d stoppingDir) Mkdir(name string, mode fs.FileMode) error {
	return errors.Join(d.fs.stop(), d.ifRunning(func() error { return d.Dir.Mkdir(name, mode) }))
}

func (d stoppingDir) Remove(name string) error {
	return errors.Join(d.fs.stop(), d.ifRunning(func() error { return d.Dir.Remove(name) }))
}

func (d stoppingDir) Rmdir(name string) error {
	return errors.Join(d.fs.stop(), d.ifRunning(func() error { return d.Dir.Rmdir(name) }))
}

func (d stoppingDir) Sync() error { return errors.Join(d.fs.stop(), d.ifRunning(d.Dir.Sync)) }

func (d stoppingDir) ifRunning(do func() error) error {
	if *d.fs.left < 0 {
		return nil
	}
	return do()
}

// TestStopAnywhere stops CREATE, DELETE, RENAME and SUBSCRIBE at each of their changes.
// Whatever is left must be readable: each message that was not being deleted is in
// exactly one mailbox, and the same command, or the rest of it, can be given again.
func TestStopAnywhere(t *testing.T) {
	ops := []struct {
		name string
		run  func(ctx context.Context, a store.Account) error
		done error // what it says when it was done before
		lost string
	}{
		{"create", func(ctx context.Context, a store.Account) error { return a.Create(ctx, "x/y", nil) }, store.ErrExists, ""},
		{"delete", func(ctx context.Context, a store.Account) error { return a.Delete(ctx, "a/b/c") }, store.ErrNotFound, "a/b/c"},
		{"delete a parent", func(ctx context.Context, a store.Account) error { return a.Delete(ctx, "a/b") }, store.ErrHasChildren, "a/b"},
		{"rename", func(ctx context.Context, a store.Account) error { return a.Rename(ctx, "a", "x/y") }, store.ErrNotFound, ""},
		{"annotate", func(ctx context.Context, a store.Account) error { return annotate(a, "a/b", "/private/comment", "x") }, nil, ""},
		{"subscribe", func(ctx context.Context, a store.Account) error { return a.Subscribe(ctx, "a/b", true) }, nil, ""},
	}
	for _, l := range []int{0, 1, 3} { // those that differ in their steps
		l := layouts[l]
		root := l.root
		root.Mail = "Maildir"
		root.Create = true
		template := t.TempDir()
		a := openAccount(t, '/', below(template, root))
		for _, box := range []store.Name{"a/b/c"} {
			if err := a.Create(t.Context(), box, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, box := range []store.Name{"a", "a/b", "a/b/c"} {
			putMail(t, a, box)
		}
		if err := a.Subscribe(t.Context(), "a/b/c", true); err != nil {
			t.Fatal(err)
		}
		a.Close()
		for _, op := range ops {
			t.Run(l.name+"/"+op.name, func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					dir := t.TempDir()
					if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
						t.Fatal(err)
					}
					root := below(dir, root)
					left := n
					s, err := New(Options{Host: "test.example", Poll: true, FS: stoppingFS{fsys.OS, &left}, Clock: time.Now})
					if err != nil {
						t.Fatal(err)
					}
					root.Create = false
					stopped, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}})
					if err == nil {
						err = op.run(t.Context(), stopped)
						stopped.Close()
					}
					s.Close(context.Background())
					if left >= 0 {
						if err != nil || n == 0 {
							t.Errorf("after %d changes: %v", n, err)
						}
						break // it ran to its end
					}

					// The lock of subscriptions is older than any patience by now.
					filepath.WalkDir(filepath.Dir(root.Mail), func(path string, _ fs.DirEntry, _ error) error {
						if strings.HasSuffix(path, ".lock") {
							os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
						}
						return nil
					})
					b := openAccount(t, '/', root)
					for _, want := range []string{"a", "a/b", "a/b/c"} {
						if got := mailboxesWith(t, b, want); len(got) != 1 && (want != op.lost || len(got) > 1) {
							t.Errorf("stopped after %d changes: the message of %q is in %q", n, want, got)
						}
					}
					if err := op.run(t.Context(), b); err != nil && (op.done == nil || !errors.Is(err, op.done)) &&
						!(op.name == "rename" && errors.Is(err, store.ErrExists)) {
						t.Errorf("stopped after %d changes, then again: %v", n, err)
					}
					b.Close()
				}
			})
		}
	}
}

// putMail puts a message into a mailbox that carries its name.
func putMail(t *testing.T, a *account, n store.Name) {
	t.Helper()
	s, err := a.trees[0].find(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.path, "cur", "1."+strings.ReplaceAll(string(n), "/", "-")+".host:2,"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mailboxesWith are those that hold the message of a name.
func mailboxesWith(t *testing.T, a *account, name string) []string {
	t.Helper()
	var out []string
	for n := range list(t, a, store.ListQuery{}) {
		s, err := a.trees[0].find(store.Name(n))
		if err != nil {
			continue
		}
		d, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.cur.Stat("1." + strings.ReplaceAll(name, "/", "-") + ".host:2,"); err == nil {
			out = append(out, n)
		}
		d.close()
	}
	slices.Sort(out)
	return out
}
