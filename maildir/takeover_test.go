package maildir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// courierTree is a Maildir in memory as Courier leaves it: INBOX with UIDs 2, 3, 5 and
// 6, whose UIDNEXT is 9, and 28 keywords on the message 5.
func courierTree(t *testing.T) *faultfs.Mem {
	t.Helper()
	mem := faultfs.NewMem()
	var ticks atomic.Int64
	mem.Now = func() time.Time { return time.Unix(1795490000, ticks.Add(1)*1e6) } // nothing is too young to be believed
	var many, indexes []string
	for i := range 28 {
		many = append(many, fmt.Sprintf("kw%02d", i))
		indexes = append(indexes, fmt.Sprint(i))
	}
	putDurably(t, mem, map[string]string{
		"cur/1795400002.two,S=3:2,":  "two",
		"cur/1795400003.three:2,SR":  "three",
		"cur/1795400005.five:2,F":    "five",
		"new/1795400006.six":         "six",
		"courierimapuiddb":           "1 795400000 9\n2 1795400002.two,S=3\n3 1795400003.three\n5 1795400005.five\n6 1795400006.six\n",
		"courierimapkeywords/:list":  strings.Join(many, "\n") + "\n\n1795400002.two,S=3:27 3\n1795400005.five:" + strings.Join(indexes, " ") + "\n1795400004.gone:1\n",
		"courierimapsubscribed":      "INBOX\nINBOX.Archive\n#shared.x\n",
		"courierimapacl":             "owner aceilrstwx\nanyone lr\n",
		"dovecot-unrelated":          "",
		".Archive/cur/9.nobody:2,S":  "nobody",
		".Archive/courierimapacl":    "owner aceilrstwx\nadministrators aceilrstwx\n",
		".Archive/new/.keep":         "",
		".Archive/tmp/.keep":         "",
		".Archive/maildirfolder":     "",
		"tmp/.keep":                  "",
		"courierimaphieracl/A.&AOk-": "owner aceilrstwx\n",

		"courierimapkeywords/.5984885.1795400002.two,S=3": "older\n",
		"courierimapkeywords/.5984886.1795400002.two,S=3": "Work\n",
		"courierimapkeywords/1795400003.three":            "kw03\nwork\n\\Bad\n",
		"courierimapkeywords/.5984889.1795400003.three":   "older\n",
		"courierimapkeywords/1795400004.gone":             "gone\n",
	})
	return mem
}

// courierSaid is what courierTree says of its INBOX.
var courierSaid = map[imap.UID]string{2: "two Work", 3: "three \\Answered \\Seen kw03 Work", 5: "five \\Flagged " + func() string {
	var out []string
	for i := range 28 {
		out = append(out, fmt.Sprintf("kw%02d", i))
	}
	return strings.Join(out, " ")
}(), 6: "six"}

const (
	courierValidity = 795400000
	courierNext     = 9
)

// putDurably writes files, by their paths, and makes them durable.
func putDurably(t *testing.T, mem *faultfs.Mem, files map[string]string) {
	t.Helper()
	for path, text := range files {
		at, name := "/Maildir", path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			at, name = "/Maildir/"+path[:i], path[i+1:]
		}
		d, err := mem.Make(at, 0o700)
		if err == nil {
			err = fsys.Replace(d, name, name+".x", []byte(text), 0o600, true)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"/Maildir/cur", "/Maildir/new", "/Maildir/.Archive", "/Maildir"} {
		if d, err := mem.Root(p); err == nil {
			d.Sync()
		}
	}
}

// newCourierLab has no mailboxes of its own.
func newCourierLab(t *testing.T, mem *faultfs.Mem) *lab {
	l := newLab(t, mem)
	l.roots = []store.Root{{Mail: "/Maildir"}}
	return l
}

// state is each message of INBOX as a client sees it.
type state struct {
	validity uint32
	next     imap.UID
	messages map[imap.UID]string // text, flags, keywords
}

