package index

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"
)

// finished is a file with a log, that was closed with a summary.
func finished(t testing.TB) (u *Unread, path string, want Summary) {
	t.Helper()
	d, path := open(t)
	l := save(t, d, sample(2500))
	b := new(Batch)
	b.Gone(Vanished{4, head.ModSeq})
	if err := l.Append(head.At, head.ModSeq, head.Next, b); err != nil {
		t.Fatal(err)
	}
	want = Summary{
		Head: head, Unseen: 7, Deleted: 3, FirstUnseen: 10, Keywords: []string{"$Forwarded", "grün"},
		UIDs: []Run{{1, 3}, {5, 1}, {9, 100_000}}, InNew: []Run{{9, 2}},
	}
	if err := l.Finish(head.At+1, want); err != nil {
		t.Fatal(err)
	}
	l.Release()
	u, err := Peek(d, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u, path, want
}

// What was said in the end is had without reading what was before; the whole file says it too.
func TestPeek(t *testing.T) {
	u, path, want := finished(t)
	if !reflect.DeepEqual(u.Summary, want) {
		t.Errorf("got %+v\nwant %+v", u.Summary, want)
	}
	s := load(t, u.dir)
	if s.Torn || s.state.Head != head {
		t.Errorf("torn %v, head %+v", s.Torn, s.state.Head)
	}
	// The open file is the one that is read, whatever has its name now.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	got, err := u.Load(nil)
	if err != nil || !reflect.DeepEqual(got.Gone, []uint32{4}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A change makes an end of the summary, and the next one counts.
func TestSummaryEndsWithAChange(t *testing.T) {
	u, _, want := finished(t)
	l := load(t, u.dir).Log()
	b := new(Batch)
	b.Gone(Vanished{7, head.ModSeq + 5})
	if err := l.Append(head.At, head.ModSeq+5, head.Next, b); err != nil {
		t.Fatal(err)
	}
	if _, err := Peek(u.dir, 1<<30); !errors.Is(err, ErrNone) {
		t.Errorf("a summary was believed that a change followed: %v", err)
	}
	want.Head.ModSeq += 5
	want.Unseen--
	if err := l.Finish(head.At, want); err != nil {
		t.Fatal(err)
	}
	l.Release()
	again, err := Peek(u.dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Summary, want) {
		t.Errorf("got %+v\nwant %+v", again.Summary, want)
	}
	if s, err := again.Load(nil); err != nil || !reflect.DeepEqual(s.Gone, []uint32{4, 7}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := Peek(u.dir, 100); !errors.Is(err, ErrNone) {
		t.Errorf("a file beyond the limit: %v", err)
	}
}

// A summary that is not whole or was changed is none; what is damaged before it is found
// when that is read.
func TestDamagedSummary(t *testing.T) {
	u, path, _ := finished(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.LastIndex(whole, []byte(head.Boot)) - 40 // about where it begins
	try := func(b []byte) (found bool, err error) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := Peek(u.dir, 1<<30)
		if err != nil {
			return false, err
		}
		_, err = u.Load(nil)
		return true, err
	}
	for n := from; n < len(whole); n++ {
		if found, err := try(whole[:n]); found && err == nil || !errors.Is(err, ErrNone) {
			t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
	for at := 0; at < len(whole); at++ {
		if at < from && at%1009 != 0 {
			continue
		}
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		if found, err := try(b); found && err == nil || !errors.Is(err, ErrNone) {
			t.Fatalf("byte %d of %d changed: found %v, %v", at, len(whole), found, err)
		}
	}
	// That of another file, though it proves itself.
	other := bytes.Clone(whole[:from/2])
	if found, err := try(append(other, whole[from/2+100:]...)); !found || !errors.Is(err, ErrNone) {
		t.Errorf("a summary behind another file: %v, %v", found, err)
	}
}

// Any bytes are a summary whose runs are in order and below UIDNEXT, and that is written the
// same, or none.
func FuzzSummary(f *testing.F) {
	_, _, want := finished(f)
	f.Add(want.append(nil, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := readSummary(b)
		if !ok {
			return
		}
		last := uint32(0)
		for _, r := range s.UIDs {
			if r.First < last || r.First == 0 || r.Count == 0 || r.First+r.Count < r.First || r.First+r.Count > s.Head.Next {
				t.Fatalf("run %+v behind %d, UIDNEXT %d", r, last, s.Head.Next)
			}
			last = r.First + r.Count
		}
		again, ok := readSummary(s.append(nil, 5))
		if !ok || !reflect.DeepEqual(again, s) {
			t.Fatalf("got %+v\nwant %+v", again, s)
		}
	})
}
