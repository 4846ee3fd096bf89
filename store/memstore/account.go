package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// account implements store.Account.
type account struct {
	s     *Store
	u     *user
	sep   byte
	quota store.Limits
	use   map[store.Name]imap.MailboxAttr // special use by configuration
}

func isExists(err error) bool { return errors.Is(err, store.ErrExists) }

// find gives a mailbox that exists.
func (a *account) find(n store.Name) (*box, error) {
	if b := a.u.boxes[n.Canonical(a.sep)]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%q: %w", n, store.ErrNotFound)
}

// possible refuses names with an empty level or a control character.
func (a *account) possible(n store.Name) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f }
	if slices.Contains(strings.Split(string(n), string(a.sep)), "") || strings.ContainsFunc(string(n), bad) {
		return fmt.Errorf("%q: %w", n, store.ErrCannot)
	}
	return nil
}

// children are the mailboxes below n, sorted.
func (a *account) children(n store.Name) []store.Name {
	var out []store.Name
	for name := range a.u.boxes {
		if strings.HasPrefix(string(name), string(n)+string(a.sep)) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Create implements store.Account.
func (a *account) Create(ctx context.Context, n store.Name, use []imap.MailboxAttr) error {
	a.s.mu.Lock()
	defer a.s.unlock()
	return a.createLocked(n.Canonical(a.sep), use)
}

func (a *account) createLocked(n store.Name, use []imap.MailboxAttr) error {
	if err := a.possible(n); err != nil {
		return err
	}
	if a.u.boxes[n] != nil {
		return fmt.Errorf("create %q: %w", n, store.ErrExists)
	}
	a.parentsLocked(n)
	b := a.s.newBox(a.u, n)
	b.use = slices.Clone(use)
	a.u.boxes[n] = b
	a.u.touchedLocked(a.s)
	return nil
}

// parentsLocked makes the parents of n that are missing.
func (a *account) parentsLocked(n store.Name) {
	for p, ok := n.Parent(a.sep); ok; p, ok = p.Parent(a.sep) {
		if a.u.boxes[p] == nil {
			a.u.boxes[p] = a.s.newBox(a.u, p)
		}
	}
}

// Delete implements store.Account.
func (a *account) Delete(ctx context.Context, n store.Name) error {
	a.s.mu.Lock()
	defer a.s.unlock()
	n = n.Canonical(a.sep)
	if n == store.Inbox {
		return fmt.Errorf("delete INBOX: %w", store.ErrCannot)
	}
	b, err := a.find(n)
	if err != nil {
		if len(a.children(n)) > 0 {
			return fmt.Errorf("delete %q: %w", n, store.ErrHasChildren)
		}
		return fmt.Errorf("delete %w", err)
	}
	b.expungeLocked(b.uids())
	b.dead = true
	b.wakeLocked()
	delete(a.u.boxes, n)
	return nil
}

// Rename implements store.Account.
func (a *account) Rename(ctx context.Context, from, to store.Name) error {
	a.s.mu.Lock()
	defer a.s.unlock()
	from, to = from.Canonical(a.sep), to.Canonical(a.sep)
	if err := a.possible(to); err != nil {
		return err
	}
	if from == store.Inbox {
		return a.renameInboxLocked(to)
	}
	moved := a.children(from)
	if a.u.boxes[from] != nil {
		moved = append(moved, from)
	}
	if len(moved) == 0 {
		return fmt.Errorf("rename %q: %w", from, store.ErrNotFound)
	}
	if a.u.boxes[to] != nil {
		return fmt.Errorf("rename to %q: %w", to, store.ErrExists)
	}
	if strings.HasPrefix(string(to), string(from)+string(a.sep)) {
		return fmt.Errorf("rename %q below itself: %w", from, store.ErrCannot)
	}
	target := func(n store.Name) store.Name { return to + n[len(from):] }
	for _, n := range moved {
		if a.u.boxes[target(n)] != nil {
			return fmt.Errorf("rename to %q: %w", target(n), store.ErrExists)
		}
	}
	a.parentsLocked(to)
	for _, n := range moved {
		b := a.u.boxes[n]
		delete(a.u.boxes, n)
		b.name = target(n)
		a.u.boxes[b.name] = b
		b.wakeLocked()
	}
	for n := range maps.Clone(a.u.subs) {
		if n == from || strings.HasPrefix(string(n), string(from)+string(a.sep)) {
			delete(a.u.subs, n)
			a.u.subs[target(n)] = true
		}
	}
	return nil
}

// renameInboxLocked moves the messages of INBOX to a new mailbox; INBOX stays, and so
// do its children (RFC 9051 section 6.3.6).
func (a *account) renameInboxLocked(to store.Name) error {
	if err := a.createLocked(to, nil); err != nil {
		return err
	}
	inbox, b := a.u.boxes[store.Inbox], a.u.boxes[to]
	b.annotations = slices.Clone(inbox.annotations)
	uids := inbox.uids()
	b.addLocked(inbox.copiesLocked(uids))
	inbox.expungeLocked(uids)
	return nil
}

// Subscribe implements store.Account.
func (a *account) Subscribe(ctx context.Context, n store.Name, on bool) error {
	a.s.mu.Lock()
	defer a.s.unlock()
	n = n.Canonical(a.sep)
	a.u.touchedLocked(a.s)
	if !on {
		delete(a.u.subs, n)
		return nil
	}
	if err := a.possible(n); err != nil {
		return err
	}
	a.u.subs[n] = true
	return nil
}

// Status implements store.Account.
func (a *account) Counter() func(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	return a.Status
}

func (a *account) Status(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	a.s.mu.Lock()
	defer a.s.unlock()
	b, err := a.find(n)
	if err != nil {
		return store.Status{}, err
	}
	return b.statusLocked(exact), nil
}

func (b *box) statusLocked(exact bool) store.Status {
	v := b.newest()
	st := store.Status{
		Messages: uint32(v.UIDs.Len()), UIDValidity: b.validity, UIDNext: v.UIDNext,
		HighestModSeq: v.ModSeq, ID: b.id,
	}
	if b.noModSeq {
		st.HighestModSeq = 0
	}
	for _, m := range b.messages {
		if m.row.Flags&store.FlagSeen == 0 {
			st.Unseen++
		}
		if m.row.Flags&store.FlagDeleted != 0 {
			st.Deleted++
		}
		if m.recent {
			st.Recent++
		}
		if exact {
			st.Size += m.row.Size
		}
	}
	return st
}

// Hold implements store.Account.
func (a *account) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	a.s.mu.Lock()
	defer a.s.unlock()
	b, err := a.find(n)
	if err != nil {
		return nil, err
	}
	h := &hold{a: a, b: b, write: write, wake: wake}
	b.holds[h] = struct{}{}
	return h, nil
}

// Batch implements store.Account.
func (a *account) Batch(ctx context.Context, n store.Name) (store.Batch, error) {
	a.s.mu.Lock()
	defer a.s.unlock()
	b, err := a.find(n)
	if err != nil {
		return nil, err
	}
	return &batch{a: a, b: b}, nil
}

// roomLocked says whether messages of bytes fit into the quota.
func (a *account) roomLocked(messages, bytes int64) error {
	q := a.quota
	if q.Messages > 0 && a.u.messages+messages > q.Messages || q.Bytes > 0 && a.u.bytes+bytes > q.Bytes {
		return fmt.Errorf("%d messages, %d bytes more: %w", messages, bytes, store.ErrOverQuota)
	}
	return nil
}

// Close implements store.Account.
func (a *account) Close() error { return nil }
