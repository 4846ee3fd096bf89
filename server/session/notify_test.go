package session

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"testing"

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
