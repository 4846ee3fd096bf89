package maildir

import (
	"context"
	"errors"
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

// The same beside a reader who is always a step ahead: each time we ask for the file under
// the name that we saw, it has another. Where the file was found once that is enough. Where it
// never was, it is known to be there: nothing is shown above it until it is found.
func TestUIDToldByAnotherProcessIsKeptBesideABusyReader(t *testing.T) {
	for _, c := range []struct {
		name    string
		from    int32 // the first of our questions that comes too late
		removed bool  // a message of ours is removed too, so that one pass is not enough
		busy    bool  // we give up
	}{
		{"after the first pass", 2, true, false},
		{"always", 1, false, true},
		{"always, and a message is gone", 1, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, d, ours, theirs := twoStores(t)
			for range 4 {
				appendOne(t, ours, []imap.Flag{imap.FlagSeen})
			}
			m, err := ours.Hold(t.Context(), store.Inbox, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			told := appendOne(t, theirs, []imap.Flag{imap.FlagDeleted})
			var others []string
			if err := d.cur.Names(func(name string, _ iofs.FileMode) bool {
				if base, ours := strings.CutSuffix(name, ":2,S"); ours {
					others = append(others, base)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if c.removed {
				if err := d.cur.Remove(others[1] + ":2,S"); err != nil {
					t.Fatal(err)
				}
			}
			var asked atomic.Int32 // the mailbox may look by itself too
			fs.FailWhere(func(_ int, call string) error {
				at, isStat := strings.CutPrefix(call, "stat cur/")
				base, flags, _ := strings.Cut(at, ":2,")
				if !isStat || flags != "T" && flags != "FT" {
					return nil
				}
				if asked.Add(1) < c.from { // a pass that proves nothing
					return d.cur.Rename(others[0]+":2,S", d.cur, others[0]+":2,RS")
				}
				return d.cur.Rename(at, d.cur, base+":2,"+map[string]string{"T": "FT", "FT": "T"}[flags])
			})
			add := func() (uid imap.UID, err error) {
				b, err := ours.Batch(t.Context(), store.Inbox)
				if err != nil {
					return 0, err
				}
				defer b.Close()
				if err := b.Add(t.Context(), store.Meta{}, strings.NewReader("Subject: y\r\n\r\ny\r\n")); err != nil {
					return 0, err
				}
				done, err := b.Commit(t.Context())
				if err != nil {
					return 0, err
				}
				return done.To[0], nil
			}
			mine, err := add()
			if asked.Load() == 0 {
				t.Fatal("the file was not looked for")
			}
			fs.FailWhere(nil)
			if c.busy {
				if !errors.Is(err, store.ErrInUse) {
					t.Errorf("beside the reader: UID %d, %v; want %v", mine, err, store.ErrInUse)
				}
				mine, err = add()
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := m.View().UIDs.Slice(0, 9)
			if at := len(got) - 2; told != 5 || mine != 6 || at < 0 || !slices.Equal(got[at:], []imap.UID{5, 6}) {
				t.Errorf("the other process told %d, we told %d, and the mailbox has %v", told, mine, got)
			}
		})
	}
}

// A process opens the mailbox while another adds to it, beside a reader who is a step ahead.
func TestUIDToldByAnotherProcessIsKeptByOneThatOpens(t *testing.T) {
	fs, d, ours, theirs := twoStores(t)
	for range 4 {
		appendOne(t, theirs, []imap.Flag{imap.FlagSeen})
	}
	told := imap.UID(0)
	fs.FailWhere(func(_ int, call string) error {
		if call == "names new/" && told == 0 {
			if told = appendOne(t, theirs, []imap.Flag{imap.FlagDeleted}); told != 5 {
				t.Errorf("the other process told %d", told)
			}
			return makeFile(d.new, "1795500001.M1P1.mta")
		}
		if call == "names cur/" { // no pass is quiet
			return errors.Join(makeFile(d.cur, ".busy"), d.cur.Remove(".busy"))
		}
		at, isStat := strings.CutPrefix(call, "stat cur/")
		base, flags, _ := strings.Cut(at, ":2,")
		if !isStat || flags != "T" && flags != "FT" {
			return nil
		}
		return d.cur.Rename(at, d.cur, base+":2,"+map[string]string{"T": "FT", "FT": "T"}[flags])
	})
	m, err := ours.Hold(t.Context(), store.Inbox, false, nil)
	if err != nil || told == 0 {
		t.Fatal(told, err)
	}
	defer m.Close()
	if got := m.View().UIDNext; got > 5 {
		t.Errorf("UIDNEXT is %d, and a message with UID 5 is yet to come", got)
	}
	fs.FailWhere(nil)
	h := m.(*hold).m
	h.files.Lock()
	h.doubt = true // as its timer asks
	h.pull()
	h.files.Unlock()
	if got := m.View().UIDs.Slice(0, 9); !slices.Equal(got, []imap.UID{1, 2, 3, 4, 5, 6}) {
		t.Errorf("the mailbox has %v", got)
	}
	for rows, err := range m.Rows(t.Context(), []imap.UID{5}, 0) {
		if err != nil || len(rows) != 1 || rows[0].Flags&store.FlagDeleted == 0 {
			t.Errorf("UID 5 is %+v, %v", rows, err)
		}
	}
}

// twoStores are two processes on one INBOX, of which the first one's calls are counted.
func twoStores(t *testing.T) (fs *faultfs.FS, d dirs, ours, theirs store.Account) {
	t.Helper()
	var clock atomic.Int64
	clock.Store(1795500000e9)
	mem := faultfs.NewMem()
	mem.Now = func() time.Time { return time.Unix(0, clock.Add(int64(time.Second))) }
	d = makeMaildir(t, mem)
	fs = faultfs.New(mem)
	var accounts [2]store.Account
	for i, opt := range []Options{{FS: fs}, {FS: mem}} {
		opt.Host, opt.PID, opt.Boot, opt.Watch = "test.example", 7+i, "boot", &watchtest.Fake{}
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		s.env.Alive = func(int) bool { return true }
		s.env.Now, s.env.Booted = mem.Now, time.Time{}
		s.wall, s.pause = mem.Now, func(time.Duration) {}
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir"}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		accounts[i] = a
	}
	return fs, d, accounts[0], accounts[1]
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
