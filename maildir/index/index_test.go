package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"roost/maildir/fsys"
)

func open(t testing.TB) (fsys.Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, filepath.Join(path, Name)
}

func sample(n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{
			UID:      uint32(3*i + 1),
			ModSeq:   1_800_000_000_000_000 + uint64(i*7919%1000),
			Size:     int64(i*31) - 1,
			Internal: 1_700_000_000 - int64(i%13)*86400,
			Flags:    uint8(i % 32),
			InNew:    i%5 == 0,
			Keywords: uint32(i % 3),
			Base:     fmt.Appendf(nil, "17003%05d.M%dP77.mail.example.org,S=%d,W=%d", i, i*17, i, i+9),
			Info:     []byte([]string{"", ":2,", ":2,S", ":2,FSa"}[i%4]),
		}
	}
	return rows
}

var (
	head = Head{
		Validity: 1288361218, Next: 99999, ModSeq: 1_800_000_000_001_000, Lines: 12, Last: 99998, Since: 5,
		Stamps: Stamps{Cur: Stamp{1, 0, 2, 3}, New: Stamp{4, 0, 5, 6}, UIDList: Stamp{7, 80, 8, 9}},
		At:     1_800_000_000_000_000_000,
	}
	sets     = [][]string{{"$Forwarded"}, {"$Forwarded", "grün"}}
	vanished = []Vanished{{2, 10}, {9, 10}, {5, 12}}
)

