package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

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
				sub.Settle()
				if r := sub.Pull(); !slices.Contains(r.Names, name) {
					t.Errorf("%s is not among %v", name, r.Names)
					return
				}
			}
		})
	}
	wg.Wait()
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
				sub.Settle()
			}
		})
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	sub.Settle()
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
		sub.Settle()
	}
}
