package maildir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/index"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
)

// muffling is a mailbox of 40 old messages, each with a note, in which every STORE or EXPUNGE
// of half of them has cur unwatched.
type muffling struct {
	*outside
	fs *faultfs.FS
	m  *mailbox
}

const muffledMessages = 40

func openMuffling(t *testing.T, opt Options) *muffling {
	t.Helper()
	x := &muffling{fs: faultfs.New(fsys.OS)}
	opt.FS = x.fs
	x.outside = openOutside(t, muffledMessages, opt)
	x.begin()
	return x
}

func (x *muffling) begin() {
	x.m = x.box.(*hold).m
	x.s.muffleLeast = 1
	old := time.Now().Add(-time.Hour)
	for i := range muffledMessages {
		os.Chtimes(x.path("cur/"+x.base(i)+":2,"), old, old) // those that are still there
	}
	for _, uid := range x.v.UIDs.All(0) {
		x.box.Note(uid, someNote, []byte("note"))
	}
	x.alone((*mailbox).pull)
}

// during runs do before the nth call that begins so, where cur must not be watched.
func (x *muffling) during(n int, call string, do func()) {
	x.fs.FailWhere(func(_ int, c string) error {
		if strings.HasPrefix(c, call) {
			if n--; n == 0 {
				if x.m.watch.subs[subCur] != nil || x.m.watch.subs[subNew] == nil {
					x.Errorf("cur is watched, or new is not")
				}
				do()
			}
		}
		return nil
	})
}

func (x *muffling) flag(ctx context.Context, f imap.Flag) error {
	_, _, err := x.box.SetFlags(ctx, x.v.UIDs.Slice(0, x.v.UIDs.Len()), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{f}})
	return err
}

func (x *muffling) rename(i int, from, to string) {
	x.must(os.Rename(x.path("cur/"+x.base(i)+":2,"+from), x.path("cur/"+x.base(i)+":2,"+to)))
}

func (x *muffling) remove(i int, flags string) {
	x.must(os.Remove(x.path("cur/" + x.base(i) + ":2," + flags)))
}

// flags are those of a message, or "gone".
func (x *muffling) flags(i int) string {
	uid := imap.UID(i + 1)
	if _, ok := x.box.View().UIDs.Find(uid); !ok {
		return "gone"
	}
	return fmt.Sprint(rowOf(x.T, x.box, uid).Flags.Names())
}

// forgets waits until a note is gone.
func (x *muffling) forgets(i int) {
	x.Helper()
	for limit := time.Now().Add(5 * time.Minute); hasNote(x.T, x.box, imap.UID(i+1)); runtime.Gosched() {
		if time.Now().After(limit) {
			x.Fatalf("the note on message %d, which was written anew, stays", i)
		}
	}
}

// alone runs f with files held, so that the worker does nothing meanwhile.
func (x *muffling) alone(f func(m *mailbox)) {
	x.m.files.Lock()
	defer x.m.files.Unlock()
	f(x.m)
}

// What others do in cur while a STORE of all has it unwatched is told behind it: renames and
// removals of what had its turn and of what had not, new files, bytes that are written in place.
func TestChangesDuringAStoreOfAll(t *testing.T) {
	x := openMuffling(t, Options{})
	x.during(20, "move cur/", func() {
		x.rename(0, "F", "FS")
		x.remove(1, "F")
		x.must(os.WriteFile(x.path("cur/"+x.base(2)+":2,F"), []byte("Subject: longer\n\nthan before\n"), 0o600))
		x.rename(38, "", "R")
		x.remove(39, "")
		x.must(os.WriteFile(x.path("cur/1800000000.M1P2.host:2,S"), []byte("Subject: x\n\nx\n"), 0o600))
		x.deliver("1800000001.M1P2.host")
	})
	x.must(x.flag(t.Context(), imap.FlagFlagged))
	x.until("all that was done", func() bool {
		return x.flags(0) == `[\Flagged \Seen]` && x.flags(1) == "gone" && x.flags(2) == `[\Flagged]` &&
			x.flags(38) == `[\Answered \Flagged]` && x.flags(39) == "gone" && x.v.UIDs.Len() == muffledMessages
	})
	x.forgets(2)
	for _, i := range []int{0, 3, 38} {
		if !hasNote(t, x.box, imap.UID(i+1)) {
			t.Errorf("the note on message %d is forgotten", i)
		}
	}
	// And from then on as ever.
	x.rename(3, "F", "FT")
	x.until("a rename after it", func() bool { return x.flags(3) == `[\Flagged \Deleted]` })
}

