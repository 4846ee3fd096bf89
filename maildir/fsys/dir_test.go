//go:build unix

package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/maildir/fsys"
)

func root(t *testing.T) (fsys.Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func write(t *testing.T, d fsys.Dir, name, text string) {
	t.Helper()
	f, err := d.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, d fsys.Dir, name string) string {
	t.Helper()
	b, err := fsys.ReadFile(d, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNamesAreSingleComponents(t *testing.T) {
	d, path := root(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "outside"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, d, "in", "x")
	for _, name := range []string{"", ".", "..", "../outside", "a/b", "/etc/passwd", "a\x00b"} {
		calls := map[string]error{}
		_, calls["open"] = d.Open(name)
		_, calls["create"] = d.Create(name, 0o600)
		_, _, calls["openstat"] = d.OpenStat(name)
		_, calls["append"] = d.Append(name)
		_, calls["update"] = d.Update(name, 0o600)
		_, calls["stat"] = d.Stat(name)
		_, calls["sub"] = d.Sub(name)
		_, calls["readlink"] = d.Readlink(name)
		calls["link from"] = d.Link(name, d, "z")
		calls["link to"] = d.Link("in", d, name)
		calls["move to"] = d.Move("in", d, name)
		calls["rename to"] = d.Rename("in", d, name)
		calls["remove"] = d.Remove(name)
		calls["rmdir"] = d.Rmdir(name)
		calls["mkdir"] = d.Mkdir(name, 0o700)
		calls["settime"] = d.SetTime(name, time.Now())
		for call, err := range calls {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s %q: %v, want fs.ErrInvalid", call, name, err)
			}
		}
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	d, path := root(t)
	write(t, d, "file", "x")
	os.Symlink("file", filepath.Join(path, "link"))
	os.Symlink("nowhere", filepath.Join(path, "dangling"))
	os.Symlink(".", filepath.Join(path, "dirlink"))
	if err := unix.Mkfifo(filepath.Join(path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dangling", "dirlink", "fifo", "dir"} {
		for call, open := range map[string]func() (fsys.File, error){
			"open": func() (fsys.File, error) { return d.Open(name) },
			"openstat": func() (fsys.File, error) {
				f, _, err := d.OpenStat(name)
				return f, err
			},
			"append": func() (fsys.File, error) { return d.Append(name) },
			"update": func() (fsys.File, error) { return d.Update(name, 0o600) },
		} {
			if f, err := open(); !errors.Is(err, fsys.ErrNotRegular) {
				t.Errorf("%s %s: %v, %v, want ErrNotRegular", call, name, f, err)
			}
		}
	}
	for _, name := range []string{"link", "dirlink", "fifo", "file"} {
		if _, err := d.Sub(name); !errors.Is(err, fsys.ErrNotDir) {
			t.Errorf("sub %s: %v, want ErrNotDir", name, err)
		}
	}
	f, st, err := d.OpenStat("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if now, err := d.Stat("file"); err != nil || st != now {
		t.Errorf("opened as %+v, is %+v: %v", st, now, err)
	}
	if _, err := d.Open("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open absent: %v", err)
	}
}

func TestUnderFollowsLinksOnlyInside(t *testing.T) {
	_, path := root(t)
	for _, dir := range []string{"base/real/cur", "other"} {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("real", filepath.Join(path, "base/in"))
	os.Symlink("../other", filepath.Join(path, "base/out"))
	d, err := fsys.OS.Under(filepath.Join(path, "base"), "in")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Stat("cur"); err != nil {
		t.Error(err)
	}
	if _, err := fsys.OS.Under(filepath.Join(path, "base"), "out"); err == nil {
		t.Error("a link out of the base was followed")
	}
}

func TestMoveNeverReplaces(t *testing.T) {
	d, _ := root(t)
	d.Mkdir("new", 0o700)
	d.Mkdir("cur", 0o700)
	from, err := d.Sub("new")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := d.Sub("cur")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	write(t, from, "a", "new")
	write(t, to, "a:2,", "old")
	if err := from.Move("a", to, "a:2,"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("move over a file: %v, want fs.ErrExist", err)
	}
	if err := from.Link("a", to, "a:2,"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("link over a file: %v, want fs.ErrExist", err)
	}
	if err := from.Move("a", to, "a:2,S"); err != nil {
		t.Fatal(err)
	}
	if a, b := read(t, to, "a:2,"), read(t, to, "a:2,S"); a != "old" || b != "new" {
		t.Errorf("after the move: %q, %q", a, b)
	}
	if _, err := from.Stat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name is still there: %v", err)
	}
	if err := to.Rename("a:2,S", to, "a:2,"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to, "a:2,"); got != "new" {
		t.Errorf("rename did not replace: %q", got)
	}
}

func TestModesAreExactWhateverTheUmask(t *testing.T) {
	d, path := root(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	if err := os.Chmod(path, fs.ModeSetgid|0o770); err != nil {
		t.Fatal(err)
	}
	self, err := d.Self()
	if err != nil {
		t.Fatal(err)
	}
	dirMode, fileMode := self.Modes()
	if dirMode != 0o770 || fileMode != 0o660 {
		t.Fatalf("Modes: %o %o", dirMode, fileMode)
	}
	if err := d.Mkdir("sub", dirMode); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("file", fileMode)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st, _ := d.Stat("file"); st.Mode != 0o660 {
		t.Errorf("file: %v", st.Mode)
	}
	if st, _ := d.Stat("sub"); st.Mode != fs.ModeDir|fs.ModeSetgid|0o770 || st.GID != self.GID {
		t.Errorf("directory: %v, group %d want %d", st.Mode, st.GID, self.GID)
	}
}

func TestNamesTellsAll(t *testing.T) {
	d, path := root(t)
	var want []string
	for i := range 3000 { // more than one buffer
		name := strings.Repeat("n", 40) + string(rune('a'+i%26)) + time.Unix(int64(i), 0).UTC().Format("150405")
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Mkdir("zdir", 0o700)
	os.Symlink("x", filepath.Join(path, "zlink"))
	want = append(want, "zdir", "zlink")
	slices.Sort(want)

	var wg sync.WaitGroup
	for range 4 { // scans of one Dir do not disturb each other
		wg.Go(func() {
			var got []string
			if err := d.Names(func(name string, kind fs.FileMode) bool {
				if kind == fs.ModeIrregular {
					st, err := d.Stat(name)
					if err != nil {
						t.Error(err)
					}
					kind = st.Mode.Type()
				}
				if w := map[string]fs.FileMode{"zdir": fs.ModeDir, "zlink": fs.ModeSymlink}[name]; kind != w {
					t.Errorf("%s is a %v, want %v", name, kind, w)
				}
				got = append(got, name)
				return true
			}); err != nil {
				t.Error(err)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%d names, want %d", len(got), len(want))
			}
		})
	}
	wg.Wait()

	n := 0
	if err := d.Names(func(string, fs.FileMode) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("stopped after %d names: %v", n, err)
	}

	var once []string
	if err := d.NamesOnce(func(name string, _ fs.FileMode) bool { once = append(once, name); return true }); err != nil {
		t.Error(err)
	}
	slices.Sort(once)
	if !slices.Equal(once, want) {
		t.Errorf("asked once it gives %d names, want %d", len(once), len(want))
	}
	d.Close()
	if err := d.NamesOnce(func(string, fs.FileMode) bool { return true }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed directory is read: %v", err)
	}
}

func TestDirFollowsItsDirectory(t *testing.T) {
	_, path := root(t)
	os.Mkdir(filepath.Join(path, "a"), 0o700)
	d, err := fsys.OS.Root(filepath.Join(path, "a"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, "file", "text")
	if err := os.Rename(filepath.Join(path, "a"), filepath.Join(path, "b")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, d, "file"); got != "text" {
		t.Errorf("read %q", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat("file"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestCloseBesideCalls(t *testing.T) {
	for range 50 {
		d, err := fsys.OS.Root(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if _, err := d.Self(); err != nil {
						if !errors.Is(err, fs.ErrClosed) {
							t.Error(err) // EBADF: the number was given away under us
						}
						return
					}
				}
			})
		}
		d.Close()
		wg.Wait()
	}
}

func TestFileTimesAndLocks(t *testing.T) {
	d, _ := root(t)
	f, err := d.Update("roost.lock", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := d.Update("roost.lock", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if ok, err := f.TryLock(); !ok || err != nil {
		t.Fatalf("first lock: %v, %v", ok, err)
	}
	if ok, err := g.TryLock(); ok || err != nil {
		t.Fatalf("second lock: %v, %v", ok, err)
	}
	f.Close()
	if ok, err := g.TryLock(); !ok || err != nil {
		t.Fatalf("lock after Close of the first: %v, %v", ok, err)
	}

	when := time.Unix(1700000000, 123456789)
	if err := d.SetTime("roost.lock", when); err != nil {
		t.Fatal(err)
	}
	st, err := d.Stat("roost.lock")
	if err != nil || !st.ModTime().Equal(when) {
		t.Errorf("mtime %v, %v", st.ModTime(), err)
	}
	if err := errors.Join(g.Sync(), g.Datasync(), d.Sync()); err != nil {
		t.Error(err)
	}
}

func TestAppendGoesToTheEnd(t *testing.T) {
	d, _ := root(t)
	write(t, d, "f", "one\n")
	a, err := d.Append("f")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := d.Append("f")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Write([]byte("two\n"))
	a.Write([]byte("three\n"))
	if got := read(t, d, "f"); got != "one\ntwo\nthree\n" {
		t.Errorf("%q", got)
	}
	if _, err := d.Append("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("append to a missing file: %v", err)
	}
}

func TestReplaceAndLimits(t *testing.T) {
	d, _ := root(t)
	write(t, d, "f.tmp", "left by a crash, and longer than what follows")
	for _, text := range []string{"one", "two"} {
		if err := fsys.Replace(d, "f", "f.tmp", []byte(text), 0o640, true); err != nil {
			t.Fatal(err)
		}
		if got := read(t, d, "f"); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	if st, _ := d.Stat("f"); st.Mode != 0o640 {
		t.Errorf("mode %v", st.Mode)
	}
	if _, err := d.Stat("f.tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file stays: %v", err)
	}
	if _, err := fsys.ReadFile(d, "f", 2); !errors.Is(err, unix.EFBIG) {
		t.Errorf("read above the limit: %v", err)
	}
}

func TestRemoveTreeStaysInside(t *testing.T) {
	d, path := root(t)
	os.MkdirAll(filepath.Join(path, "a/b/c"), 0o700)
	os.WriteFile(filepath.Join(path, "a/b/f"), nil, 0o600)
	os.MkdirAll(filepath.Join(path, "keep"), 0o700)
	os.WriteFile(filepath.Join(path, "keep/f"), nil, 0o600)
	os.Symlink("../../keep", filepath.Join(path, "a/b/link"))
	if err := fsys.RemoveTree(d, "a", 2); err == nil {
		t.Error("went deeper than allowed")
	}
	if err := fsys.RemoveTree(d, "a", 8); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, "keep/f")); err != nil {
		t.Error(err)
	}
	if err := fsys.RemoveTree(d, "a", 8); err != nil {
		t.Errorf("what is gone: %v", err)
	}
}

func TestMakeParents(t *testing.T) {
	_, path := root(t)
	for range 2 {
		d, err := fsys.OS.Make(filepath.Join(path, "x/y/Maildir"), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := d.Self(); err != nil || st.Mode != fs.ModeDir|0o700 {
			t.Errorf("%v, %v", st.Mode, err)
		}
		d.Close()
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	d, path := root(t)
	_, err := d.Open("absent")
	if want := "open " + path + "/absent: no such file or directory"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	err = d.Move("absent", d, "b")
	if want := "move " + path + "/absent " + path + "/b: no such file or directory"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func BenchmarkOpen(b *testing.B) {
	path := b.TempDir()
	d, err := fsys.OS.Root(path)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	f, _ := d.Create("f", 0o600)
	f.Close()
	b.ReportAllocs()
	for b.Loop() {
		f, err := d.Open("f")
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