func (l *lab) state(write bool) (s state, err error) {
	box, err := l.a.Hold(context.Background(), store.Inbox, write, nil)
	if err != nil {
		return s, err
	}
	defer box.Close()
	if err := box.Look(context.Background()); err != nil {
		return s, err
	}
	v, _, err := box.Advance(store.View{}, true)
	if err != nil {
		return s, err
	}
	s = state{box.Info().UIDValidity, v.UIDNext, map[imap.UID]string{}}
	for rows, err := range box.Rows(context.Background(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err != nil {
			return s, err
		}
		for _, r := range rows {
			m, err := box.Message(context.Background(), r.UID)
			if err != nil {
				return s, err
			}
			var b strings.Builder
			_, err = m.WriteRange(&b, 0, 1<<20)
			m.Close()
			if err != nil {
				return s, err
			}
			for _, f := range r.Flags.Names() {
				b.WriteString(" " + string(f))
			}
			for _, k := range r.Keywords.Names() {
				b.WriteString(" " + k)
			}
			s.messages[r.UID] = b.String()
		}
	}
	return s, nil
}

// untouched fails where a file of Courier's is not as it was.
func untouched(t *testing.T, what string, before, after map[string]string) {
	t.Helper()
	for path, text := range before {
		if strings.Contains(path, "/courierimap") && after[path] != text {
			t.Errorf("%s: %s was changed", what, path)
		}
	}
}

// sameMessages compares what a client sees with what Courier said.
func sameMessages(t *testing.T, what string, got state) {
	t.Helper()
	if got.validity != courierValidity || got.next < courierNext {
		t.Errorf("%s: UIDVALIDITY %d, UIDNEXT %d", what, got.validity, got.next)
	}
	for uid, want := range courierSaid {
		if got.messages[uid] != want {
			t.Errorf("%s: UID %d is %q, was %q", what, uid, got.messages[uid], want)
		}
	}
}

// A mailbox of Courier's is opened, looked at, and gets a message: killed at any call, or
// with the power gone there, it is either as Courier left it or taken over; opened again
// it is what Courier said, and no UID has a second meaning.
func TestTakeOverStoppedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		mem := courierTree(t)
		before := mem.Tree()
		l := newCourierLab(t, mem)
		l.fs.Stop(n)
		acked := map[imap.UID]string{}
		err := l.open("boot 1")
		if err == nil {
			_, err = l.state(true)
		}
		for i := 0; err == nil && i < 2; i++ {
			text := fmt.Sprintf("added %d", i)
			var c store.Copied
			if c, err = l.add(store.Inbox, []imap.Flag{"kw27"}, text); err == nil {
				acked[c.To[0]] = text + " kw27"
			}
		}
		after := map[string]*faultfs.Mem{"killed": mem.Clone(), "power cut, only what was synced": mem.Crash(nil)}
		for seed := range uint64(3) {
			after[fmt.Sprintf("power cut %d", seed)] = mem.Crash(rand.New(rand.NewPCG(uint64(n), seed)))
		}
		l.close()
		for how, tree := range after {
			what := fmt.Sprintf("%s at call %d", how, n)
			boot := "boot 2"
			if how == "killed" {
				boot = "boot 1"
			}
			left := tree.Tree()
			untouched(t, what, before, left)
			if left["/Maildir/dovecot-uidlist"] == "" {
				for path := range before {
					if _, ok := left[path]; !ok && !strings.HasSuffix(path, "/.keep") {
						t.Errorf("%s: there is no uidlist, and %s is gone", what, path)
					}
				}
			}
			tree.Now = mem.Now
			again := newCourierLab(t, tree)
			again.now = again.now.Add(time.Second)
			again.must(again.open(boot))
			got, err := again.state(false)
			again.must(err)
			sameMessages(t, what, got)
			for uid, want := range acked {
				if got.messages[uid] != want {
					t.Errorf("%s: UID %d is %q, was acknowledged as %q", what, uid, got.messages[uid], want)
				}
			}
			c, err := again.add(store.Inbox, nil, "last")
			again.must(err)
			if uid := c.To[0]; uid < courierNext || acked[uid] != "" || got.messages[uid] != "" {
				t.Errorf("%s: UID %d was given again", what, uid)
			}
			if want := "V\t2\n\nINBOX\nArchive\n"; tree.Tree()["/Maildir/subscriptions"] != want {
				t.Errorf("%s: subscriptions are %q", what, tree.Tree()["/Maildir/subscriptions"])
			}
			untouched(t, what+", opened again", before, tree.Tree())
			// With all done, 26 keywords have letters and the other two a line.
			if text, want := tree.Tree()["/Maildir/dovecot-keywords"], "0 Work\n1 kw03\n2 kw00\n"; !strings.HasPrefix(text, want) || strings.Count(text, "\n") != 26 {
				t.Errorf("%s: dovecot-keywords is %q", what, text)
			}
			again.close()
		}
		if t.Failed() {
			return
		}
		if err == nil {
			if n < 50 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// A call that fails once costs at most the command that met it: no UIDVALIDITY is made
// up in place of Courier's, and the next command finds all.
func TestTakeOverFailsAnywhere(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE} {
		for n := 1; ; n++ {
			mem := courierTree(t)
			l := newCourierLab(t, mem)
			l.fs.Fail(n, errno)
			err := l.open("boot")
			met := err == nil && l.fs.Calls() < n
			if l.a == nil {
				l.close()
				l.must(l.open("boot"))
			}
			what := fmt.Sprintf("%v at call %d", errno, n)
			first, err := l.state(true)
			if err == nil {
				met = l.fs.Calls() < n
				if first.validity == courierValidity {
					sameMessages(t, what, first)
				} else {
					t.Errorf("%s: UIDVALIDITY %d", what, first.validity)
				}
			}
			l.fs.Reset()
			second, err := l.state(true)
			if err != nil {
				t.Fatalf("%s: then %v", what, err)
			}
			sameMessages(t, what+", then again", second)
			l.close()
			if t.Failed() {
				return
			}
			if met {
				break
			}
		}
	}
}

// Where nothing can be written the messages are shown as Courier had them, under a
// UIDVALIDITY that nobody keeps, and nothing is written.
func TestTakeOverOfAReadOnlyTree(t *testing.T) {
	mem := courierTree(t)
	before := mem.Tree()
	l := newCourierLab(t, mem)
	l.fs.FailWhere(func(_ int, call string) error {
		switch op, _, _ := strings.Cut(call, " "); op {
		case "create", "update", "append", "link", "move", "rename", "remove", "mkdir", "settime":
			return syscall.EROFS
		}
		return nil
	})
	l.must(l.open("boot"))
	defer l.close()
	got, err := l.state(false)
	l.must(err)
	if got.validity == courierValidity || !maps.Equal(got.messages, courierSaid) {
		t.Errorf("%+v", got)
	}
	if names := listNames(t, l.a, store.ListQuery{Patterns: []string{"*"}, Subscribed: true}); !sameSet(names, []string{"INBOX", "Archive"}) {
		t.Errorf("subscriptions %q", names)
	}
	if !maps.Equal(mem.Tree(), before) {
		t.Error("something was written")
	}
}

// A uidlist that is lost after the take-over: UIDs that were given since are known to
// nobody, so that Courier's old database must not give them again.
func TestUIDsAreNotTakenOverTwice(t *testing.T) {
	mem := courierTree(t)
	l := newCourierLab(t, mem)
	l.must(l.open("boot"))
	c, err := l.add(store.Inbox, nil, "added")
	l.must(err)
	if c.To[0] != courierNext || c.UIDValidity != courierValidity {
		t.Fatalf("%+v", c)
	}
	l.close()
	d, err := mem.Root("/Maildir")
	l.must(err)
	l.must(d.Remove("dovecot-uidlist"))
	d.Remove("roost.index")
	l.must(l.open("boot"))
	defer l.close()
	got, err := l.state(true)
	l.must(err)
	if got.validity == courierValidity || len(got.messages) != 5 {
		t.Errorf("%+v", got)
	}
}

// Courier serves the mailbox again for a while, then Roost does.
func TestCourierInBetween(t *testing.T) {
	const head = "1 795400000 "
	old := "2 1795400002.two,S=3\n3 1795400003.three\n5 1795400005.five\n6 1795400006.six\n"
	delivered := map[string]string{"cur/1795410001.x:2,S": "x", "cur/1795410002.y:2,": "y"}
	for _, c := range []struct {
		name     string
		here     int               // messages that are added here, before
		files    map[string]string // what Courier leaves
		validity bool              // stays
		want     map[imap.UID]string
		next     imap.UID
	}{
		{"it gave UIDs, Roost gave none", 0, map[string]string{
			"courierimapuiddb": head + "13\n" + old + "10 1795410001.x\n12 1795410002.y\n", "courierimapkeywords/1795410002.y": "kw01\nNew\n",
		}, true, map[imap.UID]string{10: "x \\Seen", 12: "y kw01 New"}, 13},
		{"its UIDs are gone already", 0, map[string]string{"courierimapuiddb": head + "20\n" + old}, true, map[imap.UID]string{20: "x \\Seen", 21: "y"}, 22},
		{"both gave the same UIDs", 1, map[string]string{
			"courierimapuiddb": head + "12\n" + old + "9 ADDED0\n10 1795410001.x\n11 1795410002.y\n",
		}, true, map[imap.UID]string{9: "added 0", 10: "x \\Seen", 11: "y"}, 12},
		{"one UID has two meanings", 1, map[string]string{
			"courierimapuiddb": head + "12\n" + old + "9 1795410001.x\n10 1795410002.y\n11 ADDED0\n",
		}, false, nil, 0},
		{"one UID had two meanings", 1, map[string]string{
			"courierimapuiddb": head + "12\n" + old + "10 1795410001.x\n11 ADDED0\n",
		}, false, nil, 0},
		{"it only looked", 1, map[string]string{"courierimapuiddb": head + "9\n" + old}, true, map[imap.UID]string{9: "added 0", 10: "x \\Seen", 11: "y"}, 12},
		{"it began anew", 1, map[string]string{"courierimapuiddb": "1 795500000 4\n1 1795400002.two,S=3\n3 ADDED0\n"}, true, map[imap.UID]string{9: "added 0", 10: "x \\Seen", 11: "y"}, 12},
		{"roost-courier was damaged", 1, map[string]string{
			"courierimapuiddb": head + "9\n" + old, "roost-courier": "???",
		}, true, map[imap.UID]string{9: "added 0", 10: "x \\Seen", 11: "y"}, 12},
		{"roost-courier was damaged, and it gave UIDs", 0, map[string]string{
			"courierimapuiddb": head + "13\n" + old + "10 1795410001.x\n12 1795410002.y\n", "roost-courier": "roost-courier 1\nuidvalidity x\n",
		}, true, map[imap.UID]string{10: "x \\Seen", 12: "y"}, 13},
		{"a damaged database", 1, map[string]string{"courierimapuiddb": "1 7954"}, true, map[imap.UID]string{9: "added 0", 10: "x \\Seen", 11: "y"}, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := courierTree(t)
			l := newCourierLab(t, mem)
			l.must(l.open("boot"))
			var added []string
			for i := range c.here {
				_, err := l.add(store.Inbox, nil, fmt.Sprintf("added %d", i))
				l.must(err)
				for path := range mem.Tree() {
					if base, ok := strings.CutPrefix(path, "/Maildir/new/1795500"); ok {
						added = append(added, "1795500"+base)
					}
				}
			}
			if c.here == 0 {
				_, err := l.state(true)
				l.must(err)
			}
			l.close()
			if len(added) != c.here {
				t.Fatalf("added files: %q", added)
			}
			files := maps.Clone(delivered)
			for path, text := range c.files {
				if len(added) > 0 {
					text = strings.ReplaceAll(text, "ADDED0", added[0])
				}
				files[path] = text
			}
			putDurably(t, mem, files)
			for round := range 3 { // what was caught up with is not met again
				l.must(l.open("boot"))
				got, err := l.state(true)
				l.must(err)
				want := maps.Clone(courierSaid)
				maps.Copy(want, c.want)
				if !c.validity {
					if got.validity == courierValidity || len(got.messages) != 7 {
						t.Errorf("round %d: %+v", round, got)
					}
				} else if got.validity != courierValidity || got.next != c.next || !maps.Equal(got.messages, want) {
					t.Errorf("round %d:\n got %+v\nwant %d, UIDNEXT %d, %v", round, got, courierValidity, c.next, want)
				}
				l.close()
				d, err := mem.Root("/Maildir")
				l.must(err)
				d.Remove("roost.index")
			}
		})
	}
}

