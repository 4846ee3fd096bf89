package maildir

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roost/store"
)

// TestFixtureCourier opens every mailbox of a tree that Courier served, twice: what
// Courier said of it is what is said here, and its own files stay as they are.
func TestFixtureCourier(t *testing.T) {
	for _, c := range []struct {
		prefix string
		apart  bool // control and index files lie elsewhere
	}{{"INBOX.", false}, {"", false}, {"INBOX.", true}} {
		prefix := c.prefix
		t.Run(fmt.Sprint("prefix ", prefix, c.apart), func(t *testing.T) {
			want := readExpected(t, "courier")
			dir := filepath.Join(unpack(t, "courier/Maildir.tar.gz"), "Maildir")
			root, control, inbox := store.Root{Mail: dir, Prefix: prefix, UTF8: true}, dir, dir
			if c.apart {
				root.Control, root.Index = t.TempDir(), t.TempDir()
				control, inbox = root.Control, filepath.Join(root.Control, ".INBOX")
			}
			who := store.Identity{User: "ann", Separator: '.', Roots: []store.Root{root}}
			before := courierFiles(t, dir)
			for range 2 {
				s, err := New(Options{Host: "test.example", Poll: true})
				if err != nil {
					t.Fatal(err)
				}
				a, err := s.Account(t.Context(), who)
				if err != nil {
					t.Fatal(err)
				}
				ours := func(n string) store.Name {
					if n == "INBOX" {
						return store.Inbox
					}
					return store.Name(prefix + strings.TrimPrefix(n, "INBOX."))
				}
				var names, subscribed []string
				for _, e := range want.List {
					names = append(names, string(ours(e.UTF8)))
					if f, ok := want.Folders[e.Name]; ok {
						checkMailbox(t, a, ours(e.UTF8), f)
					}
				}
				for _, e := range want.Lsub {
					if !slices.Contains(e.Flags, `\Noselect`) { // subscribed themselves
						subscribed = append(subscribed, string(ours(e.UTF8)))
					}
				}
				if got := listNames(t, a, store.ListQuery{Patterns: []string{"*"}}); !sameSet(got, names) {
					t.Errorf("names:\n got %q\nwant %q", got, names)
				}
				if got := listNames(t, a, store.ListQuery{Patterns: []string{"*"}, Subscribed: true}); !sameSet(got, subscribed) {
					t.Errorf("subscriptions:\n got %q\nwant %q", got, subscribed)
				}
				a.Close()
				if err := s.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
			for _, f := range want.Folders {
				have := map[string]bool{}
				entries, err := os.ReadDir(filepath.Join(dir, f.Path, "cur"))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					have["cur/"+baseOf(e.Name())] = true
				}
				for _, m := range f.Messages {
					if !have[baseOf(m.Now)] {
						t.Errorf("%s: %s is missing", f.Path, m.Now)
					}
				}
			}
			for name, text := range courierFiles(t, dir) {
				if before[name] != text {
					t.Errorf("%s was changed", name)
				}
				delete(before, name)
			}
			if len(before) > 0 {
				t.Errorf("files of Courier's are gone: %q", before)
			}
			golden(t, "testdata/courier/subscriptions", readFile(t, control, "subscriptions"))
			golden(t, "testdata/courier/dovecot-keywords", readFile(t, control, ".Archive/dovecot-keywords"))
			golden(t, "testdata/courier/roost-keywords", readFile(t, control, ".Archive/roost-keywords"))
			if found, _ := filepath.Glob(filepath.Join(dir, ".Archive/cur/*:2,abcdefghijklmnopqrstuvwxyz")); len(found) != 1 {
				t.Errorf("no message has all 26 letters: %q", found)
			}
			if text := readFile(t, inbox, "roost-courier"); text != "roost-courier 1\nuidvalidity 795465324\nuidnext 52\n" {
				t.Errorf("roost-courier is %q", text)
			}
		})
	}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// courierFiles are all files that Courier needs to go on where it was.
func courierFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (strings.Contains(path, "/courierimap") || e.Name() == "maildirsize" || e.Name() == "maildirfolder") {
			out[path] = readFile(t, path)
		}
		return err
	})
	if err != nil || len(out) < 40 {
		t.Fatalf("%d files: %v", len(out), err)
	}
	return out
}

func listNames(t *testing.T, a store.Account, q store.ListQuery) (names []string) {
	t.Helper()
	for e, err := range a.List(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, string(e.Name))
	}
	return names
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
