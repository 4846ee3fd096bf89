package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// action is one kind of step, taken by session i.
type action struct {
	weight int
	holds  bool // only where i holds a mailbox
	do     func(h *history, i int)
}

// actions are all there are. They are built in a function because some take others.
func actions() []action {
	return []action{
		{10, false, (*history).add},
		{9, false, (*history).mailbox},
		{2, false, func(h *history, _ int) { h.restart() }},
		{3, false, func(h *history, _ int) { h.quiet() }},
		{3, false, (*history).reconnect},
		{6, false, (*history).hold},
		{2, true, (*history).leave},
		{4, true, (*history).cut},
		{4, false, (*history).resume},
		{10, true, func(h *history, i int) { h.advance(i, true) }},
		{10, true, func(h *history, i int) { h.advance(i, false) }},
		{14, true, (*history).flags},
		{8, true, (*history).expunge},
		{10, true, (*history).transfer},
		{5, true, (*history).replace},
		{4, true, (*history).rows},
		{4, true, (*history).read},
		{6, false, func(h *history, _ int) { h.outsideDelivers() }},
		{6, false, func(h *history, _ int) { h.outsideMarks() }},
		{4, false, func(h *history, _ int) { h.outsideDeletes() }},
		{2, false, func(h *history, _ int) { h.outsideReturns() }},
		{4, false, (*history).interrupted},
	}
}

// weigh decides what this history does often and what never: histories that do all
// alike miss what takes many steps of one kind.
func (h *history) weigh() {
	for _, a := range actions() {
		h.weights = append(h.weights, a.weight*pick(h.r, []int{0, 1, 1, 1, 2, 5}))
	}
	h.weights[0] += 2 // something must come in
}

// act takes one step.
func (h *history) act() {
	i := h.r.IntN(sessions)
	all := actions()
	total := 0
	for _, w := range h.weights {
		total += w
	}
	n := h.r.IntN(total)
	for k, w := range h.weights {
		if n -= w; n < 0 {
			if all[k].holds && h.model(i).box == nil {
				h.hold(i)
				return
			}
			all[k].do(h, i)
			break
		}
	}
	if h.world.Beside != nil {
		h.settle()
	}
	for _, s := range h.sides {
		for _, c := range s.sessions {
			if c.box != nil {
				c.seeOld()
			}
		}
	}
	h.witness()
}

// witness reads a message here and there, and those that were never read.
func (h *history) witness() {
	for _, c := range h.sides[0].sessions {
		if c.box == nil {
			continue
		}
		for _, uid := range c.shows {
			if _, ok := c.side.witness.texts[message{c.info.UIDValidity, uid}]; !ok || h.r.IntN(16) == 0 {
				if _, err := c.read(uid); err != nil && word(err) != word(store.ErrGone) && word(err) != word(store.ErrReplaced) {
					fail("read UID %d of %s: %v", uid, c.info.Name, err)
				}
			}
		}
	}
}

// names are the mailboxes that the history is about.
func (h *history) names() []store.Name {
	sep := string(h.sides[0].Who.Sep())
	return []store.Name{store.Inbox, store.Inbox, store.Inbox, "a", store.Name("a" + sep + "c"), "b"}
}

// mailboxName is some mailbox, mostly one that is there.
func (h *history) mailboxName() store.Name {
	if h.r.IntN(4) == 0 {
		return pick(h.r, h.names())
	}
	var there []store.Name
	for e, err := range h.model(0).account.List(h.ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err == nil && !slices.Contains(e.Attrs, imap.MailboxAttrNonExistent) {
			there = append(there, e.Name)
		}
	}
	return pick(h.r, append(there, store.Inbox))
}

func (h *history) hold(i int) {
	n, write := h.mailboxName(), h.r.IntN(6) > 0
	h.both(fmt.Sprintf("%d hold %s write=%v", i, n, write), func(s *side) string {
		return word(s.sessions[i].hold(n, write))
	})
	if h.model(i).box != nil {
		h.advance(i, true)
	}
}

func (h *history) leave(i int) {
	h.both(fmt.Sprintf("%d leaves", i), func(s *side) string { s.sessions[i].leave(); return "ok" })
}

