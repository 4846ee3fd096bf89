package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// Outside sets the flags of one message as another program would that knows nothing
// of the store; keywords stay.
type Outside func(n store.Name, uid imap.UID, flags store.Flags) error

// History does steps random things, which seed decides, in several sessions on both
// stores, and ends the test where they answer differently; it prints the seed and
// what was done. Both must be fresh and number UIDs from 1. MODSEQs are compared by
// their order only, and \Recent not at all. outside may be nil.
func History(t *testing.T, seed uint64, steps int, real, model Backend, outside Outside) {
	t.Helper()
	h := &history{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 0)), ctx: context.Background(), outside: outside,
		sides: [2]*side{{Backend: real}, {Backend: model}},
	}
	for _, s := range h.sides {
		h.open(s)
	}
	for range steps {
		if h.step(); t.Failed() {
			return
		}
	}
	h.quiet()
	for _, s := range h.sides {
		h.close(s)
	}
}

// sessions is how many sessions there are on each side.
const sessions = 3

// history is one run of History.
type history struct {
	t       *testing.T
	seed    uint64
	r       *rand.Rand
	ctx     context.Context
	outside Outside
	sides   [2]*side // the real store and its model
	done    []string // what was done, for people
}

// side is one of the two stores with its sessions.
type side struct {
	Backend
	sessions [sessions]struct {
		account store.Account
		box     store.Mailbox // nil: none is held
		view    store.View
	}
}

func (h *history) open(s *side) {
	for i := range s.sessions {
		a, err := s.Store.Account(h.ctx, s.Who)
		if err != nil {
			h.t.Fatal(err)
		}
		s.sessions[i].account = a
	}
}

