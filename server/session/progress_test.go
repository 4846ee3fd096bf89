package session

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
	"roost/store/memstore"
)

// slowStore needs time for each message that is opened, and for what else takes long.
type slowStore struct {
	store.Store
	message, call time.Duration
}

func (w slowStore) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	a, err := w.Store.Account(ctx, who)
	return slowAccount{a, w}, err
}

type slowAccount struct {
	store.Account
	w slowStore
}

func (a slowAccount) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	m, err := a.Account.Hold(ctx, n, write, wake)
	return slowBox{m, a.w}, err
}

func (a slowAccount) Rename(ctx context.Context, from, to store.Name) error {
	time.Sleep(a.w.call)
	return a.Account.Rename(ctx, from, to)
}

func (a slowAccount) Batch(ctx context.Context, n store.Name) (store.Batch, error) {
	b, err := a.Account.Batch(ctx, n)
	return slowBatch{b, a.w}, err
}

type slowBatch struct {
	store.Batch
	w slowStore
}

func (b slowBatch) Commit(ctx context.Context) (store.Copied, error) {
	time.Sleep(b.w.call)
	return b.Batch.Commit(ctx)
}

type slowBox struct {
	store.Mailbox
	w slowStore
}

func (b slowBox) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	time.Sleep(b.w.message)
	return b.Mailbox.Message(ctx, uid)
}

func (b slowBox) SetFlags(ctx context.Context, uids []imap.UID, op store.FlagOp) ([]store.Row, []imap.UID, error) {
	time.Sleep(b.w.call)
	return b.Mailbox.SetFlags(ctx, uids, op)
}

func (b slowBox) Expunge(ctx context.Context, uids []imap.UID) ([]imap.UID, store.ModSeq, error) {
	time.Sleep(b.w.call)
	return b.Mailbox.Expunge(ctx, uids)
}

func (b slowBox) Copy(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	time.Sleep(b.w.call)
	return b.Mailbox.Copy(ctx, uids, to)
}

func (b slowBox) Move(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	time.Sleep(b.w.call)
	return b.Mailbox.Move(ctx, uids, to)
}

func slowly(t *testing.T, message, call time.Duration, f func(*pipeClient)) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New(nil)
		for i := range 20 {
			st.Seed("ann", store.Inbox, memstore.Seed{Message: fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), Flags: []imap.Flag{imap.FlagDeleted}})
		}
		p := pipeSession(t, t.Context(), slowStore{st, message, call}, Options{})
		p.want("l OK")
		p.send("a SELECT INBOX\r\n")
		p.until("a OK")
		f(p)
		p.send("z LOGOUT\r\n")
		p.until("z OK")
		<-p.done
		time.Sleep(time.Hour) // no timer is left that would write to the closed pipe
	})
}

// upTo gives the lines to the tagged one, with the seconds that passed before each.
func (p *pipeClient) upTo(tag string) (lines []string) {
	p.t.Helper()
	start := time.Now()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%d %s", int(time.Since(start).Seconds()), strings.TrimSpace(line)))
		if strings.HasPrefix(line, tag+" ") {
			return lines
		}
	}
}

// While a search reads messages its client hears how many it looked at, of how many.
func TestSearchTellsItsProgress(t *testing.T) {
	slowly(t, 3*time.Second+time.Millisecond, 0, func(p *pipeClient) {
		p.send("b SEARCH BODY x\r\n")
		got := p.upTo("b")
		told := 0 // how far it is by then is a matter of how many cores read
		for i, line := range got[:len(got)-2] {
			var at, done, goal int
			_, err := fmt.Sscanf(line, `%d * OK [INPROGRESS ("b" %d %d)] Still at it`, &at, &done, &goal)
			if err != nil || at != 10*(i+1) || done <= told || done > 20 || goal != 20 {
				t.Errorf("%q after %d", line, told)
			}
			told = done
		}
		if told < 12 {
			t.Errorf("%q", got)
		}
		// A sort looks at some twice: it counts, and names no goal
		p.send("c] SORT (SUBJECT) UTF-8 BODY x\r\n")
		last, lines := -1, p.upTo("c]")
		for _, line := range lines[:len(lines)-2] {
			var at, done int
			if _, err := fmt.Sscanf(line, "%d * OK [INPROGRESS (NIL %d NIL)] Still at it", &at, &done); err != nil || done < last {
				t.Errorf("%q after %d", line, last)
			}
			last = done
		}
		if last < 20 {
			t.Errorf("%q", lines)
		}
	})
}

// Between the answers for messages, never inside one.
func TestFetchTellsItsProgress(t *testing.T) {
	slowly(t, 4*time.Second+time.Millisecond, 0, func(p *pipeClient) {
		p.send("b FETCH 1:9 BODY.PEEK[TEXT]\r\n")
		got := p.upTo("b")
		var notices []string
		for i, line := range got {
			if strings.Contains(line, "INPROGRESS") {
				notices = append(notices, line)
				if !strings.HasSuffix(got[i-1], ")") {
					t.Errorf("%q behind %q", line, got[i-1])
				}
			}
		}
		// How many messages are read at once is the machine's; the count only grows.
		last := 0
		for _, line := range notices {
			var at, done, of int
			_, err := fmt.Sscanf(line, `%d * OK [INPROGRESS ("b" %d %d)] Still at it`, &at, &done, &of)
			ended := strings.HasSuffix(line, ` * OK [INPROGRESS ("b" 9 NIL)] Still at it`)
			if ended {
				err, done, of = nil, 9, 9
			}
			if err != nil || done <= last || done > 9 || of != 9 || !ended && done == 9 {
				t.Errorf("%q", notices)
			}
			last = done
		}
		if last == 0 {
			t.Errorf("no notices in %q", got)
		}
	})
}

// What the store does in one piece: its client hears that it is still done.
func TestLongCommandsTellThatTheyRun(t *testing.T) {
	slowly(t, 0, 35*time.Second, func(p *pipeClient) {
		p.send("k CREATE box\r\n")
		p.until("k OK")
		for i, c := range []string{
			"STORE 1 +FLAGS (\\Seen)", "COPY 1 INBOX", "UID EXPUNGE 2", "APPEND INBOX {1+}\r\nx", "MOVE 1 box", "RENAME INBOX old",
		} {
			tag := fmt.Sprintf("t%d", i)
			p.send(tag + " " + c + "\r\n")
			got := p.upTo(tag)
			for n, at := range []string{"10", "20", "30"} {
				if want := fmt.Sprintf(`%s * OK [INPROGRESS ("%s" NIL NIL)] Still at it`, at, tag); len(got) < 4 || got[n] != want {
					t.Errorf("%s: %q", c, got)
					break
				}
			}
			if strings.Count(strings.Join(got, " "), "INPROGRESS") != 3 || !strings.HasPrefix(got[len(got)-1], "35 "+tag+" ") {
				t.Errorf("%s: %q", c, got)
			}
		}
	})
}

// A client that does not take the notices ends, and no timer stays.
func TestClientThatTakesNoNoticeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New(nil)
		st.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
		p := pipeSession(t, t.Context(), slowStore{st, 0, time.Hour}, Options{})
		p.want("l OK")
		p.send("a SELECT INBOX\r\n")
		p.until("a OK")
		p.send("b STORE 1 +FLAGS (\\Seen)\r\n")
		if out := <-p.done; !strings.Contains(out.Reason, "not read") {
			t.Errorf("%+v", out)
		}
		time.Sleep(time.Hour)
	})
}
