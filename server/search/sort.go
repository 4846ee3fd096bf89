package search

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"roost/store"
)

// SortKey is what messages are sorted by: RFC 5256 section 3, RFC 5957 section 4.
type SortKey uint8

const (
	SortArrival SortKey = iota // INTERNALDATE
	SortDate                   // the sent date
	SortSize
	SortSubject // the base subject
	SortFrom    // addr-mailbox of the first address
	SortTo
	SortCc
	SortDisplayFrom // its name, else its address
	SortDisplayTo
	SortRelevancy // the highest score first (RFC 6203 section 6); the query must be Scored
)

// Criterion is one step of an order.
type Criterion struct {
	By      SortKey
	Reverse bool
}

// strings are the keys' strings by which a SortKey sorts.
var sortStrings = map[SortKey]int{
	SortSubject: keySubject, SortFrom: keyFrom, SortTo: keyTo, SortCc: keyCc,
	SortDisplayFrom: keyDisplayFrom, SortDisplayTo: keyDisplayTo,
}

// Sort gives the indexes of found in the order of the criteria; where all are equal the
// order of the mailbox stays. Strings are compared by i;unicode-casemap (RFC 5051). A
// message that cannot be read, or is gone and not remembered, sorts as if it had no header.
// It fails as Search does.
func Sort(ctx context.Context, src Source, found *Found, by []Criterion) ([]int, error) {
	n := len(found.UIDs)
	columns := make([]column, len(by))
	l := loader{ctx: ctx, src: src, found: found}
	for i, c := range by {
		columns[i].Criterion = c
		if _, ok := sortStrings[c.By]; ok {
			columns[i].texts = make([][]byte, n)
			l.headers = true
			continue
		}
		columns[i].numbers = make([]int64, n)
		l.sizes = l.sizes || c.By == SortSize
		l.dates = l.dates || c.By == SortArrival || c.By == SortDate
		l.headers = l.headers || c.By == SortDate
	}
	var heap arena
	l.visit = func(i int, row store.Row, k keys) {
		for c := range columns {
			col := &columns[c]
			switch col.By {
			case SortArrival:
				col.numbers[i] = row.Internal
			case SortDate:
				col.numbers[i] = k.sent
			case SortRelevancy: // below
			case SortSize:
				col.numbers[i] = row.Size
			default:
				col.texts[i] = heap.keep(k.strings[sortStrings[col.By]])
			}
		}
	}
	if err := l.load(); err != nil {
		return nil, err
	}
	for c := range columns {
		if columns[c].By == SortRelevancy {
			for i, score := range found.Scores {
				columns[c].numbers[i] = -int64(score)
			}
		}
	}
	return inOrder(n, columns), nil
}

// place is one message that is put in order.
type place struct {
	lead [2]uint64 // of the first column: what is lower stands first
	i    int
}

// inOrder gives the indexes of n messages in the order of the columns. Most are told apart
// by the bytes that lie beside the index, and by those without comparing any two.
func inOrder(n int, columns []column) []int {
	places := make([]place, n)
	for i := range places {
		places[i] = place{columns[0].lead(i), i}
	}
	places = byLead(places)
	for from := 0; from < n; {
		to := from + 1
		for to < n && places[to].lead == places[from].lead {
			to++
		}
		if to-from > 1 {
			slices.SortFunc(places[from:to], func(a, b place) int {
				for i := range columns {
					if r := columns[i].compare(a.i, b.i); r != 0 {
						return r
					}
				}
				return cmp.Compare(a.i, b.i)
			})
		}
		from = to
	}
	order := make([]int, n)
	for k, p := range places {
		order[k] = p.i
	}
	return order
}

// byLead puts places in the order of their leads, a byte at a time from the last. Bytes that
// are the same in all cost nothing.
func byLead(places []place) []place {
	if len(places) < 64 {
		slices.SortFunc(places, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.lead[0], b.lead[0]), cmp.Compare(a.lead[1], b.lead[1]))
		})
		return places
	}
	var counts [16][256]uint32
	for i := range places {
		for k := range counts {
			counts[k][places[i].byteOf(k)]++
		}
	}
	other := make([]place, len(places))
	for k := len(counts) - 1; k >= 0; k-- {
		at := &counts[k]
		if at[places[0].byteOf(k)] == uint32(len(places)) {
			continue
		}
		sum := uint32(0)
		for v, n := range at {
			at[v], sum = sum, sum+n
		}
		for i := range places {
			v := places[i].byteOf(k)
			other[at[v]] = places[i]
			at[v]++
		}
		places, other = other, places
	}
	return places
}

// byteOf is byte k of the lead, the first being the one that counts most.
func (p *place) byteOf(k int) byte { return byte(p.lead[k>>3] >> (56 - k&7*8)) }

// column is what one criterion compares, of each message.
type column struct {
	Criterion
	numbers []int64
	texts   [][]byte
}

func (c *column) compare(a, b int) int {
	if c.Reverse {
		a, b = b, a
	}
	if c.texts != nil {
		return bytes.Compare(c.texts[a], c.texts[b])
	}
	return cmp.Compare(c.numbers[a], c.numbers[b])
}

// lead are numbers by which message i sorts as by the column, but that some are equal
// which the column tells apart.
func (c *column) lead(i int) (n [2]uint64) {
	if c.texts != nil {
		var b [16]byte
		copy(b[:], c.texts[i])
		n[0], n[1] = binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	} else {
		n[0] = uint64(c.numbers[i]) ^ 1<<63
	}
	if c.Reverse {
		n[0], n[1] = ^n[0], ^n[1]
	}
	return n
}

// arena keeps many small strings in few pieces of memory.
type arena []byte

func (a *arena) keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(*a)-len(*a) < len(b) {
		*a = make([]byte, 0, max(64<<10, len(b)))
	}
	start := len(*a)
	*a = append(*a, b...)
	return (*a)[start:len(*a):len(*a)]
}