// The same, cut off anywhere: a UID of Courier's stays what it was.
func TestCatchUpStoppedAnywhere(t *testing.T) {
	start := courierTree(t)
	l := newCourierLab(t, start)
	l.must(l.open("boot 1"))
	_, err := l.state(true)
	l.must(err)
	l.close()
	putDurably(t, start, map[string]string{
		"cur/1795410001.x:2,S":             "x",
		"cur/1795410002.y:2,":              "y",
		"courierimapuiddb":                 "1 795400000 13\n2 1795400002.two,S=3\n3 1795400003.three\n5 1795400005.five\n6 1795400006.six\n12 1795410001.x\n",
		"courierimapkeywords/1795410001.x": "kw01\n",
	})
	for n := 1; ; n++ {
		mem := start.Clone()
		mem.Now = start.Now
		l := newCourierLab(t, mem)
		l.fs.Stop(n)
		err := l.open("boot 2")
		if err == nil {
			_, err = l.state(true)
		}
		var c store.Copied
		if err == nil {
			c, err = l.add(store.Inbox, nil, "added")
		}
		after := []*faultfs.Mem{mem.Clone(), mem.Crash(nil), mem.Crash(rand.New(rand.NewPCG(uint64(n), 1)))}
		l.close()
		for i, tree := range after {
			tree.Now = mem.Now
			again := newCourierLab(t, tree)
			again.now = again.now.Add(time.Second)
			again.must(again.open(fmt.Sprint("boot ", min(2+i, 3))))
			got, err := again.state(true)
			again.must(err)
			what := fmt.Sprintf("state %d at call %d", i, n)
			sameMessages(t, what, got)
			if got.messages[12] != "x \\Seen kw01" || got.next < 14 || slices.Contains([]string{got.messages[9], got.messages[10], got.messages[11]}, "y") {
				t.Errorf("%s: %+v", what, got)
			}
			if err == nil && c.To != nil && got.messages[c.To[0]] != "added" {
				t.Errorf("%s: UID %d is %q", what, c.To[0], got.messages[c.To[0]])
			}
			again.close()
		}
		if t.Failed() {
			return
		}
		if err == nil {
			return
		}
	}
}

