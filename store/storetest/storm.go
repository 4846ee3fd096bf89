package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// A Storm is sessions that work on the same mailboxes at the same time, each in a
// goroutine of its own: nobody can say what the answers must be. But every answer must
// agree with all earlier ones (witness.go), and what was acknowledged must be there when
// the storm is over (Ledger.Check).
type Storm struct {
	Seed     uint64
	Who      string // tells the texts of this process from others'
	Sessions int
	Steps    int // of each session
	Names    []store.Name
}

// An Instance is a message under one UID.
type Instance struct {
	Name store.Name
	UID  imap.UID
}

// A Ledger is what the sessions of a storm know. It is plain data, for another process
// may have been there.
type Ledger struct {
	Made  []Made            // by APPEND, COPY, MOVE; or delivered, with UID 0
	Gone  []Instance        // by EXPUNGE, MOVE, or another program, each once
	Lost  []Instance        // told as vanished
	Texts map[string]string // by Instance, as it was read
	Tags  []Tag
}

// Made is one message that was put into a mailbox. A copy has the text of its source.
type Made struct {
	Instance
	Text string     // "" for a copy
	From []Instance // its source
}

// Tag is a keyword that was given to a message and that nobody takes away.
type Tag struct {
	Instance
	Keyword string
}

func (i Instance) String() string { return fmt.Sprintf("%s %d", i.Name, i.UID) }

// Run lets the sessions loose. The error is the first broken promise.
func (m Storm) Run(b Backend) (*Ledger, error) {
	s := &side{Backend: b, ctx: context.Background(), witness: newWitness()}
	l := &Ledger{Texts: map[string]string{}}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards l and first
		first error
	)
	for i := range m.Sessions {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					f, ok := p.(*failure)
					if !ok {
						panic(p)
					}
					mu.Lock()
					defer mu.Unlock()
					if first == nil {
						first = fmt.Errorf("session %s%d: %s", m.Who, i, f.what)
					}
				}
			}()
			a, err := s.Store.Account(s.ctx, s.Who)
			if err != nil {
				fail("account: %v", err)
			}
			t := &tempest{
				Storm: m, who: fmt.Sprintf("%s%d", m.Who, i), r: rand.New(rand.NewPCG(m.Seed, uint64(i))),
				c: &client{side: s, account: a, crowded: true}, ledger: Ledger{Texts: map[string]string{}},
			}
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				l.Join(&t.ledger)
				t.c.leave()
				a.Close()
			}()
			for k := range m.Steps {
				t.step(k)
			}
			t.readAll()
		})
	}
	wg.Wait()
	return l, first
}

// Join adds what others know.
func (l *Ledger) Join(o *Ledger) {
	l.Made = append(l.Made, o.Made...)
	l.Gone = append(l.Gone, o.Gone...)
	l.Lost = append(l.Lost, o.Lost...)
	l.Tags = append(l.Tags, o.Tags...)
	for k, v := range o.Texts {
		if was, ok := l.Texts[k]; ok && was != v {
			l.Texts[k] = was + "\" to one and \"" + v // Check finds it
			continue
		}
		l.Texts[k] = v
	}
}

// tempest is one session of a storm.
type tempest struct {
	Storm
	who    string
	r      *rand.Rand
	c      *client
	ledger Ledger
}

// step does one random thing.
func (t *tempest) step(k int) {
	if t.c.box == nil {
		t.hold()
		return
	}
	switch n := t.r.IntN(100); {
	case n < 6:
		t.hold()
	case n < 12:
		t.c.cut()
	case n < 36:
		t.advance(t.r.IntN(3) > 0)
	case n < 52:
		t.add(k)
	case n < 70:
		t.tag()
	case n < 76:
		t.expunge()
	case n < 92:
		t.transfer()
	default:
		t.readAll()
	}
}

// may fails the storm for an error that nobody had to expect.
func may(err error, expected ...error) {
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		fail("%v", err)
	}
}

func (t *tempest) hold() {
	if t.c.kept != nil {
		if answer := t.c.resume(); !strings.HasPrefix(answer, "the same") {
			fail("resume: %s", answer)
		}
		return
	}
	may(t.c.hold(pick(t.r, t.Names), true))
	t.advance(true)
}

func (t *tempest) advance(expunges bool) {
	_, d, err := t.c.advance(expunges)
	may(err)
	for _, uid := range d.Vanished {
		t.ledger.Lost = append(t.ledger.Lost, t.here(uid))
	}
}

func (t *tempest) here(uid imap.UID) Instance { return Instance{t.c.info.Name, uid} }

func (t *tempest) some(n int) []imap.UID {
	var uids []imap.UID
	for _, u := range t.c.shows {
		if t.r.IntN(max(2, len(t.c.shows)/n)) == 0 {
			uids = append(uids, u)
		}
	}
	return uids
}

func (t *tempest) add(k int) {
	n := pick(t.r, t.Names)
	b, err := t.c.account.Batch(t.c.side.ctx, n)
	may(err)
	defer b.Close()
	var texts []string
	for j := range 1 + t.r.IntN(3) {
		m := with()
		if t.r.IntN(2) == 0 {
			m = with(imap.FlagSeen)
		}
		texts = append(texts, fmt.Sprintf("Subject: %s.%d.%d\r\n\r\nx\r\n", t.who, k, j))
		may(b.Add(t.c.side.ctx, m, strings.NewReader(texts[j])))
	}
	c, err := b.Commit(t.c.side.ctx)
	may(err)
	for j, uid := range c.To {
		t.ledger.Made = append(t.ledger.Made, Made{Instance: Instance{n, uid}, Text: texts[j]})
	}
}

