package maildir

import (
	"cmp"
	"slices"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/index"
	"roost/store"
)

// tableLoader makes a table from roost.index: an index.Taker. What lies in the file as in
// the table is not taken apart.
type tableLoader struct {
	t     *table
	sets  []store.Keywords // by their numbers in the file; 0 is none
	infos []uint32         // by their numbers in the file: those in the table
}

// Names implements index.Taker.
func (l *tableLoader) Names(chunk []byte) { l.t.names.chunks = append(l.t.names.chunks, chunk) }

// Entries implements index.Taker.
func (l *tableLoader) Entries(s *index.Snapshot, block []index.Entry) {
	if l.infos == nil {
		l.infos = make([]uint32, 1, len(s.Infos)+1)
		for _, info := range s.Infos {
			l.infos = append(l.infos, l.t.infos.put(info))
		}
		l.learnSets(s)
		l.t.rows.chunks = make([][]row, 0, s.Count/rowChunk+1)
	}
	chunk := make([]row, len(block))
	for i := range block {
		e, r := &block[i], &chunk[i]
		*r = row{
			modSeq: store.ModSeq(e.ModSeq), internal: e.Internal, uid: imap.UID(e.UID), bytes: e.Size, base: e.Name,
			info: l.infos[e.Info], flags: store.Flags(e.Flags),
		}
		if e.Keywords != 0 {
			r.set = l.t.sets.take(l.sets[e.Keywords])
		}
		if e.InNew {
			r.state |= rowInNew
		}
		l.t.names.keep(r.base)
	}
	l.t.rows.extend(chunk)
}

func (l *tableLoader) learnSets(s *index.Snapshot) {
	if l.sets == nil {
		l.sets = []store.Keywords{{}}
	}
	for _, names := range s.Sets[len(l.sets)-1:] {
		l.sets = append(l.sets, store.KeywordsOf(names...))
	}
}

// change takes in what the log says of the rows.
func (l *tableLoader) change(s *index.Snapshot) {
	l.learnSets(s)
	t := l.t
	var between []row // those whose UIDs are not above all of the snapshot
	for _, c := range s.Changed {
		r := row{
			modSeq: store.ModSeq(c.ModSeq), internal: c.Internal, uid: imap.UID(c.UID), bytes: keptSize(c.Size),
			info: t.infos.put(c.Info), set: t.sets.take(l.sets[c.Keywords]), flags: store.Flags(c.Flags),
		}
		if c.InNew {
			r.state |= rowInNew
		}
		i := t.rows.search(r.uid)
		known := i < t.rows.len() && t.rows.at(i).uid == r.uid
		if known && t.names.equal(t.rows.at(i).base, string(c.Base)) {
			r.base = t.rows.at(i).base
		} else {
			if known {
				t.names.forget(t.rows.at(i).base)
			}
			r.base = t.names.put(string(c.Base))
		}
		switch {
		case known:
			t.sets.drop(t.rows.at(i).set)
			*t.rows.at(i) = r
		case i == t.rows.len():
			t.append(r)
		default:
			between = append(between, r)
		}
	}
	if len(between) > 0 { // not written like that by anybody
		all := between
		for i := range t.rows.len() {
			all = append(all, *t.rows.at(i))
		}
		slices.SortFunc(all, func(a, b row) int { return cmp.Compare(a.uid, b.uid) })
		t.rows = rows{}
		for _, r := range all {
			t.append(r)
		}
	}
	for _, uid := range s.Gone {
		if i, ok := t.find(imap.UID(uid)); ok {
			t.remove(i)
		}
	}
}
