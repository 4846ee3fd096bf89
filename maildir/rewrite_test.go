package maildir

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

const someNote store.NoteKind = 1<<8 | 1

func hasNote(t *testing.T, box store.Mailbox, uid imap.UID) bool {
	for range box.Notes(t.Context(), []imap.UID{uid}, someNote) {
		return true
	}
	return false
}

func rowOf(t *testing.T, box store.Mailbox, uid imap.UID) store.Row {
	t.Helper()
	for rows, err := range box.Rows(t.Context(), []imap.UID{uid}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		return rows[0]
	}
	t.Fatalf("no UID %d", uid)
	return store.Row{}
}

// cp into new/ makes a file that is seen before it is whole. What a client was told of
// it then is told anew once it is.
func TestFileThatIsWrittenWhereItIsSeen(t *testing.T) {
	o := openOutside(t, 1, Options{})
	f, err := os.Create(o.path("new/1800000000.cp.h"))
	o.must(err)
	defer f.Close()
	o.until("an empty file", func() bool { return o.v.UIDs.Len() == 2 })
	// What is read is learned unless somebody changes files just now.
	learn := func(size int64) {
		t.Helper()
		for limit := time.Now().Add(5 * time.Minute); rowOf(t, o.box, 2).Size != size; runtime.Gosched() {
			got, err := readAll(t, o.box, 2)
			if o.must(err); int64(len(got)) != size || time.Now().After(limit) {
				t.Fatalf("%d bytes read, want %d, and the size is %d", len(got), size, rowOf(t, o.box, 2).Size)
			}
		}
	}
	learn(0)
	o.box.Note(2, someNote, []byte("of an empty message"))
	_, err = f.WriteString(strangeText)
	o.must(err)
	for limit := time.Now().Add(5 * time.Minute); rowOf(t, o.box, 2).Size == 0; runtime.Gosched() {
		if o.must(o.box.Look(t.Context())); time.Now().After(limit) {
			t.Fatal("the size of the empty file stays")
		}
	}
	if hasNote(t, o.box, 2) {
		t.Error("the note on the empty file stays")
	}
	// While it is being written nothing is kept.
	o.box.Note(2, someNote, []byte("of half a message"))
	if hasNote(t, o.box, 2) {
		t.Error("a note on a file that is being written is kept")
	}
	if got, err := readAll(t, o.box, 2); err != nil || got != "Subject: x\r\n\r\nx\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	m := o.box.(*hold).m
	m.mu.Lock()
	for uid := range m.hot {
		m.hot[uid] = time.Now().Add(-time.Hour)
	}
	m.mu.Unlock()
	learn(17)
	o.box.Note(2, someNote, []byte("whole"))
	if !hasNote(t, o.box, 2) {
		t.Error("no note on a message that rests is kept")
	}
	// Flags are renames, and rewrite nothing.
	_, _, err = o.box.SetFlags(t.Context(), []imap.UID{1, 2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
	o.must(err)
	o.must(o.box.Look(t.Context()))
	if r := rowOf(t, o.box, 2); r.Size != 17 || !hasNote(t, o.box, 2) {
		t.Error("a flag made the size or the note be forgotten")
	}
}