// reconnect ends a session and starts another.
func (h *history) reconnect(i int) {
	h.both(fmt.Sprintf("%d reconnects", i), func(s *side) string {
		c := s.sessions[i]
		c.leave()
		err := c.account.Close()
		s.sessions[i] = s.connect(i)
		s.sessions[i].kept = c.kept
		return word(err)
	})
}

func (h *history) cut(i int) {
	h.both(fmt.Sprintf("%d is cut off", i), func(s *side) string { s.sessions[i].cut(); return "ok" })
}

func (h *history) resume(i int) {
	if h.model(i).kept == nil {
		return
	}
	if h.model(i).box != nil {
		h.leave(i)
	}
	answer := h.both(fmt.Sprintf("%d resumes %s", i, h.model(i).kept.info.Name), func(s *side) string { return s.sessions[i].resume() })
	if answer == "another" {
		h.leave(i)
	}
}

func (h *history) advance(i int, expunges bool) {
	answer := h.both(fmt.Sprintf("%d advance expunges=%v", i, expunges), func(s *side) string {
		c := s.sessions[i]
		v, d, err := c.advance(expunges)
		if err != nil {
			return word(err)
		}
		// A change of a message that is gone by now may be told or not, and so may one that
		// was taken back.
		newest := c.box.View().UIDs
		changed := slices.DeleteFunc(slices.Clone(c.news), func(r store.Row) bool {
			_, there := newest.Find(r.UID)
			return !there
		})
		return fmt.Sprint("vanished ", d.Vanished, " exists ", d.Exists, " grown ", d.Grown, " changed ", show(changed),
			" shows ", c.shows, " next ", v.UIDNext)
	})
	h.dead(i, answer)
}

// dead leaves a mailbox that was deleted.
func (h *history) dead(i int, answer string) {
	if answer == word(store.ErrReplaced) {
		for _, s := range h.sides {
			s.sessions[i].leave()
		}
		h.course = append(h.course, func(s *side) string { s.sessions[i].leave(); return "" })
	}
}

// some picks UIDs that session i shows, which may be gone.
func (h *history) some(i int) []imap.UID {
	shows := h.model(i).shows
	var uids []imap.UID
	for _, u := range shows {
		if h.r.IntN(max(2, len(shows)/3)) == 0 {
			uids = append(uids, u)
		}
	}
	return uids
}

// add is an APPEND of one message or several.
func (h *history) add(i int) {
	n := pick(h.r, h.names())
	var metas []store.Meta
	for range 1 + h.r.IntN(3) {
		m := with(h.flagList()...)
		m.Time = h.time()
		metas = append(metas, m)
	}
	k := h.step
	h.adding(fmt.Sprintf("%d add %s %v", i, n, metas), func(s *side) string { return s.sessions[i].add(n, k, metas) })
}

func (c *client) add(n store.Name, step int, metas []store.Meta) string {
	b, err := c.account.Batch(c.side.ctx, n)
	if err != nil {
		return word(err)
	}
	defer b.Close()
	for j, m := range metas {
		if err := b.Add(c.side.ctx, m, strings.NewReader(text(step, j))); err != nil {
			return word(err)
		}
	}
	to, err := b.Commit(c.side.ctx)
	if err != nil {
		return word(err)
	}
	return fmt.Sprint(to.To)
}

// text is a message that no other step makes. Some have bare LFs.
func text(step, j int) string {
	s := fmt.Sprintf("Subject: %d.%d\r\n\r\n%s\r\n", step, j, strings.Repeat("x", step%97+j))
	if step%2 == 0 {
		s = strings.ReplaceAll(s, "\r\n", "\n")
	}
	return s
}

func (h *history) time() time.Time { return time.Unix(1_000_000_000+h.r.Int64N(1e6), 0) }

func (h *history) flagList() []imap.Flag {
	list := h.systemFlags().Names()
	for _, k := range h.keywords() {
		list = append(list, imap.Flag(k))
	}
	return list
}

func (h *history) systemFlags() (f store.Flags) {
	for _, one := range []store.Flags{store.FlagSeen, store.FlagAnswered, store.FlagDeleted, store.FlagFlagged, store.FlagDraft} {
		if h.r.IntN(4) == 0 {
			f |= one
		}
	}
	return f
}

