package session

import (
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// promptPipe is a pipe that takes what is gathered now, or leaves it to Finish.
type promptPipe struct {
	net.Conn
	full bool   // it takes nothing now
	send func() // not nil: called by Send

	mu      sync.Mutex // guards what follows
	gathers bool
	now     string // all that was gathered
	left    []byte // of it, what waits for Finish
	wg      sync.WaitGroup
}

// over makes c of a connection.
func (c *promptPipe) over(nc net.Conn) net.Conn {
	c.Conn = nc
	return c
}

func (c *promptPipe) Gather() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathers = true
	return true
}

func (c *promptPipe) Send() (all bool, err error) {
	if c.send != nil {
		c.send()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathers = false
	if c.full {
		return false, nil
	}
	p := c.left
	c.left = nil
	c.wg.Go(func() { c.Conn.Write(p) }) // ends when the client has read; joined in Write
	return true, nil
}

func (c *promptPipe) Finish() error {
	c.mu.Lock()
	c.gathers = false
	p := c.left
	c.left = nil
	c.mu.Unlock()
	_, err := c.Conn.Write(p)
	return err
}

func (c *promptPipe) Write(p []byte) (int, error) {
	c.mu.Lock()
	gathers, left := c.gathers, len(c.left)
	if gathers {
		c.now += string(p)
		c.left = append(c.left, p...)
	}
	c.mu.Unlock()
	switch {
	case gathers:
		return len(p), nil
	case left > 0:
		panic("a Write before Finish")
	}
	c.wg.Wait()
	return c.Conn.Write(p)
}

// told is what was written now so far.
func (c *promptPipe) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// onPrompt is whileIdle over a promptPipe.
func onPrompt(t *testing.T, full bool, before string, talk func(p *pipeClient, mem *memstore.Store, f *foretelling, c *promptPipe)) {
	c := &promptPipe{full: full}
	whileIdleOver(t, c.over, before, func(p *pipeClient, mem *memstore.Store, f *foretelling) { talk(p, mem, f, c) })
}

// What is coming is written before the wake-up returns, by whoever called it; what became
// of it is told as ever.
func TestWhoWakesTellsWhatIsComing(t *testing.T) {
	for _, full := range []bool{false, true} {
		onPrompt(t, full, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling, c *promptPipe) {
			f.says(2)
			if told := c.told(); told != "* 3 EXISTS\r\n* 3 RECENT\r\n" {
				t.Errorf("full %t: %q was told at once", full, told)
			}
			p.want("* 3 EXISTS")
			p.want("* 3 RECENT")
			synctest.Wait()
			f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
			f.says(1)
			p.want("* 4 EXISTS")
			p.want("* 4 RECENT")
			synctest.Wait()
			f.settle(func() {})
			p.want("* 4 EXPUNGE")
			p.want("* 3 RECENT")
			p.send("DONE\r\n")
			p.want("i OK")
			p.send("b FETCH 3 UID\r\n")
			p.want("* 3 FETCH (UID 3)")
			p.want("b OK")
		})
	}
}

// What was left of it comes before the answer of the command that ends the IDLE.
func TestWhatIsLeftComesBeforeTheAnswer(t *testing.T) {
	onPrompt(t, true, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling, c *promptPipe) {
		f.says(1)
		p.send("DONE\r\n")
		synctest.Wait()
		f.settle(func() { mem.Seed("ann", store.Inbox, two()[0]) })
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		p.want("i OK")
	})
}

// Nobody else writes while somebody tells what is coming: not who wakes too, and not the end
// of the IDLE, which comes behind it.
func TestNobodyWritesBesideWhoTells(t *testing.T) {
	onPrompt(t, false, "SELECT INBOX", func(p *pipeClient, mem *memstore.Store, f *foretelling, c *promptPipe) {
		sends, release := 0, make(chan struct{})
		c.send = func() {
			sends++
			<-release
		}
		told := make(chan struct{})
		go func() { // ends with release
			f.says(1)
			close(told)
		}()
		synctest.Wait()
		f.says(2)
		p.send("DONE\r\n")
		synctest.Wait()
		if sends != 1 {
			t.Errorf("%d write at once", sends)
		}
		close(release)
		<-told
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		synctest.Wait()
		f.settle(func() { mem.Seed("ann", store.Inbox, two()...) })
		p.want("* 3 EXISTS")
		p.want("* 3 RECENT")
		p.want("i OK")
	})
}

// It comes before the answers of a session that leaves its stream to the next.
func TestWhatIsLeftComesBeforeUnauthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &promptPipe{full: true}
		p, mem, f := idleOver(t, c.over, "SELECT INBOX")
		f.says(1)
		p.send("DONE\r\nu UNAUTHENTICATE\r\n")
		p.want("* 2 EXISTS")
		p.want("* 2 RECENT")
		synctest.Wait()
		f.settle(func() { mem.Seed("ann", store.Inbox, two()[0]) })
		out := <-p.done
		if !out.Unauthenticated || !strings.HasPrefix(string(out.Output), "i OK") || !strings.Contains(string(out.Output), "u OK") {
			t.Errorf("%+v", out)
		}
		if len(c.left) > 0 {
			t.Errorf("%q is left", c.left)
		}
	})
}

// Where something else comes first, or more than a count is told, who wakes tells nothing.
func TestWhoWakesTellsNothingElse(t *testing.T) {
	for _, before := range []string{
		"SELECT INBOX", "ENABLE METADATA, SELECT INBOX", "ENABLE QRESYNC, SELECT INBOX",
		"SELECT INBOX, NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))", "ENABLE QRESYNC, ENABLE UIDONLY, SELECT INBOX",
	} {
		onPrompt(t, false, before, func(p *pipeClient, mem *memstore.Store, f *foretelling, c *promptPipe) {
			f.mu.Lock()
			f.coming, f.settled = 1, make(chan struct{})
			f.mu.Unlock()
			mem.Seed("ann", store.Inbox, two()...) // wakes too, and comes first
			if told := c.told(); told != "" {
				t.Errorf("%s: %q was told at once", before, told)
			}
			p.until("* 3 EXISTS")
			f.settle(func() {})
			p.send("DONE\r\n")
			p.until("i OK")
		})
	}
}

// A client that does not read ends by its deadline, and keeps nobody who wakes it.
func TestWakingAStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &promptPipe{full: true}
		p, _, f := idleOver(t, c.over, "SELECT INBOX")
		start := time.Now()
		for range 100 {
			f.says(1)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("who woke it waited %v", took)
		}
		if out := <-p.done; !strings.Contains(out.Reason, "not read") {
			t.Errorf("%+v", out)
		}
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("it ended after %v", took)
		}
	})
}

// A bug that shows while another goroutine tells ends the session alone, before anything is
// gathered and behind it.
func TestPanicOfWhatIsToldByAnother(t *testing.T) {
	for fuse := 1; fuse <= 2; fuse++ {
		synctest.Test(t, func(t *testing.T) {
			c := &promptPipe{}
			p, _, f := idleOver(t, c.over, "SELECT INBOX")
			f.fuse = fuse
			f.says(1)
			p.want("* BYE Internal server error")
			if out := <-p.done; out.Reason != "panic" {
				t.Errorf("%+v", out)
			}
		})
	}
}
