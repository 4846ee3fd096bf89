package maildir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// outside is a Maildir that another program changes, and a session that watches it.
type outside struct {
	*testing.T
	root string
	s    *Store
	a    store.Account
	box  store.Mailbox
	v    store.View
	bell chan struct{}
	all  store.Delta // summed up
}

// openOutside opens INBOX of a new tree with n messages in cur/ that have no UIDs yet.
func openOutside(t *testing.T, n int, opt Options) *outside {
	t.Helper()
	o := &outside{T: t, root: filepath.Join(t.TempDir(), "Maildir"), bell: make(chan struct{}, 1)}
	for _, d := range []string{"", "/cur", "/new", "/tmp"} {
		o.must(os.Mkdir(o.root+d, 0o700))
	}
	for i := range n {
		o.must(os.WriteFile(o.path("cur/"+o.base(i)+":2,"), []byte("Subject: x\n\nx\n"), 0o600))
	}
	o.open(opt)
	return o
}

func (o *outside) open(opt Options) {
	o.Helper()
	if opt.Log == nil && testing.Verbose() {
		opt.Log = slog.Default()
	}
	opt.Host = "test.example"
	var err error
	o.s, err = New(opt)
	o.must(err)
	o.a, err = o.s.Account(o.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: o.root}}})
	o.must(err)
	o.box, err = o.a.Hold(o.Context(), store.Inbox, true, func() {
		select {
		case o.bell <- struct{}{}:
		default:
		}
	})
	o.must(err)
	o.v, _, err = o.box.Advance(store.View{}, true)
	o.must(err)
	o.Cleanup(o.close)
}

func (o *outside) close() {
	if o.s == nil {
		return
	}
	o.must(o.box.Close())
	o.must(o.a.Close())
	o.must(o.s.Close(context.Background()))
	o.s = nil
}

func (o *outside) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *outside) path(name string) string { return filepath.Join(o.root, name) }
func (o *outside) base(i int) string       { return fmt.Sprintf("1700000000.M%dP1.host", i) }

// deliver is what an MTA does.
func (o *outside) deliver(base string) {
	o.must(os.WriteFile(o.path("tmp/"+base), []byte("Subject: new\n\nnew\n"), 0o600))
	o.must(os.Rename(o.path("tmp/"+base), o.path("new/"+base)))
}

// until advances at each wake-up until a condition holds.
func (o *outside) until(what string, ok func() bool) {
	o.Helper()
	for limit := time.After(5 * time.Minute); ; {
		v, d, err := o.box.Advance(o.v, true)
		o.must(err)
		o.v = v
		o.all.Vanished = append(o.all.Vanished, d.Vanished...)
		o.all.Changed = append(o.all.Changed, d.Changed...)
		o.all.Recent = append(o.all.Recent, d.Recent...)
		if ok() {
			return
		}
		select {
		case <-o.bell:
		case <-limit:
			o.Fatalf("not seen: %s; %d messages, %+v", what, o.v.UIDs.Len(), o.all)
		}
	}
}

func TestDeliveryWakesAndMovesToCur(t *testing.T) {
	o := openOutside(t, 3, Options{})
	if o.v.UIDs.Len() != 3 || o.v.UIDNext != 4 {
		t.Fatalf("opened with %d messages, UIDNEXT %d", o.v.UIDs.Len(), o.v.UIDNext)
	}
	for i := range 50 {
		o.deliver(fmt.Sprintf("1800000000.M%dP2.host", i))
		o.until("a delivery", func() bool { return o.v.UIDs.Len() == 4+i })
	}
	if !slices.Equal(o.all.Recent, o.v.UIDs.Slice(3, 53)) {
		t.Errorf("recent: %v", o.all.Recent)
	}
	b, err := os.ReadFile(o.path("dovecot-uidlist"))
	o.must(err)
	if !strings.Contains(string(b), "\n4 :1800000000.M0P2.host\n5 :") {
		t.Errorf("uidlist:\n%s", b)
	}
	o.close()
	left, err := os.ReadDir(o.path("new"))
	o.must(err)
	if len(left) != 0 {
		t.Errorf("%d messages stayed in new/", len(left))
	}
}

func TestFlagsByAnotherProgram(t *testing.T) {
	o := openOutside(t, 3, Options{})
	before := o.v.ModSeq
	o.must(os.Rename(o.path("cur/"+o.base(1)+":2,"), o.path("cur/"+o.base(1)+":2,FS")))
	o.until("flags", func() bool { return len(o.all.Changed) > 0 })
	r := o.all.Changed[0]
	if r.UID != 2 || r.Flags != store.FlagFlagged|store.FlagSeen || r.ModSeq <= before {
		t.Errorf("%+v", r)
	}
	if len(o.all.Vanished) > 0 || o.v.UIDNext != 4 {
		t.Errorf("vanished %v, UIDNEXT %d", o.all.Vanished, o.v.UIDNext)
	}
}

