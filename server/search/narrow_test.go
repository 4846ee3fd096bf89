package search

import (
	"context"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/message"
	"roost/store"
	"roost/store/memstore"
)

// narrowing is a mailbox that knows for some texts which messages hold them.
type narrowing struct {
	store.Mailbox
	may   map[string][]imap.UID
	asked []string
}

func (n *narrowing) Candidates(_ context.Context, _ store.View, text []byte) ([]imap.UID, bool, error) {
	n.asked = append(n.asked, string(text))
	may, ok := n.may[string(text)]
	return may, ok, nil
}

// What the store rules out is not looked at, in whatever way keys are joined; what it does not
// speak of is.
func TestNarrowed(t *testing.T) {
	var seeds []memstore.Seed
	for i := range 40 {
		text := "nothing of note"
		if i%10 == 9 {
			text = "a needle"
		}
		seeds = append(seeds, memstore.Seed{Message: "Subject: letter\n\n" + text + "\n"})
	}
	src := open(t, seeds...)
	needle, letter, other := Key{Op: Body, Text: "needle"}, Key{Op: Header, Field: "Subject", Text: "letter"}, Key{Op: Text, Text: "other"}
	with, without := []imap.UID{10, 20, 30, 40}, []imap.UID{}
	for _, u := range src.View.UIDs.All(0) {
		if !slices.Contains(with, u) {
			without = append(without, u)
		}
	}
	for _, c := range []struct {
		name   string
		keys   []Key
		want   []imap.UID
		opened int
	}{
		{"one", []Key{needle}, with, len(with)},
		{"and", []Key{needle, letter}, with, len(with)},
		{"not", []Key{needle, {Op: Not}}, without, len(with)},
		{"or", []Key{needle, other, {Op: Or}}, with, 40}, // of other nothing is known
		{"or with a flag", []Key{needle, {Op: Flag, Flags: store.FlagFlagged}, {Op: Or}}, with, len(with)},
		{"not or", []Key{needle, needle, {Op: Or}, {Op: Not}}, without, len(with)},
		{"in large ones", []Key{needle, {Op: Larger, N: 1}}, with, 1 + len(with)}, // before the store is asked, and what is left
		{"too short", []Key{{Op: Body, Text: "ne"}}, with, 40},
	} {
		n := &narrowing{Mailbox: src.Box, may: map[string][]imap.UID{"NEEDLE": {10, 20, 30, 40}}}
		s := src
		opened := 0
		s.Box, s.Opened = n, func() error { opened++; return nil }
		if got := find(t, s, c.keys...); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, want %v", c.name, got, c.want)
		}
		if opened > c.opened {
			t.Errorf("%s: %d messages were opened, want at most %d", c.name, opened, c.opened)
		}
	}

	// It is not asked where so few messages are left that they are looked into sooner.
	for _, c := range []struct {
		name string
		keys []Key
	}{
		{"a row rules out", []Key{needle, {Op: Larger, N: 1 << 30}}},
		{"one UID", []Key{needle, {Op: UIDs, Set: imap.UIDSet{{Start: 10, Stop: 10}}}}},
		{"a flag that none has", []Key{needle, {Op: Flag, Flags: store.FlagFlagged}}},
	} {
		n := &narrowing{Mailbox: src.Box}
		s := src
		s.Box = n
		if find(t, s, c.keys...); len(n.asked) > 0 {
			t.Errorf("%s: the store was asked for %q", c.name, n.asked)
		}
	}

	// With limits under which parts may be found otherwise the store is not asked.
	n := &narrowing{Mailbox: src.Box}
	s := src
	s.Box, s.Limits = n, message.Limits{Depth: 3}
	if find(t, s, needle); len(n.asked) > 0 {
		t.Errorf("the store was asked for %q", n.asked)
	}

	// Of very many keys only those are asked for that must hold alone.
	s.Limits = message.Limits{}
	keys := []Key{needle}
	for i := range 100 {
		if keys = append(keys, Key{Op: Header, Field: "Message-ID", Text: string(rune('a'+i%26)) + "@example.org"}); i > 0 {
			keys = append(keys, Key{Op: Or})
		}
	}
	if find(t, s, keys...); !slices.Equal(n.asked, []string{"NEEDLE"}) {
		t.Errorf("the store was asked for %q", n.asked)
	}
}

// A header that was read once is not read again.
func TestHeadersAreKept(t *testing.T) {
	src := open(t, mixed...)
	src.Common = func([]string) bool { return true }
	src.CommonOf = func(header []byte) []byte { return header }
	opened := 0
	src.Opened = func() error { opened++; return nil }
	for range 2 {
		if got := find(t, src, Key{Op: Header, Field: "From", Text: "jürgen"}); !slices.Equal(got, []imap.UID{1}) {
			t.Errorf("found %v", got)
		}
	}
	if opened != len(mixed) {
		t.Errorf("%d messages were opened, want %d", opened, len(mixed))
	}
}
