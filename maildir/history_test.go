package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/uidlist"
	"roost/store"
	"roost/store/memstore"
	"roost/store/storetest"
)

// Random histories of several sessions, and of another program that renames files,
// end alike on the Maildir and on the model.
func TestHistory(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			// Polled: what the other program did is known after Look, not some time later.
			real := openBackend(t, Options{Poll: true})
			model := storetest.Backend{Store: memstore.New(time.Now), Who: real.Who}
			storetest.History(t, seed, 120, real, model, renameOutside(real.Who.Roots[0].Mail))
		})
	}
}

// renameOutside is a program that knows the tree and nothing of the store: it reads
// the uidlist to find a message's file and gives it other flags.
func renameOutside(root string) storetest.Outside {
	return func(n store.Name, uid imap.UID, flags store.Flags) error {
		dir := root
		if n != store.Inbox {
			dir = filepath.Join(root, "."+string(n))
		}
		base, err := listedBase(filepath.Join(dir, "dovecot-uidlist"), uid)
		if err != nil {
			return err
		}
		for _, sub := range []string{"cur", "new"} {
			entries, err := os.ReadDir(filepath.Join(dir, sub))
			if err != nil {
				return err
			}
			for _, e := range entries {
				if baseOf(e.Name()) != base {
					continue
				}
				_, letters := flagsOf(e.Name())
				return os.Rename(filepath.Join(dir, sub, e.Name()), filepath.Join(dir, "cur", withFlags(e.Name(), flags, letters)))
			}
		}
		return fs.ErrNotExist
	}
}

// listedBase is the base name that the uidlist gives a UID.
func listedBase(path string, uid imap.UID) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	list, err := uidlist.Parse(b, uidlist.DefaultLimits)
	if err != nil {
		return "", err
	}
	for _, r := range list.Records {
		if r.UID == uint32(uid) {
			return r.Base, nil
		}
	}
	return "", errors.New("no such UID in " + path)
}
