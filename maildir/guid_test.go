package maildir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/store"
)

// copyTree is what an admin does: all that can be kept is.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp -a: %v: %s", err, out)
	}
}

// idsOf opens an account on the root and gives the MAILBOXIDs of these mailboxes, which
// are opened in this order.
func idsOf(t *testing.T, root store.Root, names ...store.Name) map[store.Name]string {
	t.Helper()
	ids := map[store.Name]string{}
	by := map[string]store.Name{}
	withAccount(t, root, func(a store.Account) {
		for _, n := range names {
			st, err := a.Status(t.Context(), n, false)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := by[st.ID]; ok {
				t.Errorf("%s and %s both have the MAILBOXID %s", other, n, st.ID)
			}
			ids[n], by[st.ID] = st.ID, n
		}
	})
	return ids
}

// withAccount opens an account on the root as a server that is started does, and stops that.
func withAccount(t *testing.T, root store.Root, f func(store.Account)) {
	t.Helper()
	s, err := New(Options{Host: "test.example", Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}})
	if err != nil {
		t.Fatal(err)
	}
	f(a)
	if err := errors.Join(a.Close(), s.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
}

// oneMessage makes a mailbox with a message in it.
func oneMessage(t *testing.T, n store.Name) func(store.Account) {
	return func(a store.Account) {
		t.Helper()
		if err := a.Create(t.Context(), n, nil); err != nil {
			t.Fatal(err)
		}
		deliverTo(t, a, n, "Subject: 1\n\nHello\n")
	}
}

// A mailbox that was copied with "cp -a" has the uidlist of the other, its index too. The
// copy gets an id, whichever is opened first, with the caches and without, and the
// other keeps what clients know it by.
func TestMailboxCopiedBesideItselfGetsItsOwnID(t *testing.T) {
	for _, layout := range []store.Root{
		{Layout: store.LayoutMaildirPP}, {Layout: store.LayoutFS}, {Layout: store.LayoutFS, MailDir: "mail"},
	} {
		for _, caches := range []bool{true, false} {
			for _, order := range [][]store.Name{{"old", "copy", "copy2"}, {"copy2", "copy", "old"}} {
				t.Run(fmt.Sprintf("%s-%s-caches=%v-%s", layout.Layout, layout.MailDir, caches, order[0]), func(t *testing.T) {
					root := layout
					root.Mail, root.Create = filepath.Join(t.TempDir(), "Maildir"), true
					dir := func(n string) string {
						if root.Layout == store.LayoutFS {
							return filepath.Join(root.Mail, n)
						}
						return filepath.Join(root.Mail, "."+n)
					}
					withAccount(t, root, oneMessage(t, "old"))
					was := idsOf(t, root, "old", store.Inbox)
					waitForTick(t, root.Mail)
					copyTree(t, dir("old"), dir("copy"))
					copyTree(t, dir("old"), dir("copy2"))
					if !caches {
						for _, n := range []string{"old", "copy", "copy2"} {
							removeCaches(t, dir(n))
						}
					}
					first := idsOf(t, root, append(order, store.Inbox)...)
					if first["old"] != was["old"] || first[store.Inbox] != was[store.Inbox] {
						t.Errorf("ids became %v, were %v", first, was)
					}
					for _, n := range []string{"old", "copy", "copy2"} {
						removeCaches(t, dir(n))
					}
					again := idsOf(t, root, "copy", "old", "copy2")
					for n, id := range again {
						if id != first[n] {
							t.Errorf("%s: %s became %s", n, first[n], id)
						}
					}
				})
			}
		}
	}
}

