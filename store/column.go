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
	full []chunk    // complete, never changed
	tail []imap.UID // what follows; below its length never changed
	n    int
}

// chunk is some UIDs that lie together. Those that follow each other without a gap, as they
// do where little was expunged, are not stored: a column of 100,000 is made in a microsecond.
type chunk struct {
	start       uint32 // index of the first one in the column
	first, last imap.UID
	uids        []imap.UID // nil: all from first to last
}

// chunkAt takes over uids, of which there is one at least, as the chunk at index start.
func chunkAt(start int, uids []imap.UID) chunk {
	c := chunk{uint32(start), uids[0], uids[len(uids)-1], uids}
	if int(c.last-c.first) == len(uids)-1 {
		c.uids = nil
	}
	return c
}

func (c *chunk) len() int {
	if c.uids == nil {
		return int(c.last-c.first) + 1
	}
	return len(c.uids)
}

func (c *chunk) at(i int) imap.UID {
	if c.uids == nil {
		return c.first + imap.UID(i)
	}
	return c.uids[i]
}

// find is Column.Find in one chunk whose last UID is not below uid.
func (c *chunk) find(uid imap.UID) (int, bool) {
	switch {
	case uid < c.first:
		return 0, false
	case c.uids == nil:
		return int(uid - c.first), true
	}
	return slices.BinarySearch(c.uids, uid)
}

// stored gives the UIDs, which must not be changed.
func (c *chunk) stored() []imap.UID {
	if c.uids == nil {
		return c.appendTo(make([]imap.UID, 0, c.len()), 0, c.len())
	}
	return c.uids
}

// appendTo appends the UIDs of indexes from to to, to excluded, to dst.
func (c *chunk) appendTo(dst []imap.UID, from, to int) []imap.UID {
	if c.uids != nil {
		return append(dst, c.uids[from:to]...)
	}
	for i := from; i < to; i++ {
		dst = append(dst, c.first+imap.UID(i))
	}
	return dst
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
	return c.full[k].at(i - int(c.full[k].start))
}

// chunkOf finds the full chunk that holds index i.
func (c Column) chunkOf(i int) int {
	return sort.Search(len(c.full), func(k int) bool { return int(c.full[k].start) > i }) - 1
}

// Find gives the index of uid, or, with false, of the first UID above it.
func (c Column) Find(uid imap.UID) (int, bool) {
	k := sort.Search(len(c.full), func(k int) bool { return c.full[k].last >= uid })
	if k < len(c.full) {
		i, ok := c.full[k].find(uid)
		return int(c.full[k].start) + i, ok
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
				part := &c.full[k]
				start := int(part.start)
				for end := start + part.len(); i < end; i++ {
					if !yield(i, part.at(i-start)) {
						return
					}
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
		start := int(c.full[k].start)
		end := min(to-start, c.full[k].len())
		dst = c.full[k].appendTo(dst, from-start, end)
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
			c = c.sealed()
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

// sealed is the column with its tail among the full chunks.
func (c Column) sealed() Column {
	if len(c.tail) > 0 {
		c.full = append(c.full, chunkAt(c.n-len(c.tail), c.tail))
		c.tail = nil
	}
	return c
}

// AppendRun is Append of n UIDs from first on that have no gaps.
func (c Column) AppendRun(first imap.UID, n int) Column {
	if n >= chunkUIDs {
		c = c.sealed()
	}
	for n > 0 {
		if len(c.tail) == chunkUIDs {
			c = c.sealed()
		}
		k := min(chunkUIDs-len(c.tail), n)
		run := chunk{start: uint32(c.n), first: first, last: first + imap.UID(k-1)}
		if k == chunkUIDs {
			c.full = append(c.full, run)
		} else {
			c.tail = run.appendTo(c.tail, 0, k)
		}
		c.n += k
		first += imap.UID(k)
		n -= k
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
	out.full = make([]chunk, 0, len(c.full))
	for _, part := range c.full {
		for len(gone) > 0 && gone[0] < part.first {
			gone = gone[1:]
		}
		if len(gone) > 0 && gone[0] <= part.last {
			var kept []imap.UID
			if kept, gone = subtract(part.stored(), gone); len(kept) == 0 {
				continue
			}
			part = chunkAt(out.n, kept)
		}
		part.start = uint32(out.n)
		out.full = append(out.full, part)
		out.n += part.len()
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
