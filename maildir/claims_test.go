package maildir

import (
	"context"
	iofs "io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// Another process adds a message with flags, and a delivery comes at the same time. The
// events of the one are late: the UID that the other process told its client stays.
func TestUIDToldByAnotherProcessIsKept(t *testing.T) {
	for name, what := range map[string]func(a store.Account, m store.Mailbox) imap.UID{
		"delivery": nil,
		"append": func(a store.Account, m store.Mailbox) imap.UID {
			return appendOne(t, a, nil)
		},
		"copy": func(a store.Account, m store.Mailbox) imap.UID {
			c, err := m.Copy(context.Background(), []imap.UID{1}, store.Inbox)
			if err != nil {
				t.Fatal(err)
			}
			return c.To[0]
		},
		"move": func(a store.Account, m store.Mailbox) imap.UID {
			w, err := a.Hold(context.Background(), "b", true, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			c, err := w.Move(context.Background(), []imap.UID{1}, store.Inbox)
			if err != nil {
				t.Fatal(err)
			}
			return c.To[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := faultfs.NewMem()
			mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			fake := &watchtest.Fake{}
			var accounts [2]store.Account
			for i, w := range []watch.Watcher{fake, &watchtest.Fake{}} {
				s, err := New(Options{FS: mem, Host: "test.example", PID: 7 + i, Boot: "boot", Watch: w})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close(context.Background())
				s.env.Alive = func(int) bool { return true }
				a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true, Folders: []store.Folder{{Name: "b", Create: true}}}}})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				accounts[i] = a
			}
			ours, theirs := accounts[0], accounts[1]
			appendOne(t, ours, nil)
			if name == "move" {
				if err := copyTo(ours, "b"); err != nil {
					t.Fatal(err)
				}
			}
			woken := make(chan struct{}, 100)
			m, err := ours.Hold(t.Context(), store.Inbox, true, func() { woken <- struct{}{} })
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()

			told := appendOne(t, theirs, []imap.Flag{imap.FlagDeleted, imap.FlagDraft})
			next := told + 1
			if what == nil {
				d, err := mem.Root("/Maildir/new")
				if err != nil {
					t.Fatal(err)
				}
				f, err := d.Create("1795500001.M1P1.mta", 0o600)
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				fake.Note("/Maildir", watch.Report{Names: []string{uidlist.Name}})
				fake.Note("/Maildir/new", watch.Report{Names: []string{"1795500001.M1P1.mta"}})
			} else if uid := what(ours, m); uid != next {
				t.Errorf("the next UID is %d, want %d", uid, next)
			}
			for m.View().UIDs.Len() < 2 {
				<-woken
			}
			fake.Note("", watch.Report{Look: true}) // at last
			for m.View().UIDs.Len() < 3 {
				<-woken
			}
			if got := m.View().UIDs.Slice(0, 9); !slices.Equal(got, []imap.UID{1, told, next}) {
				t.Errorf("UIDs %v, want %d as the other process told", got, told)
			}
			for rows, err := range m.Rows(t.Context(), []imap.UID{told}, 0) {
				if err != nil || rows[0].Flags != store.FlagDeleted|store.FlagDraft {
					t.Errorf("UID %d is %+v, %v", told, rows, err)
				}
			}
		})
	}
}

// appendOne adds one message to INBOX and says its UID.
func appendOne(t *testing.T, a store.Account, flags []imap.Flag) imap.UID {
	t.Helper()
	b, err := a.Batch(t.Context(), store.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Add(t.Context(), store.Meta{Flags: flags}, strings.NewReader("Subject: x\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	c, err := b.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.To[0]
}

// copyTo copies message 1 of INBOX.
func copyTo(a store.Account, to store.Name) error {
	m, err := a.Hold(context.Background(), store.Inbox, true, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Copy(context.Background(), []imap.UID{1}, to)
	return err
}

// The same while a mail reader renames the file, before any one of the calls that we make
// to find it: readdir may give neither of its names.
func TestUIDToldByAnotherProcessIsKeptBesideAReader(t *testing.T) {
	for n, met := 1, true; met && !t.Failed(); n++ {
		met = false
		func() {
			var clock atomic.Int64
			clock.Store(1795500000e9)
			mem := faultfs.NewMem()
			mem.Now = func() time.Time { return time.Unix(0, clock.Add(int64(time.Second))) }
			d := makeMaildir(t, mem)
			fs := faultfs.New(mem)
			fs.EachName = true
			var accounts [2]store.Account
			fake := &watchtest.Fake{}
			for i, opt := range []Options{{FS: fs, Watch: fake}, {FS: mem, Watch: &watchtest.Fake{}}} {
				opt.Host, opt.PID, opt.Boot = "test.example", 7+i, "boot"
				// Names follow from the clock: in this second readdir comes to theirs after others.
				opt.Clock = func() time.Time { return time.Unix(1795500008, 0) }
				s, err := New(opt)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close(context.Background())
				s.env.Alive = func(int) bool { return true }
				s.wall, s.pause = mem.Now, func(time.Duration) {}
				a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir"}}})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				accounts[i] = a
			}
			ours, theirs := accounts[0], accounts[1]
			for range 4 { // among which it is to be found
				appendOne(t, ours, []imap.Flag{imap.FlagSeen})
			}
			m, err := ours.Hold(t.Context(), store.Inbox, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			told := appendOne(t, theirs, []imap.Flag{imap.FlagDeleted})
			fs.Reset()
			fs.FailWhere(func(k int, _ string) error {
				if k != n {
					return nil
				}
				met = true
				return d.cur.Names(func(name string, _ iofs.FileMode) bool {
					if base, isTheirs := strings.CutSuffix(name, ":2,T"); isTheirs {
						if err := d.cur.Rename(name, d.cur, earliest(base)); err != nil {
							t.Error(err)
						}
					}
					return true
				})
			})
			mine := appendOne(t, ours, nil)
			fs.FailWhere(nil)
			if err := m.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := m.View().UIDs.Slice(4, 9); told != 5 || mine != 6 || !slices.Equal(got, []imap.UID{5, 6}) {
				t.Errorf("call %d: the other process told %d, we told %d, and the mailbox has %v", n, told, mine, got)
			}
		}()
	}
}

// earliest is the name with the flags T and some others to which readdir comes first.
func earliest(base string) string {
	best := base + ":2,ST"
	for c := 'A'; c <= 'Z'; c++ {
		if name := base + ":2,T" + string(c); faultfs.Order(name, best) < 0 {
			best = name
		}
	}
	return best
}
