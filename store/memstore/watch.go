package memstore

import (
	"context"
	"fmt"

	"roost/store"
)

// watch implements store.Watch: it compares all there is with all there was.
type watch struct {
	a   *account
	opt store.WatchOptions
	was map[store.Name]*store.Watched
}

// touchedLocked wakes those who watch the user's mailboxes.
func (u *user) touchedLocked(s *Store) {
	for w := range u.watching {
		s.pending = append(s.pending, w.opt.Wake)
	}
}

// Watch implements store.Account.
func (a *account) Watch(ctx context.Context, opt store.WatchOptions) (store.Watch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a.s.mu.Lock()
	defer a.s.unlock()
	w := &watch{a: a, opt: opt}
	var err error
	if w.was, err = w.nowLocked(); err != nil {
		return nil, err
	}
	for _, x := range w.was {
		if b, ok := x.Box.(*box); ok {
			x.Begin(b.statusLocked(false))
		}
	}
	a.u.watching[w] = struct{}{}
	return w, nil
}

// nowLocked is all that there is.
func (w *watch) nowLocked() (map[store.Name]*store.Watched, error) {
	now := map[store.Name]*store.Watched{}
	wanted := 0
	for _, subscribed := range []bool{false, true} {
		for _, e := range w.a.entriesLocked(store.ListQuery{Patterns: []string{"*"}, Subscribed: subscribed}) {
			if now[e.Name] != nil {
				continue
			}
			x := &store.Watched{Entry: e, Want: w.opt.Want(e)}
			if b := w.a.u.boxes[e.Name]; b != nil {
				x.Box = b
			}
			if now[e.Name] = x; x.Want != 0 {
				wanted++
			}
		}
	}
	if wanted > w.opt.Limit {
		return nil, fmt.Errorf("watch %d mailboxes: %w", wanted, store.ErrLimit)
	}
	return now, nil
}

// Pull implements store.Watch.
func (w *watch) Pull(ctx context.Context, except store.Name) ([]store.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	now, err := w.nowLocked()
	if err != nil {
		return nil, err
	}
	events := store.Changes(w.was, now, w.a.sep)
	w.was = now
	for n, x := range now {
		b, ok := x.Box.(*box)
		if !ok || n == except {
			continue
		}
		st := b.statusLocked(false)
		if what := x.Compare(st); what != 0 {
			e := events.At(n, x.Entry)
			e.Kind |= what
			e.Status = st
		}
	}
	return events.Sorted(), nil
}

// Status implements store.Watch.
func (w *watch) Status(ctx context.Context, n store.Name) (store.Status, error) {
	st, err := w.a.Status(ctx, n, false)
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	if x := w.was[n]; x != nil && err == nil {
		x.Begin(st)
	}
	return st, err
}

// Told implements store.Watch.
func (w *watch) Told(n store.Name, edit func(*store.Status)) {
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	if x := w.was[n]; x != nil && x.Box != nil {
		x.Edit(edit)
	}
}

// Close implements store.Watch.
func (w *watch) Close() error {
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	delete(w.a.u.watching, w)
	return nil
}
