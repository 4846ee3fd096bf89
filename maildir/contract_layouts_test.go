package maildir

import (
	"testing"

	"roost/store"
	"roost/store/storetest"
)

// The promises hold wherever the files of a tree lie, and whatever the separator.
func TestContractLayouts(t *testing.T) {
	for _, l := range layouts[len(layouts)-1:] { // fs, control and index apart: the furthest from the plain one
		t.Run(l.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Backend {
				root := l.root
				root.Mail = "Maildir"
				root.Create = true
				root.Escape = store.EscapeBackslash
				open := func(t *testing.T) store.Store {
					s, err := New(Options{Host: "test.example", Poll: true})
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
				who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{below(t.TempDir(), root)}, Separator: '.'}
				return storetest.Backend{Store: open(t), Who: who, Reopen: open}
			})
		})
	}
}
