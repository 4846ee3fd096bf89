package fts

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"roost/maildir/fsys"
)

// Any bytes are read as an index, or thrown away: no panic, and no memory that the file does
// not pay for. What was read can be searched, added to, merged and read again.
func FuzzRead(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	s := newShelf()
	for _, n := range []int{1, 30} {
		path := f.TempDir()
		d, err := fsys.OS.Root(path)
		if err != nil {
			f.Fatal(err)
		}
		x := New(d, 0o600, 7, 1, s.names)
		b := NewBatch()
		for range n {
			s.put(s.next, letter(r))
			b.Add(s.next, Sum(s.next, s.base[s.next]), &wholeMessage{[]byte(s.raw[s.next])})
			s.next++
		}
		x.Add(b, x.Last())
		x.Release()
		d.Close()
		whole, err := os.ReadFile(path + "/" + Name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole, uint16(0), []byte{})
		f.Add(whole, uint16(50), []byte("xyz"))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16, patch []byte) {
		d, path := desk(t)
		b = bytes.Clone(b)
		if len(b) > 0 {
			copy(b[int(at)%len(b):], patch)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		x := New(d, 0o600, 7, 1, s.names)
		x.Load()
		s.ask(t, x, "invoice")
		more := NewBatch()
		more.AddUnknown(max(x.Last(), 1<<30) + 1)
		if x.Last() < 1<<31 {
			x.Add(more, x.Last())
		}
		x.Tidy(func() error { return nil })
		x.Forget(3)
		x.Release()
		if err := x.Load(); err != nil {
			t.Logf("damaged: %v", err)
		}
		s.ask(t, x, "invoice")
		x.Release()
	})
}

func FuzzLists(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(3), uint16(100))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, uint16(90), uint16(100))
	f.Fuzz(func(t *testing.T, b []byte, n, size uint16) {
		list, ok := readList(nil, b, int(n), int(size))
		if !ok {
			return
		}
		if len(list) != int(n) {
			t.Fatalf("%d numbers, want %d", len(list), n)
		}
		for i, d := range list {
			if d >= uint32(size) || i > 0 && d <= list[i-1] {
				t.Fatalf("number %d is %d", i, d)
			}
		}
	})
}
