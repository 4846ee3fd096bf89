package session

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"
)

// readyStream is a Stream in memory that knows what a Read would give, and the client's end
// of it.
type readyStream struct {
	net.Conn // nil: no further method is called

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	in, out bytes.Buffer
	inEnd   bool // the client says no more
	outEnd  bool // the session is over
	halted  bool // the read deadline is past
}

func newReadyStream() *readyStream {
	r := &readyStream{}
	r.changed = sync.NewCond(&r.mu)
	return r
}

func (r *readyStream) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.Len() > 0
}

func (r *readyStream) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.in.Len() == 0 && !r.inEnd && !r.halted {
		r.changed.Wait()
	}
	if r.halted {
		return 0, context.DeadlineExceeded
	}
	return r.in.Read(p)
}

func (r *readyStream) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changed.Broadcast()
	return r.out.Write(p)
}

func (r *readyStream) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.halted = !t.IsZero() && t.Before(time.Now())
	r.changed.Broadcast()
	return nil
}
func (r *readyStream) SetWriteDeadline(time.Time) error { return nil }
func (r *readyStream) Close() error                     { return nil }

func (r *readyStream) end(of *bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = true
	r.changed.Broadcast()
}

// theirs is the client's end.
type theirs struct {
	net.Conn
	r *readyStream
}

func (c theirs) Write(p []byte) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	defer c.r.changed.Broadcast()
	return c.r.in.Write(p)
}

func (c theirs) Read(p []byte) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for c.r.out.Len() == 0 && !c.r.outEnd {
		c.r.changed.Wait()
	}
	return c.r.out.Read(p)
}

// commits is an account that notes how many batches came together. before is called with the
// number of the Commit, and may break one of them.
type commits struct {
	store.Account
	sizes  []int
	open   int
	before func(n int, list []store.Batch)
}

func (c *commits) Batch(ctx context.Context, n store.Name) (store.Batch, error) {
	b, err := c.Account.Batch(ctx, n)
	if err != nil {
		return nil, err
	}
	c.open++
	return &countedBatch{b, &c.open}, nil
}

// countedBatch is a batch that is open until its first Close.
type countedBatch struct {
	store.Batch
	open *int
}

func (c *countedBatch) Close() error {
	if c.open != nil {
		*c.open--
		c.open = nil
	}
	return c.Batch.Close()
}

func (c *commits) Commit(ctx context.Context, list ...store.Batch) []store.Committed {
	if c.sizes = append(c.sizes, len(list)); c.before != nil {
		c.before(len(c.sizes), list)
	}
	return c.Account.Commit(ctx, list...)
}

// brokenBatch cannot be committed.
type brokenBatch struct{ store.Batch }

func (brokenBatch) Commit(context.Context) (store.Copied, error) {
	return store.Copied{}, store.ErrOverQuota
}

// pipelining is a session whose client has said all of said before the first word is read.
type pipelining struct {
	*pipeClient
	r      *readyStream
	st     *memstore.Store
	commit *commits
}

func pipeline(t *testing.T, said string, who store.Identity, before func(n int, list []store.Batch)) *pipelining {
	t.Helper()
	st := memstore.New(nil)
	who.User, who.Roots = "ann", []store.Root{{}}
	acct, err := st.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	r := newReadyStream()
	p := &pipelining{r: r, st: st, commit: &commits{Account: acct, before: before}}
	p.pipeClient = &pipeClient{t: t, conn: theirs{r: r}, done: make(chan Outcome, 1)}
	p.pipeClient.r = bufio.NewReader(p.conn)
	p.send(said)
	go func() { // ends with the session
		out, _ := Serve(t.Context(), r, &Login{Who: who, Tag: "l"}, oneAccount{acct: p.commit}, &Options{Log: quiet(), Limits: Limits{AppendBytes: 100_000}})
		r.end(&r.outEnd)
		p.done <- *out
	}()
	p.want("l OK")
	return p
}

