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

// inOrder gives the indexes of n messages in the order of the columns. Most comparisons
// are decided by the bytes that lie beside the index.
func inOrder(n int, columns []column) []int {
	type item struct {
		lead [2]uint64 // of the first column: what is lower stands first
		i    int
	}
	items := make([]item, n)
	for i := range items {
		items[i] = item{columns[0].lead(i), i}
	}
	slices.SortFunc(items, func(a, b item) int {
		for k := range a.lead {
			if a.lead[k] != b.lead[k] {
				if a.lead[k] < b.lead[k] {
					return -1
				}
				return 1
			}
		}
		for i := range columns {
			if r := columns[i].compare(a.i, b.i); r != 0 {
				return r
			}
		}
		return cmp.Compare(a.i, b.i)
	})
	order := make([]int, n)
	for place, item := range items {
		order[place] = item.i
	}
	return order
}

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
