package maildir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/index"
	"roost/store"
)

// diary is a lab with one mailbox that a client watches: whatever it is told, at each
// wake-up, must be true for ever after, by the rules of CONDSTORE and QRESYNC.
type diary struct {
	*lab
	wall wallClock // stamps files
	// later is by how much the other clock was set when a mailbox is opened again; never
	// 0, or file names come again.
	later time.Duration
	// stopAt is the call at which the process is killed: it tells nothing afterwards.
	stopAt int
	box    store.Mailbox
	text   map[imap.UID]string // what the client knows to be behind a UID

	mu       sync.Mutex // guards what follows
	watching bool
	seen     []told
}

// wallClock is the time, for all goroutines.
type wallClock struct{ ns atomic.Int64 }

func (c *wallClock) now() time.Time       { return time.Unix(0, c.ns.Load()) }
func (c *wallClock) set(t time.Time)      { c.ns.Store(t.UnixNano()) }
func (c *wallClock) pass(d time.Duration) { c.ns.Add(int64(d)) }

// told is what a client knows that synchronized once.
type told struct {
	modSeq store.ModSeq
	next   imap.UID
	rows   map[imap.UID]string // flags and keywords
	lines  int                 // of the transcript until then
}

// newDiary opens INBOX of a tree, which may be another diary's after a crash.
func newDiary(t *testing.T, mem *faultfs.Mem) *diary {
	d := &diary{lab: newLab(t, mem), later: time.Second, text: map[imap.UID]string{}}
	d.wall.set(time.Unix(1795400000, 0))
	mem.Now = d.wall.now
	return d
}

// start opens the store and the mailbox; from now on the client watches.
func (d *diary) start(boot string) error {
	if err := d.open(boot); err != nil {
		return err
	}
	d.s.lateAfter = time.Hour // the rest is read by who needs it, so that calls have their order
	d.s.wall, d.s.pause = d.wall.now, func(tick time.Duration) { d.wall.pass(tick + 1) }
	box, err := d.a.Hold(context.Background(), store.Inbox, true, d.watch)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.box, d.watching = box, true
	d.mu.Unlock()
	return nil
}

func (d *diary) stop() {
	d.mu.Lock()
	d.watching = false
	d.mu.Unlock()
	if d.box != nil {
		d.box.Close()
		d.box = nil
	}
	d.close()
}

// watch tells the client all there is.
func (d *diary) watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.watching || d.stopAt > 0 && d.fs.Calls() >= d.stopAt {
		return
	}
	if now, err := d.now(d.box); err == nil {
		d.seen = append(d.seen, now)
	}
}

// moments are all at which the client synchronized.
func (d *diary) moments() []told {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.seen)
}

// inherit takes over what the client knew.
func (d *diary) inherit(from *diary) {
	known := from.moments()
	d.mu.Lock()
	d.seen = known
	d.mu.Unlock()
	d.text = maps.Clone(from.text)
}