// Keywords that were taken over go away when they are taken away, whether they have a
// letter or a line, and whether or not the letters were given out.
func TestTakenKeywordsCanBeRemoved(t *testing.T) {
	for _, cut := range []bool{false, true} {
		mem := courierTree(t)
		l := newCourierLab(t, mem)
		if cut {
			l.fs.FailWhere(func(_ int, call string) error { // no letter can be given
				if strings.HasPrefix(call, "create dovecot-keywords") {
					return syscall.ENOSPC
				}
				return nil
			})
		}
		l.must(l.open("boot"))
		box, err := l.a.Hold(t.Context(), store.Inbox, true, nil)
		l.must(err)
		l.fs.Reset()
		op := store.FlagOp{Op: imap.StoreFlagsDel, Flags: []imap.Flag{"kw00", "KW27"}}
		if _, _, err := box.SetFlags(t.Context(), []imap.UID{5}, op); err != nil {
			t.Fatal(err)
		}
		op = store.FlagOp{Op: imap.StoreFlagsSet, Flags: []imap.Flag{"kw05"}}
		if _, _, err := box.SetFlags(t.Context(), []imap.UID{2}, op); err != nil {
			t.Fatal(err)
		}
		box.Close()
		for range 2 {
			got, err := l.state(true)
			l.must(err)
			if text := got.messages[5]; strings.Contains(text, "kw00") || strings.Contains(text, "kw27") || strings.Count(text, "kw") != 26 {
				t.Errorf("cut off %v: %q", cut, text)
			}
			if got.messages[2] != "two kw05" {
				t.Errorf("cut off %v: %q", cut, got.messages[2])
			}
			l.close()
			l.must(l.open("boot"))
		}
		l.close()
	}
}

