package peers

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// Postfix delivers 200 messages while a client idles: each is pushed without the
// client asking for anything, and none is lost or doubled.
func TestPostfixDeliversToIdle(t *testing.T) {
	const count = 200
	h := newHouse(t)
	p, err := neighbour.StartPostfix(filepath.Join(h.dir, "postfix"), h.mail, "ann")
	started(t, err)
	defer p.Close()
	neighbour.Compat(t, "delivery", "Postfix, virtual(8)", version("postfix"), "200 messages while a client idles")

	r := h.serve(t)
	exists := make(chan uint32, count+10)
	c := login(t, r.Addr, "ann", &imapclient.UnilateralDataHandler{Mailbox: func(d *imapclient.UnilateralDataMailbox) {
		if d.NumMessages != nil {
			exists <- *d.NumMessages
		}
	}})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	// Several at once, as a busy server has it; the client says nothing meanwhile.
	errs := make(chan error, 4)
	for k := range 4 {
		go func() { // ends with its share of the messages
			for n := k; n < count; n += 4 {
				if err := p.Send("ann", []byte(sample(n))); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.After(patience); ; {
		select {
		case n := <-exists:
			if n < count {
				continue
			}
		case <-deadline:
			t.Fatalf("not all messages were announced; files: %d\n%s", len(files(t, h.maildir("ann"))), p.Log())
		}
		break
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
	msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, Envelope: true, Flags: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var uids []imap.UID
	subjects := map[string]int{}
	for _, m := range msgs {
		uids = append(uids, m.UID)
		subjects[m.Envelope.Subject]++
	}
	if len(uids) != count || !slices.IsSorted(uids) || len(slices.Compact(slices.Clone(uids))) != count {
		t.Errorf("UIDs are not %d rising numbers: %v", count, uids)
	}
	for n := range count {
		if s := fmt.Sprintf("message %d", n); subjects[s] != 1 {
			t.Errorf("%q is there %d times", s, subjects[s])
		}
	}
}
