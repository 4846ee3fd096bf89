package maildir

import (
	"context"
	"fmt"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// room says whether messages of bytes, as sent, fit into the account's quota. Without
// one nothing is counted.
func (a *account) room(ctx context.Context, messages, bytes int64) error {
	limit := a.who.Quota
	if limit.Messages == 0 && limit.Bytes == 0 {
		return nil
	}
	used := store.Limits{Messages: messages, Bytes: bytes}
	for e, err := range a.List(ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err != nil {
			return err
		}
		if slices.Contains(e.Attrs, imap.MailboxAttrNonExistent) || slices.Contains(e.Attrs, imap.MailboxAttrNoSelect) {
			continue
		}
		st, err := a.Status(ctx, e.Name, limit.Bytes > 0)
		if err != nil {
			return err
		}
		used.Messages += int64(st.Messages)
		used.Bytes += st.Size
	}
	if limit.Messages > 0 && used.Messages > limit.Messages || limit.Bytes > 0 && used.Bytes > limit.Bytes {
		return fmt.Errorf("%d messages, %d bytes more: %w", messages, bytes, store.ErrOverQuota)
	}
	return nil
}