// The same for an EXPUNGE: what is no longer \Deleted stays.
func TestChangesDuringAnExpungeOfMost(t *testing.T) {
	x := openMuffling(t, Options{})
	for i := range 30 {
		x.rename(i, "", "T")
	}
	x.until("30 that are deleted", func() bool { return x.flags(29) == `[\Deleted]` })
	x.during(10, "remove cur/", func() {
		x.rename(28, "T", "S")
		x.remove(29, "T")
		x.rename(35, "", "F")
		x.remove(36, "")
	})
	_, _, err := x.box.Expunge(t.Context(), nil)
	x.must(err)
	x.until("all that was done", func() bool {
		return x.flags(28) == `[\Seen]` && x.flags(29) == "gone" && x.flags(35) == `[\Flagged]` && x.flags(36) == "gone" && x.v.UIDs.Len() == 10
	})
	x.rename(37, "", "F")
	x.until("a rename after it", func() bool { return x.flags(37) == `[\Flagged]` })
}

// However a STORE ends, cur is watched again, and what others did is known.
func TestStoreOfAllThatEndsHalfWay(t *testing.T) {
	for name, how := range map[string]func(x *muffling) error{
		"done": func(x *muffling) error { return x.flag(x.Context(), imap.FlagFlagged) },
		"the client left": func(x *muffling) error {
			ctx, cancel := context.WithCancel(x.Context())
			x.m.files.wanted.Add(1) // somebody waits: the slices are short
			defer x.m.files.wanted.Add(-1)
			x.during(1, "move cur/", cancel)
			if err := x.flag(ctx, imap.FlagFlagged); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("it ended with %w", err)
			}
			return nil
		},
		"a rename fails": func(x *muffling) error {
			n := 0
			x.fs.FailWhere(func(_ int, call string) error {
				if strings.HasPrefix(call, "move cur/") {
					if n++; n == 10 {
						return syscall.EIO
					}
				}
				return nil
			})
			if err := x.flag(x.Context(), imap.FlagFlagged); !errors.Is(err, syscall.EIO) {
				return fmt.Errorf("it ended with %w", err)
			}
			return nil
		},
		"two at once": func(x *muffling) error {
			var both sync.WaitGroup
			for _, f := range []imap.Flag{imap.FlagFlagged, imap.FlagSeen} {
				both.Go(func() {
					if err := x.flag(x.Context(), f); err != nil {
						x.Error(err)
					}
				})
			}
			both.Wait()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := openMuffling(t, Options{})
			if err := how(x); err != nil {
				t.Fatal(err)
			}
			x.fs.FailWhere(nil)
			name := ""
			x.alone(func(m *mailbox) { name = m.table.fileName(0) })
			x.must(os.Remove(x.path("cur/" + name)))
			x.until("a file is gone", func() bool { return x.flags(0) == "gone" })
			x.alone(func(m *mailbox) {
				if n := m.watch.muffled.commands.Load(); n != 0 || m.watch.subs[subCur] == nil {
					t.Errorf("%d commands keep cur unwatched", n)
				}
			})
		})
	}
}

// fickle is a watch.Watcher that asks before it watches.
type fickle struct {
	*watchtest.Fake
	before func(path string) error
}

func (w *fickle) Add(dir fsys.Dir, key string, wake func(), only ...string) (*watch.Sub, error) {
	if w.before != nil {
		if err := w.before(dir.Path()); err != nil {
			return nil, err
		}
	}
	return w.Fake.Add(dir, key, wake, only...)
}

// The watch is set first and then the look is taken: what happens before the watch is set
// would be told by nothing else.
func TestCurIsWatchedBeforeTheLook(t *testing.T) {
	w := &fickle{Fake: &watchtest.Fake{}}
	x := openMuffling(t, Options{Watch: w})
	x.alone(func(m *mailbox) {
		m.muffle(muffledMessages)()
		if n := w.Watching(x.path("cur")); n != 0 {
			t.Errorf("%d watches of cur", n)
		}
		w.before = func(path string) error {
			if path == x.path("cur") {
				x.remove(7, "")
			}
			return nil
		}
		m.take(portion)
		if n := w.Watching(x.path("cur")); n != 1 || x.flags(7) != "gone" {
			t.Errorf("%d watches of cur; a file that was removed before it was watched is %s", n, x.flags(7))
		}
	})
}

