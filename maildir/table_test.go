package maildir

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// A table answers as a map does, whatever is added, removed and compacted.
func TestTableAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		tab := newTable()
		want := map[string]imap.UID{}
		var next imap.UID
		var bases []string
		for range 3000 {
			switch r.IntN(5) {
			case 0, 1, 2:
				next += imap.UID(1 + r.IntN(3))
				base := fmt.Sprintf("%d.M%d.host%s", next, r.IntN(1000), strings.Repeat("x", r.IntN(200)))
				if len(bases) > 0 && r.IntN(10) == 0 { // a base that was removed comes back
					base = bases[r.IntN(len(bases))]
				}
				if _, ok := want[base]; ok {
					continue
				}
				tab.add(row{uid: next}, base, ":2,"+strings.Repeat("S", r.IntN(3)))
				want[base] = next
				bases = append(bases, base)
			case 3:
				if len(bases) == 0 {
					continue
				}
				base := bases[r.IntN(len(bases))]
				if i, ok := tab.byBase(base); ok {
					tab.remove(i)
				}
				delete(want, base)
			case 4:
				if r.IntN(50) == 0 || tab.wasteful() {
					tab.compact()
				}
			}
		}
		if tab.len() != len(want) {
			t.Fatalf("seed %d: %d rows, want %d", seed, tab.len(), len(want))
		}
		for _, base := range bases {
			i, ok := tab.byBase(base)
			uid, wok := want[base]
			if ok != wok || ok && (tab.rows[i].uid != uid || tab.base(i) != base) {
				t.Fatalf("seed %d: byBase(%q) = %d, %v; want UID %d, %v", seed, base, i, ok, uid, wok)
			}
			if j, fok := tab.find(uid); wok && (!fok || j != i) {
				t.Fatalf("seed %d: find(%d) = %d, %v; want %d", seed, uid, j, fok, i)
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
