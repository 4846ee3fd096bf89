package store

import (
	"maps"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// Watched is what a Watch knows of a name. Both implementations keep a map of these and
// compare it with the next one by Changes. Not safe for concurrent use.
type Watched struct {
	Entry Entry
	Want  Interest
	Box   any // comparable: tells one mailbox from any other whatever its name; nil: there is none

	counts
}

// counts are what a client knows of the messages of a mailbox; they go along with it.
type counts struct {
	told  Status // what was told last
	known bool   // told says so
	fresh bool   // it was made since: all that is in it is news
	due   bool   // it was not counted since it was met
}

// Begin says what the counts are when the watching begins.
func (w *Watched) Begin(st Status) { w.counts = counts{told: st, known: true} }

// Due tells whether the mailbox must be counted though no event spoke of it: it was made,
// or put in the place of another, since the watching began.
func (w *Watched) Due() bool { return w.due }

// Missed notes that it could not be counted, though it was to be.
func (w *Watched) Missed() { w.due = true }

// Edit lets edit change the counts that were told last.
func (w *Watched) Edit(edit func(*Status)) {
	if w.known {
		edit(&w.told)
	}
}

// Compare says what became of the counts since they were told last, as far as that is
// wanted, and takes them for told.
func (w *Watched) Compare(now Status) (what Interest) {
	was := w.told
	switch {
	case !w.known:
		what = InterestMessages | InterestUnseen | InterestFlags
	case w.fresh && now.Messages == 0 && now.UIDNext <= 1:
	default:
		if w.fresh {
			was.UIDNext = 0
		}
		if now.UIDValidity != was.UIDValidity || now.Messages != was.Messages || now.UIDNext != was.UIDNext {
			what |= InterestMessages
		}
		if now.Unseen != was.Unseen {
			what |= InterestUnseen | InterestFlags
		}
		if now.HighestModSeq != was.HighestModSeq {
			what |= InterestFlags
		}
	}
	w.Begin(now)
	return what & w.Want
}

// Added is the Status after the caller added messages of its own to a mailbox, where
// nothing else was added in front of them: the caller knows of them.
func (s *Status) Added(c Copied) {
	n := len(c.To)
	if n == 0 || c.UIDValidity != s.UIDValidity || c.To[0] != s.UIDNext || int(c.To[n-1]-c.To[0]) != n-1 {
		return
	}
	s.Messages += uint32(n)
	s.UIDNext = c.To[n-1] + 1
}

// exists tells a mailbox, or a level without mail, from a name alone.
func (w *Watched) exists() bool {
	return w != nil && !slices.Contains(w.Entry.Attrs, imap.MailboxAttrNonExistent)
}

// Changes compares all names that there were with all that there are, and gives what is to
// be told of names and subscriptions (RFC 5465 section 5.4, RFC 5465 section 5.5). The
// counts that were told go along with their mailboxes into now.
func Changes(was, now map[Name]*Watched, sep byte) Events {
	c := comparison{was: was, now: now, sep: sep, from: map[Name]Name{}, left: map[Name]bool{}, torn: map[Name]bool{}, events: Events{}}
	c.findRenamed()
	for n, x := range now {
		old := was[n]
		from, renamed := c.from[n]
		switch {
		case renamed && !c.torn[n]:
			x.counts = was[from].counts
		case x.Box != nil && old != nil && old.Box != nil:
			x.counts = old.counts
			x.due = x.due || old.Box != x.Box
		case x.Box != nil:
			x.counts = counts{known: true, fresh: true, due: true}
		}
		if (old != nil && old.Entry.Subscribed) != x.Entry.Subscribed {
			c.tell(n, InterestSubscriptions)
		}
		switch {
		case renamed && !c.torn[n] && c.withParent(n): // RFC 5465 section 5.4: of children nothing is told
		case renamed:
			c.tell(n, InterestNames)
			if e := c.events[n]; e != nil && e.Kind&InterestNames != 0 {
				e.From, e.Torn = from, c.torn[n]
			}
			if c.torn[n] && !old.exists() {
				c.came(n)
			}
		case x.exists() != old.exists():
			c.came(n)
		case old != nil && !slices.Equal(x.Entry.Attrs, old.Entry.Attrs):
			c.tell(n, InterestNames)
		}
	}
	for n, old := range was {
		if now[n] != nil {
			continue
		}
		if old.exists() && !c.left[n] { // of what left, the line of its new name tells
			c.came(n)
		}
		if old.Entry.Subscribed {
			c.tell(n, InterestSubscriptions)
		}
	}
	return c.events
}

type comparison struct {
	was, now map[Name]*Watched
	sep      byte
	from     map[Name]Name // where the mailbox of a new name was
	left     map[Name]bool // names whose mailbox has another now, which tells so
	torn     map[Name]bool // new names of which from cannot be told
	events   Events
}

// findRenamed finds mailboxes that have another name.
func (c *comparison) findRenamed() {
	at := map[any]Name{}
	for n, old := range c.was {
		if x := c.now[n]; old.Box != nil && (x == nil || x.Box != old.Box) {
			at[old.Box] = n
		}
	}
	if len(at) == 0 {
		return
	}
	for n, x := range c.now {
		if old, ok := at[x.Box]; x.Box != nil && ok {
			c.from[n] = old
		}
	}
	below := c.below()
	for n, from := range c.from {
		if c.torn[n] = !c.whole(n, from, below); !c.torn[n] {
			c.left[from] = true
		}
	}
}

// below gives, for all names that mailboxes left, those of mailboxes and levels that lay
// below and that lie there now.
func (c *comparison) below() map[Name][]Name {
	sources := map[Name]bool{}
	for _, from := range c.from {
		sources[from] = true
	}
	below := map[Name][]Name{}
	note := func(n Name) {
		for p, ok := n.Parent(c.sep); ok; p, ok = p.Parent(c.sep) {
			if sources[p] {
				below[p] = append(below[p], n)
			}
		}
	}
	for n, old := range c.was {
		if old.exists() {
			note(n)
		}
	}
	for n, x := range c.now {
		if x.exists() && !c.was[n].exists() {
			note(n)
		}
	}
	return below
}

// whole tells whether it is the whole truth that from is now called n, with all that is
// below: a client takes that along, and believes that nothing is left behind, and that
// nothing was at its place. Where several things happened since the last look that may be
// false, and each name is told for itself.
func (c *comparison) whole(n, from Name, below map[Name][]Name) bool {
	switch {
	case c.was[n].exists():
		return false
	case from == Inbox: // of which a new one is there, and nothing below goes along
		return true
	case c.now[from].exists():
		return false
	}
	for _, old := range below[from] {
		to := n + old[len(from):]
		if c.was[old] == nil || c.now[old].exists() || c.was[to].exists() || !c.now[to].exists() || c.now[to].Box != c.was[old].Box {
			return false
		}
	}
	return true
}

// withParent tells whether a mailbox has another name because its parent has, of which
// that is told.
func (c *comparison) withParent(n Name) bool {
	parent, ok := n.Parent(c.sep)
	old, was := c.from[n].Parent(c.sep)
	from, renamed := c.from[parent]
	return ok && was && renamed && !c.torn[parent] && from == old && n[len(parent):] == c.from[n][len(old):]
}

// tellParent: a mailbox that is made or deleted affects its parent, and no other level.
func (c *comparison) tellParent(n Name) {
	if p, ok := n.Parent(c.sep); ok && (c.now[p] != nil || c.was[p] != nil) {
		c.tell(p, InterestNames)
	}
}

// came tells of a name that is there only since, or no longer.
func (c *comparison) came(n Name) {
	c.tell(n, InterestNames)
	if e := c.events[n]; e != nil {
		e.Came = true
	}
	c.tellParent(n)
}

func (c *comparison) tell(n Name, what Interest) {
	e := Entry{Name: n, Attrs: []imap.MailboxAttr{imap.MailboxAttrNonExistent}}
	var want Interest
	if old := c.was[n]; old != nil {
		want = old.Want
	}
	if x := c.now[n]; x != nil {
		e, want = x.Entry, want|x.Want
	}
	if what &= want; what == 0 {
		return
	}
	c.events.At(n, e).Kind |= what
}

// Events are what a Pull has to tell, by names.
type Events map[Name]*Event

// At is the event of a name, made where there is none yet: then e is what it is now.
func (events Events) At(n Name, e Entry) *Event {
	if events[n] == nil {
		events[n] = &Event{Name: n, Entry: e}
	}
	return events[n]
}

// Sorted gives them in the order in which Pull tells them: mailboxes that were renamed
// first, for what else is told goes by the new names.
func (events Events) Sorted() []Event {
	out := make([]Event, 0, len(events))
	for _, n := range slices.Sorted(maps.Keys(events)) {
		out = append(out, *events[n])
	}
	slices.SortStableFunc(out, func(a, b Event) int { return rank(a) - rank(b) })
	return out
}

func rank(e Event) int {
	if e.From != "" && !e.Torn {
		return 0
	}
	return 1
}
