package maildir

import (
	"slices"
	"strings"
	"sync"

	"roost/store"
)

// annotationWatches are the accounts that want to know which annotations others change.
type annotationWatches struct {
	mu  sync.Mutex // guards all, and pending of each
	all map[*annotationWatch]struct{}
}

// annotationWatch implements store.AnnotationWatch. What it gathers goes by tree and
// levels: names are the account's own, and only its goroutine may ask it.
type annotationWatch struct {
	a    *account
	wake func()

	pending []annotatedAt
	entries int // of all pending
}

type annotatedAt struct {
	root    int // index of the tree in the account
	server  bool
	levels  []string
	entries []string // nil: too many
}

// maxPendingEntries bounds what is remembered of a client that does not listen.
const maxPendingEntries = 4096

// WatchAnnotations implements store.Account.
func (a *account) WatchAnnotations(wake func()) store.AnnotationWatch {
	w := &annotationWatch{a: a, wake: wake}
	all := &a.s.annotated
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.all == nil {
		all.all = map[*annotationWatch]struct{}{}
	}
	all.all[w] = struct{}{}
	return w
}

// Close implements store.AnnotationWatch.
func (w *annotationWatch) Close() {
	all := &w.a.s.annotated
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.all, w)
}

// tellAnnotated tells all accounts but the one that did it.
func (s *Store) tellAnnotated(by *account, x annotated, changed []string) {
	at := annotatedAt{server: x.server, entries: changed}
	if !x.server {
		levels, err := x.tree.levels(x.spot.name)
		if err != nil {
			return
		}
		at.levels = levels
	}
	var wakes []func()
	s.annotated.mu.Lock()
	for w := range s.annotated.all {
		if w.a == by {
			continue
		}
		at.root = slices.IndexFunc(w.a.who.Roots, func(r store.Root) bool { return r.Mail == x.tree.root.Mail })
		private := at.root != 0 // of a tree that is another's, only what is shared
		if at.root < 0 || private && (x.server || x.spot.name == store.Inbox) {
			continue
		}
		mine := at
		if private {
			mine.entries = slices.DeleteFunc(slices.Clone(changed), func(e string) bool { return store.Annotation{Entry: e}.IsPrivate() })
		}
		if len(mine.entries) > 0 {
			w.note(mine)
			wakes = append(wakes, w.wake)
		}
	}
	s.annotated.mu.Unlock()
	wakeAll(wakes)
}

// note adds a change to what is pending. annotationWatches.mu is held.
func (w *annotationWatch) note(c annotatedAt) {
	i := slices.IndexFunc(w.pending, func(p annotatedAt) bool {
		return p.root == c.root && p.server == c.server && slices.Equal(p.levels, c.levels)
	})
	if i < 0 {
		i = len(w.pending)
		w.pending = append(w.pending, annotatedAt{root: c.root, server: c.server, levels: c.levels, entries: []string{}})
	}
	p := &w.pending[i]
	if p.entries == nil {
		return
	}
	for _, entry := range c.entries {
		if slices.ContainsFunc(p.entries, func(e string) bool { return strings.EqualFold(e, entry) }) {
			continue
		}
		if w.entries >= maxPendingEntries {
			w.entries -= len(p.entries)
			p.entries = nil
			return
		}
		p.entries = append(p.entries, entry)
		w.entries++
	}
}

// Pull implements store.AnnotationWatch.
func (w *annotationWatch) Pull() []store.Annotated {
	all := &w.a.s.annotated
	all.mu.Lock()
	pending := w.pending
	w.pending, w.entries = nil, 0
	all.mu.Unlock()
	var out []store.Annotated
	for _, p := range pending {
		n := store.Name("")
		switch {
		case p.server:
		case len(p.levels) == 0:
			n = store.Inbox
		default:
			var ok bool
			if n, ok = w.a.trees[p.root].nameOf(p.levels); !ok {
				continue
			}
		}
		out = append(out, store.Annotated{Name: n, Entries: p.entries})
	}
	return out
}
