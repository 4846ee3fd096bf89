package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/server/wire"
	"roost/store"
)

// parseSearch reads what stands behind SEARCH, in a mailbox of three messages.
func parseSearch(t testing.TB, text string) (searchParser, error) {
	t.Helper()
	s := &session{sel: &selected{view: store.View{UIDs: store.ColumnOf([]imap.UID{2, 3, 7})}}}
	s.lex = wire.NewLexer(strings.NewReader("t SEARCH"+text), nil, wire.Limits{}, wire.Hooks{})
	if err := s.lex.Wait(); err != nil {
		t.Fatal(err)
	}
	for range len("t SEARCH") {
		s.lex.Accept("t SEARCH"[s.lex.Offset()])
	}
	p := searchParser{s: s}
	err := p.parse()
	return p, err
}

// However a command nests, it is read in a stack that grows with the command.
func TestSearchNesting(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for _, c := range []struct{ name, text, code string }{
		{"not", many(99_000, "NOT ") + "ALL", ""},
		{"parentheses", many(49_000, "(") + "ALL" + many(49_000, ")"), ""},
		{"or to the right", many(20_000, "OR SUBJECT x ") + "ALL", ""},
		{"or to the left", many(20_000, "OR ") + "SEEN" + many(20_000, " SUBJECT x"), ""},
		{"a list", many(50_000, "SEEN ") + "ALL", ""},
		{"too many keys", many(100_000, "NOT ") + "ALL", "NO"},
		{"too many texts", many(201, "BODY x ") + "ALL", "NO"},
		{"not closed", many(50_000, "(") + "ALL", "syntax"},
	} {
		p, err := parseSearch(t, " "+c.text+"\r\n")
		var r reply
		var syntax *wire.SyntaxError
		switch {
		case c.code == "NO" && (!errors.As(err, &r) || r.code != "LIMIT"), c.code == "syntax" && !errors.As(err, &syntax):
			t.Errorf("%s: %v", c.name, err)
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.code == "":
			if _, err := search.NewPlan(p.query); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// A webmail's set of 20,000 UIDs is one key.
func TestSearchLongSet(t *testing.T) {
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, ",%d", 3*i+1)
	}
	p, err := parseSearch(t, " UID "+b.String()[1:]+" NOT DELETED\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := search.NewPlan(p.query); err != nil {
		t.Error(err)
	}
}

// Whatever is read without an error is a query that can be run.
func FuzzSearch(f *testing.F) {
	for _, seed := range []string{
		" ALL", " RETURN (MIN SAVE) OR (SEEN) NOT $ ", " CHARSET utf-8 HEADER x {1+}\r\ny (UID 1:* 3 (LARGER 5))",
		" SENTON 1-Feb-1994 OLDER 5 KEYWORD x", " NEW OLD RECENT UNSEEN", " RETURN () CHARSET koi8-r BODY \"x\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseSearch(t, text+"\r\n")
		if err != nil {
			return
		}
		if len(p.open) != 0 {
			t.Errorf("%q left %d keys open", text, len(p.open))
		}
		if _, err := search.NewPlan(p.query); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
