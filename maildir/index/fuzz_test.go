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
		want := s.state
		for _, r := range want.Rows {
			if r.Size >= UnknownSize { // of a log: a snapshot does not keep it
				return
			}
		}
		var out bytes.Buffer
		if _, _, err := writeAll(&out, pack(want)); err != nil {
			t.Fatal(err)
		}
		got, err := parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if g := got.state; !reflect.DeepEqual(g, want) {
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
		if s.log.size == snapshot && (s.state.Head != head || s.At != head.At || len(s.Rows) != len(rows)) {
			t.Errorf("no block of the log was believed, and yet: %+v", s.state.Head)
		}
		if s.Torn != (s.log.size < int64(len(b))) {
			t.Errorf("torn %v, %d of %d bytes read", s.Torn, s.log.size, len(b))
		}
		// What is added behind a whole log is found with all that was before.
		if s.Torn || s.state.Head.ModSeq == maxModSeq {
			return
		}
		os.WriteFile(path, b, 0o600)
		s = load(t, d)
		before := s.state
		batch := new(Batch)
		batch.Head(before.Head)
		if err := s.Log().Append(s.At+1, before.Head.ModSeq+1, before.Head.Next, batch); err != nil {
			t.Fatal(err)
		}
		s.Log().Release()
		before.Head.ModSeq++
		if after := load(t, d).state; !reflect.DeepEqual(after, before) {
			t.Fatalf("got %+v\nwant %+v", after, before)
		}
	})
}

func checkBounds(t *testing.T, s loaded) {
	h := s.state.Head
	if h.ModSeq > maxModSeq || h.Validity == 0 || h.Since > h.ModSeq {
		t.Fatalf("head %+v", h)
	}
	last := uint32(0)
	for _, r := range s.Rows {
		if r.UID <= last || r.UID >= h.Next || r.ModSeq > h.ModSeq || r.ModSeq == 0 || int(r.Keywords) > len(s.state.Sets) || len(r.Base) == 0 {
			t.Fatalf("row %+v behind UID %d, head %+v", r, last, h)
		}
		last = r.UID
	}
	mod := uint64(0)
	for _, v := range s.state.Vanished {
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
