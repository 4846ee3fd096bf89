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
	ours, theirs := openWithClock(t, root, now), openWithClock(t, root, now)
	set := func(a *account, value []byte) { setSent(t, a, value) }
	isSent := func() bool { return isSent(t, ours) }
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

// A directory that was made a moment ago is not asked for each time either; what it looked
// like then proves nothing later.
func TestSpecialUsesOfYoungMailboxes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	dir := filepath.Join(root, ".Sent")
	if err := os.MkdirAll(filepath.Join(dir, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	made := time.Now()
	if err := os.Chtimes(dir, made, made); err != nil {
		t.Fatal(err)
	}
	var later atomic.Int64
	now := func() time.Time { return made.Add(time.Second + time.Duration(later.Load())) }
	ours, theirs := openWithClock(t, root, now), openWithClock(t, root, now)
	if isSent(t, ours) {
		t.Fatal("a use from nowhere")
	}
	setSent(t, theirs, []byte(`\Sent`))
	if err := os.Chtimes(dir, made, made); err != nil { // as if it came in the same tick of the clock
		t.Fatal(err)
	}
	later.Store(int64(usesGood) / 2)
	if isSent(t, ours) {
		t.Error("it was looked at again soon")
	}
	later.Store(int64(usesGood) + int64(time.Second))
	if !isSent(t, ours) {
		t.Error("the use that came in the same tick is not seen")
	}
}

func openWithClock(t *testing.T, root string, now store.Clock) *account {
	t.Helper()
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

// isSent lists the mailbox Sent, and reports whether it has that use.
func isSent(t *testing.T, a *account) bool {
	t.Helper()
	for e, err := range a.List(t.Context(), store.ListQuery{Patterns: []string{"Sent"}}) {
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(e.Attrs, imap.MailboxAttrSent)
	}
	t.Fatal("not listed")
	return false
}

func setSent(t *testing.T, a *account, value []byte) {
	t.Helper()
	if err := a.Annotate(t.Context(), "Sent", []store.Annotation{{Entry: store.SpecialUseEntry, Value: value}}); err != nil {
		t.Fatal(err)
	}
}
