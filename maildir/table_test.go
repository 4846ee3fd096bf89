package maildir

import (
	"fmt"
	"math/rand/v2"
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
			if ok != there || found != there || there && (i != j || tab.rows[i].uid != m.uid || tab.fileName(i) != m.base+m.info || tab.rows[i].modSeq != store.ModSeq(m.uid)+7) {
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
				tab.add(row{uid: m.uid, modSeq: store.ModSeq(m.uid) + 7}, m.base, m.info)
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
				tab.compact()
				if tab.dead != 0 || len(tab.rows) != len(all) {
					t.Fatalf("seed %d: %d rows after compact, %d of them dead; there are %d messages", seed, len(tab.rows), tab.dead, len(all))
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

// A message costs at most 150 bytes in an open mailbox, with a name of 60 bytes.
func TestTableBytesPerMessage(t *testing.T) {
	const n = 100_000
	base := func(i int) string {
		return fmt.Sprintf("1795464818.M%06dP56Q%06d.mail.example.org,S=2674,W=2741", i, i)
	}
	if len(base(0)) < 58 {
		t.Fatalf("the base has %d bytes", len(base(0)))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tab := newTable()
	v := newVersions(1)
	for i := range n {
		tab.add(row{uid: imap.UID(i + 1)}, base(i), []string{":2,", ":2,S", ":2,RS"}[i%3])
		v.grow(imap.UID(i+1), 1)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.1f bytes a message", per)
	if per > 150 {
		t.Errorf("%.1f bytes a message, at most 150 are promised", per)
	}
	runtime.KeepAlive(tab)
	runtime.KeepAlive(v)
}