// A copy that is made while others are open, of one that nobody opened so far.
func TestMailboxCopiedWhileTheTreeIsOpen(t *testing.T) {
	a := newAccount(t, store.Root{Layout: store.LayoutMaildirPP})
	mail := a.who.Roots[0].Mail
	id := func(n store.Name) string {
		st, err := a.Status(t.Context(), n, false)
		if err != nil {
			t.Fatal(err)
		}
		return st.ID
	}
	for _, n := range []store.Name{"a", "b"} {
		oneMessage(t, n)(a)
	}
	waitForTick(t, mail)
	copyTree(t, filepath.Join(mail, ".a"), filepath.Join(mail, ".a2"))
	elsewhere := store.Root{Layout: store.LayoutMaildirPP, Mail: filepath.Join(t.TempDir(), "Maildir"), Create: true}
	withAccount(t, elsewhere, oneMessage(t, "c"))
	a1 := id("a")
	a.trees[0].guids.forget() // as time does
	a2 := id("a2")            // the tree was looked through
	copyTree(t, filepath.Join(elsewhere.Mail, ".c"), filepath.Join(mail, ".c"))
	waitForTick(t, mail)
	copyTree(t, filepath.Join(mail, ".c"), filepath.Join(mail, ".c2"))
	waitForTick(t, mail)
	copyTree(t, filepath.Join(mail, ".b"), filepath.Join(mail, ".b2"))
	copyTree(t, filepath.Join(mail, ".b2"), filepath.Join(mail, ".b3"))
	seen := map[string]bool{}
	for _, id := range []string{a1, a2, id("b3"), id("b2"), id("b"), id("c2"), id("c")} {
		if seen[id] {
			t.Errorf("two mailboxes have the MAILBOXID %s", id)
		}
		seen[id] = true
	}
}

// One that is put back from a backup where it was, or under another name while the first is
// gone, is the same as before.
func TestMailboxPutBackKeepsItsID(t *testing.T) {
	root := store.Root{Layout: store.LayoutMaildirPP, Mail: filepath.Join(t.TempDir(), "Maildir"), Create: true}
	withAccount(t, root, oneMessage(t, "old"))
	was := idsOf(t, root, "old")["old"]
	dir := filepath.Join(root.Mail, ".old")
	copyTree(t, dir, filepath.Join(filepath.Dir(root.Mail), "backup"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(filepath.Dir(root.Mail), "backup"), filepath.Join(root.Mail, ".new"))
	if got := idsOf(t, root, "new")["new"]; got != was {
		t.Errorf("%s became %s", was, got)
	}
}

func deliverTo(t *testing.T, a store.Account, n store.Name, text string) {
	t.Helper()
	b, err := a.Batch(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Add(t.Context(), store.Meta{}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitForTick waits until the clock that stamps files has gone on.
func waitForTick(t *testing.T, dir string) {
	t.Helper()
	stamp := func() time.Time {
		p := filepath.Join(dir, "tick")
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(p)
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		return st.ModTime()
	}
	for start := stamp(); !stamp().After(start); {
	}
}

// A tree that cannot be written shows ids too, where its lists have none or one that is a
// copy's; each time the same.
func TestReadOnlyTreeShowsIDs(t *testing.T) {
	root := os.Getenv("ROOST_TEST_TREE")
	if root == "" {
		root = sealedTree(t)
		for name, header := range map[string]string{
			".Copy": "3 V1700000000 N10 G0123456789abcdef0123456789abcdef", ".Old": "3 V1700000001 N10", ".First": "1 1700000002 10",
		} {
			dir := filepath.Join(root, name)
			for _, sub := range []string{"", "cur", "new", "tmp"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "dovecot-uidlist"), []byte(header+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !inChild(t, asNobody, "ROOST_TEST_TREE="+root) {
		return
	}
	tree := store.Root{Mail: root}
	first := idsOf(t, tree, store.Inbox, "Copy", "Old", "First", "Other")
	if first[store.Inbox] != "F0123456789abcdef0123456789abcdef" {
		t.Errorf("%v", first)
	}
	again := idsOf(t, tree, "First", "Old", "Copy", store.Inbox)
	for n, id := range again {
		if len(id) != 33 || id != first[n] {
			t.Errorf("%s: %q became %q", n, first[n], id)
		}
	}
}

// A list that gets its GUID only now gets the one that was shown before it could be
// written.
func TestOldListGetsTheIDThatWasShown(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := filepath.Join(root, "dovecot-uidlist")
	if err := os.WriteFile(list, []byte("3 V1700000000 N10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	m := &mailbox{key: placeKey{ino: st.Sys().(*syscall.Stat_t).Ino}}
	m.list.validity = 1700000000
	want := "F" + m.madeGUID()
	if got := idsOf(t, store.Root{Mail: root}, store.Inbox)[store.Inbox]; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	b, err := os.ReadFile(list)
	if err != nil || !strings.Contains(string(b), " G"+want[1:]) {
		t.Errorf("%q, %v", b, err)
	}
}
