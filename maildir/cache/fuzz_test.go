package cache

import (
	"bytes"
	"os"
	"testing"
)

// Whatever the file holds, what is read from it says no more than the file, and the
// cache goes on: a note that is put is there, also for who opens it next.
func FuzzFile(f *testing.F) {
	good := appendFileHeader(nil, 9)
	for _, n := range []Note{{UID: 1, Kind: 1, Data: []byte("one")}, {UID: 2, Kind: 1}, {UID: 1, Kind: 1, Data: []byte("again")}} {
		good = appendNote(good, n)
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Clone(good), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, path := desk(t)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := New(d, 0o600, 9, Limits{})
		for uid := range uint32(4) {
			if got, ok := get(c, nil, uid, 1); ok && !bytes.Contains(b, got) {
				t.Errorf("note %d is %q, which is not in the file", uid, got)
			}
		}
		put := []byte("put")
		if err := c.Put(Note{UID: 3, Kind: 1, Data: put}); err != nil {
			t.Fatal(err)
		}
		want(t, c, 3, 1, put)
		if err := c.Release(); err != nil {
			t.Fatal(err)
		}
		want(t, New(d, 0o600, 9, Limits{}), 3, 1, put)
	})
}
