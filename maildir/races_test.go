package maildir

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// Another program changes the directories before any one of the calls that a look makes,
// so also between two names that it reads. Whatever readdir then gives, no message
// vanishes that is there, none gets a second UID, and the look after that knows all.
// Under a clock that stands still mtimes tell nothing; under one that runs they do.
func TestLookBesideOtherPrograms(t *testing.T) {
	base := func(i int) string { return fmt.Sprintf("17%08d.M%dP1.host", i, i) }
	join := errors.Join
	for _, c := range []struct {
		name string
		do   func(d dirs) error
		gone bool // UID 5 is
		more int
	}{
		{"mark", func(d dirs) error { return d.cur.Rename(base(5)+":2,", d.cur, base(5)+":2,S") }, false, 0},
		{"mark and unmark", func(d dirs) error {
			return join(d.cur.Rename(base(5)+":2,", d.cur, base(5)+":2,FS"), d.cur.Rename(base(5)+":2,FS", d.cur, base(5)+":2,"))
		}, false, 0},
		{"mark all", func(d dirs) (err error) {
			for i := 1; i <= 8; i++ {
				err = join(err, d.cur.Rename(base(i)+":2,", d.cur, base(i)+":2,S"))
			}
			return err
		}, false, 0},
		{"mark by a link", func(d dirs) error {
			return join(d.cur.Link(base(5)+":2,", d.cur, base(5)+":2,S"), d.cur.Remove(base(5)+":2,"))
		}, false, 0},
		{"back to new", func(d dirs) error { return d.cur.Rename(base(5)+":2,", d.new, base(5)) }, false, 0},
		{"from new", func(d dirs) error { return d.new.Rename(base(10), d.cur, base(10)+":2,S") }, false, 0},
		{"delete", func(d dirs) error { return d.cur.Remove(base(5) + ":2,") }, true, 0},
		{"deliver", func(d dirs) error { return makeFile(d.new, base(90)) }, false, 1},
		{"deliver to cur", func(d dirs) error { return makeFile(d.cur, base(90)+":2,F") }, false, 1},
	} {
		for _, frozen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/clock stands still %v", c.name, frozen), func(t *testing.T) {
				for n, met := 1, true; met && !t.Failed(); n++ {
					met = false
					func() {
						var clock atomic.Int64
						clock.Store(1795500000e9)
						mem := faultfs.NewMem()
						mem.Now = func() time.Time {
							if !frozen {
								clock.Add(int64(time.Minute))
							}
							return time.Unix(0, clock.Load())
						}
						d := makeMaildir(t, mem)
						for i := 1; i <= 12; i++ {
							dir, name := d.cur, base(i)+":2,"
							if i > 8 {
								dir, name = d.new, base(i)
							}
							if err := makeFile(dir, name); err != nil {
								t.Fatal(err)
							}
						}
						fs := faultfs.New(mem)
						fs.EachName = true
						s, err := New(Options{FS: fs, Host: "test.example", PID: 7, Boot: "boot", Watch: &watchtest.Fake{Polled: true}})
						if err != nil {
							t.Fatal(err)
						}
						defer s.Close(context.Background())
						s.wall = mem.Now
						s.pause = func(d time.Duration) { clock.Add(int64(d) + 1) }
						a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir"}}})
						if err != nil {
							t.Fatal(err)
						}
						defer a.Close()
						box, err := a.Hold(t.Context(), store.Inbox, false, nil)
						if err != nil {
							t.Fatal(err)
						}
						defer box.Close()
						v, _, err := box.Advance(store.View{}, true)
						if err != nil || v.UIDs.Len() != 12 {
							t.Fatalf("%d messages, %v", v.UIDs.Len(), err)
						}
						if err := makeFile(d.new, base(80)); err != nil { // what the look is for
							t.Fatal(err)
						}
						fs.Reset()
						fs.FailWhere(func(k int, _ string) error {
							if k == n {
								met = true
								if err := c.do(d); err != nil {
									t.Error(err)
								}
							}
							return nil
						})
						look := func(what string, want []imap.UID) {
							t.Helper()
							if err := box.Look(t.Context()); err != nil {
								t.Fatal(err)
							}
							var delta store.Delta
							v, delta, err = box.Advance(v, true)
							if err != nil {
								t.Fatal(err)
							}
							if len(delta.Vanished) > 0 && !(c.gone && slices.Equal(delta.Vanished, []imap.UID{5})) {
								t.Errorf("call %d, %s: vanished %v", n, what, delta.Vanished)
							}
							if got := v.UIDs.Slice(0, 99); want != nil && !slices.Equal(got, want) {
								t.Errorf("call %d, %s: UIDs %v, want %v", n, what, got, want)
							}
						}
						look("the look that was disturbed", nil)
						fs.FailWhere(nil)
						if !met {
							return
						}
						var want []imap.UID
						for uid := imap.UID(1); int(uid) <= 13+c.more; uid++ {
							if uid != 5 || !c.gone {
								want = append(want, uid)
							}
						}
						look("the next look", want)
						for rows, err := range box.Rows(t.Context(), want, 0) {
							if err != nil || len(rows) != len(want) {
								t.Errorf("call %d: rows %v, %v", n, rows, err)
							}
						}
					}()
				}
			})
		}
	}
}