func save(t testing.TB, d fsys.Dir, rows []Row) *Log {
	t.Helper()
	l, err := Write(d, 0o600, Contents{head, sets, slices.Values(rows), vanished})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// state is all that a snapshot says.
type state struct {
	Head     Head
	Sets     [][]string
	Vanished []Vanished
	Rows     []Row
}

func stateOf(s *Snapshot) state {
	st := state{s.Head, s.Sets, s.Vanished, nil}
	for r := range s.Rows() {
		r.Base, r.Info = slices.Clone(r.Base), slices.Clone(r.Info)
		if len(r.Info) == 0 {
			r.Info = nil
		}
		st.Rows = append(st.Rows, r)
	}
	return st
}

func normal(rows []Row) []Row {
	rows = append([]Row(nil), rows...)
	for i := range rows {
		if len(rows[i].Info) == 0 {
			rows[i].Info = nil
		}
	}
	return rows
}

func load(t testing.TB, d fsys.Dir) *Snapshot {
	t.Helper()
	s, err := Load(d, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(t *testing.T, got *Snapshot, want state) {
	t.Helper()
	want.Rows = normal(want.Rows)
	g := stateOf(got)
	if !reflect.DeepEqual(g, want) {
		if len(g.Rows) == len(want.Rows) {
			for i := range g.Rows {
				if !reflect.DeepEqual(g.Rows[i], want.Rows[i]) {
					t.Fatalf("row %d:\n got %+v\nwant %+v", i, g.Rows[i], want.Rows[i])
				}
			}
		}
		t.Fatalf("%d rows, want %d; head %+v, want %+v", len(g.Rows), len(want.Rows), g.Head, want.Head)
	}
	if got.Count != len(want.Rows) {
		t.Errorf("Count %d, want %d", got.Count, len(want.Rows))
	}
}

func TestSnapshotComesBack(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3000} {
		d, _ := open(t)
		rows := sample(n)
		save(t, d, rows)
		save(t, d, rows) // in place of one that is there
		same(t, load(t, d), state{head, sets, vanished, rows})
	}
}

// steps are batches, and what holds after each.
func steps(rows []Row) ([]*Batch, []state) {
	st := state{head, sets, vanished, rows}
	states := []state{st}
	var batches []*Batch
	step := func(change func(b *Batch)) {
		b := new(Batch)
		st.Rows = slices.Clone(st.Rows)
		change(b)
		batches = append(batches, b)
		states = append(states, st)
	}
	step(func(b *Batch) { // flags, twice on one message in one batch
		r := st.Rows[1]
		r.Flags, r.ModSeq = 31, r.ModSeq+5000
		b.Put(r)
		r.Info, r.InNew, r.ModSeq = []byte(":2,T"), false, r.ModSeq+1
		b.Put(r)
		st.Rows[1] = r
	})
	step(func(b *Batch) { // new messages with a new keyword set
		b.Set([]string{"third"})
		st.Sets = append(slices.Clone(st.Sets), []string{"third"})
		for i := range uint32(3) {
			r := Row{UID: 90000 + i, ModSeq: 7, Size: 5, Keywords: 3, Base: []byte("new" + fmt.Sprint(i))}
			b.Put(r)
			st.Rows = append(st.Rows, r)
		}
		st.Head.Next, st.Head.ModSeq = 90003, st.Head.ModSeq+9
		b.Head(st.Head)
	})
	step(func(b *Batch) { // expunges of an old, a changed and a new one
		for k, i := range []int{len(st.Rows) - 2, 1, 0} {
			v := Vanished{st.Rows[i].UID, 100 + uint64(k)}
			b.Gone(v)
			st.Vanished = append(slices.Clone(st.Vanished), v)
			st.Rows = slices.Delete(st.Rows, i, i+1)
		}
	})
	return batches, states
}

func TestLogIsReplayed(t *testing.T) {
	d, _ := open(t)
	rows := sample(20)
	l := save(t, d, rows)
	batches, states := steps(rows)
	for i, b := range batches {
		if err := l.Append(b); err != nil {
			t.Fatal(err)
		}
		s := load(t, d)
		same(t, s, states[i+1])
		l = s.Log() // the next is added by another process
	}
	if l.Sets() != 3 {
		t.Errorf("%d sets", l.Sets())
	}
}

// Whatever part of the file a crash leaves: none, or a moment that was.
func TestEveryPrefixIsAMomentOrNone(t *testing.T) {
	d, path := open(t)
	rows := sample(20)
	l := save(t, d, rows)
	batches, states := steps(rows)
	for _, b := range batches {
		if err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range states {
		states[i].Rows = normal(states[i].Rows)
	}
	at := -1 // which state was reached
	for n := range len(whole) + 1 {
		s, _, err := parse(whole[:n])
		if err != nil {
			if !errors.Is(err, ErrNone) || at >= 0 {
				t.Fatalf("%d of %d bytes: %v after state %d", n, len(whole), err, at)
			}
			continue
		}
		got := stateOf(s)
		if at >= 0 && reflect.DeepEqual(got, states[at]) {
			continue
		}
		if at++; at >= len(states) || !reflect.DeepEqual(got, states[at]) {
			t.Fatalf("%d of %d bytes: not state %d", n, len(whole), at)
		}
	}
	if at != len(states)-1 {
		t.Errorf("only state %d was reached", at)
	}
}

// A bit that flips is noticed, wherever it is.
func TestEveryDamageIsNoticed(t *testing.T) {
	d, path := open(t)
	save(t, d, sample(5))
	whole, _ := os.ReadFile(path)
	for i := range whole {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(whole)
			b[i] ^= bit
			if s, _, err := parse(b); err == nil {
				t.Fatalf("byte %d: taken for an index: %+v", i, stateOf(s).Head)
			}
		}
	}
}

func TestLogBehindATornEndIsNotContinued(t *testing.T) {
	d, path := open(t)
	l := save(t, d, sample(5))
	b := new(Batch)
	b.Gone(Vanished{1, 20})
	if err := l.Append(b); err != nil {
		t.Fatal(err)
	}
	st, _ := os.Stat(path)
	os.Truncate(path, st.Size()-1)
	if err := l.Append(b); err == nil {
		t.Error("the log was continued though its file was changed")
	}
	if !l.Wasteful() {
		t.Error("a broken log does not ask for a snapshot")
	}
	if s := load(t, d); s.Log().Append(b) == nil || s.Count != 5 {
		t.Error("the log was continued behind a torn block")
	}
}

func TestLoadOfWhatIsNoIndex(t *testing.T) {
	d, path := open(t)
	if _, err := Load(d, 1<<20); err != ErrNone {
		t.Errorf("missing: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "text": "hello, world", "version": "RoostIx\x02"} {
		os.WriteFile(path, []byte(content), 0o600)
		if _, err := Load(d, 1<<20); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	save(t, d, sample(100))
	if _, err := Load(d, 1000); !errors.Is(err, ErrNone) {
		t.Errorf("above the limit: %v", err)
	}
}

func TestTrust(t *testing.T) {
	at := time.Unix(1_800_000_000, 0).UnixNano()
	old := at - 3*int64(time.Second)
	h := Head{At: at, Stamps: Stamps{
		Cur:     Stamp{1, 0, old, old},
		New:     Stamp{2, 0, old, old},
		UIDList: Stamp{3, 9, old, old},
	}}
	if !h.Trusted(h.Stamps) {
		t.Error("an untouched mailbox is not trusted")
	}
	for name, change := range map[string]func(s *Stamps){
		"cur replaced":     func(s *Stamps) { s.Cur.Ino = 9 },
		"new has mail":     func(s *Stamps) { s.New.Mtime++ },
		"restored mtimes":  func(s *Stamps) { s.Cur.Ctime++ },
		"uidlist appended": func(s *Stamps) { s.UIDList.Size++ },
		"keywords written": func(s *Stamps) { s.Keywords.Ino = 4 },
	} {
		now := h.Stamps
		change(&now)
		if h.Trusted(now) {
			t.Errorf("%s: trusted", name)
		}
	}
	h.Stamps.Cur.Mtime = at - int64(time.Second)
	if h.Trusted(h.Stamps) {
		t.Error("a young mtime is trusted")
	}
	if (Head{At: at}).Trusted(Stamps{}) {
		t.Error("no directories at all are trusted")
	}
}

func FuzzParse(f *testing.F) {
	d, path := open(f)
	l := save(f, d, sample(6))
	batches, _ := steps(sample(6))
	for _, b := range batches {
		l.Append(b)
	}
	whole, _ := os.ReadFile(path)
	f.Add(whole[len(magic):])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append([]byte(magic), b...)
		fixSums(b[len(magic):]) // else nothing gets past the checksums
		s, _, err := parse(b)
		if err != nil {
			return
		}
		// What was read is written and read the same.
		want := stateOf(s)
		var out bytes.Buffer
		if _, err := writeAll(&out, Contents{s.Head, s.Sets, s.Rows(), s.Vanished}); err != nil {
			t.Fatal(err)
		}
		got, _, err := parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if g := stateOf(got); !reflect.DeepEqual(g, want) {
			t.Fatalf("got %+v\nwant %+v", g, want)
		}
	})
}

func fixSums(b []byte) {
	for len(b) >= blockHeader {
		n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
		if n > len(b)-blockHeader {
			return
		}
		endBlock(b[:blockHeader+n], 0)
		b = b[blockHeader+n:]
	}
}

func BenchmarkLoad100k(b *testing.B) {
	d, _ := open(b)
	save(b, d, sample(100_000))
	b.ReportAllocs()
	for b.Loop() {
		s := load(b, d)
		n := 0
		for range s.Rows() {
			n++
		}
		if n != 100_000 {
			b.Fatal(n)
		}
	}
}

func TestRowsAreReadWithoutAllocating(t *testing.T) {
	d, _ := open(t)
	save(t, d, sample(10_000))
	s := load(t, d)
	if n := testing.AllocsPerRun(5, func() {
		for range s.Rows() {
		}
	}); n > 10 {
		t.Errorf("%v allocations for 10,000 rows", n)
	}
}
