package cache

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
)

func desk(t testing.TB) (fsys.Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, filepath.Join(path, Name)
}

func data(uid uint32, kind uint16, version int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d/%d/%d ", uid, kind, version), int(uid%200))
}

// get appends a note to buf, and says whether there was one.
func get(c *Cache, buf []byte, uid uint32, kind uint16) ([]byte, bool) {
	for _, b := range c.All([]imap.UID{imap.UID(uid)}, kind) {
		return append(buf, b...), true
	}
	return buf, false
}

func want(t *testing.T, c *Cache, uid uint32, kind uint16, b []byte) {
	t.Helper()
	got, ok := get(c, []byte("before"), uid, kind)
	switch {
	case b == nil && ok:
		t.Errorf("note %d/%d: %.20q, want none", uid, kind, got)
	case b != nil && (!ok || string(got) != "before"+string(b)):
		t.Errorf("note %d/%d: %.20q, %v, want %.20q", uid, kind, got, ok, b)
	}
}

// Random notes, replaced, dropped by Compact, and looked up after each way of
// opening the cache again, against a map.
func TestAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		d, _ := desk(t)
		c := New(d, 0o600, 9, Limits{})
		model := map[uint64][]byte{}
		live := func(uid uint32) bool { return uid%3 != 0 }
		for step := range 400 {
			uid, kind := uint32(1+r.IntN(300)), uint16(r.IntN(3))
			switch r.IntN(30) {
			case 0:
				if err := c.Release(); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := c.Release(); err != nil {
					t.Fatal(err)
				}
				c = New(d, 0o600, 9, Limits{})
			case 2:
				if err := c.Compact(live); err != nil {
					t.Fatal(err)
				}
				for k := range model {
					if !live(uint32(k >> 16)) {
						delete(model, k)
					}
				}
			case 3:
				if err := c.Forget(uid); err != nil {
					t.Fatal(err)
				}
				for k := range model {
					if uint32(k>>16) == uid {
						delete(model, k)
					}
				}
			case 4, 5, 6, 7, 8:
				want(t, c, uid, kind, model[keyOf(uid, kind)])
			default:
				b := data(uid, kind, step)
				if err := c.Put(Note{uid, kind, b}); err != nil {
					t.Fatal(err)
				}
				model[keyOf(uid, kind)] = append([]byte{}, b...)
			}
		}
		for uid := range uint32(301) {
			for kind := range uint16(3) {
				want(t, c, uid, kind, model[keyOf(uid, kind)])
			}
		}
		c.Release()
	}
}

func TestAnotherUIDValidityIsAnotherCache(t *testing.T) {
	d, _ := desk(t)
	c := New(d, 0o600, 9, Limits{})
	c.Put(Note{1, 1, []byte("old")})
	c.Release()
	c = New(d, 0o600, 10, Limits{})
	want(t, c, 1, 1, nil)
	c.Put(Note{2, 1, []byte("new")})
	c.Release()
	c = New(d, 0o600, 10, Limits{})
	want(t, c, 1, 1, nil)
	want(t, c, 2, 1, []byte("new"))
	c.Release()
}

// Wherever a byte is wrong or the file ends: a note is right or not there, and the
// cache goes on.
func TestDamage(t *testing.T) {
	d, path := desk(t)
	c := New(d, 0o600, 9, Limits{})
	for uid := range uint32(6) {
		c.Put(Note{uid, 1, data(uid+3, 1, 0)})
	}
	c.Release()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := New(d, 0o600, 9, Limits{})
		defer c.Release()
		for uid := range uint32(6) {
			if got, ok := get(c, nil, uid, 1); ok && !bytes.Equal(got, data(uid+3, 1, 0)) {
				t.Fatalf("%s: note %d is %q", what, uid, got)
			}
		}
		if err := c.Put(Note{50, 2, []byte("later")}); err != nil {
			t.Fatal(err)
		}
		c.Release()
		want(t, c, 50, 2, []byte("later"))
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x41
		check(fmt.Sprintf("byte %d", i), b)
		check(fmt.Sprintf("first %d bytes", i), whole[:i])
	}
}

func TestLimits(t *testing.T) {
	d, path := desk(t)
	c := New(d, 0o600, 9, Limits{Bytes: 1000, Note: 100})
	if err := c.Put(Note{1, 1, make([]byte, 101)}); err != nil {
		t.Error(err)
	}
	want(t, c, 1, 1, nil)
	for uid := range uint32(50) {
		c.Put(Note{uid, 2, make([]byte, 100)})
	}
	c.Release()
	if st, err := os.Stat(path); err != nil || st.Size() > 1000 || st.Size() < 800 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	want(t, c, 0, 2, make([]byte, 100))
	c.Release()
}

func TestWasteful(t *testing.T) {
	d, _ := desk(t)
	c := New(d, 0o600, 9, Limits{})
	all := func(uint32) bool { return true }
	for uid := range uint32(1000) {
		c.Put(Note{uid, 1, make([]byte, 200)})
	}
	c.Flush()
	if c.Wasteful(all) || c.Wasteful(func(uid uint32) bool { return uid%3 != 0 }) {
		t.Error("wasteful though most notes are of use")
	}
	half := func(uid uint32) bool { return uid%3 == 0 }
	if !c.Wasteful(half) {
		t.Error("not wasteful though two thirds are dead")
	}
	if err := c.Compact(half); err != nil || c.Wasteful(half) {
		t.Errorf("after Compact: %v", err)
	}
	for range 2 {
		for uid := range uint32(1000) {
			c.Put(Note{uid, 1, make([]byte, 200)})
		}
	}
	for uid := range uint32(1000) {
		c.Put(Note{uid, 1, make([]byte, 200)})
	}
	c.Flush()
	if !c.Wasteful(all) {
		t.Error("not wasteful though all notes were replaced")
	}
	c.Release()
}

