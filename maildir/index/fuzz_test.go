package index

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"testing"
)

// Any bytes give a snapshot or ErrNone. What a snapshot says is in order, is within the
// bounds of its head, and comes back the same when it is written.
func FuzzParse(f *testing.F) {
	d, path := open(f)
	rows := sample(6)
	l := save(f, d, rows)
	moments, _ := steps(rows)
	for _, m := range moments {
		if err := m.appendTo(l); err != nil {
			f.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole[len(magic):])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append([]byte(magic), b...)
		fixSums(b[len(magic):]) // else nothing gets past the checksums
		s, err := parse(b)
		if err != nil {
			return
		}
		checkBounds(t, s)
		want := stateOf(s)
		var out bytes.Buffer
		if _, _, err := writeAll(&out, Contents{s.Head, s.Sets, s.Rows(), s.Vanished}); err != nil {
			t.Fatal(err)
		}
		got, err := parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if g := stateOf(got); !reflect.DeepEqual(g, want) {
			t.Fatalf("got %+v\nwant %+v", g, want)
		}
	})
}

// Any bytes behind a good snapshot leave what the snapshot said, but for what whole
// blocks say.
func FuzzLog(f *testing.F) {
	d, path := open(f)
	rows := sample(6)
	l := save(f, d, rows)
	snapshot := l.size
	moments, _ := steps(rows)
	for _, m := range moments {
		if err := m.appendTo(l); err != nil {
			f.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[snapshot:], true)
	f.Add(whole[snapshot:], false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, tail []byte, fix bool) {
		b := append(slices.Clone(whole[:snapshot]), tail...)
		if fix {
			fixSums(b[len(magic):])
		}
		s, err := parse(b)
		if err != nil {
			t.Fatalf("a log took the snapshot away: %v", err)
		}
		checkBounds(t, s)
		if s.log.size == snapshot && (s.Head != head || s.At != head.At || s.Count != len(rows)) {
			t.Errorf("no block of the log was believed, and yet: %+v", s.Head)
		}
		if s.Torn != (s.log.size < int64(len(b))) {
			t.Errorf("torn %v, %d of %d bytes read", s.Torn, s.log.size, len(b))
		}
		// What is added behind a whole log is found with all that was before.
		if s.Torn || s.Head.ModSeq == maxModSeq {
			return
		}
		os.WriteFile(path, b, 0o600)
		s = load(t, d)
		before := stateOf(s)
		batch := new(Batch)
		batch.Head(before.Head)
		if err := s.Log().Append(s.At+1, s.Head.ModSeq+1, s.Head.Next, batch); err != nil {
			t.Fatal(err)
		}
		s.Log().Release()
		before.Head.ModSeq++
		if after := stateOf(load(t, d)); !reflect.DeepEqual(after, before) {
			t.Fatalf("got %+v\nwant %+v", after, before)
		}
	})
}

func checkBounds(t *testing.T, s *Snapshot) {
	h := s.Head
	if h.ModSeq > maxModSeq || h.Validity == 0 || h.Since > h.ModSeq {
		t.Fatalf("head %+v", h)
	}
	n, last := 0, uint32(0)
	for r := range s.Rows() {
		if r.UID <= last || r.UID >= h.Next || r.ModSeq > h.ModSeq || r.ModSeq == 0 || int(r.Keywords) > len(s.Sets) || len(r.Base) == 0 {
			t.Fatalf("row %+v behind UID %d, head %+v", r, last, h)
		}
		last = r.UID
		n++
	}
	if n != s.Count {
		t.Fatalf("%d rows, Count is %d", n, s.Count)
	}
	mod := uint64(0)
	for _, v := range s.Vanished {
		if v.ModSeq < mod || v.ModSeq > h.ModSeq || v.UID == 0 || v.UID >= h.Next {
			t.Fatalf("vanished %+v behind MODSEQ %d, head %+v", v, mod, h)
		}
		mod = v.ModSeq
	}
}

// fixSums gives all blocks the sums that they should have.
func fixSums(b []byte) {
	var s sum
	for len(b) >= blockHeader {
		n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
		if n > len(b)-blockHeader {
			return
		}
		s.endBlock(b[:blockHeader+n], 0)
		b = b[blockHeader+n:]
	}
}