// keywords are mostly few: more than 26 in a mailbox are a case of their own.
func (h *history) keywords() []string {
	var list []string
	for _, k := range []string{"kw1", "$Label2", "KW3"} {
		if h.r.IntN(4) == 0 {
			list = append(list, k)
		}
	}
	if h.seed%4 == 3 {
		list = append(list, fmt.Sprintf("k%d", h.r.IntN(40)))
	}
	return list
}

func (h *history) flags(i int) {
	uids := h.some(i)
	op := store.FlagOp{Op: pick(h.r, []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel, imap.StoreFlagsSet}), Flags: h.flagList()}
	unchanged := h.r.IntN(4) == 0
	answer := h.both(fmt.Sprintf("%d flags %v op=%d %v unchanged=%v", i, uids, op.Op, op.Flags, unchanged), func(s *side) string {
		return s.sessions[i].store(uids, op, unchanged)
	})
	h.dead(i, answer)
}

func (c *client) store(uids []imap.UID, op store.FlagOp, unchanged bool) string {
	if unchanged {
		op.UnchangedSince, op.HasUnchangedSince = c.view.ModSeq, true
	}
	rows, modified, err := c.setFlags(uids, op)
	if err != nil {
		return word(err)
	}
	return fmt.Sprint(show(rows), " modified ", modified)
}

func (h *history) expunge(i int) {
	uids := h.some(i)
	if h.r.IntN(2) == 0 {
		uids = nil
	}
	answer := h.both(fmt.Sprintf("%d expunge %v", i, uids), func(s *side) string { return s.sessions[i].expunge(uids) })
	h.dead(i, answer)
}

func (c *client) expunge(uids []imap.UID) string {
	gone, _, err := c.box.Expunge(c.side.ctx, uids)
	if err != nil {
		return word(err)
	}
	return fmt.Sprint(gone)
}

func (h *history) transfer(i int) {
	uids, to, move := h.some(i), h.mailboxName(), h.r.IntN(2) == 0
	if move && h.model(i).box.Info().Name == to {
		return // one change or two: the seam leaves it open
	}
	answer := h.adding(fmt.Sprintf("%d copy %v to %s, move=%v", i, uids, to, move), func(s *side) string {
		return s.sessions[i].transfer(uids, to, move)
	})
	h.dead(i, answer)
}

func (c *client) transfer(uids []imap.UID, to store.Name, move bool) string {
	do := c.box.Copy
	if move {
		do = c.box.Move
	}
	done, err := do(c.side.ctx, uids, to)
	if err != nil {
		return word(err)
	}
	return fmt.Sprint(done.From, done.To)
}

// replace puts a message in the place of one that the session shows.
func (h *history) replace(i int) {
	shows := h.model(i).shows
	if len(shows) == 0 {
		return
	}
	uid, n, k := pick(h.r, shows), pick(h.r, h.names()), h.step
	if h.model(i).box.Info().Name == n {
		return // one change or two: another process sees two
	}
	m := with(h.flagList()...)
	m.Time = h.time()
	answer := h.adding(fmt.Sprintf("%d replace %d in %s by %v", i, uid, n, m), func(s *side) string {
		return s.sessions[i].replace(uid, n, k, m)
	})
	h.dead(i, answer)
}

func (c *client) replace(uid imap.UID, n store.Name, step int, m store.Meta) string {
	b, err := c.account.Batch(c.side.ctx, n)
	if err != nil {
		return word(err)
	}
	defer b.Close()
	if err := b.Replace(c.box, uid); err != nil {
		return word(err)
	}
	if err := b.Add(c.side.ctx, m, strings.NewReader(text(step, 0))); err != nil {
		return word(err)
	}
	to, err := b.Commit(c.side.ctx)
	if err != nil {
		return word(err)
	}
	return fmt.Sprint(to.To)
}

func (h *history) rows(i int) {
	uids, newer := h.some(i), h.r.IntN(2) == 0
	answer := h.both(fmt.Sprintf("%d rows %v newer=%v", i, uids, newer), func(s *side) string {
		c := s.sessions[i]
		var m store.ModSeq
		if newer {
			m = c.view.ModSeq
		}
		rows, err := c.rows(uids, m)
		if err != nil {
			return word(err)
		}
		return fmt.Sprint(show(rows), " first unseen ", c.box.FirstUnseen())
	})
	h.dead(i, answer)
}

