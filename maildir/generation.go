package maildir

import (
	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// versions holds the newest View of a mailbox and the last Views of the older
// generations that some hold still shows. A generation is the time between two
// expunges: within it the column of UIDs only grows, so every View of it is a
// prefix of its last one, and a hold that may not be told an expunge can go to
// the end of its own generation and no further.
type versions struct {
	now  store.View
	gens map[uint64]*generation
}

type generation struct {
	last  store.View // set when the generation ends
	holds int
}

func newVersions(next imap.UID) *versions {
	v := &versions{now: store.View{UIDNext: max(next, 1), Gen: 1}}
	v.gens = map[uint64]*generation{1: {}}
	return v
}

// grow adds a UID to the newest View.
func (v *versions) grow(uid imap.UID, m store.ModSeq) {
	v.now.UIDs = v.now.UIDs.Append(uid)
	v.now.UIDNext = max(v.now.UIDNext, uid+1)
	v.now.ModSeq = max(v.now.ModSeq, m)
}

// touch notes a change that is no expunge.
func (v *versions) touch(m store.ModSeq) { v.now.ModSeq = max(v.now.ModSeq, m) }

// shrink ends the generation: gone, ascending, are expunged with m.
func (v *versions) shrink(gone []imap.UID, m store.ModSeq) {
	if g := v.gens[v.now.Gen]; g.holds > 0 {
		g.last = v.now
	} else {
		delete(v.gens, v.now.Gen)
	}
	v.now.UIDs = v.now.UIDs.Without(gone)
	v.now.ModSeq = max(v.now.ModSeq, m)
	v.now.Gen++
	v.gens[v.now.Gen] = &generation{}
}

// after gives the newest View that a hold at from may go to.
func (v *versions) after(from store.View, expunges bool) store.View {
	if expunges || from.Gen == v.now.Gen || from.Gen == 0 {
		return v.now
	}
	if g := v.gens[from.Gen]; g != nil {
		return g.last
	}
	return from
}

// hold counts a hold that shows generation to now and showed from before; 0 is none.
func (v *versions) hold(from, to uint64) {
	if from == to {
		return
	}
	if g := v.gens[to]; g != nil {
		g.holds++
	}
	if g := v.gens[from]; g != nil {
		if g.holds--; g.holds == 0 && from != v.now.Gen {
			delete(v.gens, from)
		}
	}
}

// missing gives the UIDs of older that newer lacks.
func missing(older, newer store.Column) []imap.UID {
	var gone []imap.UID
	j := 0
	next, n := imap.UID(0), newer.Len()
	if n > 0 {
		next = newer.At(0)
	}
	for _, u := range older.All(0) {
		for j < n && next < u {
			if j++; j < n {
				next = newer.At(j)
			}
		}
		if j == n || next != u {
			gone = append(gone, u)
		}
	}
	return gone
}
