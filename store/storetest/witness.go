package storetest

import (
	"slices"
	"sync"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// A witness remembers all that one store ever told anybody, restarts included, and
// fails the history where an answer contradicts another:
//
//   - a UID never names other bytes under one UIDVALIDITY;
//   - sequence numbers change only by what Delta tells, and without expunges not at all;
//   - the MODSEQ of a message never goes back, and one MODSEQ means one state of it;
//   - all Views of a mailbox, in the order of their MODSEQs, are one history, in which
//     what is gone does not come back: each was once the mailbox's own;
//   - \Recent is claimed once.
type witness struct {
	mu    sync.Mutex // guards all below, where sessions work at the same time
	epoch int        // counts restarts: \Recent is not kept

	texts  map[message]string
	modSeq map[message]store.ModSeq
	states map[state]told
	views  map[process][]seen
	claims map[claim]bool
}

// message is one under its UIDVALIDITY, which no two mailboxes of an account share.
type message struct {
	validity uint32
	uid      imap.UID
}

// process tells MODSEQs apart that are not one history (store.Info.NoModSeq).
type process struct {
	validity uint32
	hold     *client // nil where MODSEQs are kept
	opened   int
}

type state struct {
	process
	uid    imap.UID
	modSeq store.ModSeq
}

type claim struct {
	message
	beside bool
	epoch  int
}

// seen is a View that somebody got.
type seen struct {
	modSeq store.ModSeq
	next   imap.UID
	uids   []imap.UID
}

func newWitness() *witness {
	return &witness{
		texts: map[message]string{}, modSeq: map[message]store.ModSeq{}, states: map[state]told{},
		views: map[process][]seen{}, claims: map[claim]bool{},
	}
}

// isBeside reports whether a session is of the other process.
func (c *client) isBeside() bool {
	i := slices.Index(c.side.sessions[:], c)
	return c.side.beside != nil && i >= sessions/2
}

func (w *witness) process(c *client) process {
	p := process{validity: c.info.UIDValidity}
	if c.info.NoModSeq {
		p.hold, p.opened = c, c.opened
	}
	return p
}

// text is what a UID names.
func (w *witness) text(c *client, uid imap.UID, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := message{c.info.UIDValidity, uid}
	if was, ok := w.texts[key]; ok && was != text {
		fail("UID %d of %s was %q and is %q", uid, c.info.Name, was, text)
	}
	w.texts[key] = text
}

// sofar is what was told of the MODSEQs of messages before a question: its answer lies
// above. What is told meanwhile may be newer than the answer.
func (w *witness) sofar(c *client, uids []imap.UID) map[imap.UID]store.ModSeq {
	p := w.process(c)
	out := map[imap.UID]store.ModSeq{}
	if p.hold != nil {
		return out
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, uid := range uids {
		out[uid] = w.modSeq[message{p.validity, uid}]
	}
	return out
}

// rows are an answer to Rows or SetFlags.
func (w *witness) rows(c *client, asked []imap.UID, newer store.ModSeq, rows []store.Row, sofar map[imap.UID]store.ModSeq) {
	p := w.process(c)
	newest := c.box.View().ModSeq
	w.mu.Lock()
	defer w.mu.Unlock()
	var last imap.UID
	for _, r := range rows {
		if r.UID <= last || !slices.Contains(asked, r.UID) {
			fail("rows %v of %s are out of order or were not asked for: %s", asked, c.info.Name, show(rows))
		}
		last = r.UID
		key := message{p.validity, r.UID}
		switch {
		case r.ModSeq <= newer:
			fail("UID %d of %s has MODSEQ %d, asked for was above %d", r.UID, c.info.Name, r.ModSeq, newer)
		case r.ModSeq > newest:
			fail("UID %d of %s has MODSEQ %d above the newest View's %d", r.UID, c.info.Name, r.ModSeq, newest)
		case r.ModSeq < sofar[r.UID]:
			fail("MODSEQ of UID %d of %s went back from %d to %d", r.UID, c.info.Name, sofar[r.UID], r.ModSeq)
		}
		if p.hold == nil {
			w.modSeq[key] = max(w.modSeq[key], r.ModSeq)
		}
		at, now := state{p, r.UID, r.ModSeq}, told{r.Flags, r.Keywords}
		if was, ok := w.states[at]; ok && was != now {
			fail("UID %d of %s was %v at MODSEQ %d and is %v at the same", r.UID, c.info.Name, was, r.ModSeq, now)
		}
		w.states[at] = now
	}
}

// delta is an answer to Advance.
func (w *witness) delta(c *client, old store.View, shown []imap.UID, v store.View, d store.Delta, expunges bool, sofar map[imap.UID]store.ModSeq) {
	name, now := c.info.Name, slice(v)
	kept := slices.DeleteFunc(slices.Clone(shown), func(u imap.UID) bool { return slices.Contains(d.Vanished, u) })
	fresh := now[min(len(kept), len(now)):]
	switch {
	case v.ModSeq < old.ModSeq || v.UIDNext < old.UIDNext || v.Gen < old.Gen:
		fail("the View of %s went back: from MODSEQ %d, UIDNEXT %d, generation %d to %d, %d, %d", name, old.ModSeq, old.UIDNext, old.Gen, v.ModSeq, v.UIDNext, v.Gen)
	case len(d.Vanished) > 0 && !expunges:
		fail("UIDs %v of %s vanished where no expunge may be told", d.Vanished, name)
	case !slices.IsSorted(d.Vanished) || len(kept)+len(d.Vanished) != len(shown):
		fail("UIDs %v of %s vanished; shown were %v", d.Vanished, name, shown)
	case !slices.Equal(now[:len(now)-len(fresh)], kept):
		fail("%s showed %v, told that %v vanished, and now shows %v", name, shown, d.Vanished, now)
	case int(d.Exists) != len(now) || d.Grown != (len(fresh) > 0):
		fail("%s went from %v to %v; told were %d EXISTS, grown %v", name, shown, now, d.Exists, d.Grown)
	case len(fresh) > 0 && fresh[0] < old.UIDNext, len(now) > 0 && now[len(now)-1] >= v.UIDNext, !slices.IsSorted(now):
		fail("%s showed %v, UIDNEXT %d, and now shows %v, UIDNEXT %d", name, shown, old.UIDNext, now, v.UIDNext)
	case v.ModSeq == old.ModSeq && !slices.Equal(now, shown):
		fail("%s went from %v to %v at MODSEQ %d", name, shown, now, v.ModSeq)
	case old.UIDNext == 0 && len(d.Changed) > 0:
		fail("the first View of %s came with changes %s", name, show(d.Changed))
	}
	if len(d.Changed) > 0 {
		w.rows(c, shown, old.ModSeq, d.Changed, sofar)
	}
	newest := c.box.View()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recent(c, fresh, d.Recent)
	w.view(c, seen{v.ModSeq, v.UIDNext, now})
	w.view(c, seen{newest.ModSeq, newest.UIDNext, slice(newest)})
}

func (w *witness) recent(c *client, fresh, recent []imap.UID) {
	for _, uid := range recent {
		if !slices.Contains(fresh, uid) {
			fail("UID %d of %s is \\Recent and not new: new are %v", uid, c.info.Name, fresh)
		}
		if key := (claim{message{c.info.UIDValidity, uid}, c.isBeside(), w.epoch}); !c.info.ReadOnly {
			if w.claims[key] {
				fail("UID %d of %s is \\Recent for a second session", uid, c.info.Name)
			}
			w.claims[key] = true
		}
	}
}

// view compares a View with its neighbours in time.
func (w *witness) view(c *client, v seen) {
	p := w.process(c)
	list := w.views[p]
	i, found := slices.BinarySearchFunc(list, v, func(a, b seen) int { return int(int64(a.modSeq) - int64(b.modSeq)) })
	if found {
		if !slices.Equal(list[i].uids, v.uids) || list[i].next != v.next {
			fail("%s is at MODSEQ %d both %v, UIDNEXT %d, and %v, UIDNEXT %d", c.info.Name, v.modSeq, list[i].uids, list[i].next, v.uids, v.next)
		}
		return
	}
	if i > 0 {
		follows(c, list[i-1], v)
	}
	if i < len(list) {
		follows(c, v, list[i])
	}
	w.views[p] = slices.Insert(list, i, v)
}

// follows fails where b cannot have come after a: a message can have been added above
// UIDNEXT only.
func follows(c *client, a, b seen) {
	for _, uid := range b.uids {
		if uid < a.next && !slices.Contains(a.uids, uid) {
			fail("%s has UID %d at MODSEQ %d and had not at MODSEQ %d, when UIDNEXT was %d", c.info.Name, uid, b.modSeq, a.modSeq, a.next)
		}
	}
	if b.next < a.next {
		fail("UIDNEXT of %s went from %d at MODSEQ %d to %d at MODSEQ %d", c.info.Name, a.next, a.modSeq, b.next, b.modSeq)
	}
}
