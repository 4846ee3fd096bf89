package search

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/quick"
	"time"

	"roost/message"
	"roost/store"
	"roost/store/memstore"

	"github.com/emersion/go-imap/v2"
)

// open seeds INBOX and holds it.
func open(t *testing.T, messages ...memstore.Seed) Source {
	t.Helper()
	st := memstore.New(nil)
	st.Seed("ann", store.Inbox, messages...)
	a, err := st.Account(t.Context(), store.Identity{User: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close(); a.Close() })
	return Source{Box: box, View: box.View(), Parts: 1, Fields: 2}
}

func plan(t *testing.T, keys ...Key) *Plan {
	t.Helper()
	var q Query
	for _, k := range keys {
		if err := q.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	p, err := NewPlan(q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func find(t *testing.T, src Source, keys ...Key) []imap.UID {
	t.Helper()
	found, err := plan(t, keys...).Search(t.Context(), src, imap.SearchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found.UIDs
}

var mixed = []memstore.Seed{
	{Message: "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\nSubject: =?iso-8859-1?q?Gr=FC=DFe?= aus\n =?iso-8859-1?q?K=F6ln?=\nDate: Tue, 31 Dec 2024 23:30:00 -0500\n\nplain body\n"},
	{Message: "From: bob@example.org\nSubject: attached\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npreamble secret\n--b\nContent-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n8NLJ18XU\n--b\nContent-Type: image/png\nContent-Description: hidden\nContent-Transfer-Encoding: base64\n\ncGxhaW4gYm9keQ==\n--b--\n"},
	{Message: "From: carol@example.org\nSubject: fwd\nContent-Type: message/rfc822\n\nFrom: dave@example.org\nSubject: inner subject\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nna=C3=AFve caf=C3=\n=A9 soft=\nbreak\n"},
	{Message: "Subject:\nX-Empty:\n\n"},
}

func TestTexts(t *testing.T) {
	src := open(t, mixed...)
	for _, c := range []struct {
		key  Key
		want []imap.UID
	}{
		{Key{Op: Header, Field: "From", Text: "jürgen"}, []imap.UID{1}},
		{Key{Op: Header, Field: "FROM", Text: "JÜRGEN <J@"}, []imap.UID{1}},
		{Key{Op: Header, Field: "Subject", Text: "GRÜßE AUS KÖLN"}, []imap.UID{1}},
		{Key{Op: Header, Field: "Subject", Text: "ko\u0308ln"}, []imap.UID{1}}, // taken apart
		{Key{Op: Header, Field: "Subject", Text: ""}, []imap.UID{1, 2, 3, 4}},
		{Key{Op: Header, Field: "x-empty", Text: ""}, []imap.UID{4}},
		{Key{Op: Header, Field: "x-empty", Text: "a"}, nil},
		{Key{Op: Header, Field: "From", Text: "dave"}, nil}, // that is another message's
		{Key{Op: Body, Text: "PLAIN BODY"}, []imap.UID{1}},  // and no image
		{Key{Op: Body, Text: "привет"}, []imap.UID{2}},
		{Key{Op: Body, Text: "attached"}, nil},
		{Key{Op: Body, Text: "hidden"}, nil},
		{Key{Op: Text, Text: "hidden"}, []imap.UID{2}},
		{Key{Op: Text, Text: "attached"}, []imap.UID{2}},
		{Key{Op: Body, Text: "inner Subject"}, []imap.UID{3}},
		{Key{Op: Body, Text: "NAÏVE CAFÉ softbreak"}, []imap.UID{3}},
		{Key{Op: Text, Text: "example.org"}, []imap.UID{1, 2, 3}},
		{Key{Op: Text, Text: "from: carol"}, []imap.UID{3}},
		{Key{Op: Body, Text: ""}, []imap.UID{1, 2, 3, 4}},
		{Key{Op: SentOn, N: 20241231}, []imap.UID{1}}, // as written: in UTC it is another year
		{Key{Op: SentSince, N: 20250101}, nil},
		{Key{Op: SentBefore, N: 20250101}, []imap.UID{1}},
	} {
		if got := find(t, src, c.key); !slices.Equal(got, c.want) {
			t.Errorf("%+v found %v, want %v", c.key, got, c.want)
		}
	}
}

// The notes of the store give the same answers as the messages themselves.
func TestNotes(t *testing.T) {
	src := open(t, mixed...)
	for uid := imap.UID(1); uid <= 4; uid++ {
		m, err := src.Box.Message(t.Context(), uid)
		if err != nil {
			t.Fatal(err)
		}
		s := message.NewScanner(message.Limits{})
		size, _ := m.Size()
		m.WriteRange(s, 0, size)
		src.Box.Note(uid, src.Parts, message.AppendParts(nil, s.Finish()))
		src.Box.Note(uid, src.Fields, s.Header())
	}
	opened := 0
	src.Common = func(fields []string) bool { return !slices.Contains(fields, "x-rare") }
	src.Opened = func() error { opened++; return nil }
	if got := find(t, src, Key{Op: Header, Field: "From", Text: "jürgen"}); !slices.Equal(got, []imap.UID{1}) || opened > 0 {
		t.Errorf("found %v, %d messages were opened", got, opened)
	}
	if got := find(t, src, Key{Op: SentOn, N: 20241231}); !slices.Equal(got, []imap.UID{1}) || opened > 0 {
		t.Errorf("found %v, %d messages were opened", got, opened)
	}
	if got := find(t, src, Key{Op: Header, Field: "X-Rare"}); got != nil || opened != 4 {
		t.Errorf("found %v, %d messages were opened", got, opened)
	}
	if got := find(t, src, Key{Op: Body, Text: "привет"}); !slices.Equal(got, []imap.UID{2}) {
		t.Errorf("found %v", got)
	}
}

// Only messages that the cheap keys leave undecided are opened.
func TestCheapFirst(t *testing.T) {
	var seeds []memstore.Seed
	for i := range 1000 {
		s := memstore.Seed{Message: fmt.Sprintf("Subject: %d\n\nbody %d\n", i, i)}
		if i%100 == 0 {
			s.Flags = []imap.Flag{imap.FlagFlagged}
		}
		seeds = append(seeds, s)
	}
	src := open(t, seeds...)
	opened := 0
	src.Opened = func() error { opened++; return nil }
	got := find(t, src, Key{Op: Body, Text: "body"}, Key{Op: Flag, Flags: store.FlagFlagged},
		Key{Op: UIDs, Set: imap.UIDSet{{Start: 1, Stop: 501}}})
	if len(got) != 6 || opened != 6 {
		t.Errorf("found %d, opened %d", len(got), opened)
	}
	// OR is decided by its cheap side where that holds.
	opened = 0
	got = find(t, src, Key{Op: Text, Text: "body 7\r\n"}, Key{Op: UIDs, Set: imap.UIDSet{{Start: 3, Stop: 1000}}}, Key{Op: Or})
	if len(got) != 998 || opened != 2 {
		t.Errorf("found %d, opened %d", len(got), opened)
	}
	opened = 0
	for _, opt := range []imap.SearchOptions{{ReturnMin: true}, {ReturnMax: true}, {ReturnMin: true, ReturnMax: true}} {
		found, err := plan(t, Key{Op: Header, Field: "Subject", Text: "9"}).Search(t.Context(), src, opt)
		want := []imap.UID{10, 1000}
		if !opt.ReturnMax {
			want = want[:1]
		} else if !opt.ReturnMin {
			want = want[1:]
		}
		if err != nil || !slices.Equal(found.UIDs, want) || len(found.Nums) != len(want) {
			t.Errorf("%+v found %v, %v", opt, found, err)
		}
	}
	if opened != 22 {
		t.Errorf("MIN and MAX opened %d messages", opened)
	}
}

// Any query gives what a plain walk of its tree gives.
func TestRandomQueries(t *testing.T) {
	var seeds []memstore.Seed
	r := rand.New(rand.NewPCG(7, 7))
	words := []string{"alpha", "beta", "gamma"}
	for range 40 {
		s := memstore.Seed{Message: "Subject: " + words[r.IntN(3)] + "\n\n" + words[r.IntN(3)] + "\n", Time: time.Unix(int64(r.IntN(10)), 0)}
		for _, f := range []imap.Flag{imap.FlagSeen, "kw"} {
			if r.IntN(2) == 0 {
				s.Flags = append(s.Flags, f)
			}
		}
		seeds = append(seeds, s)
	}
	src := open(t, seeds...)
	holds := func(k Key, i int) bool {
		s := seeds[i]
		header, body, _ := strings.Cut(s.Message, "\n\n")
		switch k.Op {
		case Flag:
			return slices.Contains(s.Flags, imap.FlagSeen)
		case Word:
			return slices.Contains(s.Flags, "kw")
		case Since:
			return s.Time.Unix() >= k.N
		case UIDs:
			return k.Set.Contains(imap.UID(i + 1))
		case Header:
			return strings.Contains(header, k.Text)
		case Body:
			return strings.Contains(body, k.Text)
		}
		return strings.Contains(s.Message, k.Text)
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 8))
		var keys []Key
		depth := 0
		for len(keys) < 20 || depth > 3 {
			word := words[r.IntN(3)]
			switch n := r.IntN(12); {
			case n < 2 && depth > 1 || len(keys) > 30 && depth > 1:
				keys = append(keys, Key{Op: Or})
				depth--
			case n < 4 && depth > 2:
				keys = append(keys, Key{Op: And, N: 3})
				depth -= 2
			case n < 6 && depth > 0:
				keys = append(keys, Key{Op: Not})
			default:
				from := imap.UID(r.IntN(20) + 1)
				keys = append(keys, []Key{
					{Op: Flag, Flags: store.FlagSeen}, {Op: Word, Text: "KW"}, {Op: Since, N: int64(r.IntN(10))},
					{Op: UIDs, Set: imap.UIDSet{{Start: from, Stop: from + 15}}},
					{Op: Header, Field: "Subject", Text: word}, {Op: Body, Text: word}, {Op: Text, Text: word},
				}[r.IntN(7)])
				depth++
			}
		}
		var want []imap.UID
		for i := range seeds {
			var stack []bool
			for _, k := range keys {
				top := len(stack) - 1
				switch k.Op {
				case Or:
					stack = append(stack[:top-1], stack[top] || stack[top-1])
				case And:
					stack = append(stack[:top-2], stack[top] && stack[top-1] && stack[top-2])
				case Not:
					stack[top] = !stack[top]
				default:
					stack = append(stack, holds(k, i))
				}
			}
			if !slices.Contains(stack, false) {
				want = append(want, imap.UID(i+1))
			}
		}
		if got := find(t, src, keys...); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %+v found %v, want %v", seed, keys, got, want)
		}
	}
}

// A text is found wherever the stream is cut.
func TestMatcherCuts(t *testing.T) {
	text := strings.Repeat("ab", 40) + "Ünïcödé한글" + strings.Repeat("é", 30)
	needle := message.AppendFold(nil, []byte("ABÜNÏCÖDÉ한글É"))
	err := quick.Check(func(cuts []uint8, long bool) bool {
		m := matcher{ctx: t.Context(), needles: [][]byte{needle}, found: []bool{false}}
		m.start([]int{0})
		all := text
		if long {
			all = strings.Repeat("-", 2*chunk-50) + text
		}
		for _, c := range cuts {
			n := min(int(c), len(all))
			m.Write([]byte(all[:n]))
			all = all[n:]
		}
		m.Write([]byte(all))
		return m.end() == nil && m.found[0]
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestFold(t *testing.T) {
	for _, c := range [][2]string{
		{"straße", "STRAßE"}, {"é", "e\u0301"}, {"Å", "a\u030a"}, {"ǆ", "ǅ"}, {"한", "\u1112\u1161\u11ab"},
		{"ﬁ", "FI"}, {"ПРИВЕТ", "привет"}, {"\xff\xfe", "\xff\xfe"}, {"ａ", "A"},
	} {
		if a, b := message.AppendFold(nil, []byte(c[0])), message.AppendFold(nil, []byte(c[1])); string(a) != string(b) {
			t.Errorf("%q is %q, %q is %q", c[0], a, c[1], b)
		}
	}
}

// A client that is gone, and a message that cannot be had, end what they must.
func TestEnds(t *testing.T) {
	src := open(t, mixed...)
	ctx, cancel := context.WithCancel(t.Context())
	src.Opened = func() error { cancel(); return nil }
	_, err := plan(t, Key{Op: Body, Text: "x"}).Search(ctx, src, imap.SearchOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled search ended with %v", err)
	}
	src.Opened = nil
	src.Box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	src.Box.Expunge(t.Context(), nil)
	if got := find(t, src, Key{Op: Text, Text: "example.org"}); !slices.Equal(got, []imap.UID{2, 3}) {
		t.Errorf("with UID 1 expunged found %v", got)
	}
	var q Query
	for range MaxTexts {
		if err := q.Add(Key{Op: Body, Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := q.Add(Key{Op: Text, Text: "x"}); !errors.As(err, &limit) {
		t.Errorf("one text too many: %v", err)
	}
	if _, err := NewPlan(Query{keys: []Key{{Op: Not}}}); err == nil {
		t.Error("a query without operands has a plan")
	}
}

// A field is found by its name in whatever letters, among few that are asked for and many.
func TestKeysOfFewAndManyFields(t *testing.T) {
	src := open(t,
		memstore.Seed{Message: "x-0: a\nX-1: b\nX-2: c\nx-3: d\nX-4: e\nX-5: f\n\n"},
		memstore.Seed{Message: "X-0: a\nX-1: b\nX-2: c\nX-3: d\nX-4: e\nX-5: other\n\n"},
		memstore.Seed{Message: "Y-0: a\nY-1: b\nY-2: c\nY-3: d\nY-4: e\nY-5: f\n\n"},
	)
	var keys []Key
	for i := range 6 {
		keys = append(keys, Key{Op: Header, Field: fmt.Sprintf("X-%d", i), Text: string(rune('a' + i))})
		want := []imap.UID{1, 2}
		if i == 5 {
			want = want[:1]
		}
		if got := find(t, src, keys...); !slices.Equal(got, want) {
			t.Errorf("%d fields: found %v, want %v", i+1, got, want)
		}
	}
}

func BenchmarkBodySearch(b *testing.B) {
	text := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 1000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		m := matcher{ctx: b.Context(), needles: [][]byte{[]byte("NOWHERE")}, found: []bool{false}}
		m.start([]int{0})
		m.Write(text)
		m.end()
	}
}

// What several readers find is what one finds, in the same order, and what is kept of it too,
// whatever messages are gone or cannot be read.
func TestManyReadersFindWhatOneFinds(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var seeds []memstore.Seed
	for i := range 700 {
		m := mixed[i%len(mixed)].Message
		seeds = append(seeds, memstore.Seed{Message: fmt.Sprintf("X-No: %d\n", i%7) + m})
	}
	common := func(header []byte) []byte { return append([]byte(nil), header...) }
	run := func(alone bool, do func(src Source) any) (any, []string) {
		src := open(t, seeds...)
		src.Keys, src.Digest = 3, 4
		src.Common, src.CommonOf = func([]string) bool { return true }, common
		src.Box = &troubled{Mailbox: src.Box}
		if alone {
			src.Opened = func() error { return nil }
		}
		got := do(src)
		var notes []string
		for _, kind := range []store.NoteKind{2, 3, 4} {
			for uid, note := range src.Box.Notes(t.Context(), src.View.UIDs.Slice(0, 700), kind) {
				notes = append(notes, fmt.Sprintf("%d %d %q", kind, uid, note))
			}
		}
		return got, notes
	}
	search := func(keys ...Key) func(src Source) any {
		return func(src Source) any {
			found, err := plan(t, keys...).Search(t.Context(), src, imap.SearchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(found.UIDs, found.Nums, found.Unread)
		}
	}
	sorted := func(src Source) any {
		found, err := plan(t, Key{Op: All}).Search(t.Context(), src, imap.SearchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		order, err := Sort(t.Context(), src, &found, []Criterion{{By: SortSubject}, {By: SortFrom, Reverse: true}})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(order, found.Unread)
	}
	for name, do := range map[string]func(src Source) any{
		"header":            search(Key{Op: Header, Field: "X-No", Text: "3"}),
		"body":              search(Key{Op: Body, Text: "plain body"}),
		"text or no header": search(Key{Op: Text, Text: "inner subject"}, Key{Op: Header, Field: "X-No", Text: "5"}, Key{Op: Not}, Key{Op: Or}),
		"header and body":   search(Key{Op: Header, Field: "Subject", Text: "fwd"}, Key{Op: Body, Text: "soft"}),
		"digest":            search(Key{Op: Digest, Text: "none"}, Key{Op: Not}),
		"sort":              sorted,
	} {
		one, oneKept := run(true, do)
		many, manyKept := run(false, do)
		if one != many {
			t.Errorf("%s: one finds %v, many %v", name, one, many)
		}
		if !slices.Equal(oneKept, manyKept) {
			t.Errorf("%s: one keeps %d notes, many %d, or others", name, len(oneKept), len(manyKept))
		}
	}
}

// troubled is a mailbox in which some messages are gone and some cannot be read.
type troubled struct{ store.Mailbox }

func (b *troubled) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	switch {
	case uid%31 == 0:
		return nil, store.ErrGone
	case uid%37 == 0:
		return nil, store.ErrUnreadable
	}
	return b.Mailbox.Message(ctx, uid)
}

// A reader that panics ends the search that it reads for, and no more: the panic is had
// where the session recovers from it.
func TestPanicOfAReader(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	c := newCrew(nil)
	defer c.close()
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "of one message") {
			t.Errorf("recovered %v", v)
		}
	}()
	c.each(100, func(_, i int) {
		if i == 50 {
			panic("of one message")
		}
	})
	t.Error("it went on")
}

// Who helps stands back while others ask for something, and all is done all the same.
func TestOthersHaveACore(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var asked, done atomic.Uint64
	c := newCrew(func() uint64 { return asked.Add(1) })
	defer c.close()
	var last [maxReaders]time.Time
	for range 5 {
		c.each(batch, func(reader, _ int) {
			if rest := time.Since(last[reader]); reader > 0 && rest < standBack {
				t.Errorf("a helper came back after %v", rest)
			}
			done.Add(1)
			last[reader] = time.Now()
		})
	}
	if done.Load() != 5*batch {
		t.Errorf("%d done", done.Load())
	}
}