// A database whose first line is damaged says nothing of which UIDs were given.
func TestDamagedDatabaseIsNotTakenOver(t *testing.T) {
	for _, text := range []string{"", "1 795400000\n2 1795400002.two,S=3\n", "3 V795400000 N9\n2 :1795400002.two,S=3\n"} {
		mem := courierTree(t)
		putDurably(t, mem, map[string]string{"courierimapuiddb": text})
		l := newCourierLab(t, mem)
		l.must(l.open("boot"))
		got, err := l.state(true)
		l.must(err)
		if got.validity == courierValidity || len(got.messages) != 4 {
			t.Errorf("%q: %+v", text, got)
		}
		l.close()
	}
}

// What cannot be read is told, and the mailbox stays closed: with a new UIDVALIDITY
// all would be downloaded again, and Courier's could not come back.
func TestUnreadableDatabaseKeepsTheMailboxClosed(t *testing.T) {
	mem := courierTree(t)
	l := newCourierLab(t, mem)
	l.fs.FailWhere(func(_ int, call string) error {
		if call == "open courierimapuiddb" {
			return syscall.EACCES
		}
		return nil
	})
	l.must(l.open("boot"))
	defer l.close()
	if _, err := l.state(true); !errors.Is(err, store.ErrNoPermission) {
		t.Errorf("%v", err)
	}
	if log := l.log.String(); !strings.Contains(log, "event=courier_failed") || !strings.Contains(log, "open courierimapuiddb") {
		t.Errorf("the log is %s", log)
	}
	if l.fs.Reset(); mem.Tree()["/Maildir/dovecot-uidlist"] != "" {
		t.Error("a uidlist was made")
	}
	got, err := l.state(true)
	l.must(err)
	sameMessages(t, "with the cause gone", got)
}

