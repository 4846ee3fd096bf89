package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys/faultfs"
	"roost/maildir/index"
	"roost/store"
)

// indexed has what the worker would do at its next turn done now.
func indexed(box store.Mailbox) {
	m := box.(*hold).m
	m.files.Lock()
	defer m.files.Unlock()
	m.pull()
	m.tendNow()
}

// tendNow is tend when a while has passed. Called with files held.
func (m *mailbox) tendNow() {
	m.index.retry = time.Time{}
	m.tend()
}

// A log that is longer than its snapshot gives way to another.
func TestLongLogIsCompacted(t *testing.T) {
	o := openOutside(t, 20, Options{})
	indexed(o.box)
	size := func() int64 {
		st, err := os.Stat(o.path(index.Name))
		o.must(err)
		return st.Size()
	}
	first, most, gaveWay := size(), int64(0), false
	look := func() {
		n := size()
		gaveWay = gaveWay || n < most // a log grows
		most = max(most, n)
	}
	all := o.v.UIDs.Slice(0, 20)
	for i := range 400 {
		op := imap.StoreFlagsAdd
		if i%2 == 1 {
			op = imap.StoreFlagsDel
		}
		_, _, err := o.box.SetFlags(t.Context(), all, store.FlagOp{Op: op, Flags: []imap.Flag{imap.FlagFlagged}})
		o.must(err)
		look()
	}
	indexed(o.box)
	look()
	o.close()
	if most < 100<<10 || !gaveWay {
		t.Errorf("began with %d bytes, had %d at most, has %d", first, most, size())
	}
	left, err := filepath.Glob(o.path(index.Name + "?*"))
	o.must(err)
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// The same with events instead of looks: what is left alone for a while is opened
// without a scan after a kill.
func TestStampsAreWrittenWhenEventsAreOver(t *testing.T) {
	o := openOutside(t, 3, Options{})
	m := o.box.(*hold).m
	indexed(o.box)
	o.must(os.Rename(o.path("cur/"+o.base(1)+":2,"), o.path("cur/"+o.base(1)+":2,S")))
	o.until("flags", func() bool { return len(o.all.Changed) > 0 })
	wall := time.Now()
	rest := func() bool {
		m.files.Lock()
		defer m.files.Unlock()
		wall = wall.Add(time.Minute)
		m.st.wall = func() time.Time { return wall }
		m.index.tries = settleTries
		m.settle()
		return m.index.last.Stamps != index.Stamps{}
	}
	if rest() {
		t.Error("stamps were written that were seen once")
	}
	if !rest() {
		t.Error("no stamps were written though nothing happens")
	}
	snap, err := index.Load(m.dirs.index, indexLimit, nil)
	o.must(err)
	m.files.Lock()
	now, _, err := m.indexStamps()
	m.files.Unlock()
	o.must(err)
	if !snap.Head.Trusted(now) || snap.Head.Clean || snap.Torn {
		t.Errorf("not trusted: %+v", snap.Head)
	}
}

// What is written to roost.index, and when: behind what is shown, but for the mark of a
// mailbox that was closed well; never synced; replaced by a rename.
func TestIndexTranscript(t *testing.T) {
	d := newDiary(t, faultfs.NewMem())
	var got strings.Builder
	step := func(title string, do func()) {
		d.wall.pass(time.Minute)
		d.fs.Reset()
		told := len(d.moments())
		do()
		fmt.Fprintf(&got, "# %s\n", title)
		for i, line := range strings.SplitAfter(d.transcript(), "\n") {
			for _, s := range d.moments()[told:] {
				if s.lines == i {
					fmt.Fprintf(&got, "the client is told of change %d\n", s.modSeq-d.moments()[0].modSeq)
				}
			}
			if strings.Contains(line, index.Name) || strings.Contains(line, "move cur/") {
				got.WriteString(line)
			}
		}
		got.WriteString("\n")
	}
	flag := func(op imap.StoreFlagsOp) func() {
		return func() {
			_, _, err := d.box.SetFlags(t.Context(), []imap.UID{1, 2}, store.FlagOp{Op: op, Flags: []imap.Flag{imap.FlagFlagged}})
			d.must(err)
		}
	}
	d.must(d.start("boot"))
	indexed(d.box)
	_, err := d.add(store.Inbox, []imap.Flag{imap.FlagSeen}, "a\r\n", "b\r\n")
	d.must(err)
	step("two flags", flag(imap.StoreFlagsAdd))
	step("nothing happens", func() { d.must(d.box.Look(t.Context())); d.rest() })
	step("closed, after nothing happened", d.stop)
	step("opened again", func() { d.must(d.start("boot")) })
	step("closed, unchanged", d.stop)
	step("opened again", func() { d.must(d.start("boot")) })
	step("the first change", flag(imap.StoreFlagsDel))
	step("the second", flag(imap.StoreFlagsAdd))
	step("closed at once", d.stop)
	mem := d.mem.Clone()
	mem.Now = d.mem.Now
	d.mem, d.fs = mem, faultfs.New(mem)
	step("opened after a power cut", func() { d.must(d.start("boot 2")); indexed(d.box) })
	d.stop()
	golden(t, filepath.Join("testdata", "index_transcript.txt"), got.String())
}
