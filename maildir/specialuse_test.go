package maildir

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// LIST that comes soon again believes the special uses that it told of; what another process
// wrote is seen after usesGood, what this one wrote at once.
func TestSpecialUsesOfOtherProcesses(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	dir := filepath.Join(root, ".Sent")
	if err := os.MkdirAll(filepath.Join(dir, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Hour + time.Duration(later.Load())) } // the directory is old enough
	open := func() *account {
		s, err := New(Options{Host: "test.example", Poll: true, Clock: now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		return a.(*account)
	}
	ours, theirs := open(), open()
	isSent := func() bool {
		for e, err := range ours.List(t.Context(), store.ListQuery{Patterns: []string{"Sent"}}) {
			if err != nil {
				t.Fatal(err)
			}
			return slices.Contains(e.Attrs, imap.MailboxAttrSent)
		}
		t.Fatal("not listed")
		return false
	}
	set := func(a *account, value []byte) {
		t.Helper()
		if err := a.Annotate(t.Context(), "Sent", []store.Annotation{{Entry: store.SpecialUseEntry, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	if isSent() {
		t.Fatal("a use from nowhere")
	}
	set(theirs, []byte(`\Sent`))
	later.Store(int64(usesGood) / 2)
	if isSent() {
		t.Error("it was looked at again soon")
	}
	later.Store(int64(usesGood) + int64(time.Second))
	if !isSent() {
		t.Error("the use that another process set is not seen")
	}
	later.Add(int64(time.Second))
	set(ours, nil)
	if isSent() {
		t.Error("the use that was taken away is still told of")
	}
}
