package fts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/message"
)

// A shelf is messages as a mailbox has them, and what a search would see in them.
type shelf struct {
	base map[uint32]string
	text map[uint32][][]byte // folded passages
	raw  map[uint32]string
	next uint32
}

func newShelf() *shelf {
	return &shelf{map[uint32]string{}, map[uint32][][]byte{}, map[uint32]string{}, 1}
}

func (s *shelf) names(uids, sums []uint32) {
	for i, uid := range uids {
		sums[i] = 0
		if base, ok := s.base[uid]; ok {
			sums[i] = Sum(uid, base)
		}
	}
}

func (s *shelf) put(uid uint32, raw string) {
	s.base[uid], s.raw[uid] = fmt.Sprintf("%d.M1P1.host,S=%d", uid, len(raw)), raw
	s.text[uid] = passages(raw)
}

// passages is what is searched of a message, with the least cleverness.
func passages(raw string) (all [][]byte) {
	sc := message.NewScanner(message.Limits{})
	io.WriteString(sc, raw)
	for p := range message.Passages(sc.Finish()) {
		rg := p.Range()
		b := []byte(raw[rg.Off:rg.End()])
		if p.Header {
			for f := range message.Fields(b) {
				var out bytes.Buffer
				message.WriteField(&out, f)
				all = append(all, message.AppendFold(nil, out.Bytes()))
			}
			continue
		}
		var out bytes.Buffer
		w := message.NewTextWriter(p.Part, &out)
		w.Write(b)
		w.Close()
		all = append(all, message.AppendFold(nil, out.Bytes()))
	}
	return all
}

func (s *shelf) holds(uid uint32, text []byte) bool {
	return slices.ContainsFunc(s.text[uid], func(p []byte) bool { return bytes.Contains(p, text) })
}

var words = strings.Fields(`invoice Rechnung Straße İstanbul ΣΊΣΥΦΟΣ σίσυφος naïve café 東京 大阪府 한글 привет ПРИВЕТ
	the of and to in that it is was for on are as with 2024-11-27 meeting Meeting MEETING a ab xyz ` + "\x80\xff\xe2\x82 \xc3")

// letter makes a message.
func letter(r *rand.Rand) string {
	var body strings.Builder
	for range r.IntN(60) {
		body.WriteString(words[r.IntN(len(words))])
		body.WriteString([]string{" ", "", "\r\n", ", "}[r.IntN(4)])
	}
	head := "From: " + words[r.IntN(len(words))] + "\r\nSubject: =?utf-8?q?J=C3=BCrgen_" + words[r.IntN(5)] + "?=\r\n"
	switch r.IntN(6) {
	case 0:
		return head + "Content-Type: text/html; charset=utf-8\r\n\r\n<b>" + body.String() + "</b>"
	case 1:
		return head + "Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8NLJ18XU" + fmt.Sprint(r.IntN(9))
	case 2:
		return head + "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\n" + body.String() + "\r\n--b\r\nContent-Type: image/png\r\n\r\nhidden picture\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner " + words[r.IntN(len(words))] + "\r\n\r\nInner text\r\n--b--\r\n"
	case 3:
		return head + "Content-Type: text/plain; charset=no-such-thing\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.ReplaceAll(body.String(), "a", "=61")
	case 4:
		return "no header at all"
	}
	return head + "\r\n" + body.String()
}

// ask checks one search, and gives how many messages it leaves of those in the index.
func (s *shelf) ask(t *testing.T, x *Index, text string) (left int, ok bool) {
	t.Helper()
	folded := message.AppendFold(nil, []byte(text))
	last := uint32(0)
	out := map[uint32]bool{}
	ok, err := x.RuledOut(t.Context(), folded, func(uid uint32) {
		if uid <= last {
			t.Fatalf("UID %d behind %d", uid, last)
		}
		last = uid
		out[uid] = true
	})
	if err != nil {
		return 0, false
	}
	for uid := range s.base {
		if out[uid] && s.holds(uid, folded) {
			t.Fatalf("UID %d is ruled out, and holds %q:\n%s", uid, text, s.raw[uid])
		}
		if !out[uid] {
			left++
		}
	}
	return left, ok
}

