package maildir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"roost/store"
)

// cpuTime is what this process took so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOpen measures the first Hold of a mailbox of 100,000 messages by a new store:
// without any file of ours, then from what a closed store left, then from what a killed
// one left after a change that it had no time to write the stamps of.
//
//	go test ./maildir -run '^$' -bench 'Open$' -benchtime 5x
func BenchmarkOpen(b *testing.B) {
	const n = 100_000
	root := filepath.Join(b.TempDir(), "Maildir")
	fill(b, root, n)
	open := func() (*Store, store.Mailbox) {
		s, err := New(Options{Host: "test.example", Poll: true})
		if err != nil {
			b.Fatal(err)
		}
		s.wall = func() time.Time { return time.Now().Add(time.Minute) } // the files are old enough
		a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
		if err != nil {
			b.Fatal(err)
		}
		box, err := a.Hold(b.Context(), store.Inbox, true, nil)
		if err != nil {
			b.Fatal(err)
		}
		if got := box.View().UIDs.Len(); got != n {
			b.Fatalf("%d messages", got)
		}
		return s, box
	}
	close := func(s *Store, box store.Mailbox) {
		box.Close()
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	close(open()) // the files are in the cache, and the index is there
	for _, kept := range []string{"nothing", "index"} {
		b.Run("from="+kept, func(b *testing.B) {
			b.ReportAllocs()
			var cpu time.Duration // what a noisy machine does not change much
			for b.Loop() {
				b.StopTimer()
				if kept == "nothing" {
					for _, pattern := range []string{"roost*", "dovecot*"} {
						names, _ := filepath.Glob(filepath.Join(root, pattern))
						for _, name := range names {
							os.Remove(name)
						}
					}
				}
				before := cpuTime(b)
				b.StartTimer()
				s, box := open()
				b.StopTimer()
				cpu += cpuTime(b) - before
				close(s, box)
				b.StartTimer()
			}
			b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkFolders measures LIST and STATUS over 1,000 folders of 20 messages: by a new
// store that nobody's files await, by one that finds those of the last, and again.
//
//	go test ./maildir -run '^$' -bench Folders -benchtime 3x
func BenchmarkFolders(b *testing.B) {
	const folders, each = 1000, 20
	root := filepath.Join(b.TempDir(), "Maildir")
	var names []store.Name
	for i := range folders {
		n := fmt.Sprintf("folder%04d", i)
		dir := filepath.Join(root, "."+n)
		if i == 0 {
			fill(b, root, 0)
		}
		fill(b, dir, each)
		names = append(names, store.Name(n))
	}
	start := func() (*Store, store.Account) {
		s, err := New(Options{Host: "test.example"})
		if err != nil {
			b.Fatal(err)
		}
		s.wall = func() time.Time { return time.Now().Add(time.Minute) } // the files are old enough
		a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
		if err != nil {
			b.Fatal(err)
		}
		return s, a
	}
	stop := func(s *Store, a store.Account) {
		a.Close()
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	status := func(a store.Account) {
		for _, n := range names {
			if st, err := a.Status(b.Context(), n, false); err != nil || st.Messages != each {
				b.Fatal(n, st, err)
			}
		}
	}
	forget := func() {
		for _, pattern := range []string{"roost*", "dovecot*", ".*/roost*", ".*/dovecot*"} {
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, f := range files {
				os.Remove(f)
			}
		}
	}
	timed := func(b *testing.B, before, f, after func()) {
		var cpu time.Duration
		for b.Loop() {
			b.StopTimer()
			before()
			from := cpuTime(b)
			b.StartTimer()
			f()
			b.StopTimer()
			cpu += cpuTime(b) - from
			after()
			b.StartTimer()
		}
		b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
	var s *Store
	var a store.Account
	b.Run("list", func(b *testing.B) {
		timed(b, func() { s, a = start() }, func() {
			n := 0
			for _, err := range a.List(b.Context(), store.ListQuery{Patterns: []string{"*"}}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n < folders {
				b.Fatal(n)
			}
		}, func() { stop(s, a) })
	})
	b.Run("status/first", func(b *testing.B) {
		timed(b, func() { forget(); s, a = start() }, func() { status(a) }, func() { stop(s, a) })
	})
	b.Run("status/restart", func(b *testing.B) {
		timed(b, func() { s, a = start() }, func() { status(a) }, func() { stop(s, a) })
	})
	b.Run("status/open", func(b *testing.B) {
		s, a = start()
		status(a)
		timed(b, func() {}, func() { status(a) }, func() {})
		stop(s, a)
	})
}
