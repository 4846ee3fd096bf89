package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"

	"github.com/emersion/go-imap/v2"
)

func sorted(t testing.TB, src Source, by ...Criterion) []imap.UID {
	t.Helper()
	found := foundAll(t, src)
	order, err := Sort(t.Context(), src, found, by)
	if err != nil {
		t.Fatal(err)
	}
	var uids []imap.UID
	for _, i := range order {
		uids = append(uids, found.UIDs[i])
	}
	return uids
}

var toSort = []memstore.Seed{
	{Time: time.Unix(500, 0), Message: "From: \"Zoe\" <carol@x>\nTo: bob@y\nSubject: Re: apple\nDate: 1 Jan 2001 12:00 +0200\n\n1234567890\n"},
	{Time: time.Unix(400, 0), Message: "From: =?utf-8?q?=C3=84nne?= <dave@x>\nTo: list: bob@y;\nCc: al@z\nSubject: Banana\nDate: 1 Jan 2001 11:00 +0000\n\n"},
	{Time: time.Unix(300, 0), Message: "From: bob@x\nTo: =?utf-8?q?Anna?= <zed@y>\nSubject: APPLE (fwd)\n\n12345\n"}, // no Date: 300
	{Time: time.Unix(200, 0), Message: "From: <Carol@a>\nTo: undisclosed\nCc: Zed@z, al@z\nSubject: =?iso-8859-1?q?=C4rger?=\nDate: 1 Jan 2001 10:30 nowhere\n\n"},
	{Time: time.Unix(100, 0), Message: "X-Nothing: here\n\n"},
}

func TestSort(t *testing.T) {
	src := open(t, toSort...)
	for _, c := range []struct {
		by   []Criterion
		want []imap.UID
	}{
		{[]Criterion{{By: SortArrival}}, []imap.UID{5, 4, 3, 2, 1}},
		{[]Criterion{{By: SortArrival, Reverse: true}}, []imap.UID{1, 2, 3, 4, 5}},
		{[]Criterion{{By: SortDate}}, []imap.UID{5, 3, 1, 4, 2}},    // without a Date field: as it arrived
		{[]Criterion{{By: SortSize}}, []imap.UID{5, 3, 1, 2, 4}},    // 19, 74, 98, 115 and 120 bytes
		{[]Criterion{{By: SortSubject}}, []imap.UID{5, 1, 3, 4, 2}}, // "A\u0308RGER" is above "APPLE" and below "BANANA"
		{[]Criterion{{By: SortSubject, Reverse: true}}, []imap.UID{2, 4, 1, 3, 5}},
		{[]Criterion{{By: SortSubject}, {By: SortDate}}, []imap.UID{5, 3, 1, 4, 2}},
		{[]Criterion{{By: SortFrom}}, []imap.UID{5, 3, 1, 4, 2}},
		{[]Criterion{{By: SortFrom}, {By: SortArrival}}, []imap.UID{5, 3, 4, 1, 2}},
		{[]Criterion{{By: SortTo}}, []imap.UID{5, 1, 2, 4, 3}}, // the group is what is first
		{[]Criterion{{By: SortCc}}, []imap.UID{1, 3, 5, 2, 4}},
		{[]Criterion{{By: SortDisplayFrom}}, []imap.UID{5, 2, 3, 4, 1}},
		{[]Criterion{{By: SortDisplayTo}}, []imap.UID{5, 3, 1, 2, 4}},
	} {
		if got := sorted(t, src, c.by...); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.by, got, c.want)
		}
	}
}

// RFC 5255 section 4.6: what is no UTF-8 comes behind all else, byte by byte.
func TestBrokenTextSortsLast(t *testing.T) {
	src := open(t,
		memstore.Seed{Message: "Subject: \xd0\xc0\xd0\xbd\n\n"},
		memstore.Seed{Message: "Subject: \xd1\x81\xd0\x95\n\n"},
		memstore.Seed{Message: "Subject: \xd0\x92\xff\xb9\n\n"},
		memstore.Seed{Message: "Subject: =?koi8-r?q?=E1=CC?=\n\n"})
	if got := sorted(t, src, Criterion{By: SortSubject}); !slices.Equal(got, []imap.UID{4, 2, 3, 1}) {
		t.Error(got)
	}
}

