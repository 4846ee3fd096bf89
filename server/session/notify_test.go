package session

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// More mailboxes than may be watched: NOTIFY is refused, and where they come later all
// notifications end, as the client is told. RFC 5465 sections 3.1 and 5.8.
func TestNotificationOverflow(t *testing.T) {
	b := newBench(t, Options{Limits: Limits{Watched: 3}})
	c, other := speak(t, b), speak(t, b)
	other.do("CREATE a")
	other.do("CREATE b")
	c.do("SELECT INBOX")
	c.do("NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MessageNew MessageExpunge MailboxName))")
	other.do("CREATE c")
	if line := c.line(); line != "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes; as after NOTIFY NONE" {
		t.Fatal(line)
	}
	other.do("CREATE d")
	if err := b.Hooks()["seed"]([]string{"INBOX", "1"}); err != nil {
		t.Fatal(err)
	}
	if _, lines := c.do("NOOP"); len(lines) > 0 {
		t.Errorf("told %q", lines)
	}
	if _, err := c.conn.Write([]byte("x NOTIFY SET (personal (MessageNew MessageExpunge))\r\n")); err != nil {
		t.Fatal(err)
	}
	if line := c.line(); line != "x NO [NOTIFICATIONOVERFLOW] More than 3 mailboxes would be watched" {
		t.Error(line)
	}
	if _, lines := c.do("NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes (a b) (MessageNew MessageExpunge))"); !slices.Equal(lines, []string{"* 1 EXISTS", "* 1 RECENT"}) {
		t.Errorf("NOTIFY SET is a NOOP: %q", lines)
	}
}

// panicky fails in the second Advance as only a bug does.
type panicky struct {
	store.Mailbox
	calls int
}

func (p *panicky) Advance(v store.View, _ bool) (store.View, store.Delta, error) {
	if p.calls++; p.calls == 2 {
		panic("bug")
	}
	return v, store.Delta{}, nil
}

// A bug met while nobody asks ends its session and no other.
func TestPanicOfThePusherEndsOneSession(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	s := newSession(server, &Login{Who: store.Identity{User: "ann", Roots: []store.Root{{}}}}, &Options{Log: quiet()})
	s.sel = &selected{name: store.Inbox, box: &panicky{}}
	why := make(chan string)
	go func() { why <- s.loop(t.Context()) }() // ends by the panic
	if _, err := client.Write([]byte("t1 IDLE\r\n")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	for _, want := range []string{"+ idling", "* BYE Internal server error"} {
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Fatalf("%q, %v", line, err)
		}
		if want == "+ idling" {
			s.wake()
		}
	}
	if got := <-why; got != "panic" {
		t.Error(got)
	}
}

// Of its own command a client is told nothing, and nothing less of what others did meanwhile.
func TestOwnChangeExplainsOnlyItself(t *testing.T) {
	const names, subs = store.InterestNames, store.InterestSubscriptions
	made, gone := ownChange{"a/b", names, true}, ownChange{"a/b", names, false}
	there, missing := []imap.MailboxAttr{imap.MailboxAttrHasNoChildren}, []imap.MailboxAttr{imap.MailboxAttrNonExistent}
	for _, tc := range []struct {
		what string
		own  ownChange
		e    store.Event
		want store.Interest
	}{
		{"CREATE", made, store.Event{Name: "a/b", Came: true, Entry: store.Entry{Attrs: there}}, names},
		{"its parent has children now", made, store.Event{Name: "a", Entry: store.Entry{Attrs: there}}, names},
		{"its parent was made along", made, store.Event{Name: "a", Came: true, Entry: store.Entry{Attrs: there}}, 0},
		{"another made one below", made, store.Event{Name: "a/b/c", Came: true, Entry: store.Entry{Attrs: there}}, 0},
		{"another deleted it", made, store.Event{Name: "a/b", Came: true, Entry: store.Entry{Attrs: missing}}, 0},
		{"DELETE", gone, store.Event{Name: "a/b", Came: true, Entry: store.Entry{Attrs: missing}}, names},
		{"another made it again", gone, store.Event{Name: "a/b", Entry: store.Entry{Attrs: there}}, 0},
		{"another name", gone, store.Event{Name: "a/bc", Entry: store.Entry{Attrs: missing}}, 0},
		{"SUBSCRIBE", ownChange{"a/b", subs, true}, store.Event{Name: "a/b", Entry: store.Entry{Subscribed: true}}, subs},
		{"another unsubscribed", ownChange{"a/b", subs, true}, store.Event{Name: "a/b"}, 0},
		{"RENAME, and another beside it", made, store.Event{Name: "a/b", From: "c", Torn: true, Entry: store.Entry{Attrs: there}}, 0},
	} {
		if got := tc.own.explains(tc.e, '/'); got != tc.want {
			t.Errorf("%s: %b, want %b", tc.what, got, tc.want)
		}
	}
}
