package memstore

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// List implements store.Account.
func (a *account) List(ctx context.Context, q store.ListQuery) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range a.entries(q) {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// entries is the whole answer to List, sorted.
func (a *account) entries(q store.ListQuery) []store.Entry {
	a.s.mu.Lock()
	defer a.s.unlock()
	return a.entriesLocked(q)
}

func (a *account) entriesLocked(q store.ListQuery) []store.Entry {
	names := map[store.Name]bool{}
	if q.Subscribed {
		maps.Copy(names, a.u.subs)
	} else {
		for n := range a.u.boxes {
			names[n] = true
		}
	}
	if q.Deep || !q.Subscribed {
		for n := range maps.Clone(names) {
			for p, ok := n.Parent(a.sep); ok; p, ok = p.Parent(a.sep) {
				names[p] = true
			}
		}
	}
	var out []store.Entry
	for _, n := range slices.Sorted(maps.Keys(names)) {
		matches := func(pattern string) bool { return store.Match(pattern, n, a.sep) }
		if !slices.ContainsFunc(q.Patterns, matches) {
			continue
		}
		e := a.entry(n)
		e.ChildSubscribed = q.Deep && a.childSubscribed(n)
		out = append(out, e)
	}
	return out
}

func (a *account) entry(n store.Name) store.Entry {
	e := store.Entry{Name: n, Subscribed: a.u.subs[n]}
	b := a.u.boxes[n]
	if b == nil {
		e.Attrs = append(e.Attrs, imap.MailboxAttrNonExistent)
	} else {
		e.Attrs = append(e.Attrs, b.use...)
		if use := a.use[n]; use != "" && !slices.Contains(b.use, use) {
			e.Attrs = append(e.Attrs, use)
		}
	}
	if len(a.children(n)) > 0 {
		e.Attrs = append(e.Attrs, imap.MailboxAttrHasChildren)
	} else {
		e.Attrs = append(e.Attrs, imap.MailboxAttrHasNoChildren)
	}
	return e
}

func (a *account) childSubscribed(n store.Name) bool {
	for sub := range a.u.subs {
		if strings.HasPrefix(string(sub), string(n)+string(a.sep)) {
			return true
		}
	}
	return false
}
