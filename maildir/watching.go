package maildir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"roost/maildir/watch"
	"roost/store"
)

// accountWatch is store.Watch. Two kinds of events reach it: that names may have changed,
// from the directories in which mailboxes lie (watchlevels.go) and from accounts of this process
// (watching); and that a mailbox may have, from its sentry. Both set a bit and wake; Pull
// then lists all names anew, or counts the mailboxes that were named.
type accountWatch struct {
	a   *account
	opt store.WatchOptions

	// Used by Pull and Close only.
	was    map[store.Name]*store.Watched
	at     map[*sentry]store.Name
	posts  map[store.Name]*sentry
	levels map[string]*level // by path
	trees  []*tree           // whose watching this is in
	first  store.Events      // what the first Pull tells in any case

	mu    sync.Mutex // guards what follows
	names bool       // names may have changed
	news  map[*sentry]struct{}
}

// watching are those who watch the names of a tree. Safe for concurrent use.
type watching struct {
	mu   sync.Mutex
	ears map[*accountWatch]int // how often: two roots may be one tree
}

// wake says that names or subscriptions may have changed.
func (x *watching) wake() {
	x.mu.Lock()
	ears := slices.Collect(maps.Keys(x.ears))
	x.mu.Unlock()
	for _, w := range ears {
		w.namesChanged()
	}
}

func (x *watching) add(w *accountWatch, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ears == nil {
		x.ears = map[*accountWatch]int{}
	}
	if x.ears[w] += n; x.ears[w] == 0 {
		delete(x.ears, w)
	}
}

// Watch implements store.Account.
func (a *account) Watch(ctx context.Context, opt store.WatchOptions) (store.Watch, error) {
	w := &accountWatch{
		a: a, opt: opt,
		was: map[store.Name]*store.Watched{}, at: map[*sentry]store.Name{}, posts: map[store.Name]*sentry{},
		levels: map[string]*level{}, news: map[*sentry]struct{}{},
	}
	now, err := w.list(ctx)
	if err == nil {
		w.was, w.first = now, store.Events{}
		err = w.post(ctx, w.first)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("watch: %w", storageError(err))
	}
	for n, y := range w.posts {
		if st, ok := a.s.countsAtHand(y.key); ok {
			w.was[n].Begin(st)
		}
	}
	return w, nil
}

// countsAtHand counts a mailbox that is open.
func (s *Store) countsAtHand(key placeKey) (st store.Status, ok bool) {
	s.mu.Lock()
	m := s.open[key]
	if m == nil || m.closing != nil {
		s.mu.Unlock()
		return st, false
	}
	m.refs++
	s.mu.Unlock()
	defer s.release(m)
	select {
	case <-m.ready:
	default:
		return st, false
	}
	if m.err != nil {
		return st, false
	}
	st, err := m.status()
	return st, err == nil
}

// heard notes that something may have happened in a mailbox.
func (w *accountWatch) heard(y *sentry) {
	if w.keep(y) {
		w.opt.Wake()
	}
}

// keep notes it without a wake-up, and reports whether it was not noted.
func (w *accountWatch) keep(y *sentry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, noted := w.news[y]
	w.news[y] = struct{}{}
	return !noted
}

func (w *accountWatch) namesChanged() {
	w.mu.Lock()
	noted := w.names
	w.names = true
	w.mu.Unlock()
	if !noted {
		w.opt.Wake()
	}
}

// take gives what is to be looked at, and leaves what is not.
func (w *accountWatch) take(except store.Name, withNames bool) (names bool, news []*sentry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if withNames {
		names, w.names = w.names, false
	}
	for y := range w.news {
		if n, ok := w.at[y]; ok && n == except && !names {
			continue
		}
		delete(w.news, y)
		news = append(news, y)
	}
	return names, news
}