// makeMaildir makes the directories of INBOX.
func makeMaildir(t *testing.T, f fsys.FS) (d dirs) {
	t.Helper()
	for _, x := range []struct {
		to  *fsys.Dir
		sub string
	}{{&d.box, ""}, {&d.cur, "/cur"}, {&d.new, "/new"}, {&d.tmp, "/tmp"}} {
		var err error
		if *x.to, err = f.Make("/Maildir"+x.sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// makeFile makes a message.
func makeFile(d fsys.Dir, name string) error {
	f, err := d.Create(name, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("Subject: " + name + "\n\n"))
	return errors.Join(err, f.Close())
}

// Another program marks a message before any one of the calls of a command. Where its
// rename succeeded, the mark is on the message, wherever that is then, and what the
// command did too.
func TestMarkDuringCommandIsKept(t *testing.T) {
	for name, do := range map[string]func(box store.Mailbox) (in store.Name, err error){
		"move": func(box store.Mailbox) (store.Name, error) {
			_, err := box.Move(context.Background(), []imap.UID{1}, "b")
			return "b", err
		},
		"store": func(box store.Mailbox) (store.Name, error) {
			rows, _, err := box.SetFlags(context.Background(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered}})
			if err == nil && (len(rows) != 1 || rows[0].Flags&store.FlagAnswered == 0) {
				err = fmt.Errorf("the rows are %v", rows)
			}
			return store.Inbox, err
		},
		"expunge": func(box store.Mailbox) (store.Name, error) { // of nothing: it is not \Deleted
			gone, _, err := box.Expunge(context.Background(), []imap.UID{1})
			if len(gone) > 0 {
				err = fmt.Errorf("gone are %v", gone)
			}
			return store.Inbox, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n, met := 1, true; met && !t.Failed(); n++ {
				met = false
				func() {
					mem := faultfs.NewMem()
					mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
					fs := faultfs.New(mem)
					s, err := New(Options{FS: fs, Host: "test.example", PID: 7, Boot: "boot", Watch: &watchtest.Fake{}})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close(context.Background())
					a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true, Folders: []store.Folder{{Name: "b", Create: true}}}}})
					if err != nil {
						t.Fatal(err)
					}
					defer a.Close()
					appendOne(t, a, []imap.Flag{imap.FlagSeen})
					box, err := a.Hold(t.Context(), store.Inbox, true, nil)
					if err != nil {
						t.Fatal(err)
					}
					defer box.Close()
					cur, err := mem.Root("/Maildir/cur")
					if err != nil {
						t.Fatal(err)
					}
					want := store.FlagSeen
					if name == "store" {
						want |= store.FlagAnswered
					}
					fs.Reset()
					fs.FailWhere(func(k int, _ string) error {
						if k != n {
							return nil
						}
						met = true
						return cur.Names(func(name string, _ iofs.FileMode) bool {
							if cur.Rename(name, cur, strings.Replace(name, ":2,", ":2,F", 1)) == nil {
								want |= store.FlagFlagged
							}
							return false
						})
					})
					in, err := do(box)
					fs.FailWhere(nil)
					if err != nil {
						t.Fatalf("call %d: %v", n, err)
					}
					s.watch.(*watchtest.Fake).Note("", watch.Report{Look: true})
					b, err := a.Hold(t.Context(), in, false, nil)
					if err != nil {
						t.Fatal(err)
					}
					defer b.Close()
					for rows, err := range b.Rows(t.Context(), []imap.UID{1}, 0) {
						if err != nil || rows[0].Flags != want {
							t.Errorf("call %d: it is %v, want %v; %v", n, rows[0].Flags.Names(), want.Names(), err)
						}
					}
				}()
			}
		})
	}
}

