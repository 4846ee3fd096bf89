package maildir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"roost/store"
)

// BenchmarkDeliveryToWake measures from the rename into new/ to the wake-up of the
// last of the sessions that hold the mailbox: p50 and p99 in microseconds.
//
//	go test ./maildir -run '^$' -bench DeliveryToWake -benchtime 2000x
func BenchmarkDeliveryToWake(b *testing.B) {
	for _, holds := range []int{1, 50} {
		b.Run(fmt.Sprintf("holds=%d", holds), func(b *testing.B) {
			d := newDeliveries(b, holds)
			took := make([]time.Duration, 0, b.N)
			for i := range b.N {
				name := d.stage(b, i)
				time.Sleep(2 * time.Millisecond) // what the one before caused is over
				start := time.Now()
				d.rename(b, name)
				for range holds {
					<-d.woken
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
		})
	}
}

// BenchmarkDeliveryBurst measures from the first of 1,000 renames into new/ to the
// wake-up after which all are shown, and how many wake-ups there were.
func BenchmarkDeliveryBurst(b *testing.B) {
	const burst = 1000
	d := newDeliveries(b, 1)
	wakes := 0
	for i := range b.N {
		b.StopTimer()
		names := make([]string, burst)
		for j := range names {
			names[j] = d.stage(b, i*burst+j)
		}
		b.StartTimer()
		go func() { // ends with the last of them, which the loop below waits for
			for _, name := range names {
				if err := os.Rename(filepath.Join(d.root, "tmp", name), filepath.Join(d.root, "new", name)); err != nil {
					b.Error(err)
				}
			}
		}()
		for d.box.View().UIDs.Len() < (i+1)*burst {
			<-d.woken
			wakes++
		}
	}
	b.ReportMetric(float64(wakes)/float64(b.N), "wakes/op")
}

// deliveries is an empty INBOX that a benchmark delivers to.
type deliveries struct {
	root  string
	box   store.Mailbox
	woken chan struct{}
}

func newDeliveries(b *testing.B, holds int) *deliveries {
	d := &deliveries{root: filepath.Join(b.TempDir(), "Maildir"), woken: make(chan struct{}, 100_000)}
	s, err := New(Options{Host: "test.example"})
	if err != nil {
		b.Fatal(err)
	}
	a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: d.root, Create: true}}})
	if err != nil {
		b.Fatal(err)
	}
	var boxes []store.Mailbox
	for range holds {
		box, err := a.Hold(b.Context(), store.Inbox, true, func() { d.woken <- struct{}{} })
		if err != nil {
			b.Fatal(err)
		}
		boxes = append(boxes, box)
	}
	d.box = boxes[0]
	b.Cleanup(func() {
		for _, box := range boxes {
			box.Close()
		}
		a.Close()
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return d
}

func (d *deliveries) stage(b *testing.B, i int) string {
	name := fmt.Sprintf("1800000000.M%dP2.host", i)
	if err := os.WriteFile(filepath.Join(d.root, "tmp", name), []byte("Subject: new\n\nnew\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

func (d *deliveries) rename(b *testing.B, name string) {
	if err := os.Rename(filepath.Join(d.root, "tmp", name), filepath.Join(d.root, "new", name)); err != nil {
		b.Fatal(err)
	}
}
