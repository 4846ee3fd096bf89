package maildir

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Account opens the door for one session: store.Store. Roots with Create are made
// when they are missing, with their configured mailboxes.
func (s *Store) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	if len(who.Roots) == 0 {
		return nil, fmt.Errorf("%s has no mail location: %w", who.User, store.ErrUnavailable)
	}
	a := &account{s: s, who: who, sep: who.Sep()}
	for _, root := range who.Roots {
		t, err := s.trees.get(s.opt, who.User, root, a.sep)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("account of %s: %w", who.User, err)
		}
		a.trees = append(a.trees, t)
		t.takeSubscriptions(ctx, s.opt.Log)
		if !root.Create {
			continue
		}
		if err := a.furnish(ctx, t, t == a.trees[0]); err != nil {
			a.Close()
			return nil, fmt.Errorf("account of %s: make its mailboxes: %w: %w", who.User, store.ErrUnavailable, err)
		}
	}
	return a, nil
}

// account is store.Account over one tree or several.
type account struct {
	s     *Store
	who   store.Identity
	sep   byte
	trees []*tree // the personal one first; INBOX is there

	renewed atomic.Int64 // when renew last looked, by sinceStart
}

// countedFor is for how long a STATUS believes that a tree is where it was: whoever counts a
// thousand folders asks for a thousand at once, and nothing is lost by a count.
const countedFor = time.Second

var started = time.Now()

// sinceStart is a time that no clock sets back.
func sinceStart() int64 { return int64(time.Since(started)) }

// furnish makes the mailboxes of a new root. INBOX comes last: it tells a later
// opening that the root is no longer new, and what the user deleted stays deleted.
func (a *account) furnish(ctx context.Context, t *tree, personal bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !personal {
		return nil
	}
	inbox, err := t.lookup(store.Inbox)
	if err != nil {
		return err
	}
	box, err := inbox.openBox()
	if err != nil {
		return err
	}
	defer box.Close()
	if st, err := box.Stat("cur"); err == nil && st.Mode.IsDir() {
		return nil
	}
	var subscribed []store.Name
	for _, f := range t.root.Folders {
		n := f.Name.Canonical(a.sep)
		if f.Create && n != store.Inbox {
			if err := t.create(n, nil); err != nil && !errors.Is(err, store.ErrExists) {
				return err
			}
		}
		if f.Subscribe {
			subscribed = append(subscribed, n)
		}
	}
	if len(subscribed) > 0 {
		if err := t.editSubscriptions(ctx, keepNames, subscribed...); err != nil {
			return err
		}
	}
	d, err := inbox.open()
	if err != nil {
		return err
	}
	defer d.close()
	return errors.Join(d.box.Sync(), t.mail.Sync())
}

// Close implements store.Account.
func (a *account) Close() error {
	for _, t := range a.trees {
		a.s.trees.put(t)
	}
	a.trees = nil
	return nil
}

// renew opens the trees again that were replaced since: what is done by a directory that
// nobody finds any more would be lost.
func (a *account) renew() error {
	now := sinceStart()
	for i, t := range a.trees {
		if t.current() {
			continue
		}
		again, err := a.s.trees.get(a.s.opt, a.who.User, a.who.Roots[i], a.sep)
		if err != nil {
			return fmt.Errorf("account of %s: %w", a.who.User, err)
		}
		a.s.trees.put(t)
		a.trees[i] = again
	}
	a.renewed.Store(now)
	return nil
}

// tree is the one that a name lies in: that of the longest prefix.
func (a *account) tree(n store.Name) (*tree, error) {
	if err := a.renew(); err != nil {
		return nil, err
	}
	return a.treeOf(n)
}

