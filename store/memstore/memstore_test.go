package memstore_test

import (
	"testing"

	"roost/store"
	"roost/store/memstore"
	"roost/store/storetest"
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
