package maildir

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// newCountLab is a lab whose mailbox Archive has two messages, was never opened, and was left
// alone for a while.
func newCountLab(t *testing.T) *lab {
	mem := faultfs.NewMem()
	mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	l := newLab(t, mem)
	l.must(l.open("boot 1"))
	l.put("cur", "1795400002.M1P1.mta:2,S", "two")
	l.put("new", "1795400001.M1P1.mta", "one")
	l.fs.Reset()
	return l
}

// put delivers a file to Archive as another program does.
func (l *lab) put(sub, name, text string) {
	l.Helper()
	d := l.dir("/Maildir/.Archive/" + sub)
	f, err := d.Create(name, 0o600)
	l.must(err)
	_, err = f.Write([]byte(text))
	l.must(err)
	l.must(f.Sync())
	l.must(d.Sync())
}

func (l *lab) dir(path string) fsys.Dir {
	l.Helper()
	d, err := l.mem.Root(path)
	l.must(err)
	return d
}

// counted is a STATUS of Archive, which must be right about the two messages.
func (l *lab) counted() store.Status {
	l.Helper()
	st, err := l.a.Status(context.Background(), "Archive", false)
	l.must(err)
	if st.Messages != 2 || st.Unseen != 1 || st.Recent != 1 || st.UIDNext != 3 || st.UIDValidity == 0 || st.HighestModSeq == 0 || len(st.ID) != 33 {
		l.Fatalf("status is %+v", st)
	}
	return st
}

func (l *lab) promised() int {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return len(l.s.promises.of)
}

// settled has the mailboxes opened that were counted.
func (l *lab) settled() {
	l.Helper()
	l.s.keep(func(*promise) bool { return true })
	if n := l.promised(); n > 0 {
		l.Fatalf("%d mailboxes are still promised", n)
	}
}

// same compares a STATUS with an earlier one of the same mailbox.
func (l *lab) same(was store.Status) {
	l.Helper()
	now, err := l.a.Status(context.Background(), "Archive", false)
	l.must(err)
	if now != was {
		l.Errorf("status was told as\n%+v and is\n%+v", was, now)
	}
}

// STATUS of a mailbox that nobody opened took its turn of the disk for each: a thousand took seconds.
func TestFirstStatusWritesNothingInTheMailbox(t *testing.T) {
	l := newCountLab(t)
	defer l.close()
	st := l.counted()
	if calls := l.fs.Transcript(); strings.Contains(calls, "Archive") {
		t.Errorf("STATUS changed the mailbox:\n%s", calls)
	}
	l.settled()
	l.same(st)
	texts, validity, err := l.contents("Archive")
	l.must(err)
	if validity != st.UIDValidity || texts[1] != "one" || texts[2] != "two" || len(texts) != 2 {
		t.Errorf("UIDVALIDITY is %d, told was %d; messages %v", validity, st.UIDValidity, texts)
	}
}

// Who opens the mailbox, and who counts it once more, before its uidlist was written finds
// what was promised.
func TestPromiseIsKeptByWhoeverComes(t *testing.T) {
	for _, again := range []string{"status", "hold", "append", "rename", "logout", "close"} {
		l := newCountLab(t)
		st := l.counted()
		switch again {
		case "status":
		case "hold":
			_, validity, err := l.contents("Archive")
			l.must(err)
			if validity != st.UIDValidity {
				t.Errorf("UIDVALIDITY is %d, %d was told", validity, st.UIDValidity)
			}
		case "append":
			c, err := l.add("Archive", []imap.Flag{imap.FlagSeen}, "three")
			l.must(err)
			if c.To[0] != 3 || c.UIDValidity != st.UIDValidity {
				t.Errorf("it was added as %d, %+v", c.To[0], c)
			}
			st.Messages, st.Recent, st.UIDNext = 3, 2, 4
			now, err := l.a.Status(context.Background(), "Archive", false)
			l.must(err)
			if now.HighestModSeq <= st.HighestModSeq {
				t.Errorf("HIGHESTMODSEQ is %d, was %d before", now.HighestModSeq, st.HighestModSeq)
			}
			st.HighestModSeq = now.HighestModSeq
		case "rename":
			ctx := context.Background()
			l.must(l.a.Rename(ctx, "Archive", "Else"))
			l.settled()
			_, validity, err := l.contents("Else")
			l.must(err)
			if validity != st.UIDValidity {
				t.Errorf("UIDVALIDITY is %d, %d was told", validity, st.UIDValidity)
			}
			l.must(l.a.Rename(ctx, "Else", "Archive"))
		case "logout":
			l.must(l.a.Close())
			l.settled()
			var err error
			l.a, err = l.s.Account(context.Background(), l.who())
			l.must(err)
		case "close":
			l.close()
			l.must(l.open("boot 1"))
		}
		l.same(st)
		l.close()
		if t.Failed() {
			t.Fatalf("after %s", again)
		}
	}
}

