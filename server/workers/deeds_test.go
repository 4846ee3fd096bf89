package workers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/server/session"
)

// worker gives the far end of what a desk hears of a uid.
func (tb *table) worker(uid uint32) *channel {
	tb.t.Helper()
	a, b := mustPair(tb.t, unix.SOCK_SEQPACKET)
	if err := tb.parent.send(ordered{Tells: true, UID: uid, Key: tb.key}, a); err != nil {
		tb.t.Fatal(err)
	}
	a.Close()
	ch, err := newChannel(b)
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.t.Cleanup(func() { ch.close() })
	return ch
}

// session logs ann in and gives the pass that her worker gets.
func (tb *table) session(id string, addr netip.Addr) string {
	tb.t.Helper()
	r, _ := tb.ask(asked{Do: "login", User: "ann", Password: "right"})
	r, files := tb.ask(asked{Do: "enter", Ticket: r.Ticket, Login: &session.Login{ID: id, Addr: addr}})
	if r.err() != nil {
		tb.t.Fatal(r.err())
	}
	closeAll(files)
	var job Job
	if err := json.Unmarshal((<-tb.orders).Job, &job); err != nil {
		tb.t.Fatal(err)
	}
	return job.Login.Ticket
}

// A worker that was taken over tells of its own sessions, and of nothing else; what it tells
// has a bound and is a deed.
func TestDeskAndAWorkerTakenOver(t *testing.T) {
	tb := newTable(t)
	pass := tb.session("s1", netip.MustParseAddr("192.0.2.7"))
	expunge := session.Brief{What: "expunge", Mailbox: "INBOX", Messages: 2, UIDs: "1:2"}
	own := tb.worker(1000)
	if err := own.send(told{Pass: pass, Client: "Mail", Deed: expunge}); err != nil {
		t.Fatal(err)
	}
	if got := <-tb.deeds; got != "ann 192.0.2.7 s1 Mail: expunge INBOX 2" {
		t.Error(got)
	}

	logins, err := newSeal(tb.key)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := passes(tb.key)
	if err != nil {
		t.Fatal(err)
	}
	another, err := sessions.pass(Session{ID: "s2", User: "ben", Login: "ben", UID: 1001})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := logins.pass(Session{ID: "s1", User: "ben", Login: "ben", UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	of := func(change func(b *session.Brief)) session.Brief {
		b := expunge
		change(&b)
		return b
	}
	last := byte('0')
	if strings.HasSuffix(pass, "0") {
		last = '1'
	}
	long := strings.Repeat("x", 2000)
	for what, m := range map[string]any{
		"no pass":                  told{Deed: expunge},
		"a pass that was changed":  told{Pass: pass[:len(pass)-1] + string(last), Deed: expunge},
		"a pass of another uid":    told{Pass: another, Deed: expunge},
		"the seal of a login":      told{Pass: forged, Deed: expunge},
		"no deed":                  told{Pass: pass},
		"a deed that is none":      told{Pass: pass, Deed: of(func(b *session.Brief) { b.What = "expunge\nevent=mail_expunge user=ben" })},
		"an op that is none":       told{Pass: pass, Deed: of(func(b *session.Brief) { b.Op = "+ user=ben" })},
		"UIDs that are none":       told{Pass: pass, Deed: of(func(b *session.Brief) { b.UIDs = "1:2\nuser=ben" })},
		"UIDs without end":         told{Pass: pass, Deed: of(func(b *session.Brief) { b.UIDs = strings.Repeat("1,", 1000) })},
		"fewer messages than none": told{Pass: pass, Deed: of(func(b *session.Brief) { b.Messages = -1 })},
		"more than there can be":   told{Pass: pass, Deed: of(func(b *session.Brief) { b.Messages = 1 << 40 })},
		"a name without end":       told{Pass: pass, Deed: of(func(b *session.Brief) { b.Mailbox = long })},
		"another":                  told{Pass: pass, Deed: of(func(b *session.Brief) { b.To = long })},
		"flags without end":        told{Pass: pass, Deed: of(func(b *session.Brief) { b.Flags = long })},
		"a client without end":     told{Pass: pass, Client: long, Deed: expunge},
		"no message":               "x",
		"who it was":               map[string]any{"Pass": pass, "User": "ben", "Deed": map[string]any{"User": "ben"}},
	} {
		ch := tb.worker(1000)
		if err := ch.send(m); err != nil {
			t.Fatal(err)
		}
		if _, err := ch.receive(new(told), 0); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", what, err)
		}
		select {
		case got := <-tb.deeds:
			t.Errorf("%s: %s", what, got)
		default:
		}
	}
	// One that was not believed takes nothing from another.
	if err := own.send(told{Pass: pass, Deed: expunge}); err != nil {
		t.Fatal(err)
	}
	if got := <-tb.deeds; !strings.HasPrefix(got, "ann 192.0.2.7 s1 : expunge") {
		t.Error(got)
	}
}

// Neither sessions nor addresses are texts of the front's own.
func TestDeskTakesNoTextOfTheFront(t *testing.T) {
	tb := newTable(t)
	pass := tb.session("s1", netip.MustParseAddr("fe80::1").WithZone("dear ann, your password is needed at http://192.0.2.1"))
	if err := tb.worker(1000).send(told{Pass: pass, Deed: session.Brief{What: "delete_mailbox", Mailbox: "x"}}); err != nil {
		t.Fatal(err)
	}
	if got := <-tb.deeds; got != "ann fe80::1 s1 : delete_mailbox x 0" {
		t.Error(got)
	}
	r, _ := tb.ask(asked{Do: "login", User: "ann", Password: "right"})
	tb.refused("a session whose name is a text", asked{Do: "enter", Ticket: r.Ticket, Login: &session.Login{ID: strings.Repeat("x", 1000)}})
	at := attempt{Addr: netip.MustParseAddr("fe80::1%text")}
	if got := at.attempt().Addr.String(); got != "fe80::1" {
		t.Error(got)
	}
}

// What a user's processes may write has a bound in time, and a new process has no new one.
func TestDeedsAreBoundedInTime(t *testing.T) {
	var waits, before atomic.Int64 // before: lines before the first wait
	tb := newTable(t, func(tb *table, d *Desk) {
		now := time.Now()
		d.now = func() time.Time { return now }
		d.pause = func(time.Duration) {
			if waits.Add(1) == 1 {
				before.Store(int64(len(tb.deeds)))
			}
		}
	})
	pass := tb.session("s1", netip.Addr{})
	wide := session.Brief{What: "rename_mailbox", Mailbox: strings.Repeat("\x01", 1000), To: strings.Repeat("\x01", 1000)}
	tell := func(n int) {
		ch := tb.worker(1000)
		for range n {
			if err := ch.send(told{Pass: pass, Deed: wide}); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			<-tb.deeds
		}
	}
	tell(2000)
	if n := before.Load(); n > deedsAtOnce/8000 || n < 100 {
		t.Errorf("%d lines at once", n)
	}
	some := waits.Load()
	if tell(10); some == 0 || waits.Load() != some+10 {
		t.Errorf("%d waits, then %d", some, waits.Load())
	}
	var a allowance
	now := time.Now()
	for total := 0; total < deedsAtOnce; total += 1 << 10 {
		if d := a.take(now, 1<<10); d != 0 {
			t.Fatalf("%v after %d bytes", d, total)
		}
	}
	if d := a.take(now, deedsRate); d != time.Second {
		t.Error(d)
	}
	if d := a.take(now.Add(2*time.Second), deedsRate); d != 0 {
		t.Error(d)
	}
	if a.take(now.Add(1000*time.Hour), 0); a.left != deedsAtOnce {
		t.Error(a.left)
	}
}

// What a worker says beside a deed is read too, and counts: else it had the desk read 160 KB for
// each line of 300 bytes.
func TestWhatIsSaidBesideADeedCounts(t *testing.T) {
	var waits atomic.Int64
	tb := newTable(t, func(_ *table, d *Desk) {
		now := time.Now()
		d.now = func() time.Time { return now }
		d.pause = func(time.Duration) { waits.Add(1) }
	})
	pass := tb.session("s1", netip.Addr{})
	ch := tb.worker(1000)
	const each = 100_000
	m := map[string]any{"Pass": pass, "Deed": session.Brief{What: "delete_mailbox", Mailbox: "x"}, "Beside": strings.Repeat("x", each)}
	for range 2 * deedsAtOnce / each {
		if err := ch.send(m); err != nil {
			t.Fatal(err)
		}
		<-tb.deeds
	}
	if n := waits.Load(); n < deedsAtOnce/each {
		t.Errorf("%d waits", n)
	}
}

// A desk that is told to end hears what workers told before.
func TestDeskHearsLastWords(t *testing.T) {
	const many = 300
	heard, hold := make(chan struct{}, many), make(chan struct{})
	tb := newTable(t, func(_ *table, d *Desk) {
		d.listens = time.Hour // it ends by the end of who tells
		deed := d.Deed
		d.Deed = func(who Session, client string, b session.Brief) {
			heard <- struct{}{}
			<-hold
			deed(who, client, b)
		}
	})
	pass := tb.session("s1", netip.Addr{})
	ch := tb.worker(1000)
	for i := range many {
		if err := ch.send(told{Pass: pass, Deed: session.Brief{What: "delete_mailbox", Mailbox: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-heard
			tb.stop()
			close(hold)
		}
	}
	ch.close()
	for i := range many {
		if got := <-tb.deeds; !strings.HasSuffix(got, fmt.Sprintf(" delete_mailbox %d 0", i)) {
			t.Fatal(got)
		}
	}
}

// A worker whose desk has ended tells the next one.
func TestDeedsGoToTheNextDesk(t *testing.T) {
	var r reports
	desks := make([]*channel, 2)
	ours := make([]*channel, 2)
	for i := range desks {
		a, b := mustPair(t, unix.SOCK_SEQPACKET)
		var err1, err2 error
		desks[i], err1 = newChannel(a)
		ours[i], err2 = newChannel(b)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
	}
	defer r.close()
	r.renew(ours[0])
	if err := r.tell(told{Client: "1"}); err != nil {
		t.Fatal(err)
	}
	desks[0].close()
	done := make(chan error)
	go func() { done <- r.tell(told{Client: "2"}) }()
	r.renew(ours[1])
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got told
	if _, err := desks[1].receive(&got, 0); err != nil || got.Client != "2" {
		t.Errorf("%+v, %v", got, err)
	}
	desks[1].close()
}

// What is sealed for one purpose is none for another.
func TestSealsOfTwoKinds(t *testing.T) {
	key := newKey()
	logins, err1 := newSeal(key)
	sessions, err2 := passes(key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	b, err := logins.close(auth.User{Name: "ann", Login: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sessions.session(fmt.Sprintf("%x", b)); err == nil {
		t.Error("a login is a session")
	}
	pass, err := sessions.pass(Session{User: "ann", Login: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	fmt.Sscanf(pass, "%x", &raw)
	if _, err := logins.open(raw); err == nil || len(raw) == 0 {
		t.Error("a session is a login")
	}
}
