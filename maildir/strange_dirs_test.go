package maildir

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// What another program may make of the directories of a mailbox, and undo gives back.
var brokenDirs = []struct {
	what     string
	readable bool // messages are in cur/ all the same
	spoil    func(box string) error
	undo     func(box string) error
}{
	{"cur is a file", false, replaceBy("cur", func(p string) error { return os.WriteFile(p, nil, 0o600) }), putBack("cur")},
	{"cur is a link to it", false, replaceBy("cur", func(p string) error { return os.Symlink(p+".old", p) }), putBack("cur")},
	{"cur is a dangling link", false, replaceBy("cur", func(p string) error { return os.Symlink("nowhere", p) }), putBack("cur")},
	{"new is a file", false, replaceBy("new", func(p string) error { return os.WriteFile(p, nil, 0o600) }), putBack("new")},
	{"tmp is a file", true, replaceBy("tmp", func(p string) error { return os.WriteFile(p, nil, 0o600) }), putBack("tmp")},
	{"tmp is a link", true, replaceBy("tmp", func(p string) error { return os.Symlink("/tmp", p) }), putBack("tmp")},
	{"new and tmp are missing", true, func(box string) error {
		return errors.Join(os.Remove(box+"/new"), os.Remove(box+"/tmp"))
	}, func(string) error { return nil }},
}

func replaceBy(name string, with func(path string) error) func(string) error {
	return func(box string) error {
		path := filepath.Join(box, name)
		return errors.Join(os.Rename(path, path+".old"), with(path))
	}
}

func putBack(name string) func(string) error {
	return func(box string) error {
		path := filepath.Join(box, name)
		return errors.Join(os.Remove(path), os.Rename(path+".old", path))
	}
}

// A mailbox whose directories are no good is refused for itself alone, and comes back
// when they are; where only the place of deliveries is no good it is read.
func TestBrokenDirectories(t *testing.T) {
	for _, c := range brokenDirs {
		for _, poll := range []bool{false, true} {
			for _, open := range []bool{false, true} {
				name := c.what
				if poll {
					name += ", polled"
				}
				if open {
					name += ", while it is open"
				}
				t.Run(name, func(t *testing.T) { testBroken(t, c.spoil, c.undo, c.readable, poll, open) })
			}
		}
	}
}

func testBroken(t *testing.T, spoil, undo func(string) error, readable, poll, open bool) {
	o := openOutside(t, 0, Options{Poll: poll, Log: slog.New(slog.DiscardHandler)})
	o.must(o.a.Create(t.Context(), "Bad", nil))
	box := o.path(".Bad")
	o.must(os.WriteFile(box+"/cur/1700000001.a.h:2,", []byte(strangeText), 0o600))
	hold := func() (store.Mailbox, error) { return o.a.Hold(t.Context(), "Bad", true, func() {}) }
	var first store.Mailbox
	if open {
		var err error
		first, err = hold()
		o.must(err)
		defer first.Close()
	}
	o.must(spoil(box))
	if open && !readable {
		// Whoever has it open is told, one way or the other, at the latest by what is asked next.
		var err error
		for limit := time.Now().Add(5 * time.Minute); err == nil && time.Now().Before(limit); runtime.Gosched() {
			err = first.Look(t.Context())
		}
		if !errors.Is(err, store.ErrReplaced) {
			t.Errorf("the open mailbox says %v", err)
		}
	}
	h, err := hold()
	switch {
	case readable && err != nil:
		t.Errorf("SELECT: %v", err)
	case readable:
		if got, err := readAll(t, h, 1); !(open && errors.Is(err, store.ErrReplaced)) && (err != nil || got != "Subject: x\r\n\r\nx\r\n") {
			t.Errorf("%q, %v", got, err)
		}
		_, _, err := h.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		if err != nil && !(open && errors.Is(err, store.ErrReplaced)) { // the news may come just now
			t.Errorf("STORE: %v", err)
		}
		h.Close()
	case err == nil:
		t.Errorf("SELECT took it, with %d messages", h.View().UIDs.Len())
		h.Close()
	case !errors.Is(err, store.ErrUnavailable):
		t.Errorf("SELECT: %v", err)
	}
	// The others do not notice.
	if names := names(list(t, o.a.(*account), store.ListQuery{})); names != "Bad INBOX" {
		t.Errorf("LIST: %s", names)
	}
	o.must(o.box.Look(t.Context()))
	o.must(undo(box))
	if h, err = hold(); err != nil {
		t.Fatalf("after it was repaired: %v", err)
	}
	defer h.Close()
	if got, err := readAll(t, h, 1); err != nil || got != "Subject: x\r\n\r\nx\r\n" {
		t.Errorf("after it was repaired: %q, %v", got, err)
	}
}

// Without rights on a directory or a message a client is told so, for it alone.
func TestWithoutRights(t *testing.T) {
	root := os.Getenv("ROOST_TEST_TREE")
	if root == "" {
		root = sealedTree(t)
		for path, mode := range map[string]os.FileMode{"cur/1700000001.a.h:2,": 0, ".Other/cur": 0} {
			if err := os.Chmod(filepath.Join(root, path), mode); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(root, ".Other/cur"), 0o755) })
	}
	if !inChild(t, asNobody, "ROOST_TEST_TREE="+root) {
		return
	}
	var log logLines
	s, a := oddTree(t, root, slog.New(slog.NewTextHandler(&log, nil)))
	defer closeTree(t, s, a)
	if _, err := a.Hold(t.Context(), "Other", true, func() {}); !errors.Is(err, store.ErrNoPermission) {
		t.Errorf("cur without rights: %v", err)
	}
	h, err := a.Hold(t.Context(), store.Inbox, false, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 2 {
		if _, err := readAll(t, h, 5); !errors.Is(err, store.ErrNoPermission) || !errors.Is(err, store.ErrUnreadable) {
			t.Errorf("a message without rights: %v", err)
		}
	}
	if _, err := readAll(t, h, 9); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if lines := log.with("1700000001.a.h"); len(lines) != 1 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}
