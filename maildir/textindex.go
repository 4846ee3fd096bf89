package maildir

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fts"
	"roost/store"
)

// roost.fts is made for a mailbox when its text is searched for the first time, and kept up
// while the mailbox is open: who never searches pays nothing. It is made in the background,
// one mailbox of the process at a time, by a goroutine that rests as long as it works, longer
// while messages are read, and ends when there is nothing to do. Messages that are not in it yet are candidates of every
// search.

const (
	// indexMessages and indexBytes say from where on it is worth indexing what is not yet: a
	// search looks through less than that at once.
	indexMessages = 64
	indexBytes    = 4 << 20

	// indexWork is how long the indexer works before it rests as long.
	indexWork = 2 * time.Millisecond

	// restWhileRead is how many times as long it rests where sessions read messages
	// meanwhile: each search of what is not indexed yet does, and a NOOP beside it waits for
	// a core.
	restWhileRead = 9
)

// textIndex is what a mailbox has of it.
type textIndex struct {
	index *fts.Index // immutable after load; nil: none is kept

	wanted  atomic.Bool // somebody searches here
	looked  bool        // whether there is a file was looked at; guarded by files
	arrived int         // messages since the last indexing was asked for; guarded by files
	queued  bool        // guarded by Store.mu
}

// Candidates implements store.Mailbox.
func (h *hold) Candidates(ctx context.Context, v store.View, text []byte) (may []imap.UID, ok bool, err error) {
	m := h.m
	x := m.text.index
	if x == nil {
		return nil, false, ctx.Err()
	}
	m.whole()
	m.text.wanted.Store(true)
	if err := x.Load(); err != nil {
		m.tellIndex(err)
	}
	var buf []imap.UID
	at, n := 0, v.UIDs.Len()
	ok, err = x.RuledOut(ctx, text, func(uid uint32) {
		for {
			if len(buf) == 0 {
				if buf = v.UIDs.Slice(at, at+512); len(buf) == 0 {
					return
				}
				at += len(buf)
			}
			u := buf[0]
			if uint32(u) > uid {
				return
			}
			buf = buf[1:]
			if uint32(u) == uid {
				return
			}
			may = append(may, u)
		}
	})
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err != nil {
		m.tellIndex(err)
	}
	if m.worthIndexing(x.Last()) {
		m.st.indexLater(m)
	}
	if !ok {
		return nil, false, nil
	}
	may = append(may, buf...)
	return append(may, v.UIDs.Slice(at, n)...), true, nil
}

// tellIndex logs what became of an index.
func (m *mailbox) tellIndex(err error) {
	m.log.Warn("the index of text cannot be used or kept; searches take longer until it is made again", "event", "text_index", "path", m.dirs.index.Path(), "err", err)
}

// textSums is fts.Names.
func (m *mailbox) textSums(uids, sums []uint32) {
	for len(uids) > 0 {
		n := min(len(uids), 64) // mu is held for microseconds
		m.mu.Lock()
		for i, uid := range uids[:n] {
			sums[i] = 0
			if row, ok := m.findShownLocked(imap.UID(uid)); ok {
				sums[i] = fts.Sum(uid, m.table.names.get(m.table.rows.at(row).base))
			}
		}
		m.mu.Unlock()
		uids, sums = uids[n:], sums[n:]
	}
}

// forgetText takes what is known of the text of a message back: it was written in place.
func (m *mailbox) forgetText(uid imap.UID) {
	if m.text.index == nil || !m.text.wanted.Load() && !m.text.index.Exists() {
		return
	}
	if err := m.text.index.Forget(uint32(uid)); err != nil {
		m.tellIndex(err)
	}
}

// dropTextIndex removes an index that is not kept up.
func (m *mailbox) dropTextIndex() {
	if err := m.dirs.index.Remove(fts.Name); err != nil && !isNotExist(err) {
		m.tellIndex(err)
	}
}

// closeText frees what the index takes while nobody searches.
func (m *mailbox) closeText() error {
	if m.text.index == nil {
		return nil
	}
	return m.text.index.Release()
}

// indexArrived has new messages indexed, where their mailbox is one that is searched. Called
// with files held.
func (m *mailbox) indexArrived(n int) {
	x := &m.text
	if x.index == nil {
		return
	}
	if !x.wanted.Load() {
		if x.looked {
			return
		}
		x.looked = true
		if !x.index.Exists() {
			return
		}
		x.wanted.Store(true)
	}
	if x.arrived += n; x.arrived >= indexMessages {
		x.arrived = 0
		m.st.indexLater(m)
	}
}