// finish ends the client's side, and gives what came and how many batches each Commit had.
func (p *pipelining) finish() (said []string, sizes []int) {
	p.t.Helper()
	p.r.end(&p.r.inEnd)
	all, err := io.ReadAll(p.pipeClient.r)
	if err != nil {
		p.t.Fatal(err)
	}
	<-p.done
	if p.commit.open != 0 {
		p.t.Errorf("%d batches stay open", p.commit.open)
	}
	return strings.Split(strings.TrimSuffix(string(all), "\r\n"), "\r\n"), p.commit.sizes
}

// tags are the first two words of the tagged answers, in order.
func tags(said []string) (out []string) {
	for _, line := range said {
		if w := strings.Fields(line); len(w) > 1 && w[0] != "*" && w[0] != "+" {
			out = append(out, w[0]+" "+w[1])
		}
	}
	return out
}

func appendOf(tag, box, text string) string {
	return fmt.Sprintf("%s APPEND %s {%d+}\r\n%s\r\n", tag, box, len(text), text)
}

func TestPipelinedAppends(t *testing.T) {
	large := strings.Repeat("x", 50_000)
	many := ""
	var manyTags []string
	for i := range maxHeldMessages + 3 {
		many += appendOf(fmt.Sprintf("m%d", i), "INBOX", "text")
		manyTags = append(manyTags, fmt.Sprintf("m%d OK", i))
	}
	for _, tc := range []struct {
		name, said string
		tags       []string
		sizes      []int
	}{
		{"one", appendOf("a", "INBOX", "1"), []string{"a OK"}, []int{1}},
		{"three", appendOf("a", "INBOX", "1") + appendOf("b", "inbox", large) + appendOf("c", "INBOX", "3"),
			[]string{"a OK", "b OK", "c OK"}, []int{3}},
		{"of several messages", "a APPEND INBOX {1+}\r\n1 {1+}\r\n2\r\n" + appendOf("b", "INBOX", "3"), []string{"a OK", "b OK"}, []int{2}},
		{"another command", appendOf("a", "INBOX", "1") + "b NOOP\r\n" + appendOf("c", "INBOX", "1") + appendOf("d", "INBOX", "1") + "e CHECK\r\n",
			[]string{"a OK", "b OK", "c OK", "d OK", "e BAD"}, []int{1, 2}},
		{"another mailbox", "z CREATE x\r\n" + appendOf("a", "INBOX", "1") + appendOf("b", "x", "1") + appendOf("c", "x", "1"),
			[]string{"z OK", "a OK", "b OK", "c OK"}, []int{1, 2}},
		{"one is refused", appendOf("a", "INBOX", "1") + appendOf("b", `INBOX "yesterday"`, "1") + appendOf("c", "INBOX", "1"),
			[]string{"a OK", "b BAD", "c OK"}, []int{1, 1}},
		{"one is cancelled", appendOf("a", "INBOX", "1") + "b APPEND INBOX {1+}\r\n1 {0+}\r\n\r\n" + appendOf("c", "INBOX", "1"),
			[]string{"a OK", "b NO", "c OK"}, []int{1, 1}},
		{"no such mailbox", appendOf("a", "INBOX", "1") + appendOf("b", "y", "1") + appendOf("c", "INBOX", "1"),
			[]string{"a OK", "b NO", "c OK"}, []int{1, 1}},
		{"too big", appendOf("a", "INBOX", "1") + appendOf("b", "INBOX", large+large+"x") + appendOf("c", "INBOX", "1"),
			[]string{"a OK", "b NO", "c OK"}, []int{1, 1}},
		{"more than are held", many, manyTags, []int{maxHeldMessages, 3}},
		{"nonsense", appendOf("a", "INBOX", "1") + "nonsense\r\n" + appendOf("b", "INBOX", "1"), []string{"a OK", "nonsense BAD", "b OK"}, []int{1, 1}},
		{"logout", appendOf("a", "INBOX", "1") + appendOf("b", "INBOX", "1") + "c LOGOUT\r\n", []string{"a OK", "b OK", "c OK"}, []int{2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := pipeline(t, tc.said, store.Identity{}, nil)
			said, sizes := p.finish()
			if got := tags(said); !slices.Equal(got, tc.tags) {
				t.Errorf("answers %q, want %q", got, tc.tags)
			}
			if !slices.Equal(sizes, tc.sizes) {
				t.Errorf("committed %v, want %v", sizes, tc.sizes)
			}
		})
	}
}

