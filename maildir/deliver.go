package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/cache"
	"roost/maildir/fsys"
	"roost/store"
)

// The way of a message that we write ourselves: file written in tmp/, and synced, those of
// one batch together; then, under one hold of the dotlock, the link into new/ or cur/ and its line in the
// uidlist (else a Dovecot, or our own watch, gives the file another UID in between);
// then the syncs of the directory and the uidlist, shared with all who wait for the
// same; only then is it shown, and acknowledged.

// staged is a message in tmp/ that is ready to be shown.
type staged struct {
	tmp      string // its name there
	base     string // its name to be
	flags    store.Flags
	keywords []string
	internal int64
	size     int64 // with CRLF

	file fsys.File // written and not synced yet; nil: durable, or a link to what is

	// from is where the file is that a COPY links, under the name tmp; nil: in tmp/.
	from fsys.Dir
}

// place is the directory in which the file waits.
func (s *staged) place(m *mailbox) fsys.Dir {
	if s.from != nil {
		return s.from
	}
	return m.dirs.tmp
}

// maxUnsynced is how many files of a batch are open until they are synced together.
const maxUnsynced = 64

// batch implements store.Batch.
type batch struct {
	m       *mailbox
	name    store.Name
	account *account
	limits  store.Limits
	list    []staged
	bytes   int64 // of list, with CRLF
	notes   []map[store.NoteKind][]byte
	err     error // of an Add: nothing can be committed then
	closed  bool

	src *hold // where old is, which the commit removes; nil: nothing
	old imap.UID
}

// batch begins to add messages to a mailbox; see store.Account.Batch.
func (s *Store) batch(ctx context.Context, p place, a *account) (store.Batch, error) {
	m, err := s.toWrite(ctx, p)
	if err != nil {
		return nil, err
	}
	return &batch{m: m, name: p.name, account: a, limits: a.who.Quota}, nil
}

// Admit implements store.Batch.
func (b *batch) Admit(size int64) error {
	if limit := b.limits.MessageBytes; limit > 0 && size > limit {
		return fmt.Errorf("%d bytes, %d are allowed: %w", size, limit, store.ErrTooBig)
	}
	return b.room(context.Background(), 1, size)
}

// Add implements store.Batch.
func (b *batch) Add(ctx context.Context, meta store.Meta, r io.Reader) error {
	if b.err == nil {
		if b.err = b.add(ctx, meta, r); b.err != nil {
			b.err = fmt.Errorf("add to %q: %w", b.name, storageError(b.err))
		}
	}
	return b.err
}

func (b *batch) add(ctx context.Context, meta store.Meta, r io.Reader) error {
	m := b.m
	if err := m.alive(); err != nil {
		return fmt.Errorf("%w: it was deleted", store.ErrNotFound)
	}
	now := m.st.opt.Clock()
	if meta.Time.IsZero() {
		meta.Time = now
	}
	s := staged{tmp: m.st.names.next(now), internal: meta.Time.Unix()}
	s.flags, s.keywords, _ = store.SplitFlags(meta.Flags)
	in := &limitedReader{ctx: ctx, r: r, left: b.limits.MessageBytes, bounded: b.limits.MessageBytes > 0}
	start := make([]byte, magicLen)
	k, err := io.ReadFull(in, start)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if p := packingOf(start[:k]); p != nil {
		// It would be read as what it unpacks to: another message than the one that was sent.
		return &store.Explained{Err: store.ErrUnsupported, Text: "Message begins like one stored with " + p.name + "; send it as an attachment"}
	}
	f, size, crlf, err := writeStaged(m.dirs.tmp, s.tmp, m, io.MultiReader(bytes.NewReader(start[:k]), in), meta.Time)
	if isGone(err) {
		if _, now := b.account.place(b.name); errors.Is(now, store.ErrNotFound) { // we hear of it later
			return fmt.Errorf("%w: it was deleted", store.ErrNotFound)
		}
	}
	if err != nil {
		return err
	}
	s.base, s.size, s.file = withSizes(s.tmp, size, crlf), crlf, f
	b.list = append(b.list, s)
	if err := m.syncFull(b.list); err != nil {
		return err
	}
	if b.bytes += crlf; b.account.who.Quota != (store.Limits{}) {
		if err := b.room(ctx, 0, 0); err != nil {
			return err
		}
	}
	var notes map[store.NoteKind][]byte
	if meta.Notes != nil {
		notes = meta.Notes()
	}
	b.notes = append(b.notes, notes)
	return nil
}

