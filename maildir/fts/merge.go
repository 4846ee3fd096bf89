package fts

import "io"

// part is a segment that goes into a bigger one.
type part struct {
	*segment
	kept []doc   // its messages that go along
	to   []int32 // of each of its messages the new number, -1 for none; nil: all go along
}

// merge writes parts, whose UIDs ascend, as one segment to w at at. It gives the length.
// breathe is called often.
func merge(w io.WriterAt, at int64, parts []part, salt uint32, breathe func() error) (int64, error) {
	var docs []doc
	base := make([]uint32, len(parts))
	for i, p := range parts {
		base[i] = uint32(len(docs))
		docs = append(docs, p.kept...)
	}
	// Those whose messages are gone at its ends count: it is in place of all of its parts.
	out := newSegmentWriter(w, at, docs, parts[0].first, parts[len(parts)-1].last, salt)
	in := make([]entries, len(parts))
	for i, p := range parts {
		in[i].s = p.segment
		if err := in[i].step(); err != nil {
			return 0, err
		}
	}
	var list, old []uint32
	work := 0
	for {
		least := uint32(1 << 24)
		for i := range in {
			if !in[i].done {
				least = min(least, in[i].entry.trigram)
			}
		}
		if least == 1<<24 {
			break
		}
		list = list[:0]
		for i := range in {
			e := &in[i]
			if e.done || e.entry.trigram != least {
				continue
			}
			var ok bool
			if old, ok = readList(old[:0], e.entry.list, e.entry.n, e.s.docs); !ok {
				return 0, errDamaged
			}
			for _, d := range old {
				if parts[i].to == nil {
					list = append(list, base[i]+d)
				} else if n := parts[i].to[d]; n >= 0 {
					list = append(list, base[i]+uint32(n))
				}
			}
			if err := e.step(); err != nil {
				return 0, err
			}
		}
		if len(list) > 0 {
			out.add(least, list)
		}
		if work += 16 + len(list); work > 16<<10 {
			work = 0
			if out.err != nil {
				return 0, out.err
			}
			if err := breathe(); err != nil {
				return 0, err
			}
		}
	}
	return out.finish()
}