// What so many bytes take is not waited for either.
func TestPipelinedAppendsOfManyBytes(t *testing.T) {
	text := strings.Repeat("x", 90_000)
	n := maxHeldBytes/len(text) + 2
	all := ""
	for range n {
		all += appendOf("a", "INBOX", text)
	}
	_, sizes := pipeline(t, all, store.Identity{}, nil).finish()
	if !slices.Equal(sizes, []int{maxHeldBytes / len(text), 2}) {
		t.Errorf("committed %v", sizes)
	}
}

// Under a quota each is countedBatch before the next is let in.
func TestPipelinedAppendsUnderQuota(t *testing.T) {
	all := appendOf("a", "INBOX", "1") + appendOf("b", "INBOX", "1") + appendOf("c", "INBOX", "1")
	said, _ := pipeline(t, all, store.Identity{Quota: store.Limits{Messages: 2}}, nil).finish()
	if got := tags(said); !slices.Equal(got, []string{"a OK", "b OK", "c NO"}) {
		t.Errorf("answers %q", got)
	}
}

// One that cannot be committed is answered NO in its place, and the others OK with their UIDs.
func TestPipelinedAppendThatFailsAlone(t *testing.T) {
	all := "s SELECT INBOX\r\n" + appendOf("a", "INBOX", "1") + appendOf("b", "INBOX", "2") + appendOf("c", "INBOX", "3")
	p := pipeline(t, all, store.Identity{}, func(_ int, list []store.Batch) { list[1] = brokenBatch{list[1]} })
	p.until("s OK")
	said, sizes := p.finish()
	var got []string
	for _, line := range said {
		if !strings.HasPrefix(line, "* FLAGS") && !strings.Contains(line, "PERMANENTFLAGS") {
			got = append(got, strings.ReplaceAll(line, " Message saved", ""))
		}
	}
	validity, _, _ := strings.Cut(strings.TrimPrefix(got[2], "a OK [APPENDUID "), " ")
	want := []string{"* 2 EXISTS", "* 2 RECENT", "a OK [APPENDUID " + validity + " 1]", "b NO [OVERQUOTA] No room left", "c OK [APPENDUID " + validity + " 2]"}
	if !slices.Equal(got, want) || !slices.Equal(sizes, []int{3}) {
		t.Errorf("committed %v, said %q, want %q", sizes, got, want)
	}
}

// Nobody waits for the rest of the next message, nor for the next command.
func TestPipelinedAppendsAreAnsweredBeforeTheRestComes(t *testing.T) {
	for _, next := range []string{"", "c APP", "c APPEND INBOX {5+}\r\n", "c APPEND INBOX {5+}\r\nhe"} {
		p := pipeline(t, appendOf("a", "INBOX", "1")+appendOf("b", "INBOX", "2")+next, store.Identity{}, nil)
		p.want("a OK")
		p.want("b OK")
		whole := "c APPEND INBOX {5+}\r\nhello\r\n"
		p.send(strings.TrimPrefix(whole, next))
		p.want("c OK")
		if _, sizes := p.finish(); !slices.Equal(sizes, []int{2, 1}) {
			t.Errorf("%q: committed %v", next, sizes)
		}
	}
}

