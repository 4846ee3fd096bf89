package resync

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/index"
)

// A server that is killed while nobody changes anything knows all MODSEQs and expunges
// afterwards: who comes back hears of what changed since, and of nothing else.
func TestKilledServerTellsOnlyWhatChanged(t *testing.T) {
	w := newWorld(t, build(t), 1)
	defer w.stop(false)
	w.start()
	const n = 30
	for range n {
		w.deliver()
	}
	old := &mirror{}
	connect := func(m *mirror) {
		w.Helper()
		w.must(m.connect(w.server.PlainAddr))
		w.copies = append(w.copies, m) // stop hangs up
	}
	for connect(old); len(old.flags) < n; w.must(old.learn()) {
	}
	w.must(old.do("NOOP"))
	old.hangUp()

	connect(w.other)
	for _, command := range []string{`UID STORE 3,5,7 +FLAGS (\Flagged $Label1)`, `UID STORE 9,11:13 +FLAGS.SILENT (\Deleted)`, "EXPUNGE", "UID COPY 20 INBOX"} {
		w.must(w.other.do(command))
	}
	w.other.heard = nil
	w.must(w.other.do("UID FETCH 1:* (FLAGS MODSEQ)"))
	before := rows(w.other.heard)
	w.untilSettled()
	w.stop(true)

	w.start()
	old.heard = nil
	connect(old)
	fetched, vanished := map[string]bool{}, []string{}
	for _, line := range old.heard {
		switch {
		case strings.Contains(line, "MODSEQ ("):
			fetched[between(line, "UID ", " ")] = true
		case strings.Contains(line, "VANISHED"):
			vanished = append(vanished, line)
		}
	}
	if !slices.Equal(vanished, []string{"* VANISHED (EARLIER) 9,11:13"}) {
		t.Errorf("vanished: %q", vanished)
	}
	if want := map[string]bool{"3": true, "5": true, "7": true, "31": true}; !maps.Equal(fetched, want) {
		t.Errorf("rows:\n%s", strings.Join(old.heard, "\n"))
	}
	again := &mirror{}
	connect(again)
	again.heard = nil
	w.must(again.do("UID FETCH 1:* (FLAGS MODSEQ)"))
	if after := rows(again.heard); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if again.modSeq != w.other.modSeq {
		t.Errorf("HIGHESTMODSEQ %d, was %d", again.modSeq, w.other.modSeq)
	}
}

// rows are FETCH responses without \Recent, which is of one session.
func rows(lines []string) string {
	return strings.ReplaceAll(strings.Join(lines, "\n"), `(\Recent)`, "()")
}

// untilSettled waits until the index says that nothing changed for a while.
func (w *world) untilSettled() {
	w.Helper()
	box, err := fsys.OS.Root(w.maildir)
	w.must(err)
	defer box.Close()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // a watchdog, no measure
		snap, err := index.Load(box, 1<<30, nil)
		w.must(err)
		if !snap.Torn && snap.Head.Stamps != (index.Stamps{}) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Fatal("roost.index never settled")
}
