package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// A Backend is a fresh store to be tested.
type Backend struct {
	Store store.Store

	// Who is a user with no mail and no mailboxes but INBOX. Two tests take a copy
	// with a Quota; a third may take one with another User name only where that
	// suffices to be another user.
	Who store.Identity

	// Reopen, called after Store.Close, gives a new store on the same mail. nil where
	// nothing outlives the store: what is durable goes untested then.
	Reopen func(t *testing.T) store.Store
}

// Run checks an implementation; open is called once for each promise.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, part := range [][]promise{mailboxes, annotations, views, flags, content, copies, replaces, durable, watches, candidates} {
		for _, p := range part {
			t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) {
				t.Parallel() // each on a store of its own
				w := &world{T: t, ctx: context.Background(), Backend: open(t)}
				w.a = w.account(w.Who)
				p.check(w)
				w.close()
			})
		}
	}
}

// promise is one test: what is promised, and the check.
type promise struct {
	name  string
	check func(w *world)
}

// world is what a promise is checked in: a store, one account open, and what must
// be closed at the end. Its methods end the test where what they do fails.
type world struct {
	*testing.T
	Backend
	ctx     context.Context
	a       store.Account
	closers []io.Closer
}

// account opens one more session.
func (w *world) account(who store.Identity) store.Account {
	w.Helper()
	a, err := w.Store.Account(w.ctx, who)
	w.ok(err)
	w.closers = append(w.closers, a)
	return a
}

// close closes all that was opened, the last first, and the store.
func (w *world) close() {
	w.Helper()
	for _, c := range slices.Backward(w.closers) {
		w.ok(c.Close())
	}
	w.closers = nil
	w.ok(w.Store.Close(w.ctx))
}

// reopen ends the store and starts it again, as a restart of the server does.
func (w *world) reopen() {
	w.Helper()
	if w.Reopen == nil {
		w.Skip("nothing outlives this store")
	}
	w.close()
	w.Store = w.Reopen(w.T)
	w.a = w.account(w.Who)
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// is checks that an error wraps the sentinel.
func (w *world) is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("error is %v, want %v", err, want)
	}
}

// same compares what prints alike.
func (w *world) same(what string, got, want any) {
	w.Helper()
	if g, x := fmt.Sprint(got), fmt.Sprint(want); g != x {
		w.Fatalf("%s: got %s, want %s", what, g, x)
	}
}

// name joins levels.
func (w *world) name(levels ...string) store.Name {
	return store.Name(strings.Join(levels, string(w.Who.Sep())))
}

func (w *world) create(names ...store.Name) {
	w.Helper()
	for _, n := range names {
		w.ok(w.a.Create(w.ctx, n, nil))
	}
}

func (w *world) status(n store.Name) store.Status {
	w.Helper()
	st, err := w.a.Status(w.ctx, n, true)
	w.ok(err)
	return st
}

// add puts messages into a mailbox in one batch.
func (w *world) add(n store.Name, messages ...store.Meta) store.Copied {
	w.Helper()
	b, err := w.a.Batch(w.ctx, n)
	w.ok(err)
	for i, m := range messages {
		w.ok(b.Add(w.ctx, m, strings.NewReader(letter(i))))
	}
	c, err := b.Commit(w.ctx)
	w.ok(err)
	w.ok(b.Close())
	return c
}

// letter is a small message; each i has another size.
func letter(i int) string {
	return fmt.Sprintf("Subject: letter %d\r\n\r\n%s\r\n", i, strings.Repeat("x", i))
}

// plain is n messages without flags.
func plain(n int) []store.Meta { return make([]store.Meta, n) }

// with is a message with flags.
func with(f ...imap.Flag) store.Meta { return store.Meta{Flags: f} }

// session is one hold, and where its client is.
type session struct {
	w *world
	store.Mailbox
	a     store.Account
	view  store.View
	first store.Delta // of the first Advance
	woken chan struct{}
}

// hold opens a mailbox in a session of its own and advances to what is there.
func (w *world) hold(n store.Name, write bool) *session {
	w.Helper()
	s := &session{w: w, a: w.account(w.Who), woken: make(chan struct{}, 1)}
	m, err := s.a.Hold(w.ctx, n, write, func() {
		select {
		case s.woken <- struct{}{}:
		default:
		}
	})
	w.ok(err)
	w.closers = append(w.closers, m)
	s.Mailbox = m
	s.first = s.advance(true)
	return s
}

// advance moves the session on.
func (s *session) advance(expunges bool) store.Delta {
	s.w.Helper()
	v, d, err := s.Advance(s.view, expunges)
	s.w.ok(err)
	if v.ModSeq < s.view.ModSeq {
		s.w.Fatalf("Advance went back from MODSEQ %d to %d", s.view.ModSeq, v.ModSeq)
	}
	s.view = v
	return d
}

// forget drops the wakes so far; wake waits for a new one.
func (s *session) forget() {
	select {
	case <-s.woken:
	default:
	}
}

func (s *session) wake() {
	s.w.Helper()
	select {
	case <-s.woken:
	case <-time.After(10 * time.Second):
		s.w.Fatal("nothing woke the session")
	}
}

// uids are those that the session shows.
func (s *session) uids() []imap.UID { return s.view.UIDs.Slice(0, s.view.UIDs.Len()) }

// rows are the rows of uids.
func (s *session) rows(newer store.ModSeq, uids ...imap.UID) []store.Row {
	s.w.Helper()
	var out []store.Row
	for rows, err := range s.Rows(s.w.ctx, uids, newer) {
		s.w.ok(err)
		if len(rows) > 512 {
			s.w.Fatalf("a chunk of %d rows", len(rows))
		}
		s.w.ok(s.Measure(s.w.ctx, rows))
		out = append(out, rows...)
	}
	return out
}

// row is the row of one message that is there.
func (s *session) row(uid imap.UID) store.Row {
	s.w.Helper()
	rows := s.rows(0, uid)
	if len(rows) != 1 || rows[0].UID != uid {
		s.w.Fatalf("rows of UID %d: %v", uid, rows)
	}
	return rows[0]
}

// flag does one STORE.
func (s *session) flag(op imap.StoreFlagsOp, f imap.Flag, uids ...imap.UID) []store.Row {
	s.w.Helper()
	rows, _, err := s.SetFlags(s.w.ctx, uids, store.FlagOp{Op: op, Flags: []imap.Flag{f}})
	s.w.ok(err)
	s.w.ok(s.Measure(s.w.ctx, rows))
	return rows
}

// expunge removes messages for good, and says with which MODSEQ.
func (s *session) expunge(uids ...imap.UID) store.ModSeq {
	s.w.Helper()
	s.flag(imap.StoreFlagsAdd, imap.FlagDeleted, uids...)
	gone, m, err := s.Expunge(s.w.ctx, uids)
	s.w.ok(err)
	s.w.same("expunged", gone, uids)
	return m
}

// read is a whole message.
func (s *session) read(uid imap.UID) string {
	s.w.Helper()
	m, err := s.Message(s.w.ctx, uid)
	s.w.ok(err)
	defer m.Close()
	size, err := m.Size()
	s.w.ok(err)
	var b bytes.Buffer
	n, err := m.WriteRange(&b, 0, size)
	s.w.ok(err)
	s.w.same("bytes of the message", n, size)
	return b.String()
}

func uidsOf(rows []store.Row) []imap.UID {
	var out []imap.UID
	for _, r := range rows {
		out = append(out, r.UID)
	}
	return out
}

func upTo(n int) []imap.UID {
	var out []imap.UID
	for u := range n {
		out = append(out, imap.UID(u+1))
	}
	return out
}
