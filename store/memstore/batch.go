package memstore

import (
	"context"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// batch implements store.Batch.
type batch struct {
	a     *account
	b     *box
	added []*message
	bytes int64
	err   error // of an Add: nothing can be committed then

	src *hold // where old is, which the Commit removes; nil: nothing
	old imap.UID
}

// Replace implements store.Batch.
func (t *batch) Replace(src store.Mailbox, uid imap.UID) error {
	h, ok := src.(*hold)
	if !ok {
		return fmt.Errorf("replace a message of another store: %w", store.ErrUnsupported)
	}
	err := h.lockWrite()
	defer h.unlock()
	if err != nil {
		return err
	}
	if h.b.messages[uid] == nil {
		return fmt.Errorf("UID %d: %w", uid, store.ErrGone)
	}
	t.src, t.old = h, uid
	return nil
}

// goingLocked is how many messages and bytes the Commit removes.
func (t *batch) goingLocked() (messages, bytes int64) {
	if t.src != nil {
		if m := t.src.b.messages[t.old]; m != nil {
			return 1, m.row.Size
		}
	}
	return 0, 0
}

// Admit implements store.Batch.
func (t *batch) Admit(size int64) error {
	if limit := t.a.quota.MessageBytes; limit > 0 && size > limit {
		return fmt.Errorf("%d bytes, %d are allowed: %w", size, limit, store.ErrTooBig)
	}
	t.a.s.mu.Lock()
	defer t.a.s.unlock()
	n, bytes := t.goingLocked()
	return t.a.roomLocked(int64(len(t.added))+1-n, t.bytes+size-bytes)
}

// Add implements store.Batch.
func (t *batch) Add(ctx context.Context, m store.Meta, r io.Reader) error {
	if t.err == nil {
		t.err = t.add(ctx, m, r)
	}
	return t.err
}

func (t *batch) add(ctx context.Context, m store.Meta, r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.Admit(int64(len(raw))); err != nil {
		return err
	}
	now := t.a.s.clock()
	if m.Time.IsZero() {
		m.Time = now
	}
	flags, names, _ := store.SplitFlags(m.Flags)
	content := withCRLF(raw)
	added := &message{bytes: content, row: store.Row{
		Flags: flags, Keywords: store.KeywordsOf(names...),
		Internal: m.Time.Unix(), Saved: now.Unix(), Size: int64(len(content)),
	}}
	if m.Notes != nil {
		added.notes = m.Notes()
	}
	t.added = append(t.added, added)
	t.bytes += added.row.Size
	return nil
}

// Commit implements store.Batch.
func (t *batch) Commit(ctx context.Context) (store.Copied, error) {
	t.a.s.mu.Lock()
	defer t.a.s.unlock()
	if t.err != nil {
		return store.Copied{}, t.err
	}
	if t.b.dead {
		return store.Copied{}, fmt.Errorf("%q: %w", t.b.name, store.ErrNotFound)
	}
	n, bytes := t.goingLocked()
	if t.src != nil && n == 0 {
		return store.Copied{}, fmt.Errorf("replace UID %d: %w", t.old, store.ErrGone)
	}
	if err := t.a.roomLocked(int64(len(t.added))-n, t.bytes-bytes); err != nil {
		return store.Copied{}, err
	}
	if t.src != nil {
		t.src.b.expungeLocked([]imap.UID{t.old})
		t.src = nil
	}
	c := store.Copied{UIDValidity: t.b.validity, To: t.b.addLocked(t.added)}
	t.added, t.bytes = nil, 0
	return c, nil
}

// Commit implements store.Account.
func (a *account) Commit(ctx context.Context, list ...store.Batch) []store.Committed {
	out := make([]store.Committed, len(list))
	for i, b := range list {
		out[i].Copied, out[i].Err = b.Commit(ctx)
	}
	return out
}

// Close implements store.Batch.
func (t *batch) Close() error {
	t.added, t.bytes = nil, 0
	return nil
}