// A synchronising literal is invited behind the answers.
func TestPipelinedAppendsBeforeAnInvitation(t *testing.T) {
	p := pipeline(t, appendOf("a", "INBOX", "1")+"b APPEND INBOX {1}\r\n", store.Identity{}, nil)
	p.want("a OK")
	p.want("+ OK")
	p.send("1\r\n")
	p.want("b OK")
	p.finish()
}

// Messages that came whole are stored, though the client is gone before the next one is.
func TestPipelinedAppendsOfClientThatHangsUp(t *testing.T) {
	p := pipeline(t, appendOf("a", "INBOX", "1")+appendOf("b", "INBOX", "2")+"c APPEND INBOX {5+}\r\nhe", store.Identity{}, nil)
	p.finish()
	acct, err := p.st.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer acct.Close()
	if st, err := acct.Status(t.Context(), store.Inbox, false); err != nil || st.Messages != 2 {
		t.Errorf("%d messages, %v", st.Messages, err)
	}
}

// The selected mailbox goes while APPENDs are held: each has its answer, and then nothing runs.
func TestPipelinedAppendsToDeletedMailbox(t *testing.T) {
	var p *pipelining
	made := make(chan struct{})
	p = pipeline(t, "z CREATE x\r\ns SELECT x\r\n"+appendOf("a", "x", "1")+appendOf("b", "x", "2")+"c NOOP\r\n", store.Identity{},
		func(int, []store.Batch) {
			<-made
			acct, err := p.st.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{}}})
			if err == nil {
				err = errors.Join(acct.Delete(t.Context(), "x"), acct.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	close(made)
	p.until("s OK")
	said, _ := p.finish()
	if got := tags(said); !slices.Equal(got, []string{"a NO", "b NO"}) || !strings.HasPrefix(said[0], "* BYE ") {
		t.Errorf("said %q", said)
	}
}

// What breaks in the store ends the session, and leaves no batch open.
func TestPipelinedAppendsAndPanic(t *testing.T) {
	p := pipeline(t, appendOf("a", "INBOX", "1")+appendOf("b", "INBOX", "2"), store.Identity{}, func(int, []store.Batch) { panic("a bug") })
	p.want("* BYE Internal server error")
	p.finish()
}

// Who is told of new messages by NOTIFY is not told of any of its own.
func TestPipelinedAppendsUnderNotify(t *testing.T) {
	p := pipeline(t, "s SELECT INBOX\r\nn NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))\r\n"+
		appendOf("a", "INBOX", "1")+appendOf("b", "INBOX", "2"), store.Identity{}, nil)
	p.until("n OK")
	said, sizes := p.finish()
	if strings.Contains(strings.Join(said, "\n"), "FETCH") || !slices.Equal(tags(said), []string{"a OK", "b OK"}) || !slices.Equal(sizes, []int{2}) {
		t.Errorf("committed %v, said %q", sizes, said)
	}
}

// Compressed, they are held as well, and are answered before the session waits for what
// completes a block.
func TestPipelinedAppendsCompressed(t *testing.T) {
	p := pipeline(t, "", store.Identity{}, nil)
	c, err := pack(p.conn, bufio.NewReader(io.MultiReader(strings.NewReader("l OK\r\n"), p.pipeClient.r)))
	if err != nil {
		t.Fatal(err)
	}
	p.pipeClient.r = bufio.NewReader(c)
	p.want("l OK")
	packed := func(text string) string {
		io.WriteString(c.w, text)
		c.w.Flush()
		defer c.b.Reset()
		return c.b.String()
	}
	two := packed(appendOf("a", "INBOX", "1") + appendOf("b", "INBOX", "2"))
	next := packed(appendOf("c", "INBOX", "3"))
	p.send(two + next[:5])
	p.want("a OK")
	p.want("b OK")
	p.send(next[5:])
	p.want("c OK")
	p.r.end(&p.r.inEnd)
	<-p.done
	if sizes := p.commit.sizes; !slices.Equal(sizes, []int{2, 1}) {
		t.Errorf("committed %v", sizes)
	}
}
