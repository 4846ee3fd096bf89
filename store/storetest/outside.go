package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// Outside is another program that changes the mail and knows nothing of the store. It
// works between two things that the store does: how the two meet within one is not
// its business. way decides how it goes about its work where there are several ways.
type Outside interface {
	// Spells are the keywords that the program can give a message; others stay.
	Spells(n store.Name) []string

	// Deliver puts messages there, and gives them back in the order in which they must
	// get their UIDs.
	Deliver(n store.Name, list []Letter) ([]Letter, error)

	// Mark gives a message other flags and keywords.
	Mark(n store.Name, uid imap.UID, flags store.Flags, keywords []string, way uint64) error

	// Delete removes messages. Return puts one back as it was, when that is possible.
	Delete(n store.Name, uids []imap.UID, way uint64) error
	Return(n store.Name) (l Letter, ok bool, err error)
}

// A Letter is a message that somebody else delivers.
type Letter struct {
	Text     string
	Flags    store.Flags
	Keywords []string
	Time     time.Time
	Way      uint64
}

func (l Letter) String() string {
	subject, _, _ := strings.Cut(l.Text, "\n")
	return fmt.Sprint(strings.TrimSpace(subject), l.Flags.Names(), l.Keywords)
}

func (l Letter) meta() store.Meta {
	m := with(l.Flags.Names()...)
	for _, k := range l.Keywords {
		m.Flags = append(m.Flags, imap.Flag(k))
	}
	m.Time = l.Time
	return m
}

// visit opens a mailbox in a session of its own.
func (s *side) visit(n store.Name, do func(c *client) string) string {
	a, err := s.Store.Account(s.ctx, s.Who)
	if err != nil {
		return word(err)
	}
	defer a.Close()
	c := &client{side: s, account: a}
	if err := c.hold(n, true); err != nil {
		return word(err)
	}
	defer c.leave()
	if _, _, err := c.advance(true); err != nil {
		return word(err)
	}
	return do(c)
}

// other does what another program does to the mail: to the real store from outside,
// to the model by a session that comes for it.
func (h *history) other(n store.Name, what string, real func() error, model func(s *side) string) {
	h.done = append(h.done, fmt.Sprintf("%4d another program %s", h.step, what))
	if err := real(); err != nil {
		fail("another program %s: %v", what, err)
	}
	h.settle()
	if !h.closed {
		h.sides[0].look(n)
		h.catchUp()
	}
	if answer := model(h.sides[1]); answer != "ok" {
		fail("another program %s, and the model says %s", what, answer)
	}
	h.course = append(h.course, model)
}

// target is a mailbox for another program to work on, as the model has it.
func (h *history) target() (n store.Name, rows []store.Row, ok bool) {
	if h.world.Outside == nil {
		return "", nil, false
	}
	n = h.mailboxName()
	h.sides[1].visitReading(n, func(c *client) {
		var err error
		rows, err = c.rows(c.shows, 0)
		ok = err == nil
	})
	return n, rows, ok
}

// spell gives a message other keywords, as far as the program can.
func (h *history) spell(n store.Name, old store.Keywords) []string {
	var out []string
	all := h.world.Outside.Spells(n)
	for _, k := range old.Names() {
		if !slices.Contains(all, k) {
			out = append(out, k)
		}
	}
	for _, k := range all {
		if h.r.IntN(4) == 0 {
			out = append(out, k)
		}
	}
	return out
}

func (h *history) outsideDelivers() {
	n, _, ok := h.target()
	if !ok {
		return
	}
	list := make([]Letter, 1+h.r.IntN(3))
	for j := range list {
		list[j] = Letter{Text: text(h.step, j), Time: h.time(), Way: h.r.Uint64()}
		if h.r.IntN(2) == 0 {
			list[j].Flags, list[j].Keywords = h.systemFlags(), h.spell(n, store.Keywords{})
		}
	}
	var ordered []Letter
	h.other(n, fmt.Sprintf("delivers %v to %s", list, n),
		func() (err error) { ordered, err = h.world.Outside.Deliver(n, list); return err },
		func(s *side) string { return s.deliver(n, ordered) })
}

// deliver adds letters in their order.
func (s *side) deliver(n store.Name, list []Letter) string {
	return s.visit(n, func(c *client) string {
		b, err := c.account.Batch(s.ctx, n)
		if err != nil {
			return word(err)
		}
		defer b.Close()
		for _, l := range list {
			if err := b.Add(s.ctx, l.meta(), strings.NewReader(l.Text)); err != nil {
				return word(err)
			}
		}
		_, err = b.Commit(s.ctx)
		return word(err)
	})
}

func (h *history) outsideMarks() {
	n, rows, ok := h.target()
	if !ok || len(rows) == 0 {
		return
	}
	row, flags, way := pick(h.r, rows), h.systemFlags(), h.r.Uint64()
	keywords := row.Keywords.Names()
	if h.r.IntN(2) == 0 {
		keywords = h.spell(n, row.Keywords)
	}
	h.other(n, fmt.Sprintf("marks %d of %s %v %v", row.UID, n, flags.Names(), keywords),
		func() error { return h.world.Outside.Mark(n, row.UID, flags, keywords, way) },
		func(s *side) string { return s.mark(n, row.UID, flags, keywords) })
}

func (s *side) mark(n store.Name, uid imap.UID, flags store.Flags, keywords []string) string {
	list := flags.Names()
	for _, k := range keywords {
		list = append(list, imap.Flag(k))
	}
	return s.visit(n, func(c *client) string {
		rows, _, err := c.box.SetFlags(s.ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsSet, Flags: list})
		if err == nil && len(rows) == 0 {
			err = store.ErrGone
		}
		return word(err)
	})
}

func (h *history) outsideDeletes() {
	n, rows, ok := h.target()
	if !ok || len(rows) == 0 {
		return
	}
	var uids []imap.UID
	for _, r := range rows {
		if h.r.IntN(3) == 0 {
			uids = append(uids, r.UID)
		}
	}
	way := h.r.Uint64()
	h.other(n, fmt.Sprintf("deletes %v of %s", uids, n),
		func() error { return h.world.Outside.Delete(n, uids, way) },
		func(s *side) string { return s.remove(n, uids) })
}

// remove expunges messages, whatever their flags were.
func (s *side) remove(n store.Name, uids []imap.UID) string {
	return s.visit(n, func(c *client) string {
		for _, uid := range uids {
			if _, _, err := c.box.SetFlags(s.ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
				return word(err)
			}
		}
		if uids == nil {
			return "ok"
		}
		gone, _, err := c.box.Expunge(s.ctx, uids)
		if err == nil && !slices.Equal(gone, uids) {
			err = store.ErrGone
		}
		return word(err)
	})
}

// outsideReturns puts back what was deleted: it must get a new UID, for clients were
// told that the old one is gone.
func (h *history) outsideReturns() {
	n, _, ok := h.target()
	if !ok {
		return
	}
	var l Letter
	var had bool
	h.other(n, "puts a deleted message back into "+string(n),
		func() (err error) { l, had, err = h.world.Outside.Return(n); return err },
		func(s *side) string {
			if !had {
				return "ok"
			}
			return s.deliver(n, []Letter{l})
		})
}
