package session

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// holding is a store whose mailboxes open as hold says.
type holding struct {
	store.Store
	hold func(ctx context.Context, n store.Name) error
}

type holdingAccount struct {
	store.Account
	h *holding
}

func (h *holding) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	a, err := h.Store.Account(ctx, who)
	return holdingAccount{a, h}, err
}

func (a holdingAccount) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	if err := a.h.hold(ctx, n); err != nil {
		return nil, err
	}
	return a.Account.Hold(ctx, n, write, wake)
}

// seeded has a message in INBOX and in a, b and c.
func seeded(t *testing.T) *memstore.Store {
	t.Helper()
	st := memstore.New(nil)
	for _, n := range []store.Name{"a", "b", "c", store.Inbox} {
		st.Seed("ann", n, memstore.Seed{Message: "x"}, memstore.Seed{Message: "y"}, memstore.Seed{Message: "z"})
	}
	return st
}

// One mailbox that cannot be opened keeps no other from being searched, and the client
// is told that something is missing. What it may not see, or is gone, is no failure.
func TestMultiSearchOfAMailboxThatFails(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("open /secret: %w", store.ErrUnavailable), "a NO [UNAVAILABLE] "},
		{store.ErrNoPermission, "a OK "}, {store.ErrNotFound, "a OK "}, {store.ErrNoSelect, "a OK "},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &holding{seeded(t), func(_ context.Context, n store.Name) error {
				if n == "b" {
					return c.err
				}
				return nil
			}}
			p := pipeSession(t, t.Context(), st, Options{})
			p.want("l OK")
			p.send("a ESEARCH IN (mailboxes (a b c)) ALL\r\n")
			p.want(`* ESEARCH (TAG "a" MAILBOX a `)
			p.want(`* ESEARCH (TAG "a" MAILBOX c `)
			if line := p.want(c.want); strings.Contains(line, "secret") {
				t.Error(line)
			}
			p.conn.Close()
			<-p.done
		})
	}
}

// A client that hangs up ends the search, however many mailboxes are left.
func TestMultiSearchEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		st := &holding{seeded(t), func(ctx context.Context, n store.Name) error {
			opened++
			time.Sleep(2 * watchAfter) // of a slow disk
			return ctx.Err()
		}}
		p := pipeSession(t, t.Context(), st, Options{})
		p.want("l OK")
		p.send("a ESEARCH IN (personal) ALL\r\n")
		synctest.Wait()
		time.Sleep(watchAfter + 1)
		p.conn.Close()
		<-p.done
		if opened != 1 {
			t.Errorf("%d mailboxes were opened", opened)
		}
	})
}

// Something is sent while mailboxes are searched, and not into the middle of a line.
func TestMultiSearchProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &holding{seeded(t), func(context.Context, store.Name) error { time.Sleep(noticeEvery - 1); return nil }}
		p := pipeSession(t, t.Context(), st, Options{})
		p.want("l OK")
		p.send("a ESEARCH IN (mailboxes (a b c)) ALL\r\n")
		p.want(`* ESEARCH (TAG "a" MAILBOX a `)
		p.want(`* OK [INPROGRESS ("a" 1 3)]`)
		p.want(`* ESEARCH (TAG "a" MAILBOX b `)
		p.want(`* OK [INPROGRESS ("a" 2 3)]`)
		p.want(`* ESEARCH (TAG "a" MAILBOX c `)
		p.want("a OK")
		p.conn.Close()
		<-p.done
	})
}

func TestMultiSearchLimits(t *testing.T) {
	st := seeded(t)
	for i := range maxSearched {
		st.Seed("ann", store.Name(fmt.Sprintf("many/%d", i)))
	}
	synctest.Test(t, func(t *testing.T) {
		p := pipeSession(t, t.Context(), st, Options{Limits: Limits{Messages: 2}})
		p.want("l OK")
		p.send("a ESEARCH IN (personal) ALL\r\n")
		p.want("a NO [LIMIT] ")
		// RFC 9738: of each mailbox the newest are looked at.
		p.send("b ESEARCH IN (mailboxes (a b)) ALL\r\n")
		if line := p.want(`* ESEARCH (TAG "b" MAILBOX a `); !strings.HasSuffix(line, " UID ALL 2:3\r\n") {
			t.Error(line)
		}
		p.want(`* ESEARCH (TAG "b" MAILBOX b `)
		p.want("b OK [MESSAGELIMIT 2] ")
		p.conn.Close()
		<-p.done
	})
}

// A mailbox without MODSEQs has none to be compared: its messages do not match.
func TestMultiSearchWithoutModSeqs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := seeded(t)
		st.NoModSeq("ann", "b")
		p := pipeSession(t, t.Context(), st, Options{})
		p.want("l OK")
		p.send("a ESEARCH IN (mailboxes (a b c)) RETURN (COUNT) MODSEQ 1\r\n")
		p.want(`* ESEARCH (TAG "a" MAILBOX a `)
		p.want(`* ESEARCH (TAG "a" MAILBOX c `)
		p.want("a OK")
		p.send("b LOGOUT\r\n")
		io.Copy(io.Discard, p.r)
		<-p.done
	})
}
