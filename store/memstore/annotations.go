package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// kept is the annotations of a mailbox or of a user.
type kept []store.Annotation

func (k kept) find(entry string) int {
	return slices.IndexFunc(k, func(a store.Annotation) bool { return strings.EqualFold(a.Entry, entry) })
}

// with is k after set, and the names of what changed.
func (k kept) with(set []store.Annotation) (out kept, changed []string, err error) {
	out = slices.Clone(k)
	for _, a := range set {
		if len(a.Value) > store.MaxAnnotation {
			return nil, nil, fmt.Errorf("%s: %w", a.Entry, store.ErrTooBig)
		}
		i := out.find(a.Entry)
		switch {
		case i < 0 && a.Value != nil:
			out = append(out, store.Annotation{Entry: a.Entry, Value: slices.Clone(a.Value)})
		case i < 0:
		case a.Value == nil:
			out = slices.Delete(out, i, i+1)
		default:
			out[i] = store.Annotation{Entry: out[i].Entry, Value: slices.Clone(a.Value)}
		}
	}
	bytes := 0
	for _, a := range out {
		bytes += len(a.Entry) + len(a.Value)
	}
	if len(out) > store.MaxAnnotations || bytes > store.MaxAnnotationBytes {
		return nil, nil, fmt.Errorf("%d entries of %d bytes: %w", len(out), bytes, store.ErrLimit)
	}
	for _, a := range set {
		was, is := k.find(a.Entry), out.find(a.Entry)
		same := was < 0 && is < 0 || was >= 0 && is >= 0 && string(k[was].Value) == string(out[is].Value)
		if !same && !slices.ContainsFunc(changed, func(s string) bool { return strings.EqualFold(s, a.Entry) }) {
			changed = append(changed, a.Entry)
		}
	}
	return out, changed, nil
}

// Annotations implements store.Account.
func (a *account) Annotations(ctx context.Context, n store.Name) ([]store.Annotation, error) {
	a.s.mu.Lock()
	defer a.s.unlock()
	out := slices.Clone(a.u.annotations)
	if n != "" {
		b, err := a.find(n)
		if err != nil {
			return nil, err
		}
		out = a.withUse(b, slices.Clone(b.annotations))
	}
	slices.SortFunc(out, func(x, y store.Annotation) int {
		return strings.Compare(strings.ToLower(x.Entry), strings.ToLower(y.Entry))
	})
	return out, nil
}

// withUse adds the entry that tells the special uses.
func (a *account) withUse(b *box, list kept) kept {
	if uses := a.uses(b); len(uses) > 0 {
		list = append(list, store.Annotation{Entry: store.SpecialUseEntry, Value: store.JoinUses(uses)})
	}
	return list
}

// uses are the special uses of a mailbox, by its own word and by the configuration.
func (a *account) uses(b *box) []imap.MailboxAttr {
	out := slices.Clone(b.use)
	if u := a.use[b.name]; u != "" && !slices.Contains(out, u) {
		out = append(out, u)
	}
	return out
}

// Annotate implements store.Account.
func (a *account) Annotate(ctx context.Context, n store.Name, set []store.Annotation) error {
	a.s.mu.Lock()
	defer a.s.unlock()
	if n == "" {
		list, changed, err := kept(a.u.annotations).with(set)
		if err == nil {
			a.u.annotations = list
			a.toldLocked("", changed)
		}
		return err
	}
	n = n.Canonical(a.sep)
	b, err := a.find(n)
	if err != nil {
		return err
	}
	list, changed, err := a.withUse(b, b.annotations).with(set)
	if err != nil {
		return err
	}
	use := b.use
	if i := list.find(store.SpecialUseEntry); slices.ContainsFunc(set, func(s store.Annotation) bool { return strings.EqualFold(s.Entry, store.SpecialUseEntry) }) {
		use = nil
		if i >= 0 {
			use = store.SplitUses(list[i].Value)
		}
		if n == store.Inbox && len(use) > 0 {
			return fmt.Errorf("special uses of INBOX: %w", store.ErrCannot)
		}
		if configured := a.use[n]; configured != "" && !slices.Contains(use, configured) {
			return fmt.Errorf("%s is configured: %w", configured, store.ErrCannot)
		}
	}
	if i := list.find(store.SpecialUseEntry); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	b.annotations, b.use = list, use
	if len(changed) > 0 {
		b.publish(b.next())
		a.toldLocked(n, changed)
	}
	return nil
}

// WatchAnnotations implements store.Account.
func (a *account) WatchAnnotations(wake func()) store.AnnotationWatch {
	a.s.mu.Lock()
	defer a.s.unlock()
	w := &annotationWatch{a: a, wake: wake}
	if a.u.annotated == nil {
		a.u.annotated = map[*annotationWatch]struct{}{}
	}
	a.u.annotated[w] = struct{}{}
	return w
}

// annotationWatch is guarded by Store.mu.
type annotationWatch struct {
	a       *account
	wake    func()
	pending []store.Annotated
}

// toldLocked notes a change for all but the account that made it.
func (a *account) toldLocked(n store.Name, changed []string) {
	if len(changed) == 0 {
		return
	}
	for w := range a.u.annotated {
		if w.a == a {
			continue
		}
		i := slices.IndexFunc(w.pending, func(p store.Annotated) bool { return p.Name == n })
		if i < 0 {
			i = len(w.pending)
			w.pending = append(w.pending, store.Annotated{Name: n})
		}
		for _, entry := range changed {
			if !slices.ContainsFunc(w.pending[i].Entries, func(e string) bool { return strings.EqualFold(e, entry) }) {
				w.pending[i].Entries = append(w.pending[i].Entries, entry)
			}
		}
		a.s.pending = append(a.s.pending, w.wake)
	}
}

// Pull implements store.AnnotationWatch.
func (w *annotationWatch) Pull() []store.Annotated {
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	out := w.pending
	w.pending = nil
	return out
}

// Close implements store.AnnotationWatch.
func (w *annotationWatch) Close() {
	w.a.s.mu.Lock()
	defer w.a.s.unlock()
	delete(w.a.u.annotated, w)
}
