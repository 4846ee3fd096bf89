package maildir

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// A table answers as a slice of rows does, whatever is added, removed, renamed and
// compacted.
func TestTableAgainstSlice(t *testing.T) {
	type message struct {
		uid        imap.UID
		base, info string
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		tab := newTable()
		var all []message     // as it must be
		var gone []string     // bases that were there
		var next imap.UID = 1 // above every UID
		info := func() string { return pick(r.IntN(3) == 0, "", fmt.Sprintf(":2,%s", strings.Repeat("S", r.IntN(9)))) }
		check := func(m message, there bool) {
			t.Helper()
			i, ok := tab.byBase(m.base)
			j, found := tab.find(m.uid)
			if ok != there || found != there || there && (i != j || tab.rows.at(i).uid != m.uid || tab.fileName(i) != m.base+m.info || tab.rows.at(i).modSeq != store.ModSeq(m.uid)+7) {
				t.Fatalf("seed %d: %+v, which is there: %v; byBase gives %d, %v, find %d, %v", seed, m, there, i, ok, j, found)
			}
		}
		for range 3000 {
			switch n := r.IntN(12); {
			case n < 6:
				m := message{next, fmt.Sprintf("%d.M%d.host%s", next, r.IntN(1000), strings.Repeat("x", r.IntN(200))), info()}
				if len(gone) > 0 && r.IntN(10) == 0 { // it comes back
					k := r.IntN(len(gone))
					m.base = gone[k]
					gone = slices.Delete(gone, k, k+1)
				}
				next += imap.UID(1 + r.IntN(3))
				tab.add(row{uid: m.uid, modSeq: store.ModSeq(m.uid) + 7}, m.base, m.info, store.Keywords{})
				all = append(all, m)
			case len(all) == 0:
			case n < 9:
				k := r.IntN(len(all))
				i, _ := tab.find(all[k].uid)
				tab.remove(i)
				tab.remove(i) // twice is once
				check(all[k], false)
				gone = append(gone, all[k].base)
				all = slices.Delete(all, k, k+1)
			case n < 11:
				k := r.IntN(len(all))
				i, _ := tab.byBase(all[k].base)
				all[k].info = info()
				tab.setInfo(i, all[k].info)
			case r.IntN(20) == 0 || tab.wasteful():
				tab = tab.compacted()
				if tab.dead != 0 || tab.rows.len() != len(all) {
					t.Fatalf("seed %d: %d rows after compact, %d of them dead; there are %d messages", seed, tab.rows.len(), tab.dead, len(all))
				}
			}
			if len(all) > 0 {
				check(all[r.IntN(len(all))], true)
			}
			if tab.len() != len(all) {
				t.Fatalf("seed %d: %d messages, want %d", seed, tab.len(), len(all))
			}
		}
		for _, m := range all {
			check(m, true)
		}
		for _, base := range append(gone, "", "no such base") {
			if i, ok := tab.byBase(base); ok {
				t.Fatalf("seed %d: %q is gone and has row %d", seed, base, i)
			}
		}
		for uid := range next {
			if _, ok := tab.find(uid); ok != slices.ContainsFunc(all, func(m message) bool { return m.uid == uid }) {
				t.Fatalf("seed %d: find(%d) is %v", seed, uid, ok)
			}
		}
	}
}

// A message costs at most 120 bytes in an open mailbox, with a name of 60 bytes: all that
// the mailbox holds, however it was opened, after a search by name.
func TestTableBytesPerMessage(t *testing.T) {
	const n = 20_000
	root := filepath.Join(t.TempDir(), "Maildir")
	fill(t, root, n)
	live := func() float64 {
		var m runtime.MemStats
		for range 3 { // what cleanups of the tests before let go too
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for _, from := range []string{"nothing", "the index"} {
		s, err := New(Options{Host: "test.example", Poll: true})
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
		if err != nil {
			t.Fatal(err)
		}
		before := live()
		box, err := a.Hold(t.Context(), store.Inbox, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := box.(*hold).m
		m.files.Lock()
		m.tend()
		_, found := m.table.byBase(m.table.base(n / 2))
		per := (live() - before) / n // without what a look at the directory holds while it lasts
		m.files.Unlock()
		if !found || box.View().UIDs.Len() != n {
			t.Fatalf("%d messages", box.View().UIDs.Len())
		}
		t.Logf("from %s: %.1f bytes a message", from, per)
		if per > 120 {
			t.Errorf("from %s: %.1f bytes a message, at most 120 are promised", from, per)
		}
		box.Close()
		a.Close()
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// fill makes a Maildir of n read messages with names of 60 bytes, which are links to few files.
func fill(t testing.TB, root string, n int) {
	t.Helper()
	for _, d := range []string{"", "/cur", "/new", "/tmp"} {
		if err := os.Mkdir(root+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	body := []byte(strings.Repeat("Subject: x\n", 20))
	first := ""
	for i := range n {
		name := fmt.Sprintf("%d.M%06dP4711Q%07d.mail.example.org,S=%d,W=%d:2,S", 1700000000+i/10, i%1_000_000, i, len(body), len(body)+20)
		path := filepath.Join(root, "cur", name)
		if i%10_000 != 0 { // no filesystem takes any number of links
			if err := os.Link(first, path); err == nil {
				continue
			}
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		first = path
	}
}

// A set of keywords that no row has any more is let go.
func TestTableForgetsKeywordSets(t *testing.T) {
	tab := newTable()
	all := make([]store.Keywords, 100)
	for i := range all {
		all[i] = store.KeywordsOf(fmt.Sprint("k", i))
		tab.add(row{uid: imap.UID(i + 1)}, fmt.Sprint("base", i), "", all[i%10])
	}
	for range 3 {
		for _, kw := range all {
			tab.setKeywords(7, kw)
			if tab.keywords(7) != kw || tab.keywords(17) != all[7] {
				t.Fatalf("keywords %q and %q", tab.keywords(7).Names(), tab.keywords(17).Names())
			}
		}
	}
	if n := len(tab.sets.all); n > 12 { // those of the others, the new and the old one
		t.Errorf("%d sets are kept", n)
	}
	for i := range tab.rows.len() {
		tab.remove(i)
	}
	if n := len(tab.sets.ids); n > 0 {
		t.Errorf("%d sets are kept of no messages", n)
	}
}
