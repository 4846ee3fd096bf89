package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys"
)

// Both trees answer a history of random calls alike: what Mem says about names and
// bytes is what the kernel says.
func TestMemAnswersAsTheKernelDoes(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		real, err := fsys.OS.Root(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		mem, err := NewMem().Root("/")
		if err != nil {
			t.Fatal(err)
		}
		both := [2][]fsys.Dir{{real}, {mem}}
		for i := range both {
			for _, sub := range []string{"cur", "new"} {
				if err := both[i][0].Mkdir(sub, 0o700); err != nil {
					t.Fatal(err)
				}
				d, err := both[i][0].Sub(sub)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				both[i] = append(both[i], d)
			}
		}
		for step := range 300 {
			op, a, b := r.IntN(11), r.IntN(3), r.IntN(3)
			x, y := fmt.Sprint("f", r.IntN(4)), fmt.Sprint("f", r.IntN(4))
			var said [2]string
			for i, dirs := range both {
				said[i] = one(dirs, op, a, b, x, y)
			}
			if said[0] != said[1] {
				t.Fatalf("seed %d step %d: call %d on %d/%s %d/%s: the kernel says %s, Mem %s", seed, step, op, a, x, b, y, said[0], said[1])
			}
		}
		real.Close()
	}
}

// one makes one call and tells all that can be seen of it.
func one(dirs []fsys.Dir, op, a, b int, x, y string) string {
	d, to := dirs[a], dirs[b]
	var err error
	say := ""
	put := func(f fsys.File, ferr error) {
		if err = ferr; err == nil {
			_, err = f.Write([]byte("text of " + y))
			st, _ := f.Stat()
			say = fmt.Sprint(st.Size, st.Nlink, st.Mode)
			f.Close()
		}
	}
	switch op {
	case 0:
		put(d.Create(x, 0o600))
	case 1:
		put(d.Append(x))
	case 2:
		put(d.Update(x, 0o600))
	case 3:
		err = d.Link(x, to, y)
	case 4:
		err = d.Move(x, to, y)
	case 5:
		err = d.Rename(x, to, y)
	case 6:
		err = d.Remove(x)
	case 7:
		if a == 0 {
			err = d.Rmdir(x)
		} else {
			var b []byte
			b, err = fsys.ReadFile(d, x, 1000)
			say = string(b)
		}
	case 8:
		if a == 0 {
			err = d.Mkdir(x, 0o700)
		} else {
			_, err = d.Stat(x)
		}
	case 9:
		var names []string
		err = d.Names(func(n string, k fs.FileMode) bool { names = append(names, n+k.String()); return true })
		slices.Sort(names)
		say = strings.Join(names, " ")
	case 10:
		_, err = d.Sub(x)
	}
	var no syscall.Errno
	switch {
	case errors.Is(err, fsys.ErrNotRegular):
		say += "not regular"
	case errors.Is(err, fsys.ErrNotDir), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		say += "wrong kind"
	case errors.As(err, &no):
		say += no.Error()
	case err != nil:
		say += err.Error()
	}
	return say
}

// replace is the habit under test: old stands durably, new takes its place.
func replace(m *Mem, wrap func(fsys.FS) fsys.FS) error {
	d, err := m.Root("/")
	if err != nil {
		return err
	}
	if err := fsys.Replace(d, "f", "f.tmp", []byte("old"), 0o600, true); err != nil {
		return err
	}
	if d, err = wrap(m).Root("/"); err != nil {
		return err
	}
	return fsys.Replace(d, "f", "f.tmp", []byte("new and longer"), 0o600, true)
}