// worthIndexing tells whether enough messages have UIDs above last.
func (m *mailbox) worthIndexing(last uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions.now
	i, ok := v.UIDs.Find(imap.UID(last))
	if ok {
		i++
	}
	if v.UIDs.Len()-i >= indexMessages {
		return true
	}
	var bytes int64
	for _, uid := range v.UIDs.All(i) {
		if row, ok := m.table.find(uid); ok {
			bytes += m.table.rows.at(row).size()
		}
	}
	return bytes >= indexBytes
}

// indexer is the mailboxes that wait for it. Guarded by Store.mu.
type indexer struct {
	queue   []*mailbox
	running bool
}

// indexLater has a mailbox indexed as soon as its turn comes.
func (s *Store) indexLater(m *mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || m.text.queued || m.closing != nil {
		return
	}
	m.text.queued = true
	s.indexer.queue = append(s.indexer.queue, m)
	if !s.indexer.running {
		s.indexer.running = true
		s.wg.Go(s.index) // ends when the queue is empty, or by stop; joined in Close
	}
}

// index works on the mailboxes in turn.
func (s *Store) index() {
	for {
		s.mu.Lock()
		if len(s.indexer.queue) == 0 || s.closed {
			s.indexer.running, s.indexer.queue = false, nil
			s.mu.Unlock()
			return
		}
		m := s.indexer.queue[0]
		s.indexer.queue = s.indexer.queue[1:]
		m.text.queued = false
		here := s.open[m.key] == m && m.closing == nil
		if here {
			m.refs++
		}
		s.mu.Unlock()
		if !here {
			continue
		}
		<-m.ready
		more := m.err == nil && m.indexSome()
		s.release(m)
		if more {
			s.indexLater(m)
		}
	}
}

// indexSome indexes one batch of messages, and says whether there are more.
func (m *mailbox) indexSome() (more bool) {
	pace := newPace(m)
	x := m.text.index
	if !x.Writable() {
		return false
	}
	err := m.indexBatch(x, pace)
	for more := true; more && err == nil; {
		more, err = x.Tidy(pace.breathe)
	}
	if errors.Is(err, fts.ErrStopped) || m.alive() != nil {
		return false
	}
	if err != nil {
		m.tellIndex(err)
		return false
	}
	return m.worthIndexing(x.Last())
}

func (m *mailbox) indexBatch(x *fts.Index, pace *pace) error {
	last := x.Last()
	if !m.worthIndexing(last) {
		return nil
	}
	b := fts.NewBatch()
	b.Breathe = func() { pace.breathe() } // asked for its error between two messages
	v := m.newest()
	from, found := v.UIDs.Find(imap.UID(last))
	if found {
		from++
	}
	for _, uid := range v.UIDs.All(from) {
		if b.Full() {
			break
		}
		if err := pace.breathe(); err != nil {
			return err
		}
		ok, err := m.indexMessage(b, uid)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
	}
	return x.Add(b, last)
}

// indexMessage adds a message to a batch; not ok: it is being written, and so cannot be yet.
func (m *mailbox) indexMessage(b *fts.Batch, uid imap.UID) (ok bool, err error) {
	m.mu.Lock()
	hot := m.hotLocked(uid)
	m.mu.Unlock()
	if hot {
		return false, nil
	}
	var sum [1]uint32
	if m.textSums([]uint32{uint32(uid)}, sum[:]); sum[0] == 0 {
		return true, nil // gone
	}
	c, err := m.openMessage(uid)
	if err == nil {
		err = b.Add(uint32(uid), sum[0], c)
		m.tellUnreadable(uid, err)
		m.st.shelf.put(c) // read only
	}
	switch {
	case errors.Is(err, store.ErrGone):
		return true, nil
	case errors.Is(err, store.ErrUnreadable), errors.Is(err, store.ErrUnsupported):
		b.AddUnknown(uint32(uid))
		return true, nil
	}
	return true, err
}

// pace lets the indexer rest as long as it works, and restWhileRead times that while sessions
// read messages.
type pace struct {
	s     *Store
	m     *mailbox
	since time.Time // when it began to work
	read  uint64    // Store.read then
}

func newPace(m *mailbox) *pace {
	return &pace{s: m.st, m: m, since: time.Now(), read: m.st.read.Load()}
}

// breathe is called often. Its error ends the work.
func (p *pace) breathe() error {
	worked := time.Since(p.since)
	if worked < indexWork {
		return nil
	}
	if p.m.alive() != nil {
		return fts.ErrStopped
	}
	if n := p.s.read.Load(); n != p.read {
		p.read = n
		worked *= restWhileRead
	}
	rest := time.NewTimer(min(worked, 20*indexWork))
	defer rest.Stop()
	select {
	case <-p.s.stop:
		return fts.ErrStopped
	case <-rest.C:
	}
	p.since = time.Now()
	return nil
}