// What another program does between the answer and the uidlist leaves the UIDs as they were
// told: what was counted has those below UIDNEXT, what came since others.
func TestPromiseWhileOthersDeliverAndRemove(t *testing.T) {
	l := newCountLab(t)
	defer l.close()
	st := l.counted()
	l.put("new", "1795300000.M1P1.mta", "old by its name")
	d := l.dir("/Maildir/.Archive/new")
	l.must(d.Remove("1795400001.M1P1.mta"))
	texts, validity, err := l.contents("Archive")
	l.must(err)
	if validity != st.UIDValidity || len(texts) != 2 || texts[2] != "two" || texts[3] != "old by its name" {
		t.Errorf("UIDVALIDITY is %d, told was %d; messages %v", validity, st.UIDValidity, texts)
	}
}

// An empty mailbox to which another program delivers is still the one that was counted.
func TestPromiseOfAnEmptyMailbox(t *testing.T) {
	l := newLab(t, faultfs.NewMem())
	l.mem.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	l.must(l.open("boot 1"))
	defer l.close()
	st, err := l.a.Status(t.Context(), "Archive", false)
	l.must(err)
	l.put("new", "1795400001.M1P1.mta", "one")
	texts, validity, err := l.contents("Archive")
	l.must(err)
	if validity != st.UIDValidity || st.UIDNext != 1 || texts[1] != "one" {
		t.Errorf("UIDVALIDITY is %d, told was %+v; messages %v", validity, st, texts)
	}
}

// A uidlist that another program wrote in between holds.
func TestPromiseYieldsToAnothersUIDList(t *testing.T) {
	l := newCountLab(t)
	defer l.close()
	st := l.counted()
	f, err := l.dir("/Maildir/.Archive").Create("dovecot-uidlist", 0o600)
	l.must(err)
	_, err = fmt.Fprintf(f, "3 V%d N8 G3085f01b7f11094c501100008c4a11c1\n7 :1795400001.M1P1.mta\n", st.UIDValidity+1)
	l.must(err)
	l.settled()
	texts, validity, err := l.contents("Archive")
	l.must(err)
	if validity != st.UIDValidity+1 || texts[7] != "one" || texts[8] != "two" {
		t.Errorf("UIDVALIDITY is %d, messages %v", validity, texts)
	}
}

// Where a directory was removed, and the next that was made got its inode, the UIDVALIDITY
// that was told is not that of the next.
func TestPromiseIsOfTheFilesThatWereCounted(t *testing.T) {
	l := newCountLab(t)
	defer l.close()
	st := l.counted()
	l.must(l.dir("/Maildir/.Archive/new").Remove("1795400001.M1P1.mta"))
	l.must(l.dir("/Maildir/.Archive/cur").Remove("1795400002.M1P1.mta:2,S"))
	l.put("new", "1795400003.M1P1.mta", "another")
	texts, validity, err := l.contents("Archive")
	l.must(err)
	if validity <= st.UIDValidity || texts[1] != "another" {
		t.Errorf("UIDVALIDITY is %d, told was %d; messages %v", validity, st.UIDValidity, texts)
	}
}

// What needs care is opened, as ever.
func TestStatusOpensWhatIsNotPlain(t *testing.T) {
	for name, spoil := range map[string]func(l *lab){
		"courier":   func(l *lab) { l.file("courierimapuiddb", "1 795465324 1\n") },
		"index":     func(l *lab) { l.file("roost.index", "") },
		"reserve":   func(l *lab) { l.file("roost-state", "") },
		"no base":   func(l *lab) { l.put("new", ":2,S", "three") },
		"two names": func(l *lab) { l.put("cur", "1795400001.M1P1.mta:2,S", "three") },
		"directory": func(l *lab) { l.must(l.dir("/Maildir/.Archive/cur").Mkdir("1795400003.dir", 0o700)) },
		"line end":  func(l *lab) { l.put("new", "1795400003.a\nb", "three") },
	} {
		l := newCountLab(t)
		spoil(l)
		_, err := l.a.Status(context.Background(), "Archive", false)
		l.must(err)
		if n := l.promised(); n != 0 {
			t.Errorf("%s: %d mailboxes were not opened", name, n)
		}
		l.close()
	}
}

// file makes a file beside the messages of Archive.
func (l *lab) file(name, text string) {
	l.Helper()
	f, err := l.dir("/Maildir/.Archive").Create(name, 0o600)
	l.must(err)
	_, err = f.Write([]byte(text))
	l.must(err)
}