// treeOf is tree, of those that are open.
func (a *account) treeOf(n store.Name) (*tree, error) {
	if n == store.Inbox {
		return a.trees[0], nil
	}
	var best *tree
	for _, t := range a.trees {
		if strings.HasPrefix(string(n), t.root.Prefix) && (best == nil || len(t.root.Prefix) > len(best.root.Prefix)) {
			best = t
		}
	}
	if best == nil {
		return nil, fmt.Errorf("mailbox %q: names begin with %q: %w", n, a.trees[0].root.Prefix, store.ErrNotFound)
	}
	return best, nil
}

// find gives the tree of a name and the mailbox in it.
func (a *account) find(n store.Name) (*tree, spot, error) {
	if err := a.renew(); err != nil {
		return nil, spot{}, err
	}
	return a.findIn(n)
}

// findIn is find in the trees that are open.
func (a *account) findIn(n store.Name) (*tree, spot, error) {
	n = n.Canonical(a.sep)
	t, err := a.treeOf(n)
	if err != nil {
		return nil, spot{}, err
	}
	s, err := t.find(n)
	if errors.Is(err, store.ErrCannot) {
		err = fmt.Errorf("mailbox %q: %w", n, store.ErrNotFound) // what has no spelling is not there
	}
	return t, s, err
}

// place finds a mailbox for the core: the target of COPY and MOVE too.
func (a *account) place(n store.Name) (place, error) {
	_, s, err := a.find(n)
	if err != nil {
		return place{}, err
	}
	return s.place(), nil
}

// Hold implements store.Account.
func (a *account) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	p, err := a.place(n)
	if err != nil {
		return nil, err
	}
	return a.s.hold(ctx, p, write, wake, a)
}

// Batch implements store.Account.
func (a *account) Batch(ctx context.Context, n store.Name) (store.Batch, error) {
	p, err := a.place(n)
	if err != nil {
		return nil, err
	}
	return a.s.batch(ctx, p, a)
}

// Status implements store.Account.
func (a *account) Status(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	return a.statusSince(ctx, n, exact, countNow)
}

// Counter implements store.Account. That events came in which were on their way is waited
// for once, not for each mailbox: that took half of the time of a LIST RETURN (STATUS).
func (a *account) Counter() func(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	since := time.Now()
	return func(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
		return a.statusSince(ctx, n, exact, since)
	}
}

// statusSince counts what happened before since, which may be countNow.
func (a *account) statusSince(ctx context.Context, n store.Name, exact bool, since time.Time) (store.Status, error) {
	if at := a.renewed.Load(); at == 0 || sinceStart()-at > int64(countedFor) {
		if err := a.renew(); err != nil {
			return store.Status{}, err
		}
	}
	_, s, err := a.findIn(n)
	if err != nil {
		return store.Status{}, err
	}
	return a.s.status(ctx, s.place(), exact, since)
}

// Subscribe implements store.Account.
func (a *account) Subscribe(ctx context.Context, n store.Name, on bool) error {
	n = n.Canonical(a.sep)
	t, err := a.tree(n)
	if err != nil {
		return err
	}
	defer t.watching.wake() // with the lock free
	t.mu.Lock()
	defer t.mu.Unlock()
	if !on {
		err = t.editSubscriptions(ctx, removeNames(n))
	} else if err = t.checkNew(n); err == nil {
		err = t.editSubscriptions(ctx, keepNames, n)
	}
	if err != nil {
		return fmt.Errorf("subscribe %q: %w", n, storageError(err))
	}
	return nil
}

// listed is what a LIST knows of one name.
type listed struct {
	tree                *tree
	rel                 []string
	exists, selectable  bool
	canonical           bool
	children            bool
	subscribed, childOf bool // childOf: some name below is subscribed
}

// List implements store.Account.
func (a *account) List(ctx context.Context, q store.ListQuery) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		names, err := a.gather(walkDepth(q, a.sep))
		if err != nil {
			yield(store.Entry{}, fmt.Errorf("list: %w", storageError(err)))
			return
		}
		now := a.s.opt.Clock().UnixNano()
		for _, n := range slices.Sorted(maps.Keys(names)) {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			l := names[n]
			switch {
			case q.Subscribed && !l.subscribed && !(q.Deep && l.childOf),
				!q.Subscribed && !l.exists && !l.children, // only subscribed
				!slices.ContainsFunc(q.Patterns, func(p string) bool { return store.Match(p, n, a.sep) }):
				continue
			}
			e := l.entry(n, now)
			e.ChildSubscribed = q.Deep && l.childOf
			if !yield(e, nil) {
				return
			}
		}
	}
}

