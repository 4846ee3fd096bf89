package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// A client is one session, and what a mail program at its other end has learned. The
// program keeps flags by what it was told and by nothing else, so that what it was
// not told shows.
type client struct {
	side    *side
	account store.Account

	box    store.Mailbox // nil: none is held
	info   store.Info    // when it was opened
	opened int           // how often something was
	view   store.View
	shows  []imap.UID // what view said when it was got
	known  map[imap.UID]told
	news   []store.Row  // what the last Advance told that was not known
	newest store.ModSeq // of the mailbox, when it was last asked
	woken  *atomic.Bool

	crowded bool // others are at work at the same time

	kept *kept // what a program that was cut off remembers
}

// told is what a client knows of a message.
type told struct {
	flags    store.Flags
	keywords store.Keywords
}

func (t told) String() string { return fmt.Sprint(t.flags.Names(), t.keywords.Names()) }

// kept is what a program brings along that was connected before (RFC 7162 section 3.2.5).
type kept struct {
	info  store.Info
	view  store.View
	shows []imap.UID
	known map[imap.UID]told
}

// hold opens a mailbox; nothing is shown before advance.
func (c *client) hold(n store.Name, write bool) error {
	c.leave()
	woken := new(atomic.Bool)
	m, err := c.account.Hold(c.side.ctx, n, write, func() { woken.Store(true) })
	if err != nil {
		return err
	}
	c.box, c.woken = m, woken
	c.opened++
	c.info = m.Info()
	c.view, c.shows, c.known, c.newest = store.View{}, nil, map[imap.UID]told{}, 0
	return nil
}

// leave gives up what is held.
func (c *client) leave() {
	if c.box != nil {
		c.box.Close()
		c.box = nil
	}
	c.view, c.shows, c.known = store.View{}, nil, nil
}

// cut ends the connection at this instant; what the program remembers stays.
func (c *client) cut() {
	if c.box != nil {
		c.kept = &kept{c.info, c.view, c.shows, c.known}
	}
	c.leave()
}

// resume is how a program comes back that was cut off: it learns what vanished by
// comparing, and which flags changed by its MODSEQ alone.
func (c *client) resume() string {
	k := c.kept
	c.kept = nil
	if err := c.hold(k.info.Name, true); err != nil {
		return word(err)
	}
	if c.info.ID != k.info.ID || c.info.UIDValidity != k.info.UIDValidity {
		if c.info.UIDValidity == k.info.UIDValidity {
			fail("%s has UIDVALIDITY %d as before, and is another mailbox", k.info.Name, k.info.UIDValidity)
		}
		return "another"
	}
	v, d, err := c.box.Advance(store.View{}, true)
	if err != nil {
		return word(err)
	}
	c.side.witness.delta(c, store.View{}, nil, v, d, true, nil)
	c.view, c.shows, c.newest = v, slice(v), v.ModSeq
	for _, uid := range k.shows {
		if _, ok := v.UIDs.Find(uid); ok {
			c.known[uid] = k.known[uid]
		}
	}
	if err := c.expunges(k, v); err != nil {
		return word(err)
	}
	var fresh []imap.UID
	for _, uid := range c.shows {
		if _, ok := c.known[uid]; ok {
			continue
		}
		if uid < k.view.UIDNext {
			fail("UID %d appeared below the UIDNEXT %d that a client of %s was told", uid, k.view.UIDNext, k.info.Name)
		}
		fresh = append(fresh, uid)
	}
	newer := k.view.ModSeq
	if k.info.NoModSeq || c.info.NoModSeq {
		newer = 0 // MODSEQs mean nothing: all is fetched again
	}
	if err := c.fetch(c.shows[:len(c.shows)-len(fresh)], newer); err != nil {
		return word(err)
	}
	if err := c.fetch(fresh, 0); err != nil {
		return word(err)
	}
	if v.ModSeq < newer {
		fail("HIGHESTMODSEQ of %s was %d and is %d", k.info.Name, k.view.ModSeq, v.ModSeq)
	}
	c.check(true)
	return fmt.Sprint("the same, ", len(fresh), " new")
}

// expunges asks what vanished since the client was cut off: all of it is told, and
// nothing that is still there.
func (c *client) expunges(k *kept, v store.View) error {
	gone, known, err := c.box.Vanished(k.view.ModSeq, v)
	if err != nil || !known {
		return err
	}
	for _, uid := range gone {
		if _, there := v.UIDs.Find(uid); there {
			fail("UID %d of %s is told as expunged and is there", uid, c.info.Name)
		}
	}
	for _, uid := range k.shows {
		if _, there := v.UIDs.Find(uid); !there && !slices.Contains(gone, uid) && !k.info.NoModSeq && !c.info.NoModSeq {
			fail("UID %d of %s is gone, and expunged since MODSEQ %d are said to be %v", uid, c.info.Name, k.view.ModSeq, gone)
		}
	}
	return nil
}