// Where the watch cannot be set again the mailbox is looked at, until it can.
func TestCurCannotBeWatchedAgain(t *testing.T) {
	var log strings.Builder
	w := &fickle{Fake: &watchtest.Fake{}}
	x := openMuffling(t, Options{Watch: w, Log: slog.New(slog.NewTextHandler(&log, nil))})
	x.alone(func(m *mailbox) { w.before = func(string) error { return syscall.EACCES } })
	x.must(x.flag(t.Context(), imap.FlagFlagged))
	x.alone(func(m *mailbox) {
		m.take(portion)
		if !m.watch.polled.Load() || !strings.Contains(log.String(), "watches could not be set") {
			t.Errorf("polled: %v, the log says %q", m.watch.polled.Load(), log.String())
		}
	})
	x.remove(7, "F")
	x.must(x.box.Look(t.Context()))
	if x.flags(7) != "gone" {
		t.Error("a file that was removed is still shown")
	}
	x.must(x.flag(t.Context(), imap.FlagSeen)) // there is no watch to take away

	// No room for another watch, which the kernel limits.
	x.alone(func(m *mailbox) {
		w.before, w.Polled = nil, true
		m.take(portion)
	})
	x.remove(8, "FS")
	x.must(x.box.Look(t.Context()))
	if !x.m.watch.polled.Load() || x.flags(8) != "gone" {
		t.Errorf("polled: %v, and a file that was removed is %s", x.m.watch.polled.Load(), x.flags(8))
	}
	x.must(x.flag(t.Context(), imap.FlagDraft))
	x.alone(func(m *mailbox) {
		if m.watch.subs[subCur] == nil {
			t.Error("a poll, which costs nothing, was taken away")
		}
	})
}

// A mailbox that is deleted by another program during a STORE ends its sessions.
func TestMailboxDeletedDuringAStoreOfAll(t *testing.T) {
	x := openMuffling(t, Options{})
	x.during(20, "move cur/", func() { x.must(os.RemoveAll(x.root)) })
	if err := x.flag(t.Context(), imap.FlagFlagged); err == nil {
		t.Error("flags of files that are gone were set")
	}
	for limit := time.Now().Add(5 * time.Minute); ; runtime.Gosched() {
		if err := x.box.Look(t.Context()); errors.Is(err, store.ErrReplaced) {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the session goes on")
		}
	}
}

// A mailbox that gets another name during a STORE is watched there.
func TestMailboxRenamedDuringAStoreOfAll(t *testing.T) {
	x := openMuffling(t, Options{})
	x.must(x.a.Create(t.Context(), "a", nil))
	box, err := x.a.Hold(t.Context(), "a", true, func() {
		select {
		case x.bell <- struct{}{}:
		default:
		}
	})
	x.must(err)
	x.must(x.box.Close())
	x.box = box
	for i := range muffledMessages {
		x.must(os.WriteFile(x.path(".a/cur/"+x.base(i)+":2,"), []byte("Subject: x\n\nx\n"), 0o600))
	}
	x.v, _, err = box.Advance(store.View{}, true)
	x.must(err)
	x.until("the messages", func() bool { return x.v.UIDs.Len() == muffledMessages })
	x.begin()
	x.m.files.wanted.Add(1) // the slices are short
	var wg sync.WaitGroup
	x.during(9, "move ", func() {
		wg.Go(func() { // ends when the STORE lets it
			if err := x.a.Rename(t.Context(), "a", "b"); err != nil {
				t.Error(err)
			}
		})
	})
	x.must(x.flag(t.Context(), imap.FlagFlagged))
	wg.Wait()
	x.m.files.wanted.Add(-1)
	x.must(os.Remove(x.path(".b/cur/" + x.base(3) + ":2,F")))
	x.until("a file is gone", func() bool { return x.flags(3) == "gone" && x.flags(4) == `[\Flagged]` })
	x.must(os.Rename(x.path(".b/cur/"+x.base(5)+":2,F"), x.path(".b/cur/"+x.base(5)+":2,FS")))
	x.until("a rename", func() bool { return x.flags(5) == `[\Flagged \Seen]` })
}

