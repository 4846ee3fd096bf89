package session

import (
	"context"
	"reflect"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// What is told of new messages in the selected mailbox beyond EXISTS, because NOTIFY
// (RFC 5465 section 5.2) or a search with UPDATE (RFC 5465 section 7) asked for it.

// arrived are the messages that are new in a step of tellChanges, and what is to be told
// of each.
type arrived struct {
	uids  []imap.UID
	items [][]fetchItem
}

// want adds data items for message i, each once.
func (a *arrived) want(i int, items []fetchItem) {
	if a.items == nil {
		a.items = make([][]fetchItem, len(a.uids))
	}
	have := a.items[i]
	for _, item := range items {
		if !slices.ContainsFunc(have, func(x fetchItem) bool { return reflect.DeepEqual(x, item) }) {
			have = append(have, item)
		}
	}
	a.items[i] = have
}

// tellFresh tells more of the messages that are new since the view old than EXISTS does:
// the data items that MessageNew asked for (RFC 5465 section 5.2), which results of
// searches they are, and those of changed, and the data items that UPDATE asked for (RFC 5465
// section 7), which stand before them: in section 5.2 those of MessageNew alone stand behind.
func (s *session) tellFresh(ctx context.Context, old store.View, changed []imap.UID) error {
	sel, n := s.sel, s.notify
	first, _ := sel.view.UIDs.Find(old.UIDNext)
	var fresh arrived
	for _, uid := range sel.view.UIDs.All(first) {
		fresh.uids = append(fresh.uids, uid)
	}
	tellResults := s.updateResults(ctx, changed, &fresh)
	updates := fresh.items != nil
	if n != nil && len(n.selected.items) > 0 {
		for i := range fresh.uids {
			fresh.want(i, n.selected.items)
		}
	}
	if fresh.items != nil && len(sel.ownAdded) > 0 {
		for i, uid := range fresh.uids {
			if slices.Contains(sel.ownAdded, uid) {
				fresh.items[i] = nil
			}
		}
	}
	sel.ownAdded = nil
	if updates {
		err := s.fetchFresh(ctx, &fresh)
		tellResults()
		return err
	}
	tellResults()
	return s.fetchFresh(ctx, &fresh)
}

// fetchFresh writes the data items of new messages. \Seen is not set: the client has seen
// nothing yet.
func (s *session) fetchFresh(ctx context.Context, fresh *arrived) error {
	for from := 0; from < len(fresh.items); {
		to := from + 1
		for to < len(fresh.items) && len(fresh.items[to]) == len(fresh.items[from]) && reflect.DeepEqual(fresh.items[to], fresh.items[from]) {
			to++
		}
		if err := s.fetchItems(ctx, fresh.uids[from:to], fresh.items[from]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// fetchItems is FETCH of items that the client asked for beforehand; under CONDSTORE it
// tells the MODSEQ too. What cannot be read is logged: no command fails by it.
func (s *session) fetchItems(ctx context.Context, uids []imap.UID, items []fetchItem) error {
	sel := s.sel
	if len(items) == 0 {
		return nil
	}
	plan := planOf(slices.Clone(items), s.enc.UTF8)
	if sel.noModSeq {
		plan = planOf(slices.DeleteFunc(plan.items, func(i fetchItem) bool { return i.kind == fetchModSeq }), s.enc.UTF8)
	} else if s.condstore && !plan.mod { // RFC 7162 section 3.1.4.1
		plan.addModSeq()
	}
	plan.seen = false
	f := &fetcher{s: s, box: sel.box, enc: s.enc, uid: s.condstore, plan: plan, crowd: newCrowd(&begun)}
	_, err := f.run(ctx, uids, 0)
	if f.failed != nil {
		s.log.Warn("a new message could not be told of", "event", "notify_failed", "mailbox", sel.name, "uid", f.failedUID, "err", f.failed)
	}
	return err
}
