package maildir

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// manyKeywords are more than have letters.
func manyKeywords(n int) (flags []imap.Flag) {
	for i := range n {
		flags = append(flags, imap.Flag(fmt.Sprintf("key-%02d", i)))
	}
	return flags
}

// keywordsOf are the keywords of each message, in order.
func keywordsOf(t *testing.T, box store.Mailbox) (out [][]string) {
	t.Helper()
	v := box.View()
	for rows, err := range box.Rows(t.Context(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			out = append(out, slices.Sorted(slices.Values(r.Keywords.Names())))
		}
	}
	return out
}

// The keywords for which no letter is left live through all that happens to a message:
// reopening with and without the caches, another program's flags, copies and moves.
func TestMoreKeywordsThanLetters(t *testing.T) {
	o := openOutside(t, 3, Options{Poll: true})
	set := func(box store.Mailbox, uid imap.UID, op imap.StoreFlagsOp, flags ...imap.Flag) {
		t.Helper()
		if _, _, err := box.SetFlags(t.Context(), []imap.UID{uid}, store.FlagOp{Op: op, Flags: flags}); err != nil {
			t.Fatal(err)
		}
	}
	many := manyKeywords(40)
	set(o.box, 1, imap.StoreFlagsAdd, many...)
	set(o.box, 2, imap.StoreFlagsAdd, "key-39", "KEY-38", "key-01")
	set(o.box, 1, imap.StoreFlagsDel, "key-00", "key-30", "Key-31")
	var all []string
	for _, k := range many {
		if k != "key-00" && k != "key-30" && k != "key-31" {
			all = append(all, string(k))
		}
	}
	want := [][]string{all, {"key-01", "key-38", "key-39"}, nil}
	check := func(when string, box store.Mailbox, want [][]string) {
		t.Helper()
		got := keywordsOf(t, box)
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: %q\nwant %q", when, got, want)
		}
	}
	check("set", o.box, want)
	reopen := func() { t.Helper(); o.close(); o.open(Options{Poll: true}) }
	reopen()
	check("reopened", o.box, want)
	o.close()
	removeCaches(t, o.root)
	o.open(Options{Poll: true})
	check("without caches", o.box, want)

	// Another program, which knows the letters only, flags one.
	m := o.box.(*hold).m
	i, _ := m.table.find(1)
	from := m.table.fileName(i)
	to := withFlags(from, store.FlagFlagged, func() letterSet { _, l := flagsOf(from); return l }())
	o.must(os.Rename(o.path("cur/"+from), o.path("cur/"+to)))
	o.must(o.box.Look(t.Context()))
	check("flagged by another", o.box, want)
	if r := rowOf(t, o.box, 1); r.Flags&store.FlagFlagged == 0 {
		t.Error("the other's flag is not seen")
	}

	o.must(o.a.Create(t.Context(), "Other", nil))
	if _, err := o.box.Copy(t.Context(), []imap.UID{1, 2, 3}, "Other"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.box.Move(t.Context(), []imap.UID{1, 2}, "Other"); err != nil {
		t.Fatal(err)
	}
	check("moved away", o.box, [][]string{nil})
	other, err := o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	check("copied and moved", other, [][]string{want[0], want[1], nil, want[0], want[1]})
	other.Close()
	reopen()
	other, err = o.a.Hold(t.Context(), "Other", true, func() {})
	o.must(err)
	defer other.Close()
	check("reopened after that", other, [][]string{want[0], want[1], nil, want[0], want[1]})

	// What no message has any more goes from the file when it is mostly that.
	for i := range 150 {
		set(other, 3, imap.StoreFlagsAdd, manyKeywords(40)[39-i%2])
		set(other, 3, imap.StoreFlagsDel, manyKeywords(40)[39-i%2])
	}
	b, err := os.ReadFile(o.path(".Other/" + extraFile))
	o.must(err)
	if n := strings.Count(string(b), "\n"); n > 1+2*4+64+2 {
		t.Errorf("%d lines for 4 messages", n)
	}
	check("after many changes", other, [][]string{want[0], want[1], nil, want[0], want[1]})
}

// A mailbox does not take keywords without end, and says so.
func TestKeywordsHaveAnEnd(t *testing.T) {
	o := openOutside(t, 1, Options{Poll: true})
	add := func(flags []imap.Flag) error {
		_, _, err := o.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: flags})
		return err
	}
	all := manyKeywords(maxKeywords + 1)
	o.must(add(all[:maxKeywords]))
	if !o.box.Info().KeywordsEnd {
		t.Error(`PERMANENTFLAGS says \*`)
	}
	if err := add(all); !errors.Is(err, store.ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	if got := keywordsOf(t, o.box)[0]; len(got) != maxKeywords {
		t.Errorf("%d keywords", len(got))
	}
}

// The file is text that a crash may have torn, and somebody may have deleted.
func TestRoostKeywordsThatAreDamaged(t *testing.T) {
	for what, damage := range map[string]func(b []byte) []byte{
		"torn":    func(b []byte) []byte { return append(b, "key-27 key-28 :1700"...) },
		"garbage": func(b []byte) []byte { return append(b, "\x00\xff nonsense\n:\n : \n"...) },
		"empty":   func(b []byte) []byte { return nil },
		"foreign": func(b []byte) []byte { return []byte("something else\n") },
	} {
		t.Run(what, func(t *testing.T) {
			o := openOutside(t, 2, Options{Poll: true})
			_, _, err := o.box.SetFlags(t.Context(), []imap.UID{1, 2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: manyKeywords(30)})
			o.must(err)
			o.close()
			b, err := os.ReadFile(o.path(extraFile))
			o.must(err)
			o.must(os.WriteFile(o.path(extraFile), damage(b), 0o600))
			removeCaches(t, o.root)
			o.open(Options{Poll: true})
			want := 30
			if what == "empty" || what == "foreign" {
				want = maxLetters
			}
			for _, got := range keywordsOf(t, o.box) {
				if len(got) != want {
					t.Errorf("%d keywords, want %d", len(got), want)
				}
			}
			_, _, err = o.box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: manyKeywords(35)})
			o.must(err)
			o.close()
			removeCaches(t, o.root)
			o.open(Options{Poll: true})
			if got := keywordsOf(t, o.box); len(got[0]) != 35 || len(got[1]) != want {
				t.Errorf("%d and %d keywords after the repair", len(got[0]), len(got[1]))
			}
		})
	}
}

// A letter that was seen before its name is called by it as soon as that is known, also
// where the name was read because a STORE needed a letter.
func TestLetterWhoseNameIsLearnedByStoreIsNotUnknownForEver(t *testing.T) {
	o := openOutside(t, 2, Options{Poll: true})
	o.must(os.Rename(o.path("cur/"+o.base(0)+":2,"), o.path("cur/"+o.base(0)+":2,a")))
	o.must(o.box.Look(t.Context()))
	if got := keywordsOf(t, o.box); fmt.Sprint(got) != "[[unknown-0] []]" {
		t.Fatalf("keywords %v", got)
	}
	o.must(os.WriteFile(o.path(lettersFile), []byte("0 Work\n"), 0o600))
	_, _, err := o.box.SetFlags(t.Context(), []imap.UID{2}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{"Work"}})
	o.must(err)
	o.must(o.box.Look(t.Context()))
	if got := keywordsOf(t, o.box); fmt.Sprint(got) != "[[Work] [Work]]" {
		t.Errorf("keywords %v", got)
	}
}