func (h *history) close(s *side) {
	for i := range s.sessions {
		s.leave(i)
		if err := s.sessions[i].account.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := s.Store.Close(h.ctx); err != nil {
		h.t.Fatal(err)
	}
}

// leave gives up what session i holds.
func (s *side) leave(i int) {
	if s.sessions[i].box != nil {
		s.sessions[i].box.Close()
		s.sessions[i].box, s.sessions[i].view = nil, store.View{}
	}
}

// both does one thing to both stores and compares what they say of it.
func (h *history) both(what string, do func(s *side) string) string {
	h.t.Helper()
	h.done = append(h.done, what)
	real, model := do(h.sides[0]), do(h.sides[1])
	if real != model {
		from := max(0, len(h.done)-60)
		h.t.Fatalf("seed %d, step %d, %s:\nreal:  %s\nmodel: %s\nbefore it:\n%s", h.seed, len(h.done), what, real, model,
			strings.Join(h.done[from:], "\n"))
	}
	h.done[len(h.done)-1] += ": " + model
	return model
}

// names are the mailboxes that the history is about.
func (h *history) names() []store.Name {
	sep := string(h.sides[0].Who.Sep())
	return []store.Name{store.Inbox, store.Inbox, store.Inbox, "a", store.Name("a" + sep + "c"), "b"}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// step does one random thing.
func (h *history) step() {
	h.t.Helper()
	i := h.r.IntN(sessions)
	// What is chosen is chosen by the model: both sides have the same up to here.
	mine := &h.sides[1].sessions[i]
	n := h.r.IntN(100)
	switch {
	case n < 12:
		h.add(i)
	case n < 22:
		h.mailbox(i)
	case n < 23 && h.sides[0].Reopen != nil && h.sides[1].Reopen != nil:
		h.restart()
	case n < 26:
		h.quiet()
	case mine.box == nil || n < 32:
		h.hold(i)
	case n < 52:
		h.advance(i, h.r.IntN(3) > 0)
	case n < 55 && h.outside != nil:
		h.fromOutside(i)
	case n < 70:
		h.flags(i)
	case n < 78:
		h.expunge(i)
	case n < 88:
		h.transfer(i)
	case n < 94:
		h.rows(i)
	default:
		h.read(i)
	}
}

func (h *history) hold(i int) {
	h.t.Helper()
	n, write := pick(h.r, h.names()), h.r.IntN(6) > 0
	h.both(fmt.Sprintf("%d hold %s write=%v", i, n, write), func(s *side) string {
		s.leave(i)
		m, err := s.sessions[i].account.Hold(h.ctx, n, write, func() {})
		if err != nil {
			return word(err)
		}
		s.sessions[i].box = m
		return "ok"
	})
	if h.sides[1].sessions[i].box != nil {
		h.advance(i, true)
	}
}

func (h *history) advance(i int, expunges bool) {
	h.t.Helper()
	answer := h.both(fmt.Sprintf("%d advance expunges=%v", i, expunges), func(s *side) string {
		me := &s.sessions[i]
		v, d, err := me.box.Advance(me.view, expunges)
		if err != nil {
			return word(err)
		}
		if v.ModSeq < me.view.ModSeq {
			return fmt.Sprintf("MODSEQ went back from %d to %d", me.view.ModSeq, v.ModSeq)
		}
		me.view = v
		// A change of a message that is gone by now may be told or not.
		newest := me.box.View().UIDs
		changed := slices.DeleteFunc(slices.Clone(d.Changed), func(r store.Row) bool {
			_, there := newest.Find(r.UID)
			return !there
		})
		return fmt.Sprint("vanished ", d.Vanished, " exists ", d.Exists, " grown ", d.Grown, " changed ", show(changed),
			" shows ", v.UIDs.Slice(0, v.UIDs.Len()), " next ", v.UIDNext)
	})
	h.dead(i, answer)
}

// dead leaves a mailbox that was deleted.
func (h *history) dead(i int, answer string) {
	if answer == word(store.ErrReplaced) {
		for _, s := range h.sides {
			s.leave(i)
		}
	}
}

// some picks UIDs that session i shows, which may be gone.
func (h *history) some(i int) []imap.UID {
	col := h.sides[1].sessions[i].view.UIDs
	var uids []imap.UID
	for _, u := range col.All(0) {
		if h.r.IntN(max(2, col.Len()/3)) == 0 {
			uids = append(uids, u)
		}
	}
	return uids
}

func (h *history) add(i int) {
	h.t.Helper()
	n := pick(h.r, h.names())
	var metas []store.Meta
	for range 1 + h.r.IntN(3) {
		metas = append(metas, with(h.flagList()...))
	}
	k := len(h.done)
	h.both(fmt.Sprintf("%d add %s %v", i, n, metas), func(s *side) string {
		b, err := s.sessions[i].account.Batch(h.ctx, n)
		if err != nil {
			return word(err)
		}
		defer b.Close()
		for j, m := range metas {
			if err := b.Add(h.ctx, m, strings.NewReader(letter(k%97+j))); err != nil {
				return word(err)
			}
		}
		c, err := b.Commit(h.ctx)
		return fmt.Sprint(c.To, word(err))
	})
}

func (h *history) flagList() []imap.Flag {
	var list []imap.Flag
	for _, f := range []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagDeleted, "kw1", "$Label2", "KW3"} {
		if h.r.IntN(4) == 0 {
			list = append(list, f)
		}
	}
	return list
}

func (h *history) flags(i int) {
	h.t.Helper()
	uids := h.some(i)
	op := store.FlagOp{Op: pick(h.r, []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet}), Flags: h.flagList()}
	unchanged := h.r.IntN(4) == 0
	answer := h.both(fmt.Sprintf("%d flags %v op=%d %v unchanged=%v", i, uids, op.Op, op.Flags, unchanged), func(s *side) string {
		op := op
		if unchanged {
			op.UnchangedSince, op.HasUnchangedSince = s.sessions[i].view.ModSeq, true
		}
		rows, modified, err := s.sessions[i].box.SetFlags(h.ctx, uids, op)
		if err != nil {
			return word(err)
		}
		return fmt.Sprint(show(rows), " modified ", modified)
	})
	h.dead(i, answer)
}