// A first sort reads each header once, from the notes of the header where they are there;
// later ones open nothing and ask for no header.
func TestSortIsWarm(t *testing.T) {
	src := open(t, toSort...)
	src.Keys = 7
	src.Box.Note(1, src.Fields, []byte("Subject: Re: apple\nDate: 1 Jan 2001 12:00 +0200\n\n"))
	opened := 0
	src.Opened = func() error { opened++; return nil }
	want := []imap.UID{5, 3, 1, 4, 2}
	if got := sorted(t, src, Criterion{By: SortSubject}, Criterion{By: SortDate}); !slices.Equal(got, want) || opened != 4 {
		t.Errorf("%v, %d messages were opened", got, opened)
	}
	src.Fields = 99
	if got := sorted(t, src, Criterion{By: SortSubject}, Criterion{By: SortDate}); !slices.Equal(got, want) || opened != 4 {
		t.Errorf("%v, %d messages were opened", got, opened)
	}
	src.Box.Note(2, src.Keys, []byte("damaged"))
	if got := sorted(t, src, Criterion{By: SortSubject}, Criterion{By: SortDate}); !slices.Equal(got, want) || opened != 5 {
		t.Errorf("%v, %d messages were opened", got, opened)
	}
	if got := sorted(t, src, Criterion{By: SortArrival}); !slices.Equal(got, []imap.UID{5, 4, 3, 2, 1}) || opened != 5 {
		t.Errorf("%v, %d messages were opened", got, opened)
	}
}

func TestSortEnds(t *testing.T) {
	var seeds []memstore.Seed
	for i := range 2000 {
		seeds = append(seeds, memstore.Seed{Message: fmt.Sprintf("Subject: %d\n\n", i)})
	}
	src := open(t, seeds...)
	ctx, cancel := context.WithCancel(t.Context())
	opened := 0
	src.Opened = func() error {
		if opened++; opened == 600 {
			cancel()
		}
		return nil
	}
	if _, err := Sort(ctx, src, foundAll(t, src), []Criterion{{By: SortSubject}}); !errors.Is(err, context.Canceled) || opened > 1100 {
		t.Errorf("%v after %d messages", err, opened)
	}
}

func TestKeysAreBounded(t *testing.T) {
	h := "Message-ID: <me@x>\nReferences:" + strings.Repeat(" <a@b>", 10) + "\nReferences:"
	for i := range 200 {
		h += fmt.Sprintf("\n <%d@x>", i)
	}
	h += "\nSubject: " + strings.Repeat("\u00c4", 5000) + "\n\n"
	k := keysOf([]byte(h))
	var refs []msgID
	for id := range ids(k.refs) {
		refs = append(refs, id)
	}
	if len(refs) != maxRefs || refs[0] != hash("a@b") || refs[1] != hash("101@x") || refs[maxRefs-1] != hash("199@x") {
		t.Errorf("%d references", len(refs))
	}
	if len(k.strings[keySubject]) != maxKeyBytes {
		t.Errorf("%d bytes of subject", len(k.strings[keySubject]))
	}
}

// A second sort of a big mailbox, of the keys that were kept.
func BenchmarkSort100k(b *testing.B) {
	st := memstore.New(nil)
	var seeds []memstore.Seed
	for i := range 100_000 {
		seeds = append(seeds, memstore.Seed{Message: fmt.Sprintf("From: Writer %d <w%d@example.org>\nSubject: Re: [list] subject %d\nDate: 1 Jan 2001 %02d:%02d:00 +0000\n\n", i%97, i%97, i*7919%50_000, i%24, i%60)})
	}
	st.Seed("ann", store.Inbox, seeds...)
	a, err := st.Account(b.Context(), store.Identity{User: "ann"})
	if err != nil {
		b.Fatal(err)
	}
	box, err := a.Hold(b.Context(), store.Inbox, true, func() {})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	defer box.Close()
	src := Source{Box: box, View: box.View(), Keys: 7}
	found := foundAll(b, src)
	by := []Criterion{{By: SortSubject}, {By: SortDate, Reverse: true}}
	if _, err := Sort(b.Context(), src, found, by); err != nil {
		b.Fatal(err)
	}
	src.Opened = func() error { return errors.New("a message was opened") }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sort(b.Context(), src, found, by); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("Subject: Re: [x] y\nFrom: a <b@c>\nTo: g:;\nMessage-ID: <a@b>\nReferences: <c@d>\nDate: 1 Jan 2001 00:00 +0000\n\n"))
	f.Add(appendKeys(nil, keys{sent: -1, dated: true, id: 5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		note := appendKeys(nil, keysOf(b))
		k, err := decodeKeys(note)
		if err != nil || !bytes.Equal(appendKeys(nil, k), note) {
			t.Fatalf("%q: %v, %q", b, err, note)
		}
		if max := 8*(maxRefs+1) + 6*(maxKeyBytes+2) + 20; len(note) > max {
			t.Fatalf("%d bytes are kept", len(note))
		}
		if k, err = decodeKeys(b); err == nil {
			if again, err := decodeKeys(appendKeys(nil, k)); err != nil || fmt.Sprint(again) != fmt.Sprint(k) {
				t.Fatalf("%q: %v", b, err)
			}
		}
	})
}

