package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// Faults is power over the file calls of the real store. Each method arms one fault,
// for the n-th call from now on; disarm ends that and says whether it came to it.
type Faults interface {
	// Before does something before the call: another program is faster.
	Before(n int, do func()) (disarm func() (met bool))
	// Fail makes the call fail.
	Fail(n int) (disarm func() (met bool))
	// Kill makes it and all later ones fail, as if the process had been killed. When it
	// was met, disarm leaves the files as they were then; the store is closed and opened
	// again.
	Kill(n int) (disarm func() (met bool))
}

// command is what a client asked for and may get no answer to.
type command struct {
	what string
	do   func(s *side) string
	// part does the first k of size things that the command consists of.
	part func(s *side, k int) string
	size int

	in   store.Name // the mailbox that it is about, and the messages
	uids []imap.UID
}

// interrupted lets a command of session i run while something goes wrong, or another
// program acts, in the middle of it. Then the command happened, or not, or in part, but
// forward; an acknowledged one happened. Which it was is found by trying all on copies
// of the model.
func (h *history) interrupted(i int) {
	if h.world.Faults == nil {
		return
	}
	c, ok := h.command(i)
	if !ok {
		return
	}
	h.settle()
	var (
		manner = h.r.IntN(4)
		n      = 1 + h.r.IntN(pick(h.r, []int{3, 10, 30}))
		how    string
		other  *intruder
		disarm func() bool
		killed bool
		real   = h.sides[0]
	)
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	switch manner {
	case 0:
		if other = h.intruder(c); other == nil {
			return
		}
		how = "another program " + other.what + " before file call"
		disarm = h.world.Faults.Before(n, other.real)
	case 1:
		how, disarm = "a failure of file call", h.world.Faults.Fail(n)
	case 2:
		how, disarm = "a kill at file call", h.world.Faults.Kill(n)
	case 3:
		how, disarm = "the connection lost before file call", h.world.Faults.Before(n, cancel)
		real.ctx = ctx
	}
	h.done = append(h.done, fmt.Sprintf("%4d %s, %s %d", h.step, c.what, how, n))
	answer := c.do(real)
	real.ctx = h.ctx
	met := disarm()
	if other != nil && !met {
		other.real()
	}
	if killed = met && manner == 2; killed {
		real.abandon()
		real.reopen(h)
	}
	h.settle()
	for _, n := range h.names() {
		real.look(n)
	}
	h.settle()
	h.burnt = h.burnt || met && manner != 0
	h.follow(c, other, killed, answer, met && manner != 0)
	h.quiet()
}

// follow finds the course that the real store took, and makes it the model's.
func (h *history) follow(c command, other *intruder, killed bool, answer string, mayFail bool) {
	want := h.sides[0].inventory()
	next := h.sides[0].nexts(h.names())
	var courses [][]func(*side) string
	add := func(course ...func(*side) string) { courses = append(courses, course) }
	whole := func(s *side) string { return c.do(s) }
	switch {
	case other != nil && other.done:
		add(other.model, whole)
		add(whole, other.model)
	case strings.HasPrefix(answer, "["), answer == "ok", !mayFail:
		add(whole) // it was acknowledged, or nothing kept it from being answered as always
	default:
		add(whole)
		for k := range c.size {
			add(func(s *side) string { return c.part(s, k) })
		}
	}
	// What the client was told counts too: two courses may end alike, for what one did the
	// other undid.
	told := other != nil && other.done
	var tried []string
	for _, course := range courses {
		m, steps, got, said := h.try(course, next, killed)
		if got == want && (!told || slices.Contains(said, answer)) && !slices.Contains(said, refusedByModel) {
			h.sides[1] = m
			h.course = append(h.course, steps...)
			h.done[len(h.done)-1] += ": " + answer
			return
		}
		tried = append(tried, fmt.Sprint(said, "\n", got))
	}
	fail("step %4d %s\nanswered %s, and now there is\n%s\nwhat could be is\n%s", h.step, c.what, answer, want, strings.Join(tried, "\nor\n"))
}

// try takes a course with a copy of the model: the steps that it consists of, what there
// is then, and what was said on the way.
func (h *history) try(course []func(*side) string, next map[store.Name][]imap.UID, killed bool) (m *side, steps []func(*side) string, got string, said []string) {
	steps = append(steps, func(s *side) string { s.align(next, true); return "" })
	steps = append(steps, course...)
	if killed {
		steps = append(steps, func(s *side) string { s.close(); s.reopen(h); return "" })
	}
	steps = append(steps, func(s *side) string { s.align(next, false); return "" })
	m = h.newModel()
	m.open()
	for _, do := range h.course {
		do(m)
	}
	for _, do := range steps {
		said = append(said, do(m))
	}
	return m, steps, m.inventory(), said
}

// refusedByModel is the answer of an intruder that found nothing to work on.
const refusedByModel = "refused"

// nexts says of each mailbox which UIDs it has and what UIDNEXT is.
func (s *side) nexts(names []store.Name) map[store.Name][]imap.UID {
	out := map[store.Name][]imap.UID{}
	for _, n := range names {
		s.visitReading(n, func(c *client) { out[n] = append(slices.Clone(c.shows), c.view.UIDNext) })
	}
	return out
}

// visitReading shows a mailbox to a session that changes nothing.
func (s *side) visitReading(n store.Name, do func(c *client)) {
	a, err := s.Store.Account(s.ctx, s.Who)
	if err != nil {
		return
	}
	defer a.Close()
	c := &client{side: s, account: a}
	if c.hold(n, false) != nil {
		return
	}
	defer c.leave()
	if _, _, err := c.advance(true); err == nil {
		do(c)
	}
}