func TestDeletionByAnotherProgram(t *testing.T) {
	o := openOutside(t, 3, Options{})
	o.must(os.Remove(o.path("cur/" + o.base(1) + ":2,")))
	o.until("an expunge", func() bool { return len(o.all.Vanished) > 0 })
	if !slices.Equal(o.all.Vanished, []imap.UID{2}) {
		t.Errorf("vanished %v", o.all.Vanished)
	}
	_, err := o.box.Message(o.Context(), 2)
	if !errors.Is(err, store.ErrGone) {
		t.Errorf("message: %v", err)
	}
}

func TestMailboxReplacedByAnotherProgram(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(o *outside)
	}{
		{"removed", func(o *outside) { o.must(os.RemoveAll(o.root)) }},
		{"moved", func(o *outside) { o.must(os.Rename(o.root, o.root+"2")) }},
		{"cur replaced", func(o *outside) {
			o.must(os.Rename(o.path("cur"), o.path("old")))
			o.must(os.Mkdir(o.path("cur"), 0o700))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := openOutside(t, 3, Options{})
			indexed(o.box) // else its worker makes a file while the directory is removed
			c.do(o)
			for limit := time.After(5 * time.Minute); ; {
				_, _, err := o.box.Advance(o.v, true)
				if errors.Is(err, store.ErrReplaced) {
					return
				}
				select {
				case <-o.bell:
				case <-limit:
					t.Fatalf("the hold lives on: %v", err)
				}
			}
		})
	}
}

// Another program marks 2,000 messages again and again, while one session polls and
// another idles: nothing vanishes, nothing gets a second UID, and the end is known.
func TestRenameStormExpungesNothing(t *testing.T) {
	const n = 2000
	for _, poll := range []bool{false, true} {
		t.Run(fmt.Sprintf("poll %v", poll), func(t *testing.T) {
			t.Parallel()
			o := openOutside(t, n, Options{Poll: poll, PollEvery: 5 * time.Millisecond})
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				defer close(stop)
				from := ":2,"
				for _, to := range []string{":2,S", ":2,", ":2,FS", ":2,F", ":2,S", ":2,T", ":2,RS"} {
					for i := range n {
						if err := os.Rename(o.path("cur/"+o.base(i)+from), o.path("cur/"+o.base(i)+to)); err != nil {
							t.Error(err)
							return
						}
					}
					from = to
				}
			})
			reads := 0
			for running := true; running; {
				select {
				case <-stop:
					running = false
				default:
				}
				o.must(o.box.Look(t.Context()))
				v, d, err := o.box.Advance(o.v, true)
				o.must(err)
				if len(d.Vanished) > 0 || d.Grown {
					t.Fatalf("vanished %v, grown %v", d.Vanished, d.Grown)
				}
				o.v = v
				if reads++; reads%20 == 0 {
					m, err := o.box.Message(t.Context(), imap.UID(1+reads%n))
					if err != nil {
						t.Fatal(err)
					}
					m.Close()
				}
			}
			wg.Wait()
			want := store.FlagAnswered | store.FlagSeen
			o.until("the last flags", func() bool {
				for rows, err := range o.box.Rows(t.Context(), o.v.UIDs.Slice(0, n), 0) {
					o.must(err)
					for _, r := range rows {
						if r.Flags != want {
							return false
						}
					}
				}
				return true
			})
			if o.v.UIDs.Len() != n || o.v.UIDNext != n+1 || len(o.all.Vanished) > 0 {
				t.Errorf("%d messages, UIDNEXT %d, vanished %v", o.v.UIDs.Len(), o.v.UIDNext, o.all.Vanished)
			}
		})
	}
}

// A session sets flags on messages that another program renames at the same time: both
// changes hold.
func TestFlagsOfTwoPrograms(t *testing.T) {
	const n = 300
	o := openOutside(t, n, Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			for _, info := range []string{":2,", ":2,S"} { // whichever it has by now
				if os.Rename(o.path("cur/"+o.base(i)+info), o.path("cur/"+o.base(i)+strings.Replace(info, ",", ",F", 1))) == nil {
					break
				}
			}
		}
	})
	for i := range n {
		rows, _, err := o.box.SetFlags(t.Context(), []imap.UID{imap.UID(i + 1)}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		o.must(err)
		if len(rows) != 1 || rows[0].Flags&store.FlagSeen == 0 {
			t.Fatalf("UID %d: %+v", i+1, rows)
		}
	}
	wg.Wait()
	for i := range n {
		if _, err := os.Stat(o.path("cur/" + o.base(i) + ":2,FS")); err != nil {
			if _, err := os.Stat(o.path("cur/" + o.base(i) + ":2,S")); err != nil { // the other lost the race
				t.Errorf("message %d: %v", i, err)
			}
		}
	}
	if o.v.UIDs.Len() != n || len(o.all.Vanished) > 0 {
		t.Errorf("%d messages, vanished %v", o.v.UIDs.Len(), o.all.Vanished)
	}
}

