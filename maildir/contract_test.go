package maildir

import (
	"path/filepath"
	"testing"

	"roost/store"
	"roost/store/storetest"
)

// openBackend is a store on an empty Maildir.
func openBackend(t *testing.T, opt Options) storetest.Backend {
	root := filepath.Join(t.TempDir(), "Maildir")
	opt.Host = "test.example"
	open := func(t *testing.T) store.Store {
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return storetest.Backend{
		Store:  open(t),
		Who:    store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: root, Layout: store.LayoutMaildirPP, Create: true}}},
		Reopen: open,
	}
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend { return openBackend(t, Options{}) })
}

// The same with no events from the filesystem.
func TestContractPolled(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend { return openBackend(t, Options{Poll: true}) })
}
