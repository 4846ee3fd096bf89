package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"roost/maildir/fsys"
)

// What happened before Settle is there for the Pull behind it, whoever else settles at the
// same time.
func TestSettle(t *testing.T) {
	w := NewSystem(Options{Shards: 2})
	defer w.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		dir := t.TempDir()
		d, err := fsys.OS.Root(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		sub, err := w.Add(d, fmt.Sprint(i), func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		wg.Go(func() {
			for n := range 200 {
				name := fmt.Sprint("m", n)
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Error(err)
					return
				}
				sub.Settle(time.Now())
				if r := sub.Pull(); !slices.Contains(r.Names, name) {
					t.Errorf("%s is not among %v", name, r.Names)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Who need not know of more than another waited for already does not wait once more.
func TestSettleSince(t *testing.T) {
	w := NewSystem(Options{Shards: 1})
	defer w.Close()
	sub, err := w.Add(open(t, t.TempDir()), "ann", func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	since := time.Now()
	sub.Settle(since)
	marker := &w.shards[0].marker
	waited := func() time.Time {
		marker.mu.Lock()
		defer marker.mu.Unlock()
		return marker.settled
	}
	first := waited()
	if first.Before(since) {
		t.Fatalf("it has waited for what was before %v, and should for %v", first, since)
	}
	sub.Settle(since)
	if waited() != first {
		t.Error("it waits for the same twice")
	}
	sub.Settle(time.Now())
	if !waited().After(first) {
		t.Error("it does not wait for what came since")
	}
}

// Who settles when the watch has ended, or ends meanwhile, does not wait.
func TestSettleAtTheEnd(t *testing.T) {
	w := NewSystem(Options{Shards: 1})
	d := open(t, t.TempDir())
	sub, err := w.Add(d, "ann", func() {})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				sub.Settle(time.Now())
			}
		})
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	sub.Settle(time.Now())
	sub.Close()
}

func BenchmarkSettle(b *testing.B) {
	w := NewSystem(Options{Shards: 1})
	defer w.Close()
	d, err := fsys.OS.Root(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	sub, err := w.Add(d, "ann", func() {})
	if err != nil {
		b.Fatal(err)
	}
	defer sub.Close()
	for b.Loop() {
		sub.Settle(time.Now())
	}
}
