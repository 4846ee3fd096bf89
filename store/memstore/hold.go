package memstore

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// hold implements store.Mailbox.
type hold struct {
	a     *account
	b     *box
	write bool
	wake  func()
}

// lock takes the mutex, and fails when the mailbox was deleted; unlock in any case.
func (h *hold) lock() error {
	h.a.s.mu.Lock()
	if h.b.dead {
		return fmt.Errorf("%q: %w", h.b.name, store.ErrReplaced)
	}
	return nil
}

func (h *hold) unlock() { h.a.s.unlock() }

// lockWrite is lock for what changes the mailbox.
func (h *hold) lockWrite() error {
	if err := h.lock(); err != nil {
		return err
	}
	if !h.write {
		return fmt.Errorf("%q: %w", h.b.name, store.ErrReadOnly)
	}
	return nil
}

// Info implements store.Mailbox.
func (h *hold) Info() store.Info {
	h.a.s.mu.Lock()
	defer h.unlock()
	return store.Info{
		Name: h.b.name, ID: h.b.id, UIDValidity: h.b.validity, ReadOnly: !h.write,
		NoModSeq: h.b.noModSeq,
		Keywords: slices.Clone(h.b.keywords),
	}
}

// View implements store.Mailbox.
func (h *hold) View() store.View {
	h.a.s.mu.Lock()
	defer h.unlock()
	return h.b.newest()
}

// FirstUnseen implements store.Mailbox.
func (h *hold) FirstUnseen() imap.UID {
	h.a.s.mu.Lock()
	defer h.unlock()
	for _, uid := range h.b.newest().UIDs.All(0) {
		if h.b.messages[uid].row.Flags&store.FlagSeen == 0 {
			return uid
		}
	}
	return 0
}

// Coming implements store.Mailbox: a message has its UID as soon as it is there.
func (h *hold) Coming() (n int, recent bool) { return 0, false }

// Settled implements store.Mailbox.
func (h *hold) Settled(context.Context) error { return nil }

// Advance implements store.Mailbox.
func (h *hold) Advance(v store.View, expunges bool) (store.View, store.Delta, error) {
	if err := h.lock(); err != nil {
		h.unlock()
		return v, store.Delta{}, err
	}
	defer h.unlock()
	b := h.b
	from := b.at(v.ModSeq)
	to := len(b.versions) - 1
	if !expunges {
		for i := from + 1; i <= to; i++ {
			if b.versions[i].expunged {
				to = i - 1
			}
		}
	}
	if to <= from {
		return v, store.Delta{Exists: uint32(v.UIDs.Len())}, nil
	}

	next := b.versions[to].View
	d := store.Delta{Exists: uint32(next.UIDs.Len())}
	for _, u := range v.UIDs.All(0) {
		if _, ok := next.UIDs.Find(u); !ok {
			d.Vanished = append(d.Vanished, u)
		}
	}
	first, _ := next.UIDs.Find(v.UIDNext)
	for _, u := range next.UIDs.All(first) {
		d.Grown = true
		if m := b.messages[u]; m != nil && m.recent {
			d.Recent = append(d.Recent, u)
			// Only a session that may write takes \Recent away from the others
			// (RFC 3501 section 6.3.2).
			m.recent = !h.write
		}
	}
	var changed []imap.UID
	for _, step := range b.versions[from+1 : to+1] {
		changed = append(changed, step.changed...)
	}
	slices.Sort(changed)
	for _, u := range slices.Compact(changed) {
		if m := b.messages[u]; m != nil && u < v.UIDNext {
			d.Changed = append(d.Changed, m.row)
		}
	}
	return next, d, nil
}

// Rows implements store.Mailbox.
func (h *hold) Rows(ctx context.Context, uids []imap.UID, newer store.ModSeq) iter.Seq2[[]store.Row, error] {
	return func(yield func([]store.Row, error) bool) {
		for part := range slices.Chunk(uids, 512) {
			rows, err := h.rows(ctx, part, changedSince(newer))
			if err != nil {
				yield(nil, err)
				return
			}
			if len(rows) > 0 && !yield(rows, nil) {
				return
			}
		}
	}
}