// tag gives messages a keyword that tells who gave it, and other flags for the renames.
func (t *tempest) tag() {
	uids := t.some(4)
	keyword := "by-" + t.who
	rows, _, err := t.c.setFlags(uids, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.Flag(keyword)}})
	may(err, store.ErrInUse)
	for _, r := range rows {
		if r.Keywords.Has(keyword) {
			t.ledger.Tags = append(t.ledger.Tags, Tag{t.here(r.UID), keyword})
		} else if err == nil {
			fail("UID %d of %s was given %s and has %v", r.UID, t.c.info.Name, keyword, r.Keywords.Names())
		}
	}
	op := pick(t.r, []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel})
	_, _, err = t.c.setFlags(uids, store.FlagOp{Op: op, Flags: []imap.Flag{imap.FlagSeen, imap.FlagAnswered}})
	may(err, store.ErrInUse)
}

func (t *tempest) expunge() {
	uids := t.some(1)
	_, _, err := t.c.setFlags(uids, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
	may(err, store.ErrInUse)
	gone, _, err := t.c.box.Expunge(t.c.side.ctx, uids)
	may(err, store.ErrInUse)
	for _, uid := range gone {
		t.ledger.Gone = append(t.ledger.Gone, t.here(uid))
	}
}

func (t *tempest) transfer() {
	uids, to := t.some(2), pick(t.r, t.Names)
	do, move := t.c.box.Copy, false
	if to != t.c.info.Name && t.r.IntN(2) == 0 {
		do, move = t.c.box.Move, true
	}
	c, err := do(t.c.side.ctx, uids, to)
	may(err, store.ErrGone, store.ErrInUse)
	for i, uid := range c.To {
		t.ledger.Made = append(t.ledger.Made, Made{Instance: Instance{to, uid}, From: []Instance{t.here(c.From[i])}})
		if move {
			t.ledger.Gone = append(t.ledger.Gone, t.here(c.From[i]))
		}
	}
}

func (t *tempest) readAll() {
	if t.c.box == nil {
		return
	}
	for _, uid := range t.c.shows {
		text, err := t.c.read(uid)
		// A message that others rename all the time cannot be caught for a moment.
		if may(err, store.ErrGone, store.ErrUnreadable); err == nil {
			t.ledger.Texts[t.here(uid).String()] = text
		}
	}
}

// Found is a message that is there when a storm is over.
type Found struct {
	Instance
	Text     string
	Keywords []string
}

// Check compares what was acknowledged with what is there: each message exactly once, under
// the UIDs that were told, nothing gone that nobody removed, and no tag lost.
func (l *Ledger) Check(there []Found) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	texts := map[Instance]string{} // of all that ever were
	put := func(i Instance, text string) {
		if was, ok := texts[i]; ok && was != text {
			say("%v is %q to one and %q to another", i, was, text)
		}
		texts[i] = text
	}
	for k, text := range l.Texts {
		var i Instance
		at := strings.LastIndexByte(k, ' ')
		i.Name = store.Name(k[:at])
		fmt.Sscan(k[at:], &i.UID)
		put(i, text)
	}
	now := map[Instance]Found{}
	for _, f := range there {
		now[f.Instance] = f
		put(f.Instance, f.Text)
	}
	origins := map[string]int{} // how often a text was put somewhere
	var copies []Made
	for _, m := range l.Made {
		switch {
		case len(m.From) > 0:
			copies = append(copies, m)
		case m.UID == 0:
			origins[m.Text]++
		default:
			origins[m.Text]++
			put(m.Instance, m.Text)
		}
	}
	// A copy of a copy may stand before its source, and either may be the one that was read.
	for again := true; again; {
		again = false
		copies = slices.DeleteFunc(copies, func(m Made) bool {
			text, ok := texts[m.From[0]]
			if !ok {
				text, ok = texts[m.Instance]
			}
			if ok {
				put(m.Instance, text)
				put(m.From[0], text)
				origins[text]++
				again = true
			}
			return ok
		})
	}
	gone := map[Instance]bool{}
	for _, i := range l.Gone {
		if gone[i] {
			say("%v was removed twice", i)
		}
		gone[i] = true
		if _, still := now[i]; still {
			say("%v was removed and is there", i)
		}
	}
	for _, i := range l.Lost {
		if !gone[i] {
			say("%v vanished and nobody removed it", i)
		}
	}
	seen := map[string]int{}
	for i, text := range texts {
		seen[text]++
		if _, still := now[i]; !still && !gone[i] {
			say("%v, %q, is lost", i, text)
		}
	}
	unread := 0 // removed before anybody saw what they were
	for i := range gone {
		if _, ok := texts[i]; !ok {
			unread++
		}
	}
	for _, text := range slices.Sorted(maps.Keys(origins)) {
		n := origins[text]
		missing := n - seen[text]
		if missing < 0 || missing > unread {
			say("%q was put somewhere %d times and had %d UIDs", text, n, seen[text])
		}
		unread -= max(missing, 0)
	}
	for text := range seen {
		if origins[text] == 0 {
			say("nobody made %q", text)
		}
	}
	for _, t := range l.Tags {
		if f, still := now[t.Instance]; still && !slices.Contains(f.Keywords, t.Keyword) {
			say("%v lost %s: it has %v", t.Instance, t.Keyword, f.Keywords)
		}
	}
	slices.Sort(wrong)
	return wrong
}
