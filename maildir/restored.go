package maildir

import (
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/index"
)

// A backup that is put back brings the uidlist of yesterday, and nothing in the tree knows
// which UIDs were given since. They must name nothing else: clients would show the bytes
// that they have. Who puts files back keeps their mtimes (cp -a, rsync -a, tar) and cannot
// keep their ctimes, which tell when that was; whoever writes a uidlist in place leaves
// both together. So a list that was changed a good while before its inode was is taken for
// one that was put back, and UIDs go on behind all that can have been given between. A
// chown of the tree looks the same, and costs a gap in UIDs and one FETCH of all flags.

const (
	// putBackAfter is how far mtime and ctime may lie apart in a list that was written here:
	// a sync may take that long on a busy disk.
	putBackAfter = 10 * time.Second

	// uidsASecond bounds what a mailbox can have been given, beside a burst of burstUIDs.
	uidsASecond = 1
	burstUIDs   = 10_000
)

// wasPutBack reports whether a uidlist with this stamp was put back from a backup.
func wasPutBack(list index.Stamp) bool { return list.Ctime-list.Mtime > int64(putBackAfter) }

// givenSince is how many UIDs may have been given that the uidlist does not know, as it was
// put back from a backup; 0 where it was not. A list that Roost never wrote has no such
// past: it moves in. Called after the list was read.
func (m *mailbox) givenSince(snap *index.Snapshot) imap.UID {
	st, ok := m.list.file.Stat()
	list := index.StampOf(st)
	switch {
	case !ok, m.list.file.Header().ModSeq == 0, !wasPutBack(list), snap != nil && snap.Head.Stamps.UIDList == list:
		return 0
	}
	age := time.Duration(list.Ctime - list.Mtime)
	return burstUIDs + imap.UID(min(age/time.Second*uidsASecond, 1<<28))
}