// Courier goes on for a day after a take-over that was cut off: what it took away is not
// brought back by what was already written here.
func TestCutOffTakeOverIsForgotten(t *testing.T) {
	mem := courierTree(t)
	l := newCourierLab(t, mem)
	l.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "rename dovecot-uidlist.tmp") {
			return faultfs.ErrStopped
		}
		return nil
	})
	l.must(l.open("boot"))
	if _, err := l.state(true); err == nil || !strings.Contains(mem.Tree()["/Maildir/roost-keywords"], "Work :1795400002.two") {
		t.Fatalf("%v; %q", err, mem.Tree()["/Maildir/roost-keywords"])
	}
	l.close()
	l.fs.Reset()
	putDurably(t, mem, map[string]string{
		"courierimapuiddb":                         "1 795400000 10\n2 1795400002.two,S=3\n3 1795400003.three\n5 1795400005.five\n9 1795400007.seven\n",
		"courierimapkeywords/1795400002.two,S=3":   "",
		"courierimapkeywords/1795400003.three":     "Later\n",
		"courierimapkeywords/.5984890.not-there,S": "Later\n",
		"cur/1795400007.seven:2,":                  "seven",
	})
	l.must(l.open("boot"))
	defer l.close()
	got, err := l.state(true)
	l.must(err)
	want := map[imap.UID]string{2: "two", 3: "three \\Answered \\Seen Later", 5: courierSaid[5], 9: "seven", 10: "six"}
	if got.validity != courierValidity || got.next != 11 || !maps.Equal(got.messages, want) {
		t.Errorf(" got %+v\nwant %v", got, want)
	}
}