// writeStaged writes one file in tmp/, which is still to be synced, and leaves nothing there
// when that fails. It counts the bytes, and those with each bare LF as two.
func writeStaged(tmp fsys.Dir, name string, m *mailbox, r io.Reader, t time.Time) (f fsys.File, size, crlf int64, err error) {
	f, err = tmp.Create(name, m.fileMode)
	if err != nil {
		return nil, 0, 0, err
	}
	count := &lineCounter{w: f}
	err = copyWhole(count, r)
	if err == nil {
		err = tmp.SetTime(name, t)
	}
	if err != nil {
		f.Close()
		tmp.Remove(name) // best effort: what stays is cleaned after 36 hours
		return nil, 0, 0, err
	}
	return f, count.size, count.size + count.bare, nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// copyWhole is io.Copy in whole buffers: what comes in pieces is written in one.
func copyWhole(w io.Writer, r io.Reader) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		var n int
		var err error
		for n < len(*buf) && err == nil { // not io.ReadFull, whose ErrUnexpectedEOF may be r's own
			var k int
			k, err = r.Read((*buf)[n:])
			n += k
		}
		if n > 0 && (err == nil || err == io.EOF) {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return werr
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// syncFull is syncStaged each time that so many files are open; list grows by one.
func (m *mailbox) syncFull(list []staged) error {
	if len(list)%maxUnsynced != 0 {
		return nil
	}
	return m.syncStaged(list[len(list)-maxUnsynced:])
}

// syncStaged makes the files of a batch durable and closes them.
func (m *mailbox) syncStaged(list []staged) error {
	calls := make([]func() error, 0, min(len(list), maxUnsynced))
	for i := range list {
		s := &list[i]
		if s.file == nil {
			continue
		}
		calls = append(calls, s.sync)
	}
	if len(calls) == 0 {
		return nil
	}
	return m.dirs.tmp.Together(calls...)
}

// sync makes the file durable and closes it.
func (s *staged) sync() error {
	err := s.file.Sync()
	if cerr := s.file.Close(); err == nil {
		err = cerr
	}
	s.file = nil
	return err
}

// lineCounter counts bytes and bare LFs on their way.
type lineCounter struct {
	w          io.Writer
	size, bare int64
	last       byte
}

func (c *lineCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	for i, b := range p[:n] {
		if b == '\n' && (i > 0 && p[i-1] != '\r' || i == 0 && c.last != '\r') {
			c.bare++
		}
	}
	if n > 0 {
		c.last = p[n-1]
	}
	c.size += int64(n)
	return n, err
}

// limitedReader ends with ErrTooBig, or with its context.
type limitedReader struct {
	ctx     context.Context
	r       io.Reader
	left    int64
	bounded bool
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(p)
	if l.bounded {
		if l.left -= int64(n); l.left < 0 {
			return 0, store.ErrTooBig
		}
	}
	return n, err
}

// Commit implements store.Batch.
func (b *batch) Commit(ctx context.Context) (store.Copied, error) {
	if b.err != nil {
		return store.Copied{}, b.err
	}
	uids, err := b.m.commit(b.list, b.replace)
	if err != nil {
		return store.Copied{}, b.refused(err)
	}
	var notes []cache.Note
	c := b.committed(uids, &notes)
	b.m.putNotes(notes...)
	return c, nil
}

// refused is what a commit says that failed.
func (b *batch) refused(err error) error {
	if errors.Is(err, store.ErrReplaced) && b.m.alive() != nil {
		err = fmt.Errorf("%w: it was deleted", store.ErrNotFound)
	}
	return fmt.Errorf("add to %q: %w", b.name, storageError(err))
}

// committed ends a batch whose messages have UIDs, and appends its notes.
func (b *batch) committed(uids []imap.UID, notes *[]cache.Note) store.Copied {
	b.list = nil
	for i, uid := range uids {
		for kind, data := range b.notes[i] {
			*notes = append(*notes, cache.Note{UID: uint32(uid), Kind: uint16(kind), Data: data})
		}
	}
	return store.Copied{UIDValidity: b.m.list.validity, To: uids}
}

// Close implements store.Batch.
func (b *batch) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.m.unstage(b.list)
	b.list = nil
	b.m.st.release(b.m)
	return nil
}

// unstage removes files from tmp/.
func (m *mailbox) unstage(list []staged) {
	for _, s := range list {
		if s.from != nil {
			continue
		}
		if s.file != nil {
			s.file.Close()
		}
		if err := m.dirs.tmp.Remove(s.tmp); err != nil && !isNotExist(err) {
			m.log.Warn("a file in tmp/ cannot be removed", "event", "tmp_left", "path", m.dirs.tmp.Path()+"/"+s.tmp, "err", err)
		}
	}
}

// commit shows staged messages, all or none, and gives their UIDs. It is durable on
// return, and the files in tmp/ are gone; after an error they are still there. then,
// when not nil, is done between the two, and may fail.
func (m *mailbox) commit(list []staged, then func() error) ([]imap.UID, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if err := m.syncStaged(list); err != nil {
		return nil, err
	}
	l, err := m.linkAll(list)
	if err != nil {
		return nil, err
	}
	return m.endure(list, l, then)
}

// linked are messages that have their names and UIDs, and are to become durable.
type linked struct {
	a     *arrival
	steps []syncStep
	at    []sighting
}

// linkAll is link with files taken.
func (m *mailbox) linkAll(list []staged) (linked, error) {
	m.files.Lock()
	defer m.files.Unlock()
	defer m.takesLong(len(list))()
	return m.link(list)
}

// endure makes what was linked durable and shows it, or takes all of it back.
func (m *mailbox) endure(list []staged, l linked, then func() error) ([]imap.UID, error) {
	err := m.list.commits.run(m.dirs.cur, l.steps...)
	if err == nil && then != nil {
		err = then()
	}
	if err != nil {
		m.files.Lock()
		defer m.files.Unlock()
		for _, s := range l.at {
			m.dirs.of(s.inNew).Remove(s.name) // best effort: what stays is found by a look
		}
		m.drop(l.a)
		m.doubt = true
		return nil, err
	}
	m.unstage(list)
	m.files.Lock()
	m.show(l.a)
	m.files.Unlock()
	<-l.a.shown
	if m.hasWriter() {
		m.wake() // for what lies in new/
	}
	return l.a.uids, nil
}

// link gives staged messages their names and UIDs. Called with files held.
func (m *mailbox) link(list []staged) (l linked, err error) {
	if err := m.alive(); err != nil {
		return linked{}, err
	}
	if m.list.volatile {
		return linked{}, fmt.Errorf("%w: its UIDs cannot be recorded", store.ErrUnavailable)
	}
	m.ensureMark()
	arrivals, err := m.describe(list)
	if err != nil {
		return linked{}, err
	}
	err = m.withListLock(func() (err error) {
		if err := m.adoptClaimed(); err != nil {
			return err
		}
		for i, s := range list {
			at := sighting{arrivals[i].baseName + arrivals[i].info, arrivals[i].inNew()}
			if err = s.place(m).Link(s.tmp, m.dirs.of(at.inNew), at.name); err != nil {
				break
			}
			l.at = append(l.at, at)
		}
		if err == nil {
			l.a, err = m.assign(arrivals, true)
		}
		if err != nil {
			for _, s := range l.at {
				m.dirs.of(s.inNew).Remove(s.name) // best effort: what stays is found by a look
			}
		}
		return err
	})
	if err != nil {
		return linked{}, err
	}
	l.steps = m.syncSteps(arrivals)
	return l, nil
}

// describe makes the rows of staged messages. Keywords get their letters first.
func (m *mailbox) describe(list []staged) ([]newcomer, error) {
	var all []string
	for _, s := range list {
		all = append(all, s.keywords...)
	}
	places, err := m.spell(all)
	if err != nil {
		return nil, err
	}
	extra := map[string][]string{}
	out := make([]newcomer, len(list))
	for i, s := range list {
		var letters letterSet
		var more []string
		for _, k := range s.keywords {
			switch p := places[strings.ToLower(k)]; {
			case p.letter >= 0:
				letters |= 1 << p.letter
			case !slices.Contains(more, p.name):
				more = append(more, p.name)
			}
		}
		n := newcomer{baseName: s.base}
		n.flags, n.internal, n.bytes = s.flags, s.internal, keptSize(s.size)
		if len(more) > 0 {
			extra[s.base] = more
		}
		if s.flags != 0 || letters != 0 {
			n.info = withFlags(s.base, s.flags, letters)[len(s.base):]
		} else {
			n.state |= rowInNew
		}
		out[i] = n
	}
	if err := m.changeExtra(true, func() map[string][]string { return extra }); err != nil {
		return nil, err
	}
	for i := range out {
		_, letters := flagsOf(out[i].baseName + out[i].info)
		out[i].keywords = m.keywords.of(out[i].baseName, letters)
	}
	return out, nil
}

// syncSteps are what makes newcomers durable.
func (m *mailbox) syncSteps(list []newcomer) (steps []syncStep) {
	var inNew, inCur bool
	for _, n := range list {
		inNew, inCur = inNew || n.inNew(), inCur || !n.inNew()
	}
	if inNew {
		steps = append(steps, syncStep{"new", m.dirs.new.Sync})
	}
	if inCur {
		steps = append(steps, syncStep{"cur", m.dirs.cur.Sync})
	}
	return append(steps, syncStep{"list", m.list.file.Sync})
}
