package maildir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// watched is a Watch on a tree that the test changes behind the store's back.
type watchedTree struct {
	t     *testing.T
	root  string
	s     *Store
	a     store.Account
	fake  *watchtest.Fake
	fs    *faultfs.FS
	watch store.Watch
	bell  chan struct{}
	n     int
}

func watchTree(t *testing.T, fault func(call string) error, folders ...string) *watchedTree {
	t.Helper()
	w := &watchedTree{t: t, root: t.TempDir(), fake: &watchtest.Fake{}, fs: faultfs.New(fsys.OS), bell: make(chan struct{}, 1)}
	for _, f := range append(folders, "") {
		w.make(f)
	}
	var err error
	w.s, err = New(Options{FS: w.fs, Watch: w.fake})
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: w.root}}})
	if err != nil {
		t.Fatal(err)
	}
	w.a = a
	if fault != nil {
		w.fs.FailWhere(func(_ int, call string) error { return fault(call) })
	}
	w.watch, err = a.Watch(t.Context(), store.WatchOptions{Limit: 1000, Wake: func() {
		select {
		case w.bell <- struct{}{}:
		default:
		}
	}, Want: func(store.Entry) store.Interest {
		return store.InterestMessages | store.InterestNames | store.NoAccess
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.watch.Close()
		a.Close()
		if err := w.s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *watchedTree) path(folder string) string {
	if folder == "" {
		return w.root
	}
	return filepath.Join(w.root, "."+folder)
}

func (w *watchedTree) make(folder string) {
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(w.path(folder), d), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
}

// deliver puts a message into new, and gives what an event would say.
func (w *watchedTree) deliver(folder string) watch.Report {
	w.n++
	name := fmt.Sprintf("1795500001.M%dP1.mta", w.n)
	if err := os.WriteFile(filepath.Join(w.path(folder), "new", name), []byte("Subject: x\n\nx\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return watch.Report{Names: []string{name}}
}

// tells gives what Pull has to tell: "Work 1" is a message in Work.
func (w *watchedTree) tells() string {
	w.t.Helper()
	events, err := w.watch.Pull(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		text := string(e.Name)
		if e.Kind&store.InterestNames != 0 {
			text += " names"
		}
		if e.Kind&store.InterestMessages != 0 {
			text += fmt.Sprintf(" %d", e.Status.Messages)
		}
		if e.Kind&store.NoAccess != 0 {
			text += " noaccess"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// wants waits until all of want was told, which may come in several Pulls: the mailbox's own
// worker looks too.
func (w *watchedTree) wants(what, want string) {
	w.t.Helper()
	told := ""
	for told != want {
		select {
		case <-w.bell:
		case <-time.After(5 * time.Minute):
			w.t.Fatalf("%s: told %q, want %q", what, told, want)
		}
		if got := w.tells(); got != "" {
			told = got
		}
	}
}

// Events that the kernel could not queue are told as lost: then all is looked at, and the
// watches are set anew.
func TestWatchLosesNothingWhenEventsAreLost(t *testing.T) {
	w := watchTree(t, nil, "Work", "Play")
	for _, n := range []store.Name{"INBOX", "Work", "Play"} {
		if _, err := w.watch.Status(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver("Work")
	w.make("New")
	w.deliver("New")
	w.fake.Note("", watch.Report{Lost: true})
	w.wants("lost", "New names 1, Work 1")
	for range 2 {
		w.fake.Note(filepath.Join(w.path("Play"), "new"), w.deliver("Play"))
	}
	w.wants("a watch that was set anew", "Play 2")
	if err := os.Rename(w.path("Play"), filepath.Join(w.root, ".Game")); err != nil {
		t.Fatal(err)
	}
	came := w.deliver("Game")
	w.fake.Note(w.root, watch.Report{Names: []string{".Play", ".Game"}})
	w.wants("renamed", "Game names")
	w.fake.Note(filepath.Join(w.path("Play"), "new"), came) // as fsnotify has it, for who was there before
	w.fake.Note(filepath.Join(w.path("Game"), "new"), came)
	w.wants("by its new path", "Game 3")
	w.fake.Note(w.root, watch.Report{Names: []string{"dovecot-uidlist", "dovecot-uidlist.lock", "new"}})
	select {
	case <-w.bell:
		if got := w.tells(); got != "" {
			t.Errorf("told %q", got)
		}
	default:
	}
}

// A folder that may not be read is told as such, once, and keeps nobody from the others.
func TestWatchOfWhatMayNotBeRead(t *testing.T) {
	w := watchTree(t, func(call string) error {
		if strings.HasPrefix(call, "sub") && strings.Contains(call, ".Secret/") {
			return fs.ErrPermission
		}
		return nil
	}, "Secret", "Work")
	if got := w.tells(); got != "Secret noaccess" {
		t.Errorf("told %q", got)
	}
	w.fake.Note(filepath.Join(w.path("Work"), "new"), w.deliver("Work"))
	w.wants("another", "Work 1")
	if got := w.tells(); got != "" {
		t.Errorf("told again: %q", got)
	}
}

// However many mailboxes get mail, few stay open for it; and where nobody watches any more
// nothing is left.
func TestWatchKeepsFewMailboxesOpen(t *testing.T) {
	var folders []string
	for i := range 3 * maxGlimpsed {
		folders = append(folders, fmt.Sprintf("f%03d", i))
	}
	w := watchTree(t, nil, folders...)
	for _, f := range folders {
		w.fake.Note(filepath.Join(w.path(f), "new"), w.deliver(f))
		w.wants(f, f+" 1")
	}
	w.s.mu.Lock()
	open := len(w.s.open)
	w.s.mu.Unlock()
	if open > maxGlimpsed {
		t.Errorf("%d mailboxes are open", open)
	}
	w.watch.Close()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if n := len(w.s.sentries); n > 0 {
		t.Errorf("%d sentries are left", n)
	}
}

// What this process does to an open mailbox is told by the mailbox: a message may be shown
// long after the event of its file.
func TestWatchIsToldByOpenMailboxes(t *testing.T) {
	w := watchTree(t, nil, "Work")
	for i := range 3 {
		b, err := w.a.Batch(t.Context(), "Work")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(t.Context(), store.Meta{}, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Close()
		w.wants("added", fmt.Sprintf("Work %d", i+1))
	}
	box, err := w.a.Hold(t.Context(), "Work", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if _, _, err := box.SetFlags(t.Context(), []imap.UID{2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := box.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.wants("expunged", "Work 2")
}

// A folder that is made and filled before its watch stands is counted at once.
func TestWatchCountsWhatIsNew(t *testing.T) {
	w := watchTree(t, nil)
	w.make("New")
	w.deliver("New")
	w.fake.Note(w.root, watch.Report{Names: []string{".New"}})
	w.wants("made", "New names 1")
}
