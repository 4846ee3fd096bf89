package maildir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roost/store"
)

// BenchmarkList lists a thousand folders that were listed before, and counts them.
//
//	go test ./maildir -run '^$' -bench List$
func BenchmarkList(b *testing.B) {
	const n = 1000
	root := filepath.Join(b.TempDir(), "Maildir")
	old := time.Now().Add(-time.Hour)
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf(".f%04d", i))
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.Chtimes(dir, old, old); err != nil {
			b.Fatal(err)
		}
	}
	s, err := New(Options{Host: "test.example", Poll: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root, Create: true}}})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	list := func() {
		told := 0
		for _, err := range a.List(b.Context(), store.ListQuery{Patterns: []string{"*"}}) {
			if err != nil {
				b.Fatal(err)
			}
			told++
		}
		if told != n+1 {
			b.Fatalf("%d folders were told of", told)
		}
	}
	count := func() {
		for i := range n {
			if _, err := a.Status(b.Context(), store.Name(fmt.Sprintf("f%04d", i)), false); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func()
	}{{"names", list}, {"status", count}} {
		b.Run(c.name, func(b *testing.B) {
			c.do()
			b.ReportAllocs()
			cpu := cpuTime(b)
			for b.Loop() {
				c.do()
			}
			b.ReportMetric((cpuTime(b)-cpu).Seconds()*1e6/float64(b.N), "us-cpu/op")
		})
	}
}