func (h *history) read(i int) {
	shows := h.model(i).shows
	if len(shows) == 0 {
		return
	}
	uid := pick(h.r, shows)
	answer := h.both(fmt.Sprintf("%d read %d", i, uid), func(s *side) string {
		text, err := s.sessions[i].read(uid)
		if err != nil {
			return word(err)
		}
		return fmt.Sprintf("%q", text)
	})
	h.dead(i, answer)
}

// mailbox does something to mailboxes as a whole.
func (h *history) mailbox(i int) {
	n := pick(h.r, h.names())
	kind := h.r.IntN(8)
	if kind == 3 || kind == 4 {
		n = h.mailboxName()
	}
	if h.world.Beside != nil && 2 <= kind && kind <= 4 {
		// To another process a mailbox that is moved is as good as deleted.
		for j := range sessions {
			if h.model(j).box != nil && (j >= sessions/2) != (i >= sessions/2) {
				h.leave(j)
			}
		}
	}
	switch kind {
	case 0, 1:
		h.both(fmt.Sprintf("%d create %s", i, n), func(s *side) string {
			return word(s.sessions[i].account.Create(h.ctx, n, nil))
		})
	case 2:
		h.both(fmt.Sprintf("%d delete %s", i, n), func(s *side) string {
			return word(s.sessions[i].account.Delete(h.ctx, n))
		})
	case 3, 4:
		to := pick(h.r, h.names())
		h.adding(fmt.Sprintf("%d rename %s to %s", i, n, to), func(s *side) string {
			// Which of two reasons is told is left open.
			if err := s.sessions[i].account.Rename(h.ctx, n, to); err != nil {
				return "refused"
			}
			return "ok"
		})
	case 5:
		on := h.r.IntN(2) == 0
		h.both(fmt.Sprintf("%d subscribe %s %v", i, n, on), func(s *side) string {
			return word(s.sessions[i].account.Subscribe(h.ctx, n, on))
		})
	case 6:
		h.both(fmt.Sprintf("%d status %s", i, n), func(s *side) string {
			st, err := s.sessions[i].account.Status(h.ctx, n, true)
			return fmt.Sprint(st.Messages, st.Unseen, st.Deleted, st.UIDNext, st.Size, word(err))
		})
	case 7:
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

// restart ends both stores and starts them again. Meanwhile others may change the mail,
// and this and that may happen.
func (h *history) restart() {
	if h.sides[0].Reopen == nil || h.sides[1].Reopen == nil {
		return
	}
	var mishaps []Mishap
	for _, m := range h.world.Closed {
		if h.r.IntN(3) == 0 {
			mishaps = append(mishaps, m)
		}
	}
	h.both("the store is closed", func(s *side) string { s.close(); return "ok" })
	h.closed = true
	doings := []func(){h.outsideDelivers, h.outsideMarks, h.outsideDeletes, h.outsideReturns}
	for _, m := range mishaps {
		if m.Forgets {
			doings = doings[:3]
		}
		h.done = append(h.done, fmt.Sprintf("%4d %s", h.step, m.Name))
		if err := m.Do(); err != nil {
			fail("%s: %v", m.Name, err)
		}
	}
	// One kind of change: what came and went unseen is another matter.
	do := pick(h.r, doings)
	for range h.r.IntN(3) {
		do()
	}
	h.closed = false
	h.both("the store is opened", func(s *side) string { s.reopen(h); return "ok" })
	for _, n := range h.names() {
		h.sides[0].look(n)
	}
}

// reopen starts the store again. Clients that were connected have to resume.
func (s *side) reopen(h *history) {
	old := s.sessions
	s.Store = s.Reopen(h.t)
	if s.beside != nil {
		b := *s.beside
		b.Store = b.Reopen(h.t)
		s.beside = &b
	}
	s.witness.epoch++
	s.open()
	for i, c := range old {
		s.sessions[i].kept = c.kept
	}
}