func TestRange(t *testing.T) {
	for _, c := range []struct {
		r        Range
		n        int
		from, to int
	}{
		{Range{}, 5, 0, 0},
		{Range{First: 1, Last: 3}, 5, 0, 3},
		{Range{First: 4, Last: 9}, 5, 3, 5},
		{Range{First: 6, Last: 9}, 5, 5, 5},
		{Range{1, 2, true}, 5, 3, 5},
		{Range{4, 9, true}, 5, 0, 2},
		{Range{6, 9, true}, 5, 0, 0},
		{Range{1, 1<<32 - 1, false}, 0, 0, 0},
	} {
		if from, to := c.r.Of(c.n); from != c.from || to != c.to {
			t.Errorf("%v of %d: %d to %d, want %d to %d", c.r, c.n, from, to, c.from, c.to)
		}
	}
}

// A range is found without looking at what lies behind it, and is what all results give.
func TestSearchPartial(t *testing.T) {
	var seeds []memstore.Seed
	for i := range 1500 {
		seeds = append(seeds, memstore.Seed{Message: fmt.Sprintf("Subject: %d\n\n", i%3)})
	}
	src := open(t, seeds...)
	p := plan(t, Key{Op: Header, Field: "Subject", Text: "1"})
	whole, err := p.Search(t.Context(), src, imap.SearchOptions{})
	if err != nil || len(whole.UIDs) != 500 {
		t.Fatal(err, len(whole.UIDs))
	}
	opened := 0
	src.Opened = func() error { opened++; return nil }
	for _, r := range []Range{{1, 10, false}, {1, 10, true}, {200, 300, false}, {495, 600, true}, {501, 502, false}, {1, 1<<32 - 1, true}} {
		opened = 0
		part, err := p.SearchPartial(t.Context(), src, r)
		if err != nil {
			t.Fatal(err)
		}
		from, to := r.Of(500)
		if !slices.Equal(part.UIDs, whole.UIDs[from:to]) || !slices.Equal(part.Nums, whole.Nums[from:to]) {
			t.Errorf("%v: %v", r, part.UIDs)
		}
		if most := 3 * int(min(r.Last, 500)); opened > most {
			t.Errorf("%v: %d messages were opened", r, opened)
		}
	}
}

// The order is that of comparing any two by one column after the other, however many there
// are and however much they have in common.
func TestOrderIsThatOfComparing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{0, 1, 2, 63, 64, 65, 1000} {
		for _, reverse := range []bool{false, true} {
			text := column{Criterion: Criterion{By: SortSubject, Reverse: reverse}}
			number := column{Criterion: Criterion{By: SortDate, Reverse: r.IntN(2) == 0}}
			for range n {
				s := strings.Repeat("a", r.IntN(20)) + string(rune('a'+r.IntN(3))) + strings.Repeat("\x00", r.IntN(2))
				if r.IntN(10) == 0 {
					s = ""
				}
				text.texts = append(text.texts, []byte(s))
				number.numbers = append(number.numbers, int64(r.IntN(5)-2)<<(8*r.IntN(8)))
			}
			for _, columns := range [][]column{{text}, {number}, {text, number}, {number, text}} {
				want := make([]int, n)
				for i := range want {
					want[i] = i
				}
				slices.SortStableFunc(want, func(a, b int) int {
					for i := range columns {
						if c := columns[i].compare(a, b); c != 0 {
							return c
						}
					}
					return 0
				})
				if got := inOrder(n, columns); !slices.Equal(got, want) {
					t.Fatalf("%d by %d, reverse %v: %v, want %v", n, columns[0].By, reverse, got, want)
				}
			}
		}
	}
}