// fetch learns the flags of messages.
func (c *client) fetch(uids []imap.UID, newer store.ModSeq) error {
	rows, err := c.rows(uids, newer)
	for _, r := range rows {
		c.known[r.UID] = told{r.Flags, r.Keywords}
	}
	return err
}

// advance moves on and learns what that tells.
func (c *client) advance(expunges bool) (store.View, store.Delta, error) {
	old, shown := c.view, c.shows
	first := c.newest == 0
	woken := c.woken.Swap(false)
	w := c.side.witness
	sofar := w.sofar(c, shown)
	v, d, err := c.box.Advance(old, expunges)
	if err != nil {
		return v, d, err
	}
	w.delta(c, old, shown, v, d, expunges, sofar)
	if !first && !woken && !c.crowded && v.ModSeq > c.newest {
		fail("%s went from MODSEQ %d to %d and nobody was woken", c.info.Name, c.newest, v.ModSeq)
	}
	c.view, c.shows, c.newest = v, slice(v), max(c.box.View().ModSeq, c.newest)
	for _, uid := range d.Vanished {
		delete(c.known, uid)
	}
	c.news = nil
	for _, r := range d.Changed {
		if was, ok := c.known[r.UID]; ok && was != (told{r.Flags, r.Keywords}) {
			c.known[r.UID] = told{r.Flags, r.Keywords}
			c.news = append(c.news, r)
		}
	}
	from := len(shown) - len(d.Vanished)
	if err := c.fetch(c.shows[from:], 0); err != nil {
		return v, d, err
	}
	c.check(expunges)
	return v, d, nil
}

// check compares what the client knows with what is: after an Advance with expunges it
// knows all, else at least all up to the MODSEQ of its View.
func (c *client) check(all bool) {
	all = all && !c.crowded
	rows, err := c.rows(c.shows, 0)
	if err != nil {
		return
	}
	for _, r := range rows {
		if now := (told{r.Flags, r.Keywords}); (all || r.ModSeq <= c.view.ModSeq) && c.known[r.UID] != now {
			fail("UID %d of %s is %v since MODSEQ %d; a client that is at MODSEQ %d thinks %v", r.UID, c.info.Name, now, r.ModSeq, c.view.ModSeq, c.known[r.UID])
		}
	}
	if all && len(rows) != len(c.shows) {
		fail("%s shows %v and has only %s", c.info.Name, c.shows, show(rows))
	}
}

// rows are the rows of uids.
func (c *client) rows(uids []imap.UID, newer store.ModSeq) ([]store.Row, error) {
	var out []store.Row
	sofar := c.side.witness.sofar(c, uids)
	for part, err := range c.box.Rows(c.side.ctx, uids, newer) {
		if err != nil {
			return nil, err
		}
		if err := c.box.Measure(c.side.ctx, part); err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	c.side.witness.rows(c, uids, newer, out, sofar)
	return out, nil
}

// setFlags is one STORE; the client learns from its answer.
func (c *client) setFlags(uids []imap.UID, op store.FlagOp) ([]store.Row, []imap.UID, error) {
	sofar := c.side.witness.sofar(c, uids)
	rows, modified, err := c.box.SetFlags(c.side.ctx, uids, op)
	c.side.witness.rows(c, uids, 0, rows, sofar)
	for _, r := range rows {
		if _, ok := c.known[r.UID]; ok {
			c.known[r.UID] = told{r.Flags, r.Keywords}
		}
	}
	return rows, modified, err
}

// read is the text of one message.
func (c *client) read(uid imap.UID) (string, error) {
	m, err := c.box.Message(c.side.ctx, uid)
	if err != nil {
		return "", err
	}
	defer m.Close()
	var b strings.Builder
	if _, err = m.WriteRange(&b, 0, 1<<20); err == nil {
		var n int64
		if n, err = m.Size(); err == nil && n != int64(b.Len()) {
			fail("UID %d of %s has size %d and %d bytes", uid, c.info.Name, n, b.Len())
		}
		c.side.witness.text(c, uid, b.String())
	}
	return b.String(), err
}

// readAll reads what is shown, for the witness, and names the messages.
func (c *client) readAll() []string {
	var out []string
	for _, uid := range c.shows {
		s, err := c.read(uid)
		if err != nil {
			s = word(err)
		}
		s, _, _ = strings.Cut(s, "\r\n")
		out = append(out, strings.TrimPrefix(s, "Subject: "))
	}
	return out
}

func slice(v store.View) []imap.UID { return v.UIDs.Slice(0, v.UIDs.Len()) }

// seeOld looks again at the View that was got before: it is what it was.
func (c *client) seeOld() {
	if now := slice(c.view); !slices.Equal(now, c.shows) {
		fail("an old View of %s showed %v and now shows %v", c.info.Name, c.shows, now)
	}
}
