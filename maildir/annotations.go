package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/index"
	"roost/store"
)

// annotated is whatever annotations are kept with.
type annotated struct {
	tree       *tree
	spot       spot // of a mailbox
	server     bool // of the account instead
	selectable bool // it holds mail
	shared     bool // it is in a tree that is not the user's own: nothing private is kept
}

// annotated finds a mailbox, or the account where n is "". The levels of an fs tree that
// hold no mail may have annotations too (RFC 5464 section 4.1).
func (a *account) annotated(n store.Name) (x annotated, err error) {
	if n == "" {
		err := a.renew()
		return annotated{tree: a.trees[0], server: true}, err
	}
	x.tree, x.spot, err = a.find(n)
	switch {
	case err == nil:
		x.selectable = true
	case errors.Is(err, store.ErrNoSelect):
		if x.spot, err = x.tree.lookup(n.Canonical(a.sep)); errors.Is(err, store.ErrNoSelect) {
			err = nil
		}
	}
	x.shared = x.tree != nil && x.tree != a.trees[0]
	return x, err
}

// file gives the directory and the name of the file that keeps them; close must be called
// with the directory. made: directories that are missing are made.
func (x annotated) file(made bool) (d fsys.Dir, name string, err error) {
	t, s := x.tree, x.spot
	switch {
	case x.server:
		return t.controlRoot(), serverMetadataFile, nil
	case t.control != nil:
		d, err = descend(t.control, s.meta, made)
	case s.link != "" && t.root.MailDir == "" || s.name == store.Inbox:
		d, err = s.openBox()
	default:
		d, err = t.controlOf(s.meta)
	}
	return d, metadataFile, err
}

// close closes what file gave, unless the tree holds it.
func (x annotated) close(d fsys.Dir) {
	if !x.server {
		d.Close()
	}
}

// Annotations implements store.Account.
func (a *account) Annotations(ctx context.Context, n store.Name) ([]store.Annotation, error) {
	x, err := a.annotated(n)
	var m metadata
	if err == nil {
		m, err = x.read()
	}
	if err != nil {
		return nil, x.failed("read the annotations of", n, err)
	}
	if !x.server {
		m.set(store.SpecialUseEntry, store.JoinUses(x.uses(m)))
	}
	out := m.annotations()
	if x.shared {
		out = slices.DeleteFunc(out, func(e store.Annotation) bool {
			return e.IsPrivate() && !strings.EqualFold(e.Entry, store.SpecialUseEntry)
		})
	}
	return out, nil
}

func (x annotated) read() (metadata, error) {
	d, name, err := x.file(false)
	if errors.Is(err, fs.ErrNotExist) && x.tree.control != nil {
		return metadata{}, nil // nothing was ever kept
	}
	if err != nil {
		return metadata{}, err
	}
	defer x.close(d)
	return readMetadata(d, name)
}

// uses are the special uses of a mailbox, as LIST tells them.
func (x annotated) uses(m metadata) []imap.MailboxAttr {
	if !x.selectable {
		return nil
	}
	var uses []imap.MailboxAttr
	if x.spot.name != store.Inbox {
		uses = parseUses(m.get(store.SpecialUseEntry))
	}
	for _, use := range x.tree.configuredUse(x.spot.name) {
		if !slices.Contains(uses, use) {
			uses = append(uses, use)
		}
	}
	return uses
}

// Annotate implements store.Account.
func (a *account) Annotate(ctx context.Context, n store.Name, set []store.Annotation) error {
	x, err := a.annotated(n)
	if err == nil {
		err = a.annotate(ctx, x, set)
	}
	if err != nil {
		return x.failed("annotate", n, err)
	}
	return nil
}

