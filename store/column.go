package store

import (
	"iter"
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"
)

// chunkUIDs is how many UIDs lie together: large enough that a million messages
// need few chunks, small enough that an expunge copies little.
const chunkUIDs = 1024

// Column is an immutable ascending list of UIDs that shares its memory with its
// neighbours in time: a thousand sessions on a mailbox hold one array, an expunge
// copies the chunks it touches. The zero value is empty. Reading is safe from any
// goroutine; Append may be called only on the newest column of its line, as with
// Go's own append.
type Column struct {
	full   [][]imap.UID // complete chunks, never changed
	starts []uint32     // starts[i] is the index of full[i][0]
	tail   []imap.UID   // what follows; below its length never changed
	n      int
}

// ColumnOf makes a column of ascending UIDs, which it copies.
func ColumnOf(uids []imap.UID) Column { return Column{}.Append(uids...) }

// Len is the number of UIDs.
func (c Column) Len() int { return c.n }

// At gives the UID at index i, which is sequence number i+1.
func (c Column) At(i int) imap.UID {
	if t := c.n - len(c.tail); i >= t {
		return c.tail[i-t]
	}
	k := c.chunkOf(i)
	return c.full[k][i-int(c.starts[k])]
}

// Run gives the UIDs from index i on that lie together in memory, one at least where there is
// one. They must not be changed.
func (c Column) Run(i int) []imap.UID {
	if i >= c.n {
		return nil
	}
	if t := c.n - len(c.tail); i >= t {
		return c.tail[i-t:]
	}
	k := c.chunkOf(i)
	return c.full[k][i-int(c.starts[k]):]
}

// chunkOf finds the full chunk that holds index i.
func (c Column) chunkOf(i int) int {
	return sort.Search(len(c.starts), func(k int) bool { return int(c.starts[k]) > i }) - 1
}

// Find gives the index of uid, or, with false, of the first UID above it.
func (c Column) Find(uid imap.UID) (int, bool) {
	k := sort.Search(len(c.full), func(k int) bool { return c.full[k][len(c.full[k])-1] >= uid })
	if k < len(c.full) {
		i, ok := slices.BinarySearch(c.full[k], uid)
		return int(c.starts[k]) + i, ok
	}
	i, ok := slices.BinarySearch(c.tail, uid)
	return c.n - len(c.tail) + i, ok
}

// All yields index and UID, from index from up.
func (c Column) All(from int) iter.Seq2[int, imap.UID] {
	return func(yield func(int, imap.UID) bool) {
		i := max(from, 0)
		t := c.n - len(c.tail)
		if i < t {
			for k := c.chunkOf(i); k < len(c.full); k++ {
				for _, u := range c.full[k][i-int(c.starts[k]):] {
					if !yield(i, u) {
						return
					}
					i++
				}
			}
		}
		for i < c.n {
			if !yield(i, c.tail[i-t]) {
				return
			}
			i++
		}
	}
}

// Slice copies the UIDs of indexes from to to, to excluded.
func (c Column) Slice(from, to int) []imap.UID {
	from, to = max(from, 0), min(to, c.n)
	if from >= to {
		return nil
	}
	return c.AppendSlice(make([]imap.UID, 0, to-from), from, to)
}

// AppendSlice appends the UIDs of indexes from to to, to excluded, to dst.
func (c Column) AppendSlice(dst []imap.UID, from, to int) []imap.UID {
	from, to = max(from, 0), min(to, c.n)
	tail := c.n - len(c.tail)
	for from < min(to, tail) {
		k := c.chunkOf(from)
		start := int(c.starts[k])
		end := min(to-start, len(c.full[k]))
		dst = append(dst, c.full[k][from-start:end]...)
		from = start + end
	}
	if from < to {
		dst = append(dst, c.tail[from-tail:to-tail]...)
	}
	return dst
}

// Append gives the column with uids behind it; they must be ascending and above
// all that are there. Only the newest column of a line may be appended to.
func (c Column) Append(uids ...imap.UID) Column {
	for len(uids) > 0 {
		if len(c.tail) == chunkUIDs {
			c.starts = append(c.starts, uint32(c.n-chunkUIDs))
			c.full = append(c.full, c.tail)
			c.tail = nil
		}
		k := min(chunkUIDs-len(c.tail), len(uids))
		if k == chunkUIDs { // no room for more, and no growing by doubling
			c.tail = make([]imap.UID, 0, chunkUIDs)
		}
		c.tail = append(c.tail, uids[:k]...)
		uids = uids[k:]
		c.n += k
	}
	return c
}

// Without gives a new line of columns that lacks the UIDs of gone, which is
// ascending; what is not there is passed over. Untouched chunks are shared.
func (c Column) Without(gone []imap.UID) Column {
	if len(gone) == 0 {
		return c
	}
	var out Column
	out.full = make([][]imap.UID, 0, len(c.full))
	out.starts = make([]uint32, 0, len(c.full))
	for _, chunk := range c.full {
		first, last := chunk[0], chunk[len(chunk)-1]
		for len(gone) > 0 && gone[0] < first {
			gone = gone[1:]
		}
		if len(gone) > 0 && gone[0] <= last {
			chunk, gone = subtract(chunk, gone)
			if len(chunk) == 0 {
				continue
			}
		}
		out.starts = append(out.starts, uint32(out.n))
		out.full = append(out.full, chunk)
		out.n += len(chunk)
	}
	// The tail is copied even when whole: two lines may not append to one array.
	out.tail, _ = subtract(c.tail, gone)
	out.n += len(out.tail)
	return out
}

// subtract copies from without gone; rest is what lies above from's last UID.
func subtract(from, gone []imap.UID) (kept, rest []imap.UID) {
	kept = make([]imap.UID, 0, len(from))
	for _, u := range from {
		for len(gone) > 0 && gone[0] < u {
			gone = gone[1:]
		}
		if len(gone) > 0 && gone[0] == u {
			gone = gone[1:]
			continue
		}
		kept = append(kept, u)
	}
	return kept, gone
}
