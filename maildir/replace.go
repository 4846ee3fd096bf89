package maildir

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Replace implements store.Batch. Where the old message cannot be removed, or is gone
// when its turn comes, the new one is taken away again before anybody has seen it.
func (b *batch) Replace(src store.Mailbox, uid imap.UID) error {
	h, ok := src.(*hold)
	if !ok || h.m.st != b.m.st {
		return fmt.Errorf("replace a message of another store: %w", store.ErrUnsupported)
	}
	h.m.whole()
	if err := h.m.alive(); err != nil {
		return h.m.wrapped(h, "replace", err)
	}
	if !h.write {
		return h.m.wrapped(h, "replace", store.ErrReadOnly)
	}
	h.m.mu.Lock()
	_, ok = h.m.findShownLocked(uid)
	h.m.mu.Unlock()
	if !ok {
		return h.m.wrapped(h, "replace", store.ErrGone)
	}
	b.src, b.old = h, uid
	return nil
}

// room asks whether so much more fits into the quota, by which what is replaced does not
// count any more (RFC 8508 section 3.4).
func (b *batch) room(ctx context.Context, messages, bytes int64) error {
	messages, bytes = messages+int64(len(b.list)), bytes+b.bytes
	if b.src != nil {
		messages, bytes = messages-1, bytes-b.src.m.sizeOf([]imap.UID{b.old})
	}
	return b.account.room(ctx, messages, bytes)
}

// replace removes the old message, when the new ones are durable.
func (b *batch) replace() error {
	if b.src == nil {
		return nil
	}
	m := b.src.m
	m.files.Lock()
	defer m.files.Unlock()
	if err := m.alive(); err != nil {
		return m.wrapped(b.src, "replace", err)
	}
	m.ensureMark()
	gone, err := m.unlinkAll([]imap.UID{b.old}, func(int) bool { return true })
	if err == nil && len(gone) == 0 {
		err = store.ErrGone
	}
	if err != nil {
		return m.wrapped(b.src, "replace", err)
	}
	b.src = nil
	return nil
}
