package memstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"
	"roost/store/storetest"

	"github.com/emersion/go-imap/v2"
)

func open(*testing.T) storetest.Backend { return model(nil).Backend }

func model(clock func() time.Time) storetest.Model {
	s := memstore.New(clock)
	return storetest.Model{
		Backend: storetest.Backend{
			Store:  s,
			Who:    store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}},
			Reopen: func(*testing.T) store.Store { return s },
		},
		SkipTo: func(n store.Name, next imap.UID) { s.SkipTo("ann", n, next) },
	}
}

func TestContract(t *testing.T) { storetest.Run(t, open) }

// The model agrees with itself, outside changes included.
func TestHistory(t *testing.T) {
	for _, seed := range storetest.Seeds(t, 100) {
		storetest.History(t, seed, 300, func(t *testing.T) storetest.World {
			// Two that ask what time it is may be told different seconds.
			still := func() time.Time { return time.Unix(1795500000, 0) }
			real := model(still).Backend
			return storetest.World{Real: real, Model: func() storetest.Model { return model(still) }, Outside: &visitor{real, map[store.Name]string{}}}
		})
	}
}

// visitor is another program to the history, though it comes through the door.
type visitor struct {
	storetest.Backend
	deleted map[store.Name]string // the last one
}

func (o *visitor) visit(n store.Name, do func(ctx context.Context, a store.Account, m store.Mailbox) error) error {
	ctx := context.Background()
	a, err := o.Store.Account(ctx, o.Who)
	if err != nil {
		return err
	}
	defer a.Close()
	m, err := a.Hold(ctx, n, true, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	return do(ctx, a, m)
}

func (o *visitor) Spells(n store.Name) (known []string) {
	o.visit(n, func(_ context.Context, _ store.Account, m store.Mailbox) error {
		known = m.Info().Keywords
		return nil
	})
	return known
}

func (o *visitor) Deliver(n store.Name, list []storetest.Letter) ([]storetest.Letter, error) {
	return list, o.visit(n, func(ctx context.Context, a store.Account, m store.Mailbox) error {
		b, err := a.Batch(ctx, n)
		if err != nil {
			return err
		}
		defer b.Close()
		for _, l := range list {
			meta := store.Meta{Flags: named(l.Flags, l.Keywords), Time: l.Time}
			if err := b.Add(ctx, meta, strings.NewReader(l.Text)); err != nil {
				return err
			}
		}
		_, err = b.Commit(ctx)
		return err
	})
}

func named(f store.Flags, keywords []string) []imap.Flag {
	list := f.Names()
	for _, k := range keywords {
		list = append(list, imap.Flag(k))
	}
	return list
}

func (o *visitor) Mark(n store.Name, uid imap.UID, f store.Flags, keywords []string, _ uint64) error {
	return o.visit(n, func(ctx context.Context, a store.Account, m store.Mailbox) error {
		_, _, err := m.SetFlags(ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsSet, Flags: named(f, keywords)})
		return err
	})
}

func (o *visitor) Delete(n store.Name, uids []imap.UID, _ uint64) error {
	return o.visit(n, func(ctx context.Context, a store.Account, m store.Mailbox) error {
		for _, uid := range uids {
			msg, err := m.Message(ctx, uid)
			if err != nil {
				return err
			}
			var b strings.Builder
			if _, err := msg.WriteRange(&b, 0, 1<<20); err != nil {
				return err
			}
			o.deleted[n] = b.String()
			if _, _, err := m.SetFlags(ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
				return err
			}
			if _, _, err := m.Expunge(ctx, []imap.UID{uid}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *visitor) Return(n store.Name) (storetest.Letter, bool, error) {
	text, ok := o.deleted[n]
	if !ok {
		return storetest.Letter{}, false, nil
	}
	delete(o.deleted, n)
	list, err := o.Deliver(n, []storetest.Letter{{Text: text}})
	return list[0], true, err
}
