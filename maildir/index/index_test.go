package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
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
			Info:     infos[i%4],
		}
	}
	return rows
}

var (
	infos = []string{"", ":2,", ":2,S", ":2,FSa"}

	head = Head{
		Validity: 1288361218, Next: 400_000, ModSeq: 1_800_000_000_001_000, Lines: 12, Last: 399_999, Since: 5,
		Boot:   "5f0c7a0e-4b6f-4d0a-9f5e-0d3a6b1c2d3e",
		Clean:  true,
		Stamps: Stamps{Stamp{1, 0, 2, 3}, Stamp{4, 0, 5, 6}, Stamp{7, 80, 8, 9}, Stamp{10, 81, 11, 12}, Stamp{13, 82, 14, 15}},
		At:     1_800_000_000_000_000_000,
	}
	sets     = [][]string{{"$Forwarded"}, {"$Forwarded", "grün"}}
	vanished = []Vanished{{2, 10}, {9, 10}, {5, 12}}
)

func save(t testing.TB, d fsys.Dir, rows []Row) *Log {
	t.Helper()
	l, err := Write(d, 0o600, contents(head, rows))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// contents packs rows as a mailbox has them.
func contents(h Head, rows []Row) Contents { return pack(state{h, sets, vanished, rows}) }

func pack(st state) Contents {
	c := Contents{Head: st.Head, Sets: st.Sets, Count: len(st.Rows), Vanished: st.Vanished}
	numbers := map[string]uint32{"": 0}
	var entries []Entry
	for _, r := range st.Rows {
		info, ok := numbers[r.Info]
		if !ok {
			c.Infos = append(c.Infos, r.Info)
			info = uint32(len(c.Infos))
			numbers[r.Info] = info
		}
		last := len(c.Names) - 1
		if last < 0 || len(c.Names[last])+len(r.Base)+binary.MaxVarintLen16 > maxNames {
			c.Names = append(c.Names, nil)
			last++
		}
		at := uint32(last)<<16 | uint32(len(c.Names[last]))
		c.Names[last] = appendBytes(c.Names[last], r.Base)
		entries = append(entries, Entry{
			ModSeq: r.ModSeq, Internal: r.Internal, UID: r.UID, Size: uint32(r.Size), Name: at, Info: info,
			Keywords: r.Keywords, Flags: r.Flags, InNew: r.InNew,
		})
	}
	c.Rows = slices.Values(entries)
	return c
}

// state is all that a file says.
type state struct {
	Head     Head
	Sets     [][]string
	Vanished []Vanished
	Rows     []Row
}

// loaded is a file as somebody sees it who took its rows.
type loaded struct {
	*Snapshot
	state
}

func parse(b []byte) (loaded, error) {
	return collect(func(take Taker) (*Snapshot, error) {
		return read(bytes.NewReader(b), int64(len(b)), take)
	})
}

// collector is a Taker that unpacks what it is given.
type collector struct {
	names [][]byte
	rows  map[uint32]Row
	given int
}

func (c *collector) Names(chunk []byte) { c.names = append(c.names, chunk) }

func (c *collector) Entries(s *Snapshot, block []Entry) {
	for _, e := range block {
		r := Row{UID: e.UID, ModSeq: e.ModSeq, Size: int64(e.Size), Internal: e.Internal, Flags: e.Flags, InNew: e.InNew, Keywords: e.Keywords}
		if e.Size == UnknownSize {
			r.Size = -1
		}
		if e.Info > 0 {
			r.Info = s.Infos[e.Info-1]
		}
		at := c.names[e.Name>>16][e.Name&0xffff:]
		k, n := binary.Uvarint(at)
		r.Base = slices.Clone(at[n:][:k])
		c.rows[r.UID] = r
		c.given++
	}
}

func collect(read func(take Taker) (*Snapshot, error)) (l loaded, err error) {
	c := &collector{rows: map[uint32]Row{}}
	if l.Snapshot, err = read(c); err != nil {
		return l, err
	}
	if c.given != l.Count {
		return l, fmt.Errorf("%d rows were given, of %d", c.given, l.Count)
	}
	for _, row := range l.Changed {
		c.rows[row.UID] = row
	}
	for _, uid := range l.Gone {
		delete(c.rows, uid)
	}
	l.state = state{l.Snapshot.Head, l.Snapshot.Sets, l.Snapshot.Vanished, nil}
	for _, uid := range slices.Sorted(maps.Keys(c.rows)) {
		l.state.Rows = append(l.state.Rows, c.rows[uid])
	}
	return l, nil
}

func load(t testing.TB, d fsys.Dir) loaded {
	t.Helper()
	l, err := collect(func(take Taker) (*Snapshot, error) { return Load(d, 1<<30, take) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func same(t *testing.T, got loaded, want state) {
	t.Helper()
	g := got.state
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
}

func TestSnapshotComesBack(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3000} {
		d, _ := open(t)
		rows := sample(n)
		save(t, d, rows)
		save(t, d, rows) // in place of one that is there
		if n == 0 {
			rows = nil
		}
		same(t, load(t, d), state{head, sets, vanished, rows})
	}
}

// Names as long as can be fill a block before its rows do.
func TestLongNamesComeBack(t *testing.T) {
	d, _ := open(t)
	rows := sample(1000)
	for i := range rows {
		rows[i].Base = bytes.Repeat([]byte{'a' + byte(i%26)}, 1+i%255)
	}
	rows[500].Base = bytes.Repeat([]byte{'x'}, maxBase)
	save(t, d, rows)
	same(t, load(t, d), state{head, sets, vanished, rows})
}

// moment is one batch and what it is appended with.
type moment struct {
	at     int64
	modSeq uint64
	next   uint32
	batch  *Batch
}

func (m moment) appendTo(l *Log) error { return l.Append(m.at, m.modSeq, m.next, m.batch) }

// steps are moments, and what holds after each.
func steps(rows []Row) ([]moment, []state) {
	st := state{head, sets, vanished, rows}
	states := []state{st}
	var moments []moment
	step := func(change func(b *Batch)) {
		b := new(Batch)
		st.Rows = slices.Clone(st.Rows)
		st.Head.ModSeq += 10_000
		st.Head.Clean, st.Head.Stamps, st.Head.At = false, Stamps{}, 0
		change(b)
		moments = append(moments, moment{int64(len(moments)), st.Head.ModSeq, st.Head.Next, b})
		states = append(states, st)
	}
	step(func(b *Batch) { // flags, twice on one message in one batch
		r := st.Rows[1]
		r.Flags, r.ModSeq = 31, r.ModSeq+5000
		b.Put(r)
		r.Info, r.InNew, r.ModSeq = ":2,T", false, r.ModSeq+1
		b.Put(r)
		st.Rows[1] = r
	})
	step(func(b *Batch) { // new messages with a new keyword set
		b.Set([]string{"third"})
		st.Sets = append(slices.Clone(st.Sets), []string{"third"})
		for i := range uint32(3) {
			r := Row{UID: 400_000 + i, ModSeq: 7, Size: 5, Keywords: 3, Base: []byte("new" + fmt.Sprint(i))}
			b.Put(r)
			st.Rows = append(st.Rows, r)
		}
		st.Head.Next = 400_003
	})
	step(func(b *Batch) { // expunges of an old, a changed and a new one
		for k, i := range []int{len(st.Rows) - 2, 1, 0} {
			v := Vanished{st.Rows[i].UID, 100 + uint64(k)}
			b.Gone(v)
			st.Vanished = append(slices.Clone(st.Vanished), v)
			st.Rows = slices.Delete(st.Rows, i, i+1)
		}
	})
	step(func(b *Batch) { // all is known
		h := head
		h.ModSeq, h.Next, h.Lines, h.Clean = st.Head.ModSeq, st.Head.Next, 15, false
		h.Stamps.Cur.Mtime, h.At = 77, 78
		b.Head(h)
		st.Head = h
	})
	step(func(b *Batch) { // and no more
		r := st.Rows[2]
		r.Flags, r.ModSeq = 0, r.ModSeq+6000
		b.Put(r)
		st.Rows[2] = r
	})
	return moments, states
}

func TestLogIsReplayed(t *testing.T) {
	d, _ := open(t)
	rows := sample(20)
	l := save(t, d, rows)
	moments, states := steps(rows)
	for i, m := range moments {
		if err := m.appendTo(l); err != nil {
			t.Fatal(err)
		}
		s := load(t, d)
		same(t, s, states[i+1])
		if s.At != m.at || s.Torn {
			t.Errorf("moment %d: at %d, torn %v", i, s.At, s.Torn)
		}
		if i%2 == 0 {
			l.Release()
			l = s.Log() // the next is added by another process
		}
	}
	if l.Sets() != 3 {
		t.Errorf("%d sets", l.Sets())
	}
}

// A row may be logged that the snapshot does not have, wherever its UID is.
func TestLoggedRowsStandInOrder(t *testing.T) {
	d, _ := open(t)
	rows := sample(20)
	l := save(t, d, append(slices.Clone(rows[2:7]), rows[9:18]...))
	b := new(Batch)
	for _, i := range []int{19, 0, 8, 1, 7, 18} {
		b.Put(rows[i])
	}
	if err := l.Append(1, 0, 0, b); err != nil {
		t.Fatal(err)
	}
	want := state{head, sets, vanished, rows}
	want.Head.Clean, want.Head.Stamps, want.Head.At = false, Stamps{}, 0
	same(t, load(t, d), want)
}

// Whatever part of the file a crash leaves, and whatever follows it: none, or a moment
// that was.
func TestEveryPrefixIsAMomentOrNone(t *testing.T) {
	d, path := open(t)
	rows := sample(20)
	l := save(t, d, rows)
	moments, states := steps(rows)
	for _, m := range moments {
		if err := m.appendTo(l); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tail := range map[string][]byte{"cut": nil, "zeros": make([]byte, 200), "itself": whole[len(magic)+100 : len(magic)+400]} {
		at := -1 // which state was reached
		for n := range len(whole) + 1 {
			s, err := parse(append(whole[:n:n], tail...))
			if err != nil {
				if !errors.Is(err, ErrNone) || at >= 0 {
					t.Fatalf("%s: %d of %d bytes: %v after state %d", name, n, len(whole), err, at)
				}
				continue
			}
			got := s.state
			if at >= 0 && reflect.DeepEqual(got, states[at]) {
				continue
			}
			if at++; at >= len(states) || !reflect.DeepEqual(got, states[at]) {
				t.Fatalf("%s: %d of %d bytes: not state %d", name, n, len(whole), at)
			}
			if s.Torn != (tail != nil) {
				t.Errorf("%s: %d of %d bytes: torn %v", name, n, len(whole), s.Torn)
			}
		}
		if at != len(states)-1 {
			t.Errorf("%s: only state %d was reached", name, at)
		}
	}
}

// A block counts only behind those that it was written behind: what an older file left
// on the disk behind ours is not taken for ours.
func TestBlocksOfAnotherFileAreNotContinued(t *testing.T) {
	d, path := open(t)
	rows := sample(20)
	moments, states := steps(rows)
	write := func(h Head, last int) []byte {
		l, err := Write(d, 0o600, contents(h, rows))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range moments[:last] {
			if err := m.appendTo(l); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	older := write(head, 2)
	h := head
	h.At++
	newer := write(h, 1)
	if len(newer) >= len(older) {
		t.Fatal("the older file does not go on behind the newer")
	}
	s, err := parse(append(newer, older[len(newer):]...))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Torn {
		t.Error("what followed was not seen")
	}
	same(t, s, states[1])
	// Nor is a block that stands twice, or without the one before it.
	size := []int64{s.log.snapshot, s.log.size}
	again := append(slices.Clone(newer), newer[size[0]:size[1]]...)
	if s, err = parse(again); err != nil || !s.Torn {
		t.Fatalf("a block was taken twice: %v", err)
	}
	same(t, s, states[1])
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
			if s, err := parse(b); err == nil {
				t.Fatalf("byte %d: taken for an index: %+v", i, s.state.Head)
			}
		}
	}
}

func TestLogBehindATornEndIsNotContinued(t *testing.T) {
	d, path := open(t)
	l := save(t, d, sample(5))
	b := new(Batch)
	b.Gone(Vanished{1, 20})
	if err := l.Append(1, 0, 0, b); err != nil {
		t.Fatal(err)
	}
	st, _ := os.Stat(path)
	os.Truncate(path, st.Size()-1)
	if err := l.Append(1, 0, 0, b); err == nil {
		t.Error("the log was continued though its file was changed")
	}
	if !l.Wasteful() {
		t.Error("a broken log does not ask for a snapshot")
	}
	if s := load(t, d); s.Log().Append(1, 0, 0, b) == nil || len(s.Rows) != 5 || !s.Torn {
		t.Error("the log was continued behind a torn block")
	}
}

func TestLoadOfWhatIsNoIndex(t *testing.T) {
	d, path := open(t)
	if _, err := Load(d, 1<<20, nil); err != ErrNone {
		t.Errorf("missing: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "text": "hello, world", "version": "RoostIx\x01"} {
		os.WriteFile(path, []byte(content), 0o600)
		if _, err := Load(d, 1<<20, nil); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	save(t, d, sample(100))
	if _, err := Load(d, 1000, nil); !errors.Is(err, ErrNone) {
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
		"letters written":  func(s *Stamps) { s.Letters.Ino = 4 },
		"keywords written": func(s *Stamps) { s.Extra.Ino = 4 },
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

func BenchmarkLoad100k(b *testing.B) {
	d, _ := open(b)
	save(b, d, sample(100_000))
	b.ReportAllocs()
	for b.Loop() {
		if s, err := Load(d, 1<<30, nil); err != nil || s.Count != 100_000 {
			b.Fatal(err)
		}
	}
}

// Nothing is held of what was read but the names: a big file costs no garbage.
func TestLoadHoldsTheNamesAlone(t *testing.T) {
	d, path := open(t)
	c := contents(head, sample(100_000))
	if _, err := Write(d, 0o600, c); err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, chunk := range c.Names {
		names += len(chunk)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Load(d, 1<<30, nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; int(n) > names+512<<10 || st.Size() < int64(names)+4_000_000 {
		t.Errorf("%d bytes were allocated for a file of %d, %d of them names", n, st.Size(), names)
	}
}
