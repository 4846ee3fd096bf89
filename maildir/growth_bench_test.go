package maildir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// BenchmarkChange measures what one change costs in mailboxes of different sizes: a
// delivery and a flag until another session's Advance told of them, STATUS, and the
// expunges and changes since an earlier moment, as QRESYNC asks. Each line should be the
// same for all sizes.
//
//	go test ./maildir -run '^$' -bench Change -benchtime 200x
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchChange(b, n) })
	}
}

func benchChange(b *testing.B, n int) {
	root := filepath.Join(b.TempDir(), "Maildir")
	fill(b, root, n)
	s, err := New(Options{Host: "test.example"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	s.wall = func() time.Time { return time.Now().Add(time.Minute) }
	a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	box, err := a.Hold(b.Context(), store.Inbox, true, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer box.Close()
	other, err := a.Hold(b.Context(), store.Inbox, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer other.Close()
	indexed(box)
	v, _, err := other.Advance(store.View{}, true)
	if err != nil {
		b.Fatal(err)
	}
	advance := func() store.Delta {
		now, d, err := other.Advance(v, true)
		if err != nil {
			b.Fatal(err)
		}
		v = now
		return d
	}
	run := func(name string, f func(i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			from := cpuTime(b)
			for b.Loop() {
				f(i)
				i++
			}
			b.ReportMetric(float64((cpuTime(b)-from).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
	delivered := 0
	run("delivery", func(int) {
		delivered++
		name := fmt.Sprintf("1800000000.M%dP1.mta", delivered)
		if err := os.WriteFile(filepath.Join(root, "tmp", name), []byte("Subject: x\n\nx\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		if err := os.Rename(filepath.Join(root, "tmp", name), filepath.Join(root, "new", name)); err != nil {
			b.Fatal(err)
		}
		if err := box.Look(b.Context()); err != nil {
			b.Fatal(err)
		}
		if d := advance(); !d.Grown {
			b.Fatalf("%+v", d)
		}
	})
	run("flag", func(i int) {
		op := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}
		if i%2 == 1 {
			op.Op = imap.StoreFlagsDel
		}
		if _, _, err := box.SetFlags(b.Context(), []imap.UID{imap.UID(n / 2)}, op); err != nil {
			b.Fatal(err)
		}
		if d := advance(); len(d.Changed) != 1 {
			b.Fatalf("%+v", d)
		}
	})
	run("status", func(int) {
		if _, err := a.Status(b.Context(), store.Inbox, false); err != nil {
			b.Fatal(err)
		}
	})
	expunged := imap.UID(0)
	run("expunge", func(int) {
		expunged++
		del := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}
		if _, _, err := box.SetFlags(b.Context(), []imap.UID{expunged}, del); err != nil {
			b.Fatal(err)
		}
		if _, _, err := box.Expunge(b.Context(), []imap.UID{expunged}); err != nil {
			b.Fatal(err)
		}
		if d := advance(); len(d.Vanished) != 1 {
			b.Fatalf("%+v", d)
		}
	})
	run("hold", func(int) {
		h, err := a.Hold(b.Context(), store.Inbox, true, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.Advance(store.View{}, true); err != nil {
			b.Fatal(err)
		}
		h.FirstUnseen()
		h.Close()
	})
	since := v.ModSeq
	del := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}
	var ten []imap.UID
	for i := range 10 {
		ten = append(ten, imap.UID(n/2+i*7))
	}
	if _, _, err := box.SetFlags(b.Context(), ten, del); err != nil {
		b.Fatal(err)
	}
	advance()
	run("resync", func(int) {
		found := 0
		for rows, err := range box.Rows(b.Context(), v.UIDs.Slice(0, v.UIDs.Len()), since) {
			if err != nil {
				b.Fatal(err)
			}
			found += len(rows)
		}
		if _, known, err := box.Vanished(since, v); err != nil || !known || found < 9 {
			b.Fatal(known, found, err)
		}
	})
}
