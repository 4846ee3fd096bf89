package maildir

import (
	"context"
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