func (h *history) expunge(i int) {
	h.t.Helper()
	uids := h.some(i)
	if h.r.IntN(2) == 0 {
		uids = nil
	}
	answer := h.both(fmt.Sprintf("%d expunge %v", i, uids), func(s *side) string {
		gone, _, err := s.sessions[i].box.Expunge(h.ctx, uids)
		if err != nil {
			return word(err)
		}
		return fmt.Sprint(gone)
	})
	h.dead(i, answer)
}

func (h *history) transfer(i int) {
	h.t.Helper()
	uids, to, move := h.some(i), pick(h.r, h.names()), h.r.IntN(2) == 0
	if move && h.sides[1].sessions[i].box.Info().Name == to {
		return // one change or two: the seam leaves it open
	}
	answer := h.both(fmt.Sprintf("%d copy %v to %s, move=%v", i, uids, to, move), func(s *side) string {
		var c store.Copied
		var err error
		if move {
			c, err = s.sessions[i].box.Move(h.ctx, uids, to)
		} else {
			c, err = s.sessions[i].box.Copy(h.ctx, uids, to)
		}
		if err != nil {
			return word(err)
		}
		return fmt.Sprint(c.From, c.To)
	})
	h.dead(i, answer)
}

func (h *history) rows(i int) {
	h.t.Helper()
	uids, newer := h.some(i), h.r.IntN(2) == 0
	answer := h.both(fmt.Sprintf("%d rows %v newer=%v", i, uids, newer), func(s *side) string {
		var m store.ModSeq
		if newer {
			m = s.sessions[i].view.ModSeq
		}
		return s.rows(h.ctx, i, uids, m)
	})
	h.dead(i, answer)
}

func (s *side) rows(ctx context.Context, i int, uids []imap.UID, newer store.ModSeq) string {
	var out []store.Row
	for rows, err := range s.sessions[i].box.Rows(ctx, uids, newer) {
		if err != nil {
			return word(err)
		}
		out = append(out, rows...)
	}
	return show(out)
}

func (h *history) read(i int) {
	h.t.Helper()
	col := h.sides[1].sessions[i].view.UIDs
	if col.Len() == 0 {
		return
	}
	uid := col.At(h.r.IntN(col.Len()))
	answer := h.both(fmt.Sprintf("%d read %d", i, uid), func(s *side) string {
		m, err := s.sessions[i].box.Message(h.ctx, uid)
		if err != nil {
			return word(err)
		}
		defer m.Close()
		var b strings.Builder
		_, err = m.WriteRange(&b, 0, 1<<20)
		return fmt.Sprintf("%q %s", b.String(), word(err))
	})
	h.dead(i, answer)
}

// mailbox does something to mailboxes as a whole.
func (h *history) mailbox(i int) {
	h.t.Helper()
	n := pick(h.r, h.names())
	switch h.r.IntN(7) {
	case 0, 1:
		h.both(fmt.Sprintf("%d create %s", i, n), func(s *side) string {
			return word(s.sessions[i].account.Create(h.ctx, n, nil))
		})
	case 2:
		h.both(fmt.Sprintf("%d delete %s", i, n), func(s *side) string {
			return word(s.sessions[i].account.Delete(h.ctx, n))
		})
	case 3:
		to := pick(h.r, h.names())
		if n == store.Inbox || n == to || strings.HasPrefix(string(to), string(n)) {
			return
		}
		h.both(fmt.Sprintf("%d rename %s to %s", i, n, to), func(s *side) string {
			// Which of two reasons is told is left open.
			if err := s.sessions[i].account.Rename(h.ctx, n, to); err != nil {
				return "refused"
			}
			return "ok"
		})
	case 4:
		on := h.r.IntN(2) == 0
		h.both(fmt.Sprintf("%d subscribe %s %v", i, n, on), func(s *side) string {
			return word(s.sessions[i].account.Subscribe(h.ctx, n, on))
		})
	case 5:
		h.both(fmt.Sprintf("%d status %s", i, n), func(s *side) string {
			st, err := s.sessions[i].account.Status(h.ctx, n, true)
			return fmt.Sprint(st.Messages, st.Unseen, st.Deleted, st.UIDNext, st.Size, word(err))
		})
	case 6:
		q := store.ListQuery{Patterns: []string{pick(h.r, []string{"*", "%", "a*"})}, Subscribed: h.r.IntN(2) == 0, Deep: h.r.IntN(2) == 0}
		h.both(fmt.Sprintf("%d list %+v", i, q), func(s *side) string {
			var out []string
			for e, err := range s.sessions[i].account.List(h.ctx, q) {
				if err != nil {
					return word(err)
				}
				attrs := slices.DeleteFunc(slices.Clone(e.Attrs), func(a imap.MailboxAttr) bool { return a == imap.MailboxAttrNoSelect })
				slices.Sort(attrs)
				out = append(out, fmt.Sprint(e.Name, attrs, e.Subscribed, q.Subscribed && e.ChildSubscribed))
			}
			return strings.Join(out, " ")
		})
	}
}