// A file that was deleted and comes back while the server is stopped is another message
// to clients: they were told that its UID is gone.
func TestRestoredFileDoesNotGetItsOldUID(t *testing.T) {
	for i, want := range [][]imap.UID{{2, 3, 4}, {1, 3, 4}, {1, 2, 4}} {
		o := openOutside(t, 3, Options{})
		o.must(os.Remove(o.path("cur/" + o.base(i) + ":2,")))
		o.until("an expunge", func() bool { return len(o.all.Vanished) > 0 })
		o.close()
		o.must(os.WriteFile(o.path("cur/"+o.base(i)+":2,"), []byte("Subject: x\n\nx\n"), 0o600))
		o.open(Options{})
		if got := o.v.UIDs.Slice(0, o.v.UIDs.Len()); !slices.Equal(got, want) {
			t.Errorf("UIDs %v, want %v", got, want)
		}
		o.close()
	}
}

// A mailbox that a client renames goes on, for those who hold it, under its new name: long
// after, they hear of mail there.
func TestRenamedMailboxHearsOfMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, kernel := faultfs.NewMem(), &watchtest.Kernel{}
		mem.Changed = kernel.Changed
		s, err := New(Options{FS: mem, Host: "test.example", PID: 7, Boot: "boot", Watch: kernel})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		s.env.Booted = time.Time{}
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: "/Maildir", Create: true, Folders: []store.Folder{{Name: "x", Create: true}}}}})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		box, err := a.Hold(t.Context(), "x", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		for i, to := range []store.Name{"y", "z", "x"} {
			if err := a.Rename(t.Context(), []store.Name{"x", "y", "z"}[i], to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			cur, err := mem.Root("/Maildir/." + string(to) + "/cur")
			if err != nil {
				t.Fatal(err)
			}
			if err := makeFile(cur, fmt.Sprintf("180000000%d.M0P2.host:2,", i)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, _, err := box.Advance(store.View{}, true); err != nil || box.View().UIDs.Len() != i+1 {
				t.Fatalf("renamed to %s: %d messages, %v", to, box.View().UIDs.Len(), err)
			}
		}
	})
}

// Who asks for news right behind another program's change is told of it, though its event
// may be on its way: NOOP behind the 250 of a delivery.
func TestNewsOfThisMoment(t *testing.T) {
	o := openOutside(t, 1, Options{})
	const n = 200
	look := func() {
		t.Helper()
		o.must(o.box.Look(t.Context()))
		v, d, err := o.box.Advance(o.v, true)
		o.must(err)
		o.v, o.all.Changed = v, d.Changed
	}
	for i := range n {
		name := fmt.Sprintf("17%08d.M1P2.host", i)
		o.must(os.WriteFile(o.path("tmp/"+name), []byte("Subject: x\n\nx\n"), 0o600))
		o.must(os.Rename(o.path("tmp/"+name), o.path("new/"+name)))
		if look(); o.v.UIDs.Len() != i+2 {
			t.Fatalf("%d messages, want %d", o.v.UIDs.Len(), i+2)
		}
	}
	at := o.path("cur/" + o.base(0) + ":2,")
	for i, flags := range []string{"S", "F", "", "R", "FS", "T", ""} {
		to := o.path("cur/" + o.base(0) + ":2," + flags)
		o.must(os.Rename(at, to))
		at = to
		if look(); len(o.all.Changed) != 1 || o.all.Changed[0].UID != 1 {
			t.Fatalf("%d: changed is %v", i, o.all.Changed)
		}
		st, err := o.a.Status(t.Context(), store.Inbox, false)
		o.must(err)
		if seen := strings.Contains(flags, "S"); (st.Unseen == n) != seen {
			t.Errorf("flags %q: %d are unseen", flags, st.Unseen)
		}
	}
}

// A mailbox that is opened by its index is watched behind the answer: what happens between
// the two is seen all the same.
func TestWhatHappensBeforeTheLateWatchIsSeen(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	fill(t, root, 2)
	const rounds = 5
	for round := range rounds {
		s, err := New(Options{Host: "test.example"})
		if err != nil {
			t.Fatal(err)
		}
		s.wall = func() time.Time { return time.Now().Add(time.Minute) } // the files are old enough
		a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root}}})
		if err != nil {
			t.Fatal(err)
		}
		bell := make(chan struct{}, 100)
		box, err := a.Hold(t.Context(), store.Inbox, true, func() { bell <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 { // the first makes the index
			name := fmt.Sprintf("%d.M%dP1.mta", 1700000000, round)
			if err := errors.Join(os.WriteFile(root+"/tmp/"+name, []byte("Subject: x\n\n"), 0o600), os.Rename(root+"/tmp/"+name, root+"/new/"+name)); err != nil {
				t.Fatal(err)
			}
			for box.View().UIDs.Len() < 2+round {
				<-bell
			}
		}
		box.Close()
		a.Close()
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