func TestTranscript(t *testing.T) {
	m := NewMem()
	var f *FS
	if err := replace(m, func(in fsys.FS) fsys.FS { f = New(in); return f }); err != nil {
		t.Fatal(err)
	}
	want := "create f.tmp\nwrite f.tmp 14\nsync f.tmp\nrename f.tmp f\nsync\n"
	if got := f.Transcript(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	f.Reset()
	f.Fail(1, syscall.ENOSPC)
	d, err := f.Root("/")
	if !errors.Is(err, syscall.ENOSPC) || d != nil {
		t.Errorf("%v, %v", d, err)
	}
}

// At each call, in every state that a power cut may leave: one of both, whole; and
// the new one once it was acknowledged.
func TestCrashOfReplace(t *testing.T) {
	seen := map[string]bool{}
	for n := 1; ; n++ {
		m := NewMem()
		var f *FS
		err := replace(m, func(in fsys.FS) fsys.FS { f = New(in); f.Stop(n); return f })
		for seed := range uint64(20) {
			after := m.Crash(nil)
			if seed > 0 {
				after = m.Crash(rand.New(rand.NewPCG(seed, uint64(n))))
			}
			got := after.Tree()["/f"]
			if got != "new and longer" && (got != "old" || err == nil) {
				t.Fatalf("stopped at call %d: %q, acknowledged %v", n, got, err == nil)
			}
			seen[got] = true
		}
		if err == nil {
			break
		}
		if !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 {
		t.Errorf("only %v came up", seen)
	}
}

// The same without a sync of the bytes must be found out: the test of the test.
func TestCrashFindsAMissingSync(t *testing.T) {
	bad := 0
	for seed := range uint64(100) {
		m := NewMem()
		d, _ := m.Root("/")
		fsys.Replace(d, "f", "f.tmp", []byte("old"), 0o600, true)
		fsys.Replace(d, "f", "f.tmp", []byte("new and longer"), 0o600, false)
		if got := m.Crash(rand.New(rand.NewPCG(seed, 1))).Tree()["/f"]; got != "old" && got != "new and longer" {
			bad++
		}
	}
	if bad == 0 {
		t.Error("a power cut never tore the file")
	}
}

func TestSyncOfOneDirectoryTakesWhatItBuildsUpon(t *testing.T) {
	m := NewMem()
	root, _ := m.Make("/box", 0o700)
	root.Mkdir("tmp", 0o700)
	root.Mkdir("new", 0o700)
	root.Sync()
	tmp, _ := root.Sub("tmp")
	dst, _ := root.Sub("new")
	f, _ := tmp.Create("a", 0o600)
	f.Write([]byte("mail"))
	f.Sync()
	f.Close()
	tmp.Move("a", dst, "a")
	if got := m.Crash(nil).Tree(); len(got) != 0 {
		t.Errorf("before any sync: %v", got)
	}
	dst.Sync()
	for seed := range uint64(10) {
		if got := m.Crash(rand.New(rand.NewPCG(seed, 1))).Tree(); !reflect.DeepEqual(got, map[string]string{"/box/new/a": "mail"}) {
			t.Errorf("after the sync: %v", got)
		}
	}
	if got := m.Clone().Tree(); !reflect.DeepEqual(got, m.Tree()) {
		t.Errorf("killed: %v", got)
	}
}

// A directory may be as it was before a rename, its times too: then nothing tells that
// there was one.
func TestPowerCutTakesTimesBack(t *testing.T) {
	m := NewMem()
	clock := time.Unix(1000, 0)
	m.Now = func() time.Time { return clock }
	root, _ := m.Root("/")
	f, _ := root.Create("a", 0o600)
	f.Sync()
	f.Close()
	root.Sync()
	clock = time.Unix(2000, 0)
	root.Rename("a", root, "b")
	times := func(m *Mem, name string) string {
		d, _ := m.Root("/")
		dir, _ := d.Self()
		st, err := d.Stat(name)
		if err != nil {
			return "not there"
		}
		return fmt.Sprintf("mtime %d, ctime %d of the file", dir.Mtime/1e9, st.Ctime/1e9)
	}
	if got := times(m.Crash(nil), "a"); got != "mtime 1000, ctime 1000 of the file" {
		t.Errorf("with the rename lost: %s", got)
	}
	if got := times(m.Clone(), "b"); got != "mtime 2000, ctime 2000 of the file" {
		t.Errorf("killed: %s", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(40) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 1)))
		seen["a: "+times(c, "a")+"; b: "+times(c, "b")] = true
	}
	for _, want := range []string{
		"a: mtime 1000, ctime 1000 of the file; b: not there",
		"a: mtime 2000, ctime 2000 of the file; b: not there",
		"a: not there; b: mtime 2000, ctime 2000 of the file",
	} {
		if !seen[want] {
			t.Errorf("never: %s", want)
		}
	}
	root.Sync()
	if got := times(m.Crash(nil), "b"); got != "mtime 2000, ctime 2000 of the file" {
		t.Errorf("synced: %s", got)
	}
}