func (d *diary) now(box store.Mailbox) (told, error) {
	v := box.View()
	now := told{modSeq: v.ModSeq, next: v.UIDNext, rows: map[imap.UID]string{}}
	if d.stopAt == 0 {
		now.lines = strings.Count(d.fs.Transcript(), "\n")
	}
	for rows, err := range box.Rows(context.Background(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err != nil {
			return now, err
		}
		for _, r := range rows {
			now.rows[r.UID] = fmt.Sprint(r.Flags.Names(), r.Keywords.Names())
		}
	}
	return now, nil
}

// learn has the client read every message.
func (d *diary) learn() {
	texts, _, err := d.contents(store.Inbox)
	if err == nil {
		maps.Copy(d.text, texts)
	}
}

// check asks a mailbox that was opened again for what changed since each moment at
// which a client synchronized. A power cut may have brought expunged messages back.
func (d *diary) check(again *diary, what string, power bool) {
	d.Helper()
	m := again.box.(*hold).m
	now, err := d.now(again.box)
	d.must(err)
	modSeqs := map[imap.UID]store.ModSeq{}
	m.files.Lock()
	for uid := range now.rows {
		if i, ok := m.table.find(uid); ok {
			modSeqs[uid] = m.table.rows.at(i).modSeq
		}
	}
	vanished := func(since store.ModSeq) (map[imap.UID]bool, bool) {
		list, exact := m.vanished.between(since, now.modSeq)
		out := map[imap.UID]bool{}
		for _, u := range list {
			out[u] = true
		}
		return out, exact
	}
	m.files.Unlock()
	var asked []imap.UID // more than there are, so that what did not change is left out
	for uid := range imap.UID(20_000) {
		asked = append(asked, uid+1)
	}
	for n, was := range d.moments() {
		bad := func(format string, args ...any) {
			d.Errorf("%s: a client of moment %d (MODSEQ %d, now %d) %s", what, n, was.modSeq, now.modSeq, fmt.Sprintf(format, args...))
		}
		if now.modSeq < was.modSeq {
			bad("saw a higher MODSEQ")
		}
		told := m.changedAmong(asked, was.modSeq)
		for uid, mod := range modSeqs {
			if _, ok := slices.BinarySearch(told, uid); !ok && mod > was.modSeq {
				bad("is not told of UID %d, with MODSEQ %d", uid, mod)
			}
		}
		gone, exact := vanished(was.modSeq)
		for uid, flags := range was.rows {
			is, there := now.rows[uid]
			switch {
			case !there && exact && !gone[uid]:
				bad("does not learn that UID %d is gone", uid)
			case there && is != flags && modSeqs[uid] <= was.modSeq:
				bad("knows UID %d with %s, does not learn of %s, which has MODSEQ %d", uid, flags, is, modSeqs[uid])
			}
		}
		for uid := range now.rows {
			if _, known := was.rows[uid]; !known && (uid < was.next && !power || modSeqs[uid] <= was.modSeq) {
				bad("does not learn of UID %d, with MODSEQ %d; UIDNEXT was %d", uid, modSeqs[uid], was.next)
			}
		}
		if d.Failed() {
			return
		}
	}
	texts, _, err := again.contents(store.Inbox)
	d.must(err)
	for uid, text := range texts {
		if was, ok := d.text[uid]; ok && was != text {
			d.Errorf("%s: UID %d was %q and is %q", what, uid, was, text)
		}
	}
}

// files are the message files by base: directory and name.
func (d *diary) files(mem *faultfs.Mem) map[string]string {
	out := map[string]string{}
	for p := range mem.Tree() {
		dir, name := path.Split(strings.TrimPrefix(p, "/Maildir/"))
		if dir == "cur/" || dir == "new/" {
			out[baseOf(name)] = dir + name
		}
	}
	return out
}

// outside renames, removes or adds a file as another program does.
func (d *diary) outside(mem *faultfs.Mem, from, to string) {
	d.Helper()
	dir := func(p string) (fsys.Dir, string) {
		at, name := path.Split(p)
		x, err := mem.Root("/Maildir/" + at)
		d.must(err)
		return x, name
	}
	switch {
	case from == "":
		x, name := dir(to)
		f, err := x.Create(name, 0o600)
		d.must(err)
		f.Write([]byte("Subject: " + name + "\r\n\r\nx\r\n"))
		f.Sync()
		f.Close()
	case to == "":
		x, name := dir(from)
		d.must(x.Remove(name))
	default:
		x, name := dir(from)
		y, name2 := dir(to)
		d.must(x.Rename(name, y, name2))
	}
}

// act does one random thing to the mailbox.
func (d *diary) act(r *rand.Rand, n int) error {
	ctx := context.Background()
	v := d.box.View()
	some := func() (uids []imap.UID) {
		for _, u := range v.UIDs.All(0) {
			if r.IntN(3) == 0 {
				uids = append(uids, u)
			}
		}
		return uids
	}
	flags := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagDeleted, "kw"}
	for i := range 27 { // one more than there are letters
		flags = append(flags, imap.Flag(fmt.Sprintf("kw%d", i)))
	}
	flag := flags[r.IntN(4)]
	if r.IntN(4) == 0 {
		flag = flags[r.IntN(len(flags))]
	}
	m := d.box.(*hold).m
	m.files.Lock() // the worker moves files too
	files := d.files(d.mem)
	bases := slices.Sorted(maps.Keys(files))
	k := r.IntN(12)
	switch {
	case k == 8:
		d.outside(d.mem, "", fmt.Sprintf("new/1795400000.M%dP%d.mta", n, r.IntN(1000)))
	case k == 9 && len(bases) > 0:
		d.outside(d.mem, files[bases[r.IntN(len(bases))]], "")
	case k > 9 && len(bases) > 0:
		base := bases[r.IntN(len(bases))]
		d.outside(d.mem, files[base], "cur/"+base+":2,"+[]string{"", "S", "FS", "T", "a"}[r.IntN(5)])
	}
	m.files.Unlock()
	switch {
	case k > 7: // done
	case k < 2 || v.UIDs.Len() < 2:
		_, err := d.add(store.Inbox, []imap.Flag{flag}[:r.IntN(2)], fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", n, r.IntN(1000)))
		return err
	case k < 6:
		op := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet}[r.IntN(3)]
		_, _, err := d.box.SetFlags(ctx, some(), store.FlagOp{Op: op, Flags: []imap.Flag{flag}})
		return err
	case k == 6:
		_, _, err := d.box.Expunge(ctx, nil)
		return err
	case k == 7:
		_, err := d.box.Move(ctx, some(), "Archive")
		return err
	}
	return d.box.Look(ctx)
}

