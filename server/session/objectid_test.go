package session

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/server/search"
	"roost/store"
)

// What an EMAILID costs: a message is read for it once, whoever asks first, and one that
// was appended never.
func TestEmailIDReadsEachMessageOnce(t *testing.T) {
	for _, first := range []string{
		"FETCH 1:2 EMAILID", "FETCH 1:2 (EMAILID BODYSTRUCTURE)", "SEARCH EMAILID M1234567890123456789012345678901234567890",
	} {
		w, p := watchedMailbox(t, small, small+"more\n")
		p.ok("APPEND INBOX {%d+}\r\n%s", len(small), small)
		p.ok("NOOP")
		p.ok("%s", first)
		if n := w.opened.Swap(0); n != 2 {
			t.Errorf("%s opened %d messages, want 2", first, n)
		}
		got := p.ok("FETCH 1:3 EMAILID")
		id := strings.TrimSuffix(strings.TrimPrefix(got[0], "* 1 FETCH (EMAILID ("), "))")
		if len(got) != 3 || len(id) != 41 || strings.Contains(got[1], id) || !strings.Contains(got[2], id) {
			t.Errorf("after %s: %q", first, got)
		}
		if found := p.ok("SEARCH OR EMAILID %s EMAILID Mx", id); len(found) != 1 || found[0] != "* SEARCH 1 3" {
			t.Errorf("after %s: %q", first, found)
		}
		if n := w.opened.Load(); n != 0 {
			t.Errorf("after %s %d messages were opened again", first, n)
		}
	}
}

// A message that cannot be read has no EMAILID: the others do, and it matches none.
func TestEmailIDOfUnreadableMessage(t *testing.T) {
	w, p := watchedMailbox(t, small, small, small)
	w.open = func(uid imap.UID) error {
		if uid == 2 {
			return store.ErrUnsupported
		}
		return nil
	}
	got, status := p.do("FETCH 1:3 EMAILID")
	if len(got) != 2 || !strings.HasPrefix(status, "NO [CANNOT]") {
		t.Errorf("%q %s", got, status)
	}
	if found := p.ok("SEARCH NOT EMAILID M1"); found[0] != "* SEARCH 1 2 3" {
		t.Errorf("%q", found)
	}
	if found := p.ok("SEARCH NOT EMAILID %s", "M1234567890123456789012345678901234567890"); found[0] != "* SEARCH 1 3" {
		t.Errorf("%q", found)
	}
}

// A long message stops being read when its client is gone.
func TestEmailIDEndsWithItsContext(t *testing.T) {
	w, p := watchedMailbox(t, small+strings.Repeat("long body\n", 1_000_000))
	_ = p
	ctx, cancel := context.WithCancel(t.Context())
	a, err := w.Account(ctx, store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}})
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Hold(ctx, store.Inbox, false, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	m, err := box.Message(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := search.Digested(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A mailbox that was made and cannot be opened was made all the same.
func TestCreatedMailboxThatCannotBeOpened(t *testing.T) {
	w, p := watchedMailbox(t)
	w.status = store.ErrUnavailable
	if got, status := p.do("CREATE new"); len(got) > 0 || status != "OK CREATE completed" {
		t.Errorf("%q %s", got, status)
	}
}
