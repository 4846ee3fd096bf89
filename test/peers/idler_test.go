package peers

import (
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// idler is a client that has a mailbox selected, idles, and says nothing.
type idler struct {
	t      *testing.T
	client *imapclient.Client
	idle   *imapclient.IdleCommand
	exists chan uint32 // what was announced
	before uint32      // what was there
}

// idle selects a mailbox of ann and idles.
func (h *house) idle(t *testing.T, mailbox string) *idler {
	t.Helper()
	i := &idler{t: t, exists: make(chan uint32, 10000)}
	i.client = login(t, h.roost.Addr, "ann", &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
		if d.NumMessages != nil {
			i.exists <- *d.NumMessages
		}
	}})
	sel, err := i.client.Select(mailbox, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	i.before = sel.NumMessages
	if i.idle, err = i.client.Idle(); err != nil {
		t.Fatal(err)
	}
	return i
}

// await waits until so many messages were announced.
func (i *idler) await(count int, otherwise func() string) {
	i.t.Helper()
	seen := i.before
	for deadline := time.After(patience); seen < uint32(count); {
		select {
		case n := <-i.exists:
			if n <= seen {
				i.t.Errorf("%d EXISTS was told after %d", n, seen)
			}
			seen = n
		case <-deadline:
			i.t.Fatalf("%d of %d messages were announced\n%s", seen, count, otherwise())
		}
	}
	i.before = seen
}

// end ends the idle and gives the messages that the client sees now.
func (i *idler) end() []*imapclient.FetchMessageBuffer {
	i.t.Helper()
	if err := i.idle.Close(); err != nil {
		i.t.Fatal(err)
	}
	if err := i.idle.Wait(); err != nil {
		i.t.Fatal(err)
	}
	msgs, err := i.client.Fetch(all, &imap.FetchOptions{UID: true, Envelope: true, Flags: true}).Collect()
	if err != nil {
		i.t.Fatal(err)
	}
	return msgs
}
