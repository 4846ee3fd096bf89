package maildir

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/cache"
	"roost/store"
)

// Commit implements store.Account: the files are synced at once, linked under one hold of
// the dotlock, and directory and uidlist are synced once. A batch whose files cannot be
// synced is left out. Where the links or the lines fail (more keywords than can be kept, a
// full disk) each batch has its own try. A sync of directory or uidlist was for all of them,
// and so is its failure.
func (a *account) Commit(ctx context.Context, list ...store.Batch) []store.Committed {
	out := make([]store.Committed, len(list))
	group := together(list)
	if group == nil {
		for i, b := range list {
			out[i].Copied, out[i].Err = b.Commit(ctx)
		}
		return out
	}
	m := group[0].m
	syncEach(group)
	var all []staged
	for _, b := range group {
		if b.err == nil {
			all = append(all, b.list...)
		}
	}
	uids, alone, err := m.commitAll(all)
	var notes []cache.Note
	for i, b := range group {
		switch {
		case b.err != nil || alone:
			out[i].Copied, out[i].Err = b.Commit(ctx)
		case err != nil:
			out[i].Err = b.refused(err)
		default:
			n := len(b.list)
			out[i].Copied = b.committed(uids[:n:n], &notes)
			uids = uids[n:]
		}
	}
	m.putNotes(notes...)
	return out
}

// together are batches that can be committed as one; nil where they cannot.
func together(list []store.Batch) []*batch {
	group := make([]*batch, 0, len(list))
	for _, one := range list {
		b, ok := one.(*batch)
		if !ok || b.src != nil || len(group) > 0 && b.m != group[0].m {
			return nil
		}
		group = append(group, b)
	}
	if len(group) < 2 {
		return nil
	}
	return group
}

// syncEach is syncStaged of several batches. One that cannot be synced can be committed no
// more.
func syncEach(group []*batch) {
	type result struct {
		b   *batch
		err error
	}
	var results []*result
	var calls []func() error
	for _, b := range group {
		for i := range b.list {
			if s := &b.list[i]; s.file != nil && b.err == nil {
				r := &result{b: b}
				results = append(results, r)
				calls = append(calls, func() error { r.err = s.sync(); return nil }) // none stops the others
			}
		}
	}
	if len(calls) == 0 {
		return
	}
	_ = group[0].m.dirs.tmp.Together(calls...)
	for _, r := range results {
		if r.err != nil {
			r.b.err = r.b.refused(r.err)
		}
	}
}

// commitAll is commit of synced messages of several batches. alone: none has a name yet, and
// it may be that some could.
func (m *mailbox) commitAll(list []staged) (uids []imap.UID, alone bool, err error) {
	if len(list) == 0 {
		return nil, false, nil
	}
	l, err := m.linkAll(list)
	if err != nil {
		return nil, !errors.Is(err, store.ErrInUse), err // which was waited for long enough
	}
	uids, err = m.endure(list, l, nil)
	return uids, false, err
}