// Pull implements store.Watch.
func (w *accountWatch) Pull(ctx context.Context, except store.Name) ([]store.Event, error) {
	// Names may bring mailboxes that must be counted; what is left wakes again. Names are
	// compared once: what two comparisons tell of renamed mailboxes cannot be told as one.
	const rounds = 3
	events := w.first
	w.first = nil
	if events == nil {
		events = store.Events{}
	}
	for round := range rounds {
		names, news := w.take(except, round == 0)
		if !names && len(news) == 0 {
			break
		}
		if err := w.look(ctx, except, names, news, events); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	left := w.names
	for y := range w.news {
		left = left || w.at[y] != except
	}
	w.mu.Unlock()
	if left {
		w.opt.Wake()
	}
	return events.Sorted(), nil
}

// look finds out about what was heard.
func (w *accountWatch) look(ctx context.Context, except store.Name, names bool, news []*sentry, events store.Events) error {
	if names {
		if err := w.relist(ctx, events); err != nil {
			w.namesChanged()
			return fmt.Errorf("watch: %w", storageError(err))
		}
	}
	for _, y := range news {
		n, ok := w.at[y]
		switch {
		case !ok: // it is not watched any more
			continue
		case n == except:
			w.keep(y)
			continue
		}
		if err := w.count(ctx, n, y, events); err != nil {
			w.heard(y)
			return err
		}
	}
	return nil
}

// count compares the counts of one mailbox. What keeps it from being counted is told once,
// or mends itself when names are listed anew; an error is that of ctx.
func (w *accountWatch) count(ctx context.Context, n store.Name, y *sentry, events store.Events) error {
	x := w.was[n]
	p, err := w.a.spotOf(n)
	if err == nil {
		_, err = y.attend(p, w)
	}
	var st store.Status
	if err == nil {
		place := p.place()
		place.open = p.openWhole
		st, err = w.a.s.glimpse(ctx, place)
	}
	var what store.Interest
	switch {
	case err == nil:
		what = x.Compare(st)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(storageError(err), store.ErrNoPermission):
		what = store.NoAccess & x.Want
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoSelect), isGone(err), errors.Is(err, watch.ErrMoved):
		x.Missed() // it may have another name, of which an event of the directory above tells
	default:
		x.Missed()
		w.a.s.opt.Log.Warn("a mailbox that is watched could not be counted; the next event tries again", "event", "watch_failed", "user", w.a.who.User, "mailbox", n, "err", err)
	}
	if what == 0 {
		return nil
	}
	e := events.At(n, x.Entry)
	e.Kind |= what
	e.Status = st
	return nil
}

// spotOf finds a mailbox among the trees that are open.
func (a *account) spotOf(n store.Name) (spot, error) {
	t, err := a.treeOf(n)
	if err != nil {
		return spot{}, err
	}
	return t.find(n)
}

// relist compares the names that there are with those that there were.
func (w *accountWatch) relist(ctx context.Context, events store.Events) error {
	now, err := w.list(ctx)
	if err != nil {
		return err
	}
	for n, e := range store.Changes(w.was, now, w.a.sep) {
		if had := events[n]; had != nil { // of when the watch began
			e.Kind |= had.Kind
			e.Status = had.Status
		}
		events[n] = e
	}
	w.was = now
	return w.post(ctx, events)
}

// list gives all names there are. The watches are set first; each new level may have had
// levels in it before.
func (w *accountWatch) list(ctx context.Context) (map[store.Name]*store.Watched, error) {
	if err := w.a.renew(); err != nil {
		return nil, err
	}
	w.enroll()
	// What accounts of this process do to names in several steps is seen whole.
	trees := slices.Compact(slices.SortedFunc(slices.Values(w.trees), func(a, b *tree) int { return strings.Compare(a.key, b.key) }))
	for _, t := range trees {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	for {
		paths := map[string]bool{} // of the levels that there are
		more := w.watchRoots(paths)
		names, err := w.a.gather(maxLevels)
		if err != nil {
			return nil, err
		}
		for _, l := range names {
			if l.tree == nil || l.rel == nil || l.tree.root.Layout != store.LayoutFS {
				continue
			}
			more = w.watchLevel(l.tree, l.rel, paths) || more
		}
		if more {
			continue
		}
		w.leaveLevels(paths)
		return w.watched(ctx, names)
	}
}

// watched makes the list of what is, and says what is wanted of it.
func (w *accountWatch) watched(ctx context.Context, names map[store.Name]*listed) (map[store.Name]*store.Watched, error) {
	now := make(map[store.Name]*store.Watched, len(names))
	wanted := 0
	for n, l := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !l.exists && !l.children && !l.subscribed {
			continue
		}
		x := &store.Watched{Entry: l.entry(n, 0)}
		if x.Want = w.opt.Want(x.Entry); x.Want != 0 {
			wanted++
		}
		if l.exists && l.selectable {
			if p, err := w.a.spotOf(n); err == nil {
				x.Box = placeKey{p.box.Dev, p.box.Ino}
			}
		}
		now[n] = x
	}
	if wanted > w.opt.Limit {
		return nil, fmt.Errorf("watch %d mailboxes: %w", wanted, store.ErrLimit)
	}
	return now, nil
}