func (s *shelf) anyText(r *rand.Rand) string {
	if r.IntN(3) == 0 || len(s.base) == 0 {
		return words[r.IntN(len(words))] + []string{"", " ", "e"}[r.IntN(3)] + words[r.IntN(len(words))]
	}
	for uid := range s.text { // any of them
		if all := s.text[uid]; len(all) > 0 {
			p := all[r.IntN(len(all))]
			from := r.IntN(len(p) + 1)
			p = p[from:]
			return string(p[:r.IntN(min(len(p), 40)+1)])
		}
		break
	}
	return "abc"
}

// fill adds up to n messages in batches.
func (s *shelf) fill(t *testing.T, r *rand.Rand, x *Index, n int) {
	t.Helper()
	b := NewBatch()
	for range n {
		uid := s.next
		s.next += 1 + uint32(r.IntN(3)/2)
		s.put(uid, letter(r))
		if err := b.Add(uid, Sum(uid, s.base[uid]), &wholeMessage{[]byte(s.raw[uid])}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Add(b, x.Last()); err != nil && !errors.Is(err, errDamaged) {
		t.Fatal(err)
	}
}

func tidy(x *Index) error {
	for {
		more, err := x.Tidy(func() error { return nil })
		if err != nil || !more {
			return err
		}
	}
}

func desk(t testing.TB) (fsys.Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := fsys.OS.Root(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, filepath.Join(path, Name)
}

// Whatever happens to a mailbox and to the file, no message is ruled out that holds the text.
func TestNothingIsRuledOutThatHoldsTheText(t *testing.T) {
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 5))
		d, path := desk(t)
		s := newShelf()
		x := New(d, 0o600, 7, 1, s.names)
		for step := range 60 {
			if err := x.Load(); err != nil && !errors.Is(err, errDamaged) {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			switch r.IntN(12) {
			case 0, 1, 2:
				s.fill(t, r, x, 1+r.IntN(200))
			case 3:
				if err := tidy(x); err != nil && !errors.Is(err, errDamaged) {
					t.Fatal(err)
				}
			case 4:
				for uid := range s.base {
					if r.IntN(3) == 0 {
						delete(s.base, uid)
						delete(s.text, uid)
					}
				}
			case 5: // written in place
				for uid := range s.base {
					s.put(uid, letter(r))
					if err := x.Forget(uid); err != nil {
						t.Fatal(err)
					}
					break
				}
			case 6: // a UID names another file
				x.Release()
				for uid := range s.base {
					s.put(uid, letter(r))
					s.base[uid] += "another"
					break
				}
			case 7:
				x.Release()
			case 8:
				if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
					for range 1 + r.IntN(3) {
						b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
					}
					if r.IntN(2) == 0 {
						x.Release()
					}
					if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil { // the same inode
						f.Write(b)
						f.Close()
					}
				}
			case 9:
				if r.IntN(3) == 0 {
					x.Release()
					os.Truncate(path, int64(r.IntN(1+int(size(path)))))
				}
			case 10:
				if r.IntN(4) == 0 {
					x.Release()
					os.Remove(path)
				}
			}
			x.Load()
			for range 5 {
				s.ask(t, x, s.anyText(r))
			}
		}
		x.Release()
	}
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// The index is of use: what is left for a rare text is few, and stays so.
func TestFewAreLeft(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	d, _ := desk(t)
	s := newShelf()
	x := New(d, 0o600, 7, 1, s.names)
	for range 20 {
		s.fill(t, r, x, 300)
		if err := tidy(x); err != nil {
			t.Fatal(err)
		}
	}
	b := NewBatch()
	s.put(s.next, "Subject: needle\r\n\r\nin a haystack of 大事 texts\r\n")
	b.Add(s.next, Sum(s.next, s.base[s.next]), &wholeMessage{[]byte(s.raw[s.next])})
	if err := x.Add(b, x.Last()); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for _, text := range []string{"NEEDLE", "edle", "haystack", "大事", "a haystack of"} {
			if left, ok := s.ask(t, x, text); !ok || left != 1 {
				t.Errorf("%q leaves %d messages of %d, %v", text, left, len(s.base), ok)
			}
		}
		if left, ok := s.ask(t, x, "nowhere at all"); !ok || left != 0 {
			t.Errorf("a text that is nowhere leaves %d, %v", left, ok)
		}
		if _, ok := s.ask(t, x, "ab"); ok {
			t.Error("a text of two bytes is narrowed")
		}
	}
	check()
	if n := len(x.segs); n > 3*fanIn {
		t.Errorf("%d segments", n)
	}
	if x.unused > x.size {
		t.Errorf("%d of %d bytes are out of use", x.unused, x.size)
	}
	x.Release()
	x.Load()
	check()
	for uid := range s.base {
		if uid < s.next && uid%8 != 0 {
			delete(s.base, uid)
		}
	}
	x.Release()
	x.Load()
	was := x.size
	if err := tidy(x); err != nil || x.size > was*2/3 {
		t.Errorf("of %d bytes %d stay after seven of eight messages went: %v", was, x.size, err)
	}
	check()
	if last := x.Last(); last != s.next {
		t.Errorf("last is %d, want %d", last, s.next)
	}
}

