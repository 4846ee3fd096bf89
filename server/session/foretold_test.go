package session

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"roost/store"
	"roost/store/memstore"
)

// foretelling is a store whose INBOX says that messages are coming when a test says so.
type foretelling struct {
	store.Store
	mu      sync.Mutex // guards what follows
	coming  int
	fuse    int // Coming panics when it burnt down
	settled chan struct{}
	wake    func()
}

func (f *foretelling) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	a, err := f.Store.Account(ctx, who)
	return &foretellingAccount{a, f}, err
}

// says tells the session that n are coming.
func (f *foretelling) says(n int) {
	f.mu.Lock()
	f.coming = n
	f.settled = make(chan struct{})
	f.mu.Unlock()
	f.wake()
}

// settle lets them come, or not if came does nothing.
func (f *foretelling) settle(came func()) {
	f.mu.Lock()
	f.coming = 0
	f.mu.Unlock()
	came()
	f.mu.Lock()
	close(f.settled)
	f.mu.Unlock()
	f.wake()
}

type foretellingAccount struct {
	store.Account
	f *foretelling
}

func (a *foretellingAccount) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	a.f.wake = wake
	m, err := a.Account.Hold(ctx, n, write, wake)
	return &foretellingBox{m, a.f}, err
}

type foretellingBox struct {
	store.Mailbox
	f *foretelling
}

func (b *foretellingBox) Coming() (int, bool) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if b.f.fuse--; b.f.fuse == 0 {
		panic("a bug")
	}
	return b.f.coming, true
}

func (b *foretellingBox) Settled(ctx context.Context) error {
	b.f.mu.Lock()
	c := b.f.settled
	b.f.mu.Unlock()
	if c != nil {
		<-c
	}
	return nil
}

// whileIdle begins an IDLE in an INBOX of one message and runs talk.
func whileIdle(t *testing.T, before string, talk func(p *pipeClient, mem *memstore.Store, f *foretelling)) {
	whileIdleOver(t, func(c net.Conn) net.Conn { return c }, before, talk)
}

// whileIdleOver is whileIdle where the session's end of the connection is made by stream.
func whileIdleOver(t *testing.T, stream func(net.Conn) net.Conn, before string, talk func(p *pipeClient, mem *memstore.Store, f *foretelling)) {
	synctest.Test(t, func(t *testing.T) {
		p, mem, f := idleOver(t, stream, before)
		talk(p, mem, f)
		p.send("z LOGOUT\r\n")
		p.until("z OK")
		<-p.done
	})
}

// idleOver begins an IDLE in an INBOX of one message, behind the commands of before. It is for
// a bubble, in which the session waits for the client from then on.
func idleOver(t *testing.T, stream func(net.Conn) net.Conn, before string) (*pipeClient, *memstore.Store, *foretelling) {
	mem := memstore.New(nil)
	mem.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
	f := &foretelling{Store: mem}
	p := pipeSessionOver(t, t.Context(), stream, f, Options{Keepalive: -1})
	p.want("l OK")
	for _, command := range strings.Split(before, ", ") {
		p.send("a " + command + "\r\n")
		p.until("a OK")
	}
	p.send("i IDLE\r\n")
	p.want("+ idling")
	synctest.Wait()
	return p, mem, f
}

func two() []memstore.Seed { return []memstore.Seed{{Message: "y"}, {Message: "z"}} }

// What is coming is told at once, and once.
func TestComingMessagesAreToldOnce(t *testing.T) {
	whileIdle(t, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling) {
		f.says(2)
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
		p.send("DONE\r\n")
		p.want("i OK")
		p.send("b FETCH 3 UID\r\n")
		p.want("* 3 FETCH (UID 3)")
		p.want("b OK")
	})
}

// More came than was told of: the count is told anew.
func TestMoreThanWasComing(t *testing.T) {
	whileIdle(t, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling) {
		f.says(1)
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		p.send("DONE\r\n")
		p.want("i OK")
	})
}

// The next command sees what the client was told of, and waits for it.
func TestCommandWaitsForWhatIsComing(t *testing.T) {
	whileIdle(t, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling) {
		f.says(2)
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		p.send("DONE\r\nb FETCH 3 UID\r\n")
		synctest.Wait() // it waits
		f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
		p.want("i OK")
		p.want("* 3 FETCH (UID 3)")
		p.want("b OK")
	})
}

// A message that did not come after all, for the disk is full or it went, is taken back
// before the client can ask for it.
func TestWhatDidNotComeIsTakenBack(t *testing.T) {
	whileIdle(t, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling) {
		f.says(2)
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		f.settle(func() {})
		p.want("* 3 EXPUNGE")
		p.want("* 2 EXPUNGE")
		p.want("* 1 RECENT")
		f.says(1)
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		p.send("next instead of DONE\r\n")
		synctest.Wait()
		f.settle(func() {})
		p.want("* 2 EXPUNGE")
		p.want("* 1 RECENT")
		p.want("i BAD")
		p.send("b FETCH 1 UID\r\n")
		p.want("* 1 FETCH (UID 1)")
		p.want("b OK")
	})
}

// An expunge by another session between the two is told by the numbers that the client has.
func TestExpungeBeforeWhatIsComing(t *testing.T) {
	whileIdle(t, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling) {
		f.says(2)
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		other := pipeSession(p.t, p.t.Context(), mem, Options{Keepalive: -1})
		other.want("l OK")
		for _, command := range []string{"SELECT INBOX", `STORE 1 +FLAGS.SILENT (\Deleted)`, "EXPUNGE"} {
			other.send("a " + command + "\r\n")
			if strings.HasPrefix(command, "STORE") {
				p.want("* 1 FETCH")
			}
			if command == "EXPUNGE" {
				p.want("* 1 EXPUNGE")
			}
			other.until("a OK")
		}
		other.send("z LOGOUT\r\n")
		other.until("z OK")
		f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
		p.send("DONE\r\n")
		p.want("i OK")
		p.send("b FETCH 2 UID\r\n")
		p.want("* 2 FETCH (UID 3)")
		p.want("b OK")
	})
}

// NOTIFY for the selected mailbox alone watches no others, of which there never is news: the
// pusher went round for ever.
func TestNotifyOfTheSelectedMailboxAloneComesToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipeSession(t, t.Context(), memstore.New(nil), Options{Keepalive: -1})
		p.want("l OK")
		p.send("a NOTIFY SET (SELECTED (MessageNew MessageExpunge))\r\n")
		p.until("a OK")
		synctest.Wait() // returns when all of the session waits
		p.send("z LOGOUT\r\n")
		p.until("z OK")
		<-p.done
	})
}

// Who is told of expunges by UID, or of more than a count, hears of messages with UIDs only.
func TestComingIsNotForThoseWhoAreToldUIDs(t *testing.T) {
	for _, before := range []string{
		"ENABLE QRESYNC, SELECT INBOX", "ENABLE UIDONLY, SELECT INBOX",
		"SELECT INBOX, NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))",
	} {
		whileIdle(t, before, func(p *pipeClient, mem *memstore.Store, f *foretelling) {
			f.says(1)
			synctest.Wait()
			f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
			p.want("* 3 EXISTS")
			p.until("* 3")
			p.send("DONE\r\n")
			p.until("i OK")
		})
	}
}