// rows gives those of the messages that want names.
func (h *hold) rows(ctx context.Context, uids []imap.UID, want func(store.Row) bool) ([]store.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := h.lock()
	defer h.unlock()
	if err != nil {
		return nil, err
	}
	var rows []store.Row
	for _, u := range uids {
		if m := h.b.messages[u]; m != nil && want(m.row) {
			rows = append(rows, m.row)
		}
	}
	return rows, nil
}

func changedSince(since store.ModSeq) func(store.Row) bool {
	return func(row store.Row) bool { return row.ModSeq > since }
}

// uidsOf gives the UIDs of rows.
func uidsOf(rows []store.Row) (uids []imap.UID) {
	for _, row := range rows {
		uids = append(uids, row.UID)
	}
	return uids
}

// Having implements store.Mailbox.
func (h *hold) Having(ctx context.Context, uids []imap.UID, mask, want store.Flags) ([]imap.UID, error) {
	rows, err := h.rows(ctx, uids, func(row store.Row) bool { return row.Flags&mask == want })
	return uidsOf(rows), err
}

// Measure implements store.Mailbox.
func (h *hold) Measure(context.Context, []store.Row) error { return nil }

// Changed implements store.Mailbox.
func (h *hold) Changed(since store.ModSeq, v store.View) ([]imap.UID, bool, error) {
	if forgotten, err := h.forgotten(since); forgotten || err != nil {
		return nil, false, err
	}
	rows, err := h.rows(context.Background(), v.UIDs.Slice(0, v.UIDs.Len()), changedSince(since))
	return uidsOf(rows), err == nil, err
}

func (h *hold) forgotten(since store.ModSeq) (bool, error) {
	err := h.lock()
	defer h.unlock()
	return since < h.b.forgot, err
}

// Vanished implements store.Mailbox.
func (h *hold) Vanished(since store.ModSeq, v store.View) ([]imap.UID, bool, error) {
	err := h.lock()
	defer h.unlock()
	if err != nil || since < h.b.forgot {
		return nil, false, err
	}
	var gone []imap.UID
	for i, to := range h.b.versions {
		if to.expunged && to.ModSeq > since && to.ModSeq <= v.ModSeq {
			for _, uid := range h.b.versions[i-1].UIDs.All(0) {
				if _, kept := to.UIDs.Find(uid); !kept {
					gone = append(gone, uid)
				}
			}
		}
	}
	slices.Sort(gone)
	return gone, true, nil
}

// Notes implements store.Mailbox.
func (h *hold) Notes(ctx context.Context, uids []imap.UID, kind store.NoteKind) iter.Seq2[imap.UID, []byte] {
	return func(yield func(imap.UID, []byte) bool) {
		for _, u := range uids {
			if b, ok := h.note(u, kind); ok && (ctx.Err() != nil || !yield(u, b)) {
				return
			}
		}
	}
}

func (h *hold) note(uid imap.UID, kind store.NoteKind) ([]byte, bool) {
	h.a.s.mu.Lock()
	defer h.unlock()
	m := h.b.messages[uid]
	if m == nil {
		return nil, false
	}
	b, ok := m.notes[kind]
	return b, ok
}

// Note implements store.Mailbox.
func (h *hold) Note(uid imap.UID, kind store.NoteKind, b []byte) {
	h.a.s.mu.Lock()
	defer h.unlock()
	m := h.b.messages[uid]
	if m == nil {
		return
	}
	// A new map each time: copies of the message share the old one.
	notes := map[store.NoteKind][]byte{kind: slices.Clone(b)}
	for k, old := range m.notes {
		if k != kind {
			notes[k] = old
		}
	}
	m.notes = notes
}

// Message implements store.Mailbox.
func (h *hold) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := h.lock()
	defer h.unlock()
	if err != nil {
		return nil, err
	}
	m := h.b.messages[uid]
	if m == nil {
		return nil, fmt.Errorf("UID %d: %w", uid, store.ErrGone)
	}
	return newContent(m.bytes), nil
}