// A process that is killed, and a power cut, at each call: what is found then is silent, or
// right.
func TestCrashes(t *testing.T) {
	b := NewBatch()
	for _, power := range []bool{false, true} {
		for n := 1; ; n++ {
			mem := faultfs.NewMem()
			fs := faultfs.New(mem)
			root, err := fs.Make("/box", 0o700)
			if err != nil {
				t.Fatal(err)
			}
			fs.Reset()
			fs.Stop(n)
			r := rand.New(rand.NewPCG(9, uint64(n)))
			s := newShelf()
			x := New(root, 0o600, 7, 1, s.names)
			life(r, b, s, x)
			done := fs.Calls() < n
			x.Release()
			after := mem.Clone()
			if power {
				after = mem.Crash(r)
			}
			root, err = after.Root("/box")
			if err != nil {
				if power {
					continue // the directory was never synced
				}
				t.Fatal(err)
			}
			x = New(root, 0o600, 7, 1, s.names)
			for range 2 {
				if err := x.Load(); err != nil && !errors.Is(err, errDamaged) {
					t.Fatalf("stopped at %d: %v", n, err)
				}
				for range 20 {
					s.ask(t, x, s.anyText(r))
				}
				life(r, b, s, x)
				x.Release()
			}
			if done {
				break
			}
			if n > 2000 {
				t.Fatal("no end of calls")
			}
		}
	}
}

// life adds and tidies, whatever fails.
func life(r *rand.Rand, b *Batch, s *shelf, x *Index) {
	x.Load()
	s.next = max(s.next, x.Last()+1)
	for range 4 {
		for range 20 {
			s.put(s.next, letter(r))
			b.Add(s.next, Sum(s.next, s.base[s.next]), &wholeMessage{[]byte(s.raw[s.next])})
			s.next++
		}
		x.Add(b, x.Last())
		for range 3 {
			x.Tidy(func() error { return nil })
		}
		x.Forget(s.next - 5)
	}
}

// A full disk ends the adding, and what is there stays of use.
func TestFullDisk(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	d, _ := desk(t)
	s := newShelf()
	x := New(d, 0o600, 7, 1, s.names)
	s.fill(t, r, x, 100)
	x.Release()
	full := faultfs.New(fsys.OS)
	root, err := full.Root(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x = New(root, 0o600, 7, 1, s.names)
	if err := x.Load(); err != nil {
		t.Fatal(err)
	}
	noSpace := errors.New("no space")
	full.FailWhere(func(_ int, call string) error {
		if strings.HasPrefix(call, "write") || strings.HasPrefix(call, "create") {
			return noSpace
		}
		return nil
	})
	last := x.Last()
	b := NewBatch()
	s.put(s.next, letter(r))
	b.Add(s.next, 1, &wholeMessage{[]byte(s.raw[s.next])})
	if err := x.Add(b, x.Last()); !errors.Is(err, noSpace) || x.Writable() {
		t.Errorf("error %v, writable %v", err, x.Writable())
	}
	if _, ok := s.ask(t, x, "invoice"); !ok || x.Last() != last {
		t.Error("what was there is of no use any more")
	}
	full.Reset()
	full.FailWhere(nil)
	x.Release()
	x.Load()
	s.fill(t, r, x, 10)
	if !x.Writable() || x.Last() <= last {
		t.Error("nothing is added when there is room again")
	}
	x.Release()
}

func TestAnotherVersionIsThrownAway(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	d, path := desk(t)
	s := newShelf()
	x := New(d, 0o600, 7, 1, s.names)
	s.fill(t, r, x, 100)
	x.Release()
	for _, other := range []*Index{New(d, 0o600, 8, 1, s.names), New(d, 0o600, 7, 2, s.names)} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Load(); err != nil || other.Exists() || size(path) != 0 {
			t.Errorf("%v, exists %v, %d bytes", err, other.Exists(), size(path))
		}
		other.Release()
		os.WriteFile(path, whole, 0o600)
	}
	x.Load()
	if _, ok := s.ask(t, x, "invoice"); !ok {
		t.Error("the right one does not find it")
	}
	x.Release()
}

