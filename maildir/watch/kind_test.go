package watch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"roost/maildir/fsys"
)

// Of a name that came and went nothing is known but that: who asks must look.
func TestKindOfANameThatCameAndWent(t *testing.T) {
	s := NewSub(func() {}, nil, false, func(*Sub) {})
	defer s.Close()
	for _, r := range []Report{
		{Names: []string{"a"}, Kinds: []Kind{Gone}},
		{Names: []string{"b"}, Kinds: []Kind{Came}},
		{Names: []string{"b"}, Kinds: []Kind{Gone}},
		{Names: []string{"c"}},
		{Names: []string{"d"}, Kinds: []Kind{Came}},
	} {
		s.Note(r)
	}
	r := s.Pull()
	want := []Kind{Gone, Unknown, Unknown, Came}
	if !slices.Equal(r.Names, []string{"a", "b", "c", "d"}) || !slices.Equal(r.Kinds, want) {
		t.Errorf("names %q, kinds %v, want %v", r.Names, r.Kinds, want)
	}
	if k := (Report{Names: []string{"a"}}).Kind(0); k != Unknown {
		t.Errorf("a report without kinds says %v", k)
	}
}

// The kernel's words for a rename, a new file, and one that is removed.
func TestKindsOfRealEvents(t *testing.T) {
	w := NewSystem(Options{})
	defer w.Close()
	path := t.TempDir()
	for _, name := range []string{"old", "doomed"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := w.Add(d, "ann", func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Polled() {
		t.Skip("no events here")
	}
	if err := os.Rename(filepath.Join(path, "old"), filepath.Join(path, "new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(path, "doomed")); err != nil {
		t.Fatal(err)
	}
	s.Settle(time.Now())
	r := s.Pull()
	if !slices.Equal(r.Names, []string{"old", "new", "doomed"}) || !slices.Equal(r.Kinds, []Kind{Gone, Came, Gone}) {
		t.Errorf("names %q, kinds %v", r.Names, r.Kinds)
	}
}