func (a *account) annotate(ctx context.Context, x annotated, set []store.Annotation) error {
	for _, e := range set {
		switch {
		case !store.ValidEntry(e.Entry):
			return fmt.Errorf("entry %q: %w", e.Entry, store.ErrCannot)
		case len(e.Value) > store.MaxAnnotation:
			return fmt.Errorf("%s of %d bytes: %w", e.Entry, len(e.Value), store.ErrTooBig)
		case x.shared && e.IsPrivate():
			return fmt.Errorf("%s of a mailbox that others share: %w", e.Entry, store.ErrUnsupported)
		}
	}
	t := x.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	d, name, err := x.file(true)
	if err != nil {
		return err
	}
	defer x.close(d)
	var changed []string
	err = t.editMetadata(ctx, d, name, func(m *metadata) (bool, error) {
		for _, e := range set {
			value := e.Value
			if strings.EqualFold(e.Entry, store.SpecialUseEntry) && !x.server {
				uses, err := x.newUses(e.Value)
				if err != nil {
					return false, err
				}
				value = store.JoinUses(uses)
			}
			if m.set(e.Entry, value) && !slices.ContainsFunc(changed, func(s string) bool { return strings.EqualFold(s, e.Entry) }) {
				changed = append(changed, e.Entry)
			}
		}
		if len(changed) > 0 && m.full() {
			return false, fmt.Errorf("at most %d annotations of %d bytes: %w", store.MaxAnnotations, store.MaxAnnotationBytes, store.ErrLimit)
		}
		return len(changed) > 0, nil
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	if t.control != nil {
		if err := t.control.Sync(); err != nil { // a directory of the mailbox may be new there
			return err
		}
	}
	t.uses.forget()
	if x.selectable {
		a.s.raise(ctx, x.spot.place())
	}
	a.s.tellAnnotated(a, x, changed)
	return nil
}

// newUses are the special uses that a client sets, as CREATE takes them.
func (x annotated) newUses(value []byte) (uses []imap.MailboxAttr, err error) {
	for _, word := range store.SplitUses(value) {
		use, ok := canonicalUse(word)
		if !ok || !x.selectable || x.spot.name == store.Inbox {
			return nil, &store.Explained{Err: store.ErrCannot, Text: fmt.Sprintf("Special use %.40q is not possible here", word)}
		}
		if !slices.Contains(uses, use) {
			uses = append(uses, use)
		}
	}
	for _, use := range x.tree.configuredUse(x.spot.name) {
		if !slices.Contains(uses, use) {
			return nil, &store.Explained{Err: store.ErrCannot, Text: "The configuration gives this mailbox the special use " + string(use)}
		}
	}
	return uses, nil
}

// failed says of what an error is. A damaged file is logged, once in each state.
func (x annotated) failed(op string, n store.Name, err error) error {
	what := fmt.Sprintf("mailbox %q", n)
	if n == "" {
		what = "the account"
	}
	if errors.Is(err, store.ErrDamaged) {
		if t := x.tree; t.hiding == nil || t.hiding(err.Error()) {
			t.log.Warn("annotations cannot be read; they are left as they are until the file is mended or removed", "event", "metadata_damaged", "user", t.user, "mailbox", string(n), "err", err)
		}
		text := "Annotations are damaged; the administrator finds the file in the log"
		var line *damagedError
		if errors.As(err, &line) {
			text = fmt.Sprintf("Annotations are damaged in line %d of their file; the administrator finds it in the log", line.line)
		}
		err = &store.Explained{Err: err, Text: text}
	}
	return fmt.Errorf("%s %s: %w", op, what, storageError(err))
}

// copyAnnotations gives a new mailbox those of INBOX, whose messages go there
// (RFC 5464 section 4.1). t.mu is held.
func (a *account) copyAnnotations(ctx context.Context, t *tree, to store.Name) error {
	from, err := a.annotated(store.Inbox)
	if err != nil {
		return err
	}
	m, err := from.read()
	if errors.Is(err, store.ErrDamaged) {
		from.failed("copy the annotations of", store.Inbox, err) // for its log: the mail moves all the same
		return nil
	}
	if err != nil || len(m.lines) == 0 {
		return err
	}
	m.set(store.SpecialUseEntry, nil)
	target, err := t.find(to)
	if err != nil {
		return err
	}
	d, name, err := annotated{tree: t, spot: target}.file(true)
	if err != nil {
		return err
	}
	defer d.Close()
	return t.editMetadata(ctx, d, name, func(now *metadata) (bool, error) { *now = m; return true, nil })
}

// raise gives a mailbox a higher MODSEQ though no message changed: an annotation did
// (RFC 7162 section 3.2).
func (s *Store) raise(ctx context.Context, p place) {
	err := s.fresh(ctx, p, false, time.Now(), func(m *mailbox) error {
		m.raise()
		s.release(m)
		return nil
	})
	if err != nil { // then no MODSEQ of it is shown either
		s.opt.Log.Warn("a mailbox whose annotations changed cannot be opened", "event", "metadata_modseq", "user", p.user, "path", p.path, "err", err)
	}
}

func (m *mailbox) raise() {
	m.files.Lock()
	defer m.files.Unlock()
	if at, ok := m.annotationStamp(); ok {
		m.metaAt = at
	}
	m.raiseForAnnotation()
}

// annotationStamp tells one state of roost-metadata from the next. Called with files held.
func (m *mailbox) annotationStamp() (fileStamp, bool) {
	st, err := m.dirs.control.Stat(metadataFile)
	if err != nil {
		return fileStamp{}, isNotExist(err)
	}
	return fileStampOf(st), true
}

// checkAnnotations raises the MODSEQ when another process, or a person, has changed the
// file. Called with files held.
func (m *mailbox) checkAnnotations() {
	if at, ok := m.annotationStamp(); ok && at != m.metaAt && m.loaded {
		m.metaAt = at
		m.raiseForAnnotation()
	}
}

// raiseForAnnotation is raise. Called with files held.
func (m *mailbox) raiseForAnnotation() {
	if m.noModSeq || m.alive() != nil {
		return
	}
	m.ensureMark()
	m.unclean()
	m.mu.Lock()
	m.versions.touch(m.nextModSeqLocked())
	wakes := m.wakesLocked(true)
	m.mu.Unlock()
	wakeAll(wakes)
	if !m.loaded || !m.keepsIndex() {
		return
	}
	m.index.last = index.Head{}
	if m.index.log == nil {
		m.wake() // for the snapshot
		return
	}
	b := new(index.Batch)
	b.Head(m.head(false, index.Stamps{}, 0))
	m.append(b)
	m.settleLater()
}