// syncFS calls during before each sync of a directory.
type syncFS struct {
	fsys.FS
	during func()
}

func (f syncFS) Root(path string) (fsys.Dir, error) { return f.wrap(f.FS.Root(path)) }
func (f syncFS) Make(path string, mode iofs.FileMode) (fsys.Dir, error) {
	return f.wrap(f.FS.Make(path, mode))
}

func (f syncFS) wrap(d fsys.Dir, err error) (fsys.Dir, error) {
	if err != nil {
		return nil, err
	}
	return &syncDir{d, f}, nil
}

type syncDir struct {
	fsys.Dir
	fs syncFS
}

func (d *syncDir) Sub(name string) (fsys.Dir, error) { return d.fs.wrap(d.Dir.Sub(name)) }
func (d *syncDir) Sync() error                       { d.fs.during(); return d.Dir.Sync() }
func (d *syncDir) Link(old string, to fsys.Dir, name string) error {
	return d.Dir.Link(old, to.(*syncDir).Dir, name)
}
func (d *syncDir) Move(old string, to fsys.Dir, name string) error {
	return d.Dir.Move(old, to.(*syncDir).Dir, name)
}
func (d *syncDir) Rename(old string, to fsys.Dir, name string) error {
	return d.Dir.Rename(old, to.(*syncDir).Dir, name)
}

// A message that is on its way, for its UID is not durable yet, is there for nobody who
// asks for its UID.
func TestMessageIsHiddenUntilItIsDurable(t *testing.T) {
	ctx := context.Background()
	during := func() {}
	s, err := New(Options{FS: syncFS{faultfs.NewMem(), func() { during() }}, Host: "test.example", PID: 7, Boot: "boot", Watch: &watchtest.Fake{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx)
	a, err := s.Account(ctx, store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	appendOne(t, a, []imap.Flag{imap.FlagSeen})
	box, err := a.Hold(ctx, store.Inbox, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	before, asked, hidden := box.View(), 0, []imap.UID{2}
	during = func() {
		during = func() {}
		asked++
		if v := box.View(); v.ModSeq != before.ModSeq || v.UIDs.Len() != 1 || box.FirstUnseen() != 0 {
			t.Errorf("View %+v, first unseen %d", v, box.FirstUnseen())
		}
		rows, _, err := box.SetFlags(ctx, hidden, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		if err != nil || len(rows) > 0 {
			t.Errorf("set flags: %v, %v", rows, err)
		}
		if gone, _, err := box.Expunge(ctx, hidden); err != nil || len(gone) > 0 {
			t.Errorf("expunge: %v, %v", gone, err)
		}
		if m, err := box.Message(ctx, 2); !errors.Is(err, store.ErrGone) {
			t.Errorf("message: %v, %v", m, err)
		}
		if c, err := box.Copy(ctx, hidden, store.Inbox); !errors.Is(err, store.ErrGone) {
			t.Errorf("copy: %v, %v", c, err)
		}
	}
	appendOne(t, a, nil)
	if v := box.View(); asked != 1 || v.UIDs.Len() != 2 {
		t.Errorf("asked %d times; then there are %d messages", asked, v.UIDs.Len())
	}
	for rows, err := range box.Rows(ctx, hidden, 0) {
		if err != nil || rows[0].Flags != 0 {
			t.Errorf("row %+v, %v", rows, err)
		}
	}
}
