package memstore_test

import (
	"context"
	"testing"

	"roost/store"
	"roost/store/memstore"
	"roost/store/storetest"

	"github.com/emersion/go-imap/v2"
)

func open(*testing.T) storetest.Backend {
	s := memstore.New(nil)
	return storetest.Backend{
		Store:  s,
		Who:    store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}},
		Reopen: func(*testing.T) store.Store { return s },
	}
}

func TestContract(t *testing.T) { storetest.Run(t, open) }

// The model agrees with itself, outside changes included.
func TestHistory(t *testing.T) {
	for seed := range uint64(100) {
		real := open(t)
		storetest.History(t, seed, 300, real, open(t), outside(real))
	}
}

// outside sets flags through a session of its own.
func outside(b storetest.Backend) storetest.Outside {
	return func(n store.Name, uid imap.UID, flags store.Flags) error {
		ctx := context.Background()
		a, err := b.Store.Account(ctx, b.Who)
		if err != nil {
			return err
		}
		defer a.Close()
		m, err := a.Hold(ctx, n, true, nil)
		if err != nil {
			return err
		}
		defer m.Close()
		for _, f := range (^flags).Names() {
			if _, _, err := m.SetFlags(ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsDel, Flags: []imap.Flag{f}}); err != nil {
				return err
			}
		}
		_, _, err = m.SetFlags(ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: flags.Names()})
		return err
	}
}