// Too fresh a directory proves nothing: a file may come within one tick of the clock.
func TestStatusOpensWhatChangesNow(t *testing.T) {
	l := newCountLab(t)
	defer l.close()
	l.mem.Now = time.Now
	l.s.wall = time.Now
	l.put("new", "1795400003.M1P1.mta", "three")
	l.s.wall = func() time.Time { return time.Unix(0, l.newest()) } // no matter how slow this machine is
	_, err := l.a.Status(t.Context(), "Archive", false)
	l.must(err)
	if n := l.promised(); n != 0 {
		t.Errorf("%d mailboxes were not opened", n)
	}
}

func (l *lab) newest() int64 {
	l.Helper()
	st, err := l.dir("/Maildir/.Archive/new").Self()
	l.must(err)
	return st.Mtime
}

// A process that is killed at any call, or a machine that loses power there: UIDs that were
// shown are what they were, and what was only promised is true or void.
func TestPromiseStoppedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		l := newCountLab(t)
		l.fs.Stop(n)
		told, shown, err := l.countAndOpen()
		l.stopped(n, 4, func(what string, again *lab) {
			texts, validity, cerr := again.contents("Archive")
			again.must(cerr)
			if validity < told.UIDValidity {
				t.Errorf("%s: UIDVALIDITY %d, and %d was told before", what, validity, told.UIDValidity)
			}
			if shown != nil && validity != told.UIDValidity {
				t.Errorf("%s: UIDVALIDITY %d, and UIDs were shown under %d", what, validity, told.UIDValidity)
			}
			if len(texts) != 2 {
				t.Errorf("%s: messages %v", what, texts)
			}
			for uid, text := range texts {
				if shown != nil && shown[uid] != text {
					t.Errorf("%s: UID %d is %q, and was %q", what, uid, text, shown[uid])
				}
			}
			st, serr := again.a.Status(context.Background(), "Archive", false)
			again.must(serr)
			if validity == told.UIDValidity && (st.UIDNext < told.UIDNext || st.ID != told.ID || st.HighestModSeq < told.HighestModSeq) {
				t.Errorf("%s: status is %+v, told was %+v", what, st, told)
			}
		})
		if t.Failed() {
			return
		}
		if err == nil {
			break
		}
	}
}

// stopped ends a lab whose filesystem was stopped at call n, and opens what a kill would have
// left of it, and what so many power cuts.
func (l *lab) stopped(n, cuts int, look func(what string, again *lab)) {
	l.Helper()
	after := map[string]*faultfs.Mem{"killed": l.mem.Clone()}
	for seed := range uint64(cuts) {
		after[fmt.Sprintf("power cut %d", seed)] = l.mem.Crash(rand.New(rand.NewPCG(uint64(n), seed)))
	}
	now := l.mem.Now
	l.close()
	for how, tree := range after {
		tree.Now = now
		again := newLab(l.T, tree)
		boot := "boot 2"
		if how == "killed" {
			boot = "boot 1"
		}
		again.must(again.open(boot))
		look(fmt.Sprintf("%s at call %d", how, n), again)
		again.close()
	}
}

// countAndOpen counts Archive, has that kept, and reads its messages.
func (l *lab) countAndOpen() (told store.Status, shown map[imap.UID]string, err error) {
	told, err = l.a.Status(context.Background(), "Archive", false)
	if err != nil {
		return store.Status{}, nil, err
	}
	l.s.keep(func(*promise) bool { return true })
	shown, validity, err := l.contents("Archive")
	if err != nil || validity != told.UIDValidity {
		return told, nil, fmt.Errorf("UIDVALIDITY %d: %w", validity, err)
	}
	return told, shown, nil
}

// A call that fails once, whichever it is, does not void what was told.
func TestPromiseSurvivesAnyFailure(t *testing.T) {
	for n := 1; ; n++ {
		l := newCountLab(t)
		l.fs.Fail(n, syscall.ENOSPC)
		told, err := l.a.Status(context.Background(), "Archive", false)
		if err == nil {
			l.s.keep(func(*promise) bool { return true })
		}
		calls := l.fs.Calls()
		l.fs.Reset()
		_, validity, cerr := l.contents("Archive")
		l.must(cerr)
		if err == nil && validity != told.UIDValidity {
			t.Errorf("call %d: UIDVALIDITY %d, and %d was told", n, validity, told.UIDValidity)
		}
		l.close()
		if t.Failed() || n > calls {
			return
		}
	}
}

// On a full disk the first who opens a mailbox that was only counted sees its mail, and need
// not ask twice.
func TestCountedMailboxOpensOnAFullDisk(t *testing.T) {
	l := newCountLab(t)
	if _, err := l.a.Status(context.Background(), "Archive", false); err != nil {
		t.Fatal(err)
	}
	l.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "create ") || strings.HasPrefix(call, "link ") {
			return syscall.ENOSPC
		}
		return nil
	})
	uids, _, err := l.contents("Archive")
	if err != nil || len(uids) == 0 {
		t.Errorf("%v, %v", uids, err)
	}
	l.fs.FailWhere(nil)
	l.close()
}