// Candidates implements store.Mailbox: the model has no index.
func (h *hold) Candidates(ctx context.Context, _ store.View, _ []byte) ([]imap.UID, bool, error) {
	return nil, false, ctx.Err()
}

// SetFlags implements store.Mailbox.
func (h *hold) SetFlags(ctx context.Context, uids []imap.UID, op store.FlagOp) (rows []store.Row, modified []imap.UID, err error) {
	err = h.lockWrite()
	defer h.unlock()
	if err != nil {
		return nil, nil, err
	}
	v := h.b.next()
	for _, u := range uids {
		m := h.b.messages[u]
		if m == nil {
			continue
		}
		conditional := op.HasUnchangedSince || op.UnchangedSince > 0
		switch flags, keywords := h.b.apply(m.row, op); {
		case conditional && m.row.ModSeq > op.UnchangedSince:
			modified = append(modified, u)
		case flags != m.row.Flags || keywords != m.row.Keywords:
			m.row.Flags, m.row.Keywords, m.row.ModSeq = flags, keywords, v.ModSeq
			v.changed = append(v.changed, u)
		}
		rows = append(rows, m.row)
	}
	if len(v.changed) > 0 {
		h.b.publish(v)
	}
	return rows, modified, nil
}

// apply gives the flags and keywords of a row after op.
func (b *box) apply(r store.Row, op store.FlagOp) (store.Flags, store.Keywords) {
	flags, names, _ := store.SplitFlags(op.Flags)
	switch op.Op {
	case imap.StoreFlagsAdd:
		return r.Flags | flags, b.spelled(slices.Concat(r.Keywords.Names(), names))
	case imap.StoreFlagsDel:
		kept := slices.DeleteFunc(slices.Clone(r.Keywords.Names()), store.KeywordsOf(names...).Has)
		return r.Flags &^ flags, store.KeywordsOf(kept...)
	default:
		return flags, b.spelled(names)
	}
}

// Expunge implements store.Mailbox.
func (h *hold) Expunge(ctx context.Context, uids []imap.UID) ([]imap.UID, store.ModSeq, error) {
	err := h.lockWrite()
	defer h.unlock()
	if err != nil {
		return nil, 0, err
	}
	if uids == nil {
		uids = h.b.uids()
	}
	var gone []imap.UID
	for _, u := range uids {
		if m := h.b.messages[u]; m != nil && m.row.Flags&store.FlagDeleted != 0 {
			gone = append(gone, u)
		}
	}
	return gone, h.b.expungeLocked(gone), nil
}

// Copy implements store.Mailbox.
func (h *hold) Copy(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	err := h.lock()
	defer h.unlock()
	if err != nil {
		return store.Copied{}, err
	}
	target, err := h.a.find(to)
	if err != nil {
		return store.Copied{}, err
	}
	var size int64
	for _, u := range uids {
		m := h.b.messages[u]
		if m == nil {
			return store.Copied{}, fmt.Errorf("copy UID %d: %w", u, store.ErrGone)
		}
		size += m.row.Size
	}
	if err := h.a.roomLocked(int64(len(uids)), size); err != nil {
		return store.Copied{}, err
	}
	added := target.addLocked(h.b.copiesLocked(uids))
	return store.Copied{UIDValidity: target.validity, From: slices.Clone(uids), To: added}, nil
}

// Move implements store.Mailbox.
func (h *hold) Move(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	err := h.lockWrite()
	defer h.unlock()
	if err != nil {
		return store.Copied{}, err
	}
	target, err := h.a.find(to)
	if err != nil {
		return store.Copied{}, err
	}
	there := slices.DeleteFunc(slices.Clone(uids), func(u imap.UID) bool { return h.b.messages[u] == nil })
	added := target.addLocked(h.b.copiesLocked(there))
	h.b.expungeLocked(there)
	return store.Copied{UIDValidity: target.validity, From: there, To: added}, nil
}

// Look implements store.Mailbox.
func (h *hold) Look(ctx context.Context) error {
	err := h.lock()
	defer h.unlock()
	return err
}

// Close implements store.Mailbox.
func (h *hold) Close() error {
	h.a.s.mu.Lock()
	defer h.unlock()
	delete(h.b.holds, h)
	return nil
}