// A message that cannot be read, or that searches may see differently, is never ruled out,
// and no batch is spoiled by it.
func TestStrangeMessages(t *testing.T) {
	d, _ := desk(t)
	s := newShelf()
	x := New(d, 0o600, 7, 1, s.names)
	b := NewBatch()
	deep := strings.Builder{}
	for i := range 40 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	r := rand.New(rand.NewPCG(8, 8))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32()) | 0x10 // no line end
	}
	for uid, raw := range []string{
		1: deep.String() + "\r\ntext\r\n",
		2: "X: " + strings.Repeat("long ", 20_000) + "\r\n\r\n",
		3: "Content-Type: application/octet-stream\r\n\r\n" + string(noise),
		4: "Content-Type: text/plain\r\n\r\n" + string(noise),
		5: "Subject: plain\r\n\r\nplain\r\n",
		6: "Subject: big\r\n\r\n" + strings.Repeat("big text\r\n", 200_000) + "at the very end\r\n",
	} {
		if uid > 0 {
			s.put(uint32(uid), raw)
			if err := b.Add(uint32(uid), Sum(uint32(uid), s.base[uint32(uid)]), &wholeMessage{[]byte(raw)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	broken := errors.New("cannot be read")
	if err := b.Add(7, 7, failing{broken}); err != broken || b.Len() != 6 {
		t.Fatalf("%v, %d messages", err, b.Len())
	}
	b.AddUnknown(7)
	s.put(7, "anything at all")
	if err := x.Add(b, x.Last()); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"not there": 4, "plain": 5, "very end": 5} {
		if left, ok := s.ask(t, x, text); !ok || left != want {
			t.Errorf("%q leaves %d, want %d", text, left, want)
		}
	}
	x.Release()
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error)                 { return 0, f.err }
func (f failing) Size() (int64, error)                              { return 10, nil }
func (f failing) WriteRange(io.Writer, int64, int64) (int64, error) { return 0, f.err }

// Searches go on beside a writer.
func TestSearchesBesideAWriter(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	d, _ := desk(t)
	s := newShelf()
	s.put(1, "Subject: first\r\n\r\nneedle\r\n")
	for uid := uint32(2); uid < 3000; uid++ {
		s.put(uid, letter(r))
	}
	x := New(d, 0o600, 7, 1, s.names)
	x.Load()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // ends by stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := x.RuledOut(context.Background(), []byte("NEEDLE"), func(uid uint32) {
				if uid == 1 {
					t.Error("the message that holds it is ruled out")
				}
			}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	b := NewBatch()
	for uid := uint32(1); uid < 3000; uid++ {
		b.Add(uid, Sum(uid, s.base[uid]), &wholeMessage{[]byte(s.raw[uid])})
		if b.Len() == 50 {
			if err := x.Add(b, x.Last()); err != nil {
				t.Error(err)
			}
			if err := tidy(x); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	<-done
	x.Release()
}

func TestLists(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	for range 20_000 {
		size := 1 + r.IntN(3000)
		share := r.Float64()
		if r.IntN(2) == 0 {
			share *= share * share
		}
		var list []uint32
		for i := range size {
			if r.Float64() < share {
				list = append(list, uint32(i))
			}
		}
		if len(list) == 0 {
			list = append(list, uint32(r.IntN(size)))
		}
		b := appendList([]byte("x"), list, size)
		got, ok := readList(nil, b[1:], len(list), size)
		if !ok || !slices.Equal(got, list) {
			t.Fatalf("%d of %d: %v, %v, want %v", len(list), size, ok, got, list)
		}
	}
}
