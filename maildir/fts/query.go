package fts

import (
	"context"
	"fmt"
	"slices"
	"sort"
)

// maxTrigramsAsked bounds how many lists of one text are read in a segment.
const maxTrigramsAsked = 64

// trigramsOf gives the trigrams of a folded text, ascending, each once; of a long text some.
func trigramsOf(text []byte) (list []uint32) {
	for i := 0; i+3 <= len(text) && i < 64<<10; i++ {
		list = append(list, uint32(text[i])<<16|uint32(text[i+1])<<8|uint32(text[i+2]))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if n := len(list); n > maxTrigramsAsked {
		for i := range maxTrigramsAsked {
			list[i] = list[i*n/maxTrigramsAsked]
		}
		list = list[:maxTrigramsAsked]
	}
	return list
}

// RuledOut yields the UIDs, ascending, of messages that do not hold text, which is folded.
// ok is false where the text is too short, or nothing is indexed. What was yielded before an
// error, which says what was found to be damaged or that ctx ended, is of no use.
func (x *Index) RuledOut(ctx context.Context, text []byte, yield func(uid uint32)) (ok bool, err error) {
	trigrams := trigramsOf(text)
	if len(trigrams) == 0 {
		return false, nil
	}
	x.rlock()
	var q query
	for _, l := range x.segs {
		if err = ctx.Err(); err == nil {
			err = q.segment(l, trigrams, yield)
		}
		if err != nil {
			break
		}
	}
	ok = len(x.segs) > 0
	x.mu.RUnlock()
	if err != nil && ctx.Err() == nil {
		err = x.damaged(err)
	}
	return ok && err == nil, err
}

// query is one search in the segments, with what it needs again in each.
type query struct {
	buf        []byte
	arena      []byte
	lists      []found
	have, with []uint32
	uids       []uint32
}

// found is the list of one trigram, in arena.
type found struct{ n, from, to int }

// segment yields the valid messages of a segment that lack one of the trigrams.
func (q *query) segment(l *live, trigrams []uint32, yield func(uid uint32)) error {
	all, err := q.find(l, trigrams)
	if err != nil {
		return err
	}
	q.have = q.have[:0]
	if all {
		sort.Slice(q.lists, func(i, j int) bool { return q.lists[i].n < q.lists[j].n })
		for i, f := range q.lists {
			if i > 0 && len(q.have) == 0 {
				break
			}
			list, ok := readList(q.with[:0], q.arena[f.from:f.to], f.n, l.docs)
			if !ok {
				return fmt.Errorf("a list in the segment at %d: %w", l.at, errDamaged)
			}
			if i == 0 {
				q.have = append(q.have, list...)
			} else {
				q.have = intersect(q.have, list)
			}
			q.with = list
		}
	}
	have := q.have
	for c := range l.chunks() {
		if q.uids, err = l.uids(q.uids[:0], c); err != nil {
			return err
		}
		for k, uid := range q.uids {
			i := uint32(c*chunkDocs + k)
			if len(have) > 0 && have[0] == i {
				have = have[1:]
			} else if l.isValid(i) {
				yield(uid)
			}
		}
	}
	return nil
}

// find gathers the lists of trigrams; not all says that one has none.
func (q *query) find(l *live, trigrams []uint32) (all bool, err error) {
	q.arena, q.lists = q.arena[:0], q.lists[:0]
	var block []byte
	at := -1
	for _, t := range trigrams {
		i := l.blockOf(t)
		if i < 0 {
			return false, nil
		}
		if i != at {
			if block, q.buf, err = l.block(q.buf, i); err != nil {
				return false, err
			}
			at = i
		}
		var e entry
		rest, ok := e.next(block, true)
		for ok && e.trigram < t && len(rest) > 0 {
			rest, ok = e.next(rest, false)
		}
		if !ok {
			return false, fmt.Errorf("entries of a block of the segment at %d: %w", l.at, errDamaged)
		}
		if e.trigram != t {
			return false, nil
		}
		q.lists = append(q.lists, found{e.n, len(q.arena), len(q.arena) + len(e.list)})
		q.arena = append(q.arena, e.list...)
	}
	return true, nil
}

// intersect keeps in a what is in b too; both ascend.
func intersect(a, b []uint32) []uint32 {
	out, i := a[:0], 0
	for _, d := range a {
		for i < len(b) && b[i] < d {
			i++
		}
		if i < len(b) && b[i] == d {
			out = append(out, d)
		}
	}
	return out
}