// fromOutside lets another program set flags.
func (h *history) fromOutside(i int) {
	h.t.Helper()
	me := &h.sides[1].sessions[i]
	if me.view.UIDs.Len() == 0 || me.box.Info().ReadOnly {
		return
	}
	uid := me.view.UIDs.At(h.r.IntN(me.view.UIDs.Len()))
	var row store.Row
	for rows, err := range me.box.Rows(h.ctx, []imap.UID{uid}, 0) {
		if err != nil {
			return
		}
		row = rows[0]
	}
	if row.UID == 0 {
		return
	}
	flags := row.Flags ^ store.FlagFlagged
	list := flags.Names()
	for _, k := range row.Keywords.Names() {
		list = append(list, imap.Flag(k))
	}
	h.both(fmt.Sprintf("outside sets flags of %s %d to %v", me.box.Info().Name, uid, list), func(s *side) string {
		box := s.sessions[i].box
		if s == h.sides[0] {
			if err := h.outside(box.Info().Name, uid, flags); err != nil {
				return err.Error()
			}
		} else if _, _, err := box.SetFlags(h.ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsSet, Flags: list}); err != nil {
			return word(err)
		}
		if err := box.Look(h.ctx); err != nil {
			return word(err)
		}
		return s.rows(h.ctx, i, []imap.UID{uid}, 0)
	})
}

// quiet lets all sessions come to the end and compares all that they see.
func (h *history) quiet() {
	h.t.Helper()
	for i := range sessions {
		if h.sides[1].sessions[i].box == nil {
			continue
		}
		if h.advance(i, true); h.sides[1].sessions[i].box == nil {
			continue
		}
		h.both(fmt.Sprintf("%d sees", i), func(s *side) string {
			col := s.sessions[i].view.UIDs
			return s.rows(h.ctx, i, col.Slice(0, col.Len()), 0)
		})
	}
}

// restart ends both stores and starts them again.
func (h *history) restart() {
	h.t.Helper()
	h.both("restart", func(s *side) string {
		h.close(s)
		s.Store = s.Reopen(h.t)
		h.open(s)
		return "ok"
	})
}

// show prints what two stores must have alike of rows.
func show(rows []store.Row) string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.UID, r.Flags.Names(), r.Keywords.Names()))
	}
	return strings.Join(out, " ")
}

// word names an error by what a caller decides on. A level without mail, and one
// that has only children, is as good as missing.
func word(err error) string {
	if err == nil {
		return "ok"
	}
	for _, e := range []error{store.ErrNoSelect, store.ErrHasChildren} {
		if errors.Is(err, e) {
			return store.ErrNotFound.Error()
		}
	}
	for _, e := range []error{store.ErrNotFound, store.ErrExists, store.ErrReadOnly, store.ErrGone, store.ErrReplaced, store.ErrCannot, store.ErrOverQuota} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}