// A letter that some program left in a name means nothing of Courier's.
func TestStrayLettersGetNoKeyword(t *testing.T) {
	mem := courierTree(t)
	putDurably(t, mem, map[string]string{"cur/1795400001.one:2,Sab": "one"})
	l := newCourierLab(t, mem)
	l.must(l.open("boot"))
	defer l.close()
	got, err := l.state(true)
	l.must(err)
	sameMessages(t, "with stray letters", got)
	if got.messages[9] != "one \\Seen unknown-0 unknown-1" {
		t.Errorf("%+v", got.messages)
	}
	if text := mem.Tree()["/Maildir/dovecot-keywords"]; !strings.HasPrefix(text, "2 Work\n") || strings.Count(text, "\n") != 24 {
		t.Errorf("dovecot-keywords is %q", text)
	}
}

// Courier's subscriptions become ours once: what is changed afterwards stays so, in both
// files.
func TestSubscriptionsAreTakenOverOnce(t *testing.T) {
	const theirs = "INBOX\nINBOX.Sent\nINBOX.Projects.&AOk-\nINBOX.Ü.x\nINBOX.R&D\n#shared.ann.x\nINBOX.INBOX\nINBOX.a&AC8-b\nINBOX.Gone.away\nnonsense\n"
	for _, c := range []struct {
		root store.Root
		want string // the file
		list []string
	}{
		{store.Root{UTF8: true, Prefix: "INBOX."}, "V\t2\n\nINBOX\nSent\nProjects\té\nÜ\tx\nR&D\nGone\taway\n",
			[]string{"INBOX", "INBOX.Sent", "INBOX.Projects.é", "INBOX.Ü.x", "INBOX.R&D", "INBOX.Gone.away"}},
		{store.Root{Escape: store.EscapeCourier}, "V\t2\n\nINBOX\nSent\nProjects\t&AOk-\n&ANw-\tx\nR&-D\na&AC8-b\nGone\taway\n",
			[]string{"INBOX", "Sent", "Projects.é", "Ü.x", "R&D", "a/b", "Gone.away"}},
	} {
		mem := courierTree(t)
		putDurably(t, mem, map[string]string{"courierimapsubscribed": theirs})
		l := newCourierLab(t, mem)
		c.root.Mail = "/Maildir"
		l.roots, l.sep = []store.Root{c.root}, '.'
		subscribed := func() []string {
			return listNames(t, l.a, store.ListQuery{Patterns: []string{"*"}, Subscribed: true})
		}
		l.must(l.open("boot"))
		if text := mem.Tree()["/Maildir/subscriptions"]; text != c.want {
			t.Errorf("%+v: subscriptions are %q", c.root, text)
		}
		if got := subscribed(); !sameSet(got, c.list) {
			t.Errorf("%+v: %q", c.root, got)
		}
		for _, n := range c.list {
			l.must(l.a.Subscribe(t.Context(), store.Name(n), false))
		}
		l.close()
		putDurably(t, mem, map[string]string{"courierimapsubscribed": theirs + "INBOX.More\n"})
		l.must(l.open("boot"))
		if got := subscribed(); len(got) > 0 {
			t.Errorf("%+v: %q came back", c.root, got)
		}
		if text := mem.Tree()["/Maildir/courierimapsubscribed"]; text != theirs+"INBOX.More\n" {
			t.Errorf("Courier's file is %q", text)
		}
		l.close()
	}
}
