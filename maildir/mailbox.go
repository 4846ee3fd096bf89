package maildir

import (
	"roost/maildir/fsys"
	"roost/store"
)

// A placeKey tells one mailbox directory from all others, whatever its path.
type placeKey struct{ dev, ino uint64 }

// A place is where a mailbox lies. The account side makes it from a name; the
// mailbox core opens it, unless the mailbox with this key is open already.
type place struct {
	key      placeKey
	name     store.Name // as this account calls it: for logs and errors
	user     string     // whose tree it is: for logs, and to spread the watches
	path     string     // absolute path of the mailbox directory
	readOnly bool       // nothing may be written, by the rules of the account

	// open opens the directories, making cur, new and tmp where they are missing and
	// that is possible. It is called only when the mailbox is not open yet.
	open func() (dirs, error)

	// uidvalidity takes the next UIDVALIDITY of the tree, for a mailbox without one.
	uidvalidity func() (uint32, error)
}

// dirs are the directories of an open mailbox. control and index may be box itself.
type dirs struct{ box, cur, new, tmp, control, index fsys.Dir }

// close closes each directory once.
func (d dirs) close() {
	for _, x := range []fsys.Dir{d.cur, d.new, d.tmp} {
		if x != nil {
			x.Close()
		}
	}
	if d.control != nil && d.control != d.box {
		d.control.Close()
	}
	if d.index != nil && d.index != d.box && d.index != d.control {
		d.index.Close()
	}
	if d.box != nil {
		d.box.Close()
	}
}