// anyMessages is what needs a sentry.
const anyMessages = store.InterestMessages | store.InterestUnseen | store.InterestFlags

// post sets a sentry at each mailbox whose messages are of interest, and counts those that
// were made since.
func (w *accountWatch) post(ctx context.Context, events store.Events) error {
	at := map[placeKey]store.Name{}
	for n, x := range w.was {
		if key, ok := x.Box.(placeKey); ok && x.Want&anyMessages != 0 {
			at[key] = n
		}
	}
	for n, y := range maps.Clone(w.posts) {
		switch now, ok := at[y.key]; {
		case !ok:
			w.withdraw(n)
		case now != n: // it goes along
			delete(w.posts, n)
		}
	}
	for y := range w.at {
		n := at[y.key]
		w.posts[n], w.at[y] = y, n
	}
	for key, n := range at {
		x := w.was[n]
		p, err := w.a.spotOf(n)
		if err != nil || p.place().key != key {
			w.namesChanged() // it changed meanwhile
			continue
		}
		y := w.posts[n]
		first := y == nil
		if first {
			y = w.a.s.sentry(key)
			w.posts[n], w.at[y] = y, n
		}
		again, err := y.attend(p, w)
		switch {
		case err == nil:
		case errors.Is(storageError(err), store.ErrNoPermission):
			if first {
				events.At(n, x.Entry).Kind |= store.NoAccess
			}
			continue
		case isGone(err), errors.Is(err, watch.ErrMoved):
			w.namesChanged()
			continue
		default:
			return fmt.Errorf("watch %q: %w", n, err)
		}
		if x.Due() || !first && again {
			w.heard(y) // what came before the watch was set
		}
	}
	return nil
}

func (w *accountWatch) withdraw(n store.Name) {
	y := w.posts[n]
	delete(w.posts, n)
	delete(w.at, y)
	w.mu.Lock()
	delete(w.news, y)
	w.mu.Unlock()
	w.a.s.dismiss(y, w)
}

// enroll is heard by the accounts of this process that change the same trees.
func (w *accountWatch) enroll() {
	if slices.Equal(w.trees, w.a.trees) {
		return
	}
	for _, t := range w.trees {
		t.watching.add(w, -1)
	}
	w.trees = slices.Clone(w.a.trees)
	for _, t := range w.trees {
		t.watching.add(w, 1)
	}
}

// Status implements store.Watch.
func (w *accountWatch) Status(ctx context.Context, n store.Name) (store.Status, error) {
	p, err := w.a.place(n)
	if err != nil {
		return store.Status{}, err
	}
	st, err := w.a.s.glimpse(ctx, p)
	if x := w.was[n]; x != nil && err == nil {
		x.Begin(st)
	}
	return st, err
}

// Told implements store.Watch.
func (w *accountWatch) Told(n store.Name, edit func(*store.Status)) {
	if x := w.was[n]; x != nil {
		x.Edit(edit)
	}
}

// Close implements store.Watch.
func (w *accountWatch) Close() error {
	for _, t := range w.trees {
		t.watching.add(w, -1)
	}
	w.trees = nil
	for n := range w.posts {
		w.withdraw(n)
	}
	w.leaveLevels(nil)
	return nil
}