// rest leaves the mailbox alone until its stamps are believed.
func (d *diary) rest() {
	d.wall.pass(10 * time.Second)
	m := d.box.(*hold).m
	m.files.Lock()
	defer m.files.Unlock()
	m.lookAll() // a poll, for no look before could be sure; it fails where all calls do
	m.tendNow()
	m.index.tries = settleTries // no timer
	m.settle()
}

// reopen opens what a crash left.
func (d *diary) reopen(mem *faultfs.Mem, boot string) *diary {
	d.Helper()
	again := newDiary(d.T, mem)
	again.wall.set(d.wall.now().Add(time.Second))
	again.lab.now = d.lab.now.Add(d.later)
	d.must(again.start(boot))
	return again
}

// damage cuts roost.index off somewhere, or turns one of its bits.
func damage(d *diary, mem *faultfs.Mem, r *rand.Rand, cut bool) {
	d.Helper()
	box, err := mem.Root("/Maildir")
	d.must(err)
	b, err := fsys.ReadFile(box, index.Name, 1<<20)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	d.must(err)
	if len(b) == 0 {
		return
	}
	at := len(b) - 1 - r.IntN(min(len(b), 600))
	if cut {
		b = b[:at]
	} else {
		b[at] ^= 1 << r.IntN(8)
	}
	d.must(box.Remove(index.Name))
	f, err := box.Create(index.Name, 0o600)
	d.must(err)
	_, err = f.Write(b)
	d.must(err)
	d.must(f.Close())
}

// unwritten does something that is shown, and kills the process before it is written.
// What another program does then is done to the tree that is left.
// A mailbox that was closed well is marked first: marks says how many writes are let
// through.
func (d *diary) unwritten(marks int, do func()) *faultfs.Mem {
	stopped := false
	d.fs.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "write "+index.Name) {
			marks--
			stopped = stopped || marks < 0
		}
		if stopped {
			return faultfs.ErrStopped
		}
		return nil
	})
	do()
	if !stopped {
		d.Error("nothing was to be written")
	}
	d.wall.pass(time.Second)
	mem := d.mem.Clone()
	mem.Now = d.mem.Now
	return mem
}

// rewrite changes a file as another program does.
func (d *diary) rewrite(mem *faultfs.Mem, name string, edit func(string) string) {
	d.Helper()
	box, err := mem.Root("/Maildir")
	d.must(err)
	b, err := fsys.ReadFile(box, name, 1<<20)
	d.must(err)
	d.must(fsys.Replace(box, name, name+".new", []byte(edit(string(b))), 0o600, true))
}

// base is the base of a message's file.
func (d *diary) base(uid imap.UID) string {
	m := d.box.(*hold).m
	m.files.Lock()
	defer m.files.Unlock()
	i, ok := m.table.find(uid)
	if !ok {
		d.Fatalf("no UID %d", uid)
	}
	return m.table.base(i)
}

// scans notes which directories are read, and which messages looked at.
func (l *lab) scans() *[]string {
	seen := new([]string)
	l.fs.FailWhere(func(_ int, call string) error {
		for _, p := range []string{"names cur", "names new", "stat cur/1", "stat new/1", "open cur/1", "open new/1"} {
			if strings.HasPrefix(call, p) {
				*seen = append(*seen, call)
			}
		}
		return nil
	})
	return seen
}

// known is all that a mailbox can tell of its past.
func (d *diary) known() (rows []store.Row, vanished []change, highest store.ModSeq) {
	v := d.box.View()
	for part, err := range d.box.Rows(context.Background(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		d.must(err)
		rows = append(rows, part...)
	}
	m := d.box.(*hold).m
	m.mu.Lock()
	defer m.mu.Unlock()
	return rows, slices.Clone(m.vanished.entries), v.ModSeq
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
