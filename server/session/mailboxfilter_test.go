package session

import (
	"context"
	"errors"
	"strings"
	"testing"

	"roost/server/wire"
	"roost/store"
)

// parseFilter reads a filter and what ends it.
func parseFilter(t *testing.T, text string) (mailboxFilter, error) {
	t.Helper()
	s := &session{login: &Login{Who: store.Identity{Roots: []store.Root{{}}}}, sep: '/'}
	s.lex = wire.NewLexer(strings.NewReader(text+")\r\n"), nil, wire.Limits{}, wire.Hooks{})
	if err := s.lex.Wait(); err != nil {
		t.Fatal(err)
	}
	f, err := s.mailboxFilter(context.Background())
	if err == nil {
		err = s.lex.Expect(')')
	}
	return f, err
}

func TestMailboxFilterCovers(t *testing.T) {
	for _, c := range []struct{ filter, covered, not string }{
		{`selected`, "", "INBOX A"},
		{`Selected-Delayed`, "", "INBOX A"},
		{`inboxes`, "INBOX A A/B", ""},
		{`PERSONAL`, "INBOX A A/B", ""},
		{`subscribed`, "Sub Sub/x", "INBOX A"},
		{`mailboxes inbox`, "INBOX", "INBOX/x A"},
		{`mailboxes (A "C d" {2}` + "\r\nxy)", "A|C d|xy", "A/B|B"},
		{`mailboxes "A*"`, "A*", "A AB"},
		{`subtree A`, "A A/B A/B/C", "AB INBOX B/A"},
		{`subtree (A INBOX/x)`, "A A/B INBOX/x INBOX/x/y", "INBOX B"},
		{`subtree ""`, "A A/B INBOX", ""},
		{`subtree-one A`, "A A/B", "A/B/C AB"},
		{`subtree-one ""`, "A INBOX", "A/B"},
	} {
		f, err := parseFilter(t, c.filter)
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		for want, names := range map[bool]string{true: c.covered, false: c.not} {
			split := strings.Fields(names)
			if strings.Contains(names, "|") {
				split = strings.Split(names, "|")
			}
			for _, n := range split {
				if got := f.covers(store.Name(n), strings.HasPrefix(n, "Sub"), '/'); got != want {
					t.Errorf("%s covers %s: %v", c.filter, n, got)
				}
			}
		}
	}
}

func TestMailboxFilterRefuses(t *testing.T) {
	for _, c := range []struct{ filter, kind string }{
		{`everything`, "BAD"},
		{`mailboxes ()`, "BAD"},
		{`subtree ()`, "BAD"},
		{`mailboxes`, "syntax"},
		{`personal A`, "syntax"},
		{`mailboxes (A  B)`, "syntax"},
		{`mailboxes (A`, "syntax"},
		{`mailboxes (` + strings.Repeat("a ", maxFilterNames) + `a)`, "NO"},
	} {
		_, err := parseFilter(t, c.filter)
		var r reply
		var syntax *wire.SyntaxError
		if c.kind == "syntax" && !errors.As(err, &syntax) || c.kind != "syntax" && (!errors.As(err, &r) || r.kind != c.kind) {
			t.Errorf("%.40s: %v, want %s", c.filter, err, c.kind)
		}
	}
}