func TestReadersBesideAWriter(t *testing.T) {
	d, _ := desk(t)
	c := New(d, 0o600, 9, Limits{})
	defer c.Release()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for k := range uint32(3) {
		wg.Go(func() {
			var buf []byte
			for uid := k; ; uid++ {
				select {
				case <-stop:
					return
				default:
				}
				var ok bool
				if buf, ok = get(c, buf[:0], uid%400, 1); ok && !bytes.Equal(buf, data(uid%400, 1, 0)) {
					t.Errorf("note %d is %q", uid%400, buf)
					return
				}
			}
		})
	}
	for round := range 5 {
		for uid := range uint32(400) {
			if err := c.Put(Note{uid, 1, data(uid, 1, 0)}); err != nil {
				t.Error(err)
			}
		}
		if round%2 == 0 {
			if err := c.Compact(func(uid uint32) bool { return uid > 50 }); err != nil {
				t.Error(err)
			}
		} else if err := c.Release(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// However the notes lie in the file, and however many are asked for: what All yields is what
// each of them alone would be.
func TestManyAtOnce(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		d, _ := desk(t)
		c := New(d, 0o600, 9, Limits{})
		model := map[imap.UID][]byte{}
		for step := range 2000 {
			uid, kind := uint32(step), uint16(r.IntN(3))
			if seed%2 == 0 {
				uid = uint32(r.IntN(500))
			}
			b := make([]byte, r.IntN(300))
			switch r.IntN(40) {
			case 0:
				b = make([]byte, r.IntN(3*windowBytes))
			case 1:
				b = []byte{}
			}
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if err := c.Put(Note{uid, kind, b}); err != nil {
				t.Fatal(err)
			}
			if kind == 1 {
				model[imap.UID(uid)] = b
			}
			if r.IntN(300) == 0 {
				c.Release()
			}
		}
		for round := range 4 {
			var uids, got []imap.UID
			for uid := range imap.UID(2100) {
				if round == 0 || r.IntN(round+1) == 0 {
					uids = append(uids, uid)
				}
			}
			for uid, b := range c.All(uids, 1) {
				if m, ok := model[uid]; !ok || !bytes.Equal(b, m) {
					t.Fatalf("note %d is %.20q, want %.20q", uid, b, model[uid])
				}
				if got = append(got, uid); r.IntN(10) == 0 { // it may be called from within
					want(t, c, uint32(uid), 1, model[uid])
				}
			}
			wanted := slices.DeleteFunc(uids, func(uid imap.UID) bool { return model[uid] == nil })
			if !slices.Equal(got, wanted) {
				t.Fatalf("notes of %d messages, want %d", len(got), len(wanted))
			}
		}
		c.Release()
	}
}

// Thousands of notes that were put in order take a call of the system a hundred.
func TestManyAtOnceAreReadTogether(t *testing.T) {
	d, _ := desk(t)
	counted := &countingDir{Dir: d}
	c := New(counted, 0o600, 9, Limits{})
	defer c.Release()
	var uids []imap.UID
	for uid := range uint32(10_000) {
		uids = append(uids, imap.UID(uid))
		c.Put(Note{uid, 1, make([]byte, 500)}, Note{uid, 2, make([]byte, 100)})
	}
	c.Flush()
	n := 0
	for range c.All(uids, 1) {
		n++
	}
	if calls := counted.reads; n != len(uids) || calls > n/90 {
		t.Errorf("%d notes in %d reads", n, calls)
	}
}

// countingDir counts the reads of the file that it opens.
type countingDir struct {
	fsys.Dir
	reads int
}

type countingFile struct {
	fsys.File
	d *countingDir
}

func (d *countingDir) Update(name string, mode fs.FileMode) (fsys.File, error) {
	f, err := d.Dir.Update(name, mode)
	return countingFile{f, d}, err
}

func (f countingFile) ReadAt(b []byte, at int64) (int, error) {
	f.d.reads++
	return f.File.ReadAt(b, at)
}

func benchmarkAll(b *testing.B, uids []imap.UID) {
	d, _ := desk(b)
	c := New(d, 0o600, 9, Limits{})
	defer c.Release()
	for uid := range uint32(10_000) {
		c.Put(Note{uid, 1, make([]byte, 500)})
	}
	c.Flush()
	b.ReportAllocs()
	for b.Loop() {
		for range c.All(uids, 1) {
		}
	}
}

// One note, and all of ten thousand messages.
func BenchmarkOne(b *testing.B) { benchmarkAll(b, []imap.UID{7919}) }

func BenchmarkAll10k(b *testing.B) {
	uids := make([]imap.UID, 10_000)
	for i := range uids {
		uids[i] = imap.UID(i)
	}
	benchmarkAll(b, uids)
}