// look makes the store look at a mailbox.
func (s *side) look(n store.Name) {
	a, err := s.Store.Account(s.ctx, s.Who)
	if err != nil {
		return
	}
	defer a.Close()
	a.Status(s.ctx, n, false)
}

// align counts UIDs that were given and never shown: the model goes on where the real
// store does, which is at its first UID that the model does not have, and at the end of
// a command at its UIDNEXT.
func (s *side) align(real map[store.Name][]imap.UID, first bool) {
	for n, list := range real {
		var next imap.UID
		s.visitReading(n, func(c *client) { next = c.view.UIDNext })
		to := list[len(list)-1]
		if i, _ := slices.BinarySearch(list, next); first && i < len(list) {
			to = list[i]
		}
		if next != 0 && to > next {
			s.skipTo(n, to)
		}
	}
}

// command is one that session i could give now.
func (h *history) command(i int) (c command, ok bool) {
	me := h.model(i)
	if me.box == nil || me.info.ReadOnly || h.r.IntN(4) == 0 {
		return h.unheld(i)
	}
	uids := h.some(i)
	switch h.r.IntN(4) {
	case 0:
		op := store.FlagOp{Op: pick(h.r, []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet}), Flags: h.flagList()}
		c.what = fmt.Sprintf("%d flags %v op=%d %v", i, uids, op.Op, op.Flags)
		c.part = func(s *side, k int) string { return s.sessions[i].store(uids[:k], op, false) }
	case 1:
		c.what = fmt.Sprintf("%d expunge %v", i, uids)
		c.part = func(s *side, k int) string { return s.sessions[i].expunge(uids[:k]) }
	default:
		to, move := pick(h.r, h.names()), h.r.IntN(2) == 0
		if me.box.Info().Name == to {
			move = false
		}
		c.what = fmt.Sprintf("%d copy %v to %s, move=%v", i, uids, to, move)
		c.part = func(s *side, k int) string { return s.sessions[i].transfer(uids[:k], to, move) }
	}
	c.size, c.in, c.uids = len(uids), me.box.Info().Name, uids
	c.do = func(s *side) string { return c.part(s, c.size) }
	return c, len(uids) > 0
}

// unheld is a command that needs no mailbox to be held.
func (h *history) unheld(i int) (c command, ok bool) {
	n := pick(h.r, h.names())
	account := func(s *side) store.Account { return s.sessions[i].account }
	switch h.r.IntN(5) {
	case 0:
		c.what, c.size = fmt.Sprintf("%d create %s", i, n), 1
		c.do = func(s *side) string { return word(account(s).Create(s.ctx, n, nil)) }
		c.part = func(*side, int) string { return "" }
		if p, ok := n.Parent(h.sides[0].Who.Sep()); ok {
			c.size = 2
			c.part = func(s *side, k int) string {
				if k == 0 {
					return ""
				}
				return word(account(s).Create(s.ctx, p, nil))
			}
		}
	case 1:
		on := h.r.IntN(2) == 0
		c.what, c.size = fmt.Sprintf("%d subscribe %s %v", i, n, on), 1
		c.do = func(s *side) string { return word(account(s).Subscribe(s.ctx, n, on)) }
		c.part = func(*side, int) string { return "" }
	default:
		metas := make([]store.Meta, 1+h.r.IntN(3))
		for j := range metas {
			metas[j] = with(h.flagList()...)
			metas[j].Time = h.time()
		}
		k := h.step
		c.what, c.size = fmt.Sprintf("%d add %s %v", i, n, metas), len(metas)
		c.part = func(s *side, size int) string { return s.sessions[i].add(n, k, metas[:size]) }
		c.do = func(s *side) string { return c.part(s, len(metas)) }
	}
	return c, true
}

// intruder is another program that does one thing while a command runs.
type intruder struct {
	what  string
	real  func()
	model func(s *side) string
	done  bool // it could do it
}

// intruder chooses what is done while c runs: mostly to what c is about.
func (h *history) intruder(c command) *intruder {
	n, rows, ok := h.target()
	if c.in != "" && h.r.IntN(4) > 0 {
		var mine []store.Row
		h.sides[1].visitReading(c.in, func(v *client) { mine, _ = v.rows(c.uids, 0) })
		if len(mine) > 0 && h.world.Outside != nil {
			n, rows, ok = c.in, mine, true
		}
	}
	if !ok {
		return nil
	}
	o := &intruder{}
	out := h.world.Outside
	switch k := h.r.IntN(3); {
	case k == 0 || len(rows) == 0:
		l := Letter{Text: text(h.step, 9), Time: h.time(), Way: h.r.Uint64()}
		o.what = fmt.Sprintf("delivers %v to %s", l, n)
		o.real = func() { _, err := out.Deliver(n, []Letter{l}); o.done = err == nil }
		o.model = func(s *side) string { return s.deliver(n, []Letter{l}) }
	case k == 1:
		row, flags, way := pick(h.r, rows), h.systemFlags(), h.r.Uint64()
		keywords := h.spell(n, row.Keywords)
		o.what = fmt.Sprintf("marks %d of %s %v %v", row.UID, n, flags.Names(), keywords)
		o.real = func() { o.done = out.Mark(n, row.UID, flags, keywords, way) == nil }
		o.model = func(s *side) string {
			if s.mark(n, row.UID, flags, keywords) != "ok" {
				return refusedByModel
			}
			return "ok"
		}
	default:
		uids, way := []imap.UID{pick(h.r, rows).UID}, h.r.Uint64()
		o.what = fmt.Sprintf("deletes %v of %s", uids, n)
		o.real = func() { o.done = out.Delete(n, uids, way) == nil }
		o.model = func(s *side) string {
			if s.remove(n, uids) != "ok" {
				return refusedByModel
			}
			return "ok"
		}
	}
	return o
}
