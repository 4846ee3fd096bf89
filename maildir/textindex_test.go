package maildir

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fts"
)

// candidates asks for a text, and gives nil where nothing is narrowed.
func (o *outside) candidates(text string) []imap.UID {
	o.Helper()
	may, ok, err := o.box.Candidates(o.Context(), o.box.View(), []byte(text))
	o.must(err)
	if ok && may == nil {
		may = []imap.UID{}
	}
	if !ok {
		may = nil
	}
	return may
}

// Whoever reads messages has the machine nearly alone while text is indexed.
func TestIndexingStandsBackWhileMessagesAreRead(t *testing.T) {
	for _, c := range []struct {
		name         string
		read         bool
		worked, rest time.Duration
	}{
		{"nobody reads", false, indexWork, indexWork},
		{"somebody reads", true, indexWork, restWhileRead * indexWork},
		{"a long piece of work", true, 10 * indexWork, 20 * indexWork},
		{"not yet", true, indexWork - 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &mailbox{st: &Store{stop: make(chan struct{})}}
			m.st.read.Add(7) // before
			p := newPace(m)
			time.Sleep(c.worked)
			if c.read {
				m.st.read.Add(1)
			}
			began := time.Now()
			if err := p.breathe(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != c.rest {
				t.Errorf("%s: it rests %v, want %v", c.name, d, c.rest)
			}
			if c.rest == 0 {
				return
			}
			time.Sleep(indexWork) // and nobody reads
			began = time.Now()
			if err := p.breathe(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != indexWork {
				t.Errorf("%s: afterwards it rests %v, want %v", c.name, d, indexWork)
			}
		})
	}
}

// The indexer sees that a session opens a message, and does not take its own work for that.
func TestReadingIsSeenByTheIndexer(t *testing.T) {
	o := openOutside(t, 100, Options{})
	st := o.box.(*hold).m.st
	o.candidates("NOWHERE")
	o.indexed()
	if n := st.read.Load(); n != 0 {
		t.Fatalf("%d messages were read, and nobody did", n)
	}
	msg, err := o.box.Message(t.Context(), o.box.View().UIDs.At(0))
	o.must(err)
	o.must(msg.Close())
	if n := st.read.Load(); n != 1 {
		t.Errorf("%d messages were read, want 1", n)
	}
}

// indexed waits until the indexer has nothing to do.
func (o *outside) indexed() {
	for running := true; running; {
		time.Sleep(time.Millisecond) // it tells nobody
		o.s.mu.Lock()
		running = o.s.indexer.running
		o.s.mu.Unlock()
	}
}

func (o *outside) hasIndex() bool {
	_, err := os.Stat(o.path(fts.Name))
	return err == nil
}

// Who never searches text has no index; the first search has it made, deliveries are added,
// and a restart finds it as it was.
func TestTextIndexIsMadeAndKeptUp(t *testing.T) {
	o := openOutside(t, 150, Options{})
	o.indexed()
	if o.hasIndex() {
		t.Fatal("there is an index, and nobody searched")
	}
	if got := o.candidates("NOWHERE"); got != nil {
		t.Fatalf("%d are left without an index", len(got))
	}
	o.indexed()
	if got := o.candidates("NOWHERE"); got == nil || len(got) != 0 {
		t.Fatalf("%v may hold what none does", got)
	}
	if got := o.candidates("SUBJECT: X"); len(got) != 150 {
		t.Fatalf("%d of 150 may hold what all do", len(got))
	}
	for i := range indexMessages {
		o.deliver(fmt.Sprintf("1800000000.M%dP1.host", i))
	}
	o.until("the deliveries are seen", func() bool { return o.box.View().UIDs.Len() == 150+indexMessages })
	o.indexed()
	if got := o.candidates("NOWHERE"); len(got) >= indexMessages {
		t.Fatalf("%d messages that were delivered are not indexed", len(got))
	}
	o.deliver("1800000001.M1P1.host")
	o.until("one more is seen", func() bool { return o.box.View().UIDs.Len() == 151+indexMessages })
	last := o.box.View().UIDs.At(150 + indexMessages)
	if got := o.candidates("NOWHERE"); !slices.Contains(got, last) {
		t.Fatalf("a message that is not indexed is no candidate: %v", got)
	}
	o.close()
	was, err := os.Stat(o.path(fts.Name))
	o.must(err)
	o.open(Options{})
	if got := o.candidates("NOWHERE"); got == nil || !slices.Contains(got, last) {
		t.Fatalf("after a restart %v are left", got)
	}
	o.indexed()
	now, err := os.Stat(o.path(fts.Name))
	if o.must(err); !os.SameFile(was, now) || now.Size() != was.Size() {
		t.Error("the index was made anew")
	}
	o.close()
	o.open(Options{NoTextIndex: true})
	if got := o.candidates("NOWHERE"); got != nil || o.hasIndex() {
		t.Errorf("with the index turned off %v are left, and there is a file: %v", got, o.hasIndex())
	}
}

// A message that is written in place is a candidate from then on, after a restart too.
func TestTextIndexForgetsWhatIsWrittenInPlace(t *testing.T) {
	o := openOutside(t, 100, Options{})
	o.candidates("NOWHERE")
	o.indexed()
	if got := o.candidates("NOWHERE"); got == nil || len(got) != 0 {
		t.Fatalf("%v are left", got)
	}
	uid := o.box.View().UIDs.At(7)
	m := o.box.(*hold).m
	m.mu.Lock()
	i, _ := m.table.find(uid)
	name := m.table.fileName(i)
	m.mu.Unlock()
	f, err := os.OpenFile(o.path("cur/"+name), os.O_WRONLY|os.O_APPEND, 0)
	o.must(err)
	_, err = f.WriteString("and now a needle\n")
	o.must(err)
	o.must(f.Close())
	for !slices.Equal(o.candidates("NEEDLE"), []imap.UID{uid}) {
		time.Sleep(time.Millisecond) // the event of a write wakes nobody
	}
	o.close()
	o.open(Options{})
	if got := o.candidates("NEEDLE"); !slices.Equal(got, []imap.UID{uid}) {
		t.Errorf("after a restart %v are left, want %d", got, uid)
	}
}

// A file that another has under the UID, as beside a uidlist of yesterday, is not the one
// that was indexed.
func TestTextIndexGoesByFileNames(t *testing.T) {
	o := openOutside(t, 100, Options{})
	o.candidates("NOWHERE")
	o.indexed()
	o.close()
	list, err := os.ReadFile(o.path("dovecot-uidlist"))
	o.must(err)
	o.must(os.WriteFile(o.path("cur/1900000000.M1P1.host:2,"), []byte("Subject: x\n\na needle\n"), 0o600))
	o.must(os.Remove(o.path("cur/" + o.base(5) + ":2,")))
	o.must(os.WriteFile(o.path("dovecot-uidlist"), []byte(strings.Replace(string(list), o.base(5), "1900000000.M1P1.host", 1)), 0o600))
	o.must(os.Remove(o.path("roost.index")))
	o.open(Options{})
	if got := o.candidates("NEEDLE"); len(got) != 1 {
		t.Errorf("%v are left, want the one with the new file", got)
	}
}

// A process that does not own the mailbox neither reads nor writes the index.
func TestTextIndexIsTheOwners(t *testing.T) {
	o := openOutside(t, 100, Options{})
	other := o.another(Options{})
	if got := other.candidates("NOWHERE"); got != nil {
		t.Errorf("%v are left by a process that has no index", got)
	}
	other.indexed()
	if o.hasIndex() {
		t.Error("it wrote one")
	}
}

// A store that is closed while it indexes is closed at once, and leaves what can be used.
func TestTextIndexIsLeftWhenTheStoreCloses(t *testing.T) {
	o := openOutside(t, 600, Options{})
	o.candidates("NOWHERE")
	o.close()
	o.open(Options{})
	o.candidates("NOWHERE")
	o.indexed()
	if got := o.candidates("NOWHERE"); got == nil || len(got) != 0 {
		t.Errorf("%v are left", got)
	}
}
