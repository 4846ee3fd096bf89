package maildir

import (
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// change says that something happened to a message, and when.
type change struct {
	modSeq store.ModSeq
	uid    imap.UID
}

// A changeLog remembers the latest changes of one kind, ascending by MODSEQ, and
// from where on it knows all. It is bounded: what it has forgotten is found by
// comparing, so it only makes things fast.
type changeLog struct {
	entries []change
	since   store.ModSeq // every change above it is in entries
	limit   int
}

// add notes changes with one MODSEQ, which is not below any noted before.
func (l *changeLog) add(m store.ModSeq, uids ...imap.UID) {
	for _, u := range uids {
		l.entries = append(l.entries, change{m, u})
	}
	if len(l.entries) <= l.limit {
		return
	}
	// Half is dropped at once, and never a part of one MODSEQ.
	keep := len(l.entries) - l.limit/2
	l.since = l.entries[keep-1].modSeq
	for keep < len(l.entries) && l.entries[keep].modSeq == l.since {
		keep++
	}
	l.entries = append(make([]change, 0, l.limit+1), l.entries[keep:]...)
}

// between gives the UIDs of changes above from and up to to, ascending, each once.
// ok is false when it does not reach back that far.
func (l *changeLog) between(from, to store.ModSeq) (uids []imap.UID, ok bool) {
	if from < l.since {
		return nil, false
	}
	i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].modSeq > from })
	for ; i < len(l.entries) && l.entries[i].modSeq <= to; i++ {
		uids = append(uids, l.entries[i].uid)
	}
	slices.Sort(uids)
	return slices.Compact(uids), true
}