// A STORE that renames few files, or finds all of them as they are to be, leaves cur watched.
func TestStoreOfFewKeepsTheWatch(t *testing.T) {
	x := openMuffling(t, Options{Watch: &watchtest.Fake{}})
	x.must(x.flag(t.Context(), imap.FlagFlagged))
	var sub *watch.Sub
	x.alone(func(m *mailbox) {
		m.take(portion)
		sub = m.watch.subs[subCur]
	})
	x.must(x.flag(t.Context(), imap.FlagFlagged))
	_, _, err := x.box.SetFlags(t.Context(), x.v.UIDs.Slice(0, muffledMessages/2-1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
	x.must(err)
	x.s.muffleLeast = muffledMessages + 1
	x.must(x.flag(t.Context(), imap.FlagAnswered))
	x.alone(func(m *mailbox) {
		if m.watch.subs[subCur] != sub {
			t.Error("the watch was taken away")
		}
	})
}

// Until the look behind it roost.index is not said to be all there is: a process that is
// killed then would believe it.
func TestIndexIsNotBelievedWhileCurIsUnwatched(t *testing.T) {
	x := openMuffling(t, Options{Watch: &watchtest.Fake{}})
	x.alone(func(m *mailbox) {
		m.tendNow()
		x.s.wall = func() time.Time { return time.Now().Add(time.Hour) } // nothing is young
		settled := func() bool {
			m.index.last, m.index.tries = index.Head{}, 0
			m.settle()
			m.settle() // the stamps are the same as before
			return m.index.last.Stamps != (index.Stamps{})
		}
		done := m.muffle(muffledMessages)
		x.remove(7, "")
		if settled() {
			t.Error("stamps that nobody vouches for were noted")
		}
		if done(); settled() {
			t.Error("behind the command stamps that nobody vouches for were noted")
		}
		m.take(portion)
		m.checkWritten(portion)
		if !settled() || x.flags(7) != "gone" {
			t.Errorf("the mailbox does not come to rest; a file that was removed is %s", x.flags(7))
		}
	})
}

// Who closes the mailbox at once loses nothing of it.
func TestCloseRightBehindAStoreOfAll(t *testing.T) {
	x := openMuffling(t, Options{Watch: &watchtest.Fake{}})
	x.alone(func(m *mailbox) {
		done := m.muffle(muffledMessages)
		x.remove(7, "")
		x.rename(8, "", "S")
		x.must(os.WriteFile(x.path("cur/"+x.base(9)+":2,"), []byte("Subject: longer\n\nthan before\n"), 0o600))
		done()
	})
	x.close()
	x.open(Options{FS: x.fs, Watch: &watchtest.Fake{}})
	if x.flags(7) != "gone" || x.flags(8) != `[\Seen]` || x.flags(9) != `[]` {
		t.Errorf("messages are %s, %s, %s", x.flags(7), x.flags(8), x.flags(9))
	}
	if hasNote(t, x.box, 10) || !hasNote(t, x.box, 11) {
		t.Errorf("a note on what was written anew: %v; on the next message: %v", hasNote(t, x.box, 10), hasNote(t, x.box, 11))
	}
}

// What cp -p wrote has an old time in the end, and what came with a time ahead is not taken
// for written each time.
func TestTimesOfFilesThatAreNotThoseOfWrites(t *testing.T) {
	x := openMuffling(t, Options{Watch: &watchtest.Fake{}})
	ahead := time.Now().Add(100 * time.Hour)
	x.must(os.Chtimes(x.path("cur/"+x.base(1)+":2,"), ahead, ahead))
	x.alone(func(m *mailbox) {
		i, _ := m.table.find(3)
		m.table.rows.at(i).internal = time.Now().Unix() // as it was while it was being written
		m.muffle(muffledMessages)()
		m.take(portion)
		m.files.wanted.Add(1) // in many slices
		defer m.files.wanted.Add(-1)
		for n := 0; m.checkWritten(portion); n++ {
			if n > muffledMessages {
				t.Fatal("it does not end")
			}
		}
	})
	for i := range muffledMessages {
		if has := hasNote(t, x.box, imap.UID(i+1)); has != (i != 2) {
			t.Errorf("the note on message %d: %v", i, has)
		}
	}
}