// walkDepth is how many levels a LIST must look at: those of its patterns, and one
// more to know of children. Prefixes are levels that the trees do not have.
func walkDepth(q store.ListQuery, sep byte) int {
	depth := 0
	for _, p := range q.Patterns {
		if strings.Contains(p, "*") {
			return maxLevels
		}
		depth = max(depth, strings.Count(p, string(sep))+2)
	}
	return depth
}

// gather finds all names down to a depth, with their parents and the subscriptions.
func (a *account) gather(depth int) (map[store.Name]*listed, error) {
	if err := a.renew(); err != nil {
		return nil, err
	}
	names := map[store.Name]*listed{store.Inbox: {tree: a.trees[0], exists: true, selectable: true, canonical: true}}
	for _, t := range a.trees {
		err := t.walk(depth, func(f found) bool {
			if own, err := a.treeOf(f.name); err != nil || own != t {
				return true // behind the prefix of another root
			}
			l := at(names, f.name)
			if !l.exists || f.canonical && !l.canonical {
				l.tree, l.rel, l.exists, l.selectable, l.canonical = t, f.rel, true, f.selectable, f.canonical
			}
			for p, ok := f.name.Parent(a.sep); ok; p, ok = p.Parent(a.sep) {
				parent := at(names, p)
				if parent.children {
					break
				}
				parent.tree, parent.children = t, true
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	for i, t := range a.trees {
		subs, err := t.subscribed()
		if err != nil {
			return nil, err
		}
		for _, n := range subs {
			if n == store.Inbox && i > 0 {
				continue
			}
			at(names, n).subscribed = true
			for p, ok := n.Parent(a.sep); ok; p, ok = p.Parent(a.sep) {
				at(names, p).childOf = true
			}
		}
	}
	return names, nil
}

func at(names map[store.Name]*listed, n store.Name) *listed {
	l := names[n]
	if l == nil {
		l = &listed{}
		names[n] = l
	}
	return l
}

// entry is what LIST tells; now is that of usesOf.
func (l *listed) entry(n store.Name, now int64) store.Entry {
	e := store.Entry{Name: n, Subscribed: l.subscribed}
	switch {
	case !l.exists, !l.selectable && l.children: // there only because of its children
		e.Attrs = append(e.Attrs, imap.MailboxAttrNonExistent)
	case !l.selectable:
		e.Attrs = append(e.Attrs, imap.MailboxAttrNoSelect)
	default:
		if l.rel != nil {
			e.Attrs = append(e.Attrs, l.tree.usesOf(l.rel, now)...)
		}
		for _, use := range l.tree.configuredUse(n) {
			if !slices.Contains(e.Attrs, use) {
				e.Attrs = append(e.Attrs, use)
			}
		}
	}
	if l.children {
		e.Attrs = append(e.Attrs, imap.MailboxAttrHasChildren)
	} else {
		e.Attrs = append(e.Attrs, imap.MailboxAttrHasNoChildren)
	}
	return e
}

// Create implements store.Account.
func (a *account) Create(ctx context.Context, n store.Name, use []imap.MailboxAttr) error {
	n = a.newName(n)
	kept := make([]imap.MailboxAttr, len(use))
	for i, u := range use {
		var ok bool
		if kept[i], ok = canonicalUse(u); !ok {
			return fmt.Errorf("create %q: the special use %s is not possible: %w", n, u, store.ErrCannot)
		}
	}
	t, err := a.tree(n)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("names begin with %q: %w", a.trees[0].root.Prefix, store.ErrCannot)
	}
	if err == nil {
		defer t.watching.wake() // with the lock free
		t.mu.Lock()
		defer t.mu.Unlock()
		err = t.create(n, kept)
	}
	if err != nil {
		return fmt.Errorf("create %q: %w", n, storageError(err))
	}
	return nil
}

// newName is a name for CREATE or RENAME: a separator at its end says only that names
// below it will follow (RFC 9051 section 6.3.4).
func (a *account) newName(n store.Name) store.Name {
	return store.Name(strings.TrimSuffix(string(n.Canonical(a.sep)), string(a.sep)))
}

// Delete implements store.Account.
func (a *account) Delete(ctx context.Context, n store.Name) error {
	n = n.Canonical(a.sep)
	if n == store.Inbox {
		return fmt.Errorf("delete INBOX: %w", store.ErrCannot)
	}
	t, err := a.tree(n)
	if err != nil {
		return err
	}
	defer t.watching.wake() // with the lock free
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.find(n)
	switch {
	case err == nil:
		err = t.remove(s, func() { a.s.replaced(placeKey{s.box.Dev, s.box.Ino}) })
	case (errors.Is(err, store.ErrNoSelect) || errors.Is(err, store.ErrNotFound)) && t.hasChildren(n):
		err = store.ErrHasChildren
	case errors.Is(err, store.ErrNoSelect):
		err = t.removeLevel(n)
	case errors.Is(err, store.ErrCannot):
		err = store.ErrNotFound
	}
	t.uses.forget()
	if err != nil {
		return fmt.Errorf("delete %q: %w", n, storageError(err))
	}
	return nil
}

// Rename implements store.Account.
func (a *account) Rename(ctx context.Context, from, to store.Name) error {
	from, to = from.Canonical(a.sep), a.newName(to)
	err := a.rename(ctx, from, to)
	if err != nil {
		return fmt.Errorf("rename %q to %q: %w", from, to, storageError(err))
	}
	return nil
}

func (a *account) rename(ctx context.Context, from, to store.Name) error {
	t, err := a.tree(from)
	if err != nil {
		return err
	}
	other, err := a.treeOf(to)
	switch {
	case err != nil, other != t:
		return fmt.Errorf("the new name is in another namespace: %w", store.ErrCannot)
	case strings.HasPrefix(string(to), string(from)+string(a.sep)) && from != store.Inbox:
		return fmt.Errorf("a mailbox cannot be below itself: %w", store.ErrCannot)
	}
	a.s.keep(func(pr *promise) bool { return pr.place.user == t.user }) // which know it by its old name
	defer t.watching.wake()                                             // with the lock free
	t.mu.Lock()
	defer t.mu.Unlock()
	if from == store.Inbox {
		return a.renameInbox(ctx, t, to)
	}
	defer t.uses.forget()
	was := map[store.Name]store.Name{} // subscriptions by their new names
	moved, err := t.rename(from, to, func(back bool) error {
		return t.editSubscriptions(ctx, func(n store.Name) store.Name {
			if old, ok := was[n]; ok && back {
				return old
			}
			if back || n != from && !strings.HasPrefix(string(n), string(from)+string(a.sep)) {
				return n
			}
			now := to + n[len(from):]
			was[now] = n
			return now
		})
	})
	for _, m := range moved {
		a.s.moved(m.key, m.path)
	}
	return err
}

// renameInbox moves the messages of INBOX to a new mailbox; INBOX stays, and what is
// below it too (RFC 9051 section 6.3.6).
func (a *account) renameInbox(ctx context.Context, t *tree, to store.Name) error {
	if err := t.create(to, nil); err != nil {
		return err
	}
	if err := a.copyAnnotations(ctx, t, to); err != nil {
		return err
	}
	inbox, err := t.find(store.Inbox)
	if err != nil {
		return err
	}
	target, err := t.find(to)
	if err != nil {
		return err
	}
	return a.s.moveAll(ctx, inbox.place(), target.place())
}
