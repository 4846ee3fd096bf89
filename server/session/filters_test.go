package session

import (
	"fmt"
	"strings"
	"testing"

	"roost/store"
	"roost/store/memstore"
	"roost/test/talk"
)

// Filters that multiply each other, or hold much text, end in a limit.
func TestFilterBombs(t *testing.T) {
	b := newBench(t, Options{})
	b.mem.Seed("ann", store.Inbox, memstore.Seed{Message: "Subject: x\r\n\r\n"})
	a, err := b.mem.Account(t.Context(), b.Identity(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	set := func(name, text string) {
		t.Helper()
		if err := CheckFilter(name, text); err != nil {
			t.Fatal(err)
		}
		if err := a.Annotate(t.Context(), "", []store.Annotation{{Entry: privateFilters + "/" + name, Value: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 9 {
		set(fmt.Sprint("wide", i), strings.TrimSpace(strings.Repeat(fmt.Sprintf("FILTER wide%d ", i+1), 100)))
	}
	set("wide9", "SEEN")
	set("long", `SUBJECT "`+strings.Repeat("x", 60_000)+`"`)
	set("all-long", strings.TrimSpace(strings.Repeat("FILTER long ", 100)))
	set("deep", strings.Repeat("(", 30_000)+"ALL"+strings.Repeat(")", 30_000))
	set("not", strings.Repeat("NOT ", 15_999)+"SEEN")
	talk.Run(t, `A> a1 SELECT INBOX
A> a2 SEARCH FILTER wide0
A< a2 NO [LIMIT] ...
A> a3 SEARCH FILTER all-long
A< a3 NO [LIMIT] ...
A> a4 SEARCH FILTER deep
A< * SEARCH 1
A> a5 SEARCH FILTER not
A< * SEARCH 1
`, talk.Options{Dial: b.Dial, Greeting: true})
}

// A filter that somebody wrote into the file by hand, and that is none, is told as such.
func TestFilterThatIsNoSearch(t *testing.T) {
	b := newBench(t, Options{})
	a, err := b.mem.Account(t.Context(), b.Identity(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var script strings.Builder
	script.WriteString("A> a SELECT INBOX\n")
	for i, text := range []string{"", "OR SMALLER", "SEEN)", "(SEEN", "SEEN\r\nSEEN", "\r\nSEEN", "FROB", "SUBJECT \"x", "SUBJECT {5}\r\nab", "SUBJECT {99999999}\r\nab", "NOT", "\x00"} {
		if err := CheckFilter("f", text); err == nil {
			t.Errorf("%q is taken for a search", text)
		}
		if err := a.Annotate(t.Context(), "", []store.Annotation{{Entry: fmt.Sprintf("%s/f%d", privateFilters, i), Value: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "A> b%d SEARCH ALL FILTER f%d SEEN\nA< b%d NO [CANNOT] Filter f%d is no search: ...\n", i, i, i, i)
	}
	talk.Run(t, script.String(), talk.Options{Dial: b.Dial, Greeting: true})
}

// What is a search is one in parentheses too: nothing in a filter reaches out of it.
func FuzzCheckFilter(f *testing.F) {
	for _, s := range []string{"SEEN", "OR SMALLER 5000 FROM \"boss@example.com\"", "SUBJECT {3}\r\ntwo 1:* UID 5", "(SEEN) NOT $", "FUZZY TEXT x", "FILTER x", "SEEN) (SEEN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckFilter("f", text) != nil || strings.HasSuffix(text, " ") || strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\r") {
			return
		}
		if err := CheckFilter("f", "NOT ("+text+")"); err != nil {
			t.Fatalf("%q is a search by itself, and in parentheses: %v", text, err)
		}
	})
}
