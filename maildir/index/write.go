package index

import (
	"encoding/binary"
	"io"
	"io/fs"
	"iter"

	"roost/maildir/fsys"
)

// blockBytes is about how long a block of rows becomes.
const blockBytes = 32 << 10

// Snapshot data for Write.
type Contents struct {
	Head     Head
	Sets     [][]string    // set n+1 of Row.Keywords is Sets[n]
	Rows     iter.Seq[Row] // ascending UIDs
	Vanished []Vanished    // ascending MODSEQs, all above Head.Since
}

// Write puts a snapshot in place of the index, atomically, and gives its Log. It is
// not synced: see the package's comment. The slices of c.Rows are used up at once, which
// are below Head.Next, and no MODSEQ may be above Head.ModSeq.
func Write(dir fsys.Dir, mode fs.FileMode, c Contents) (*Log, error) {
	f, err := dir.Create(tmpName, mode)
	if err != nil {
		// Left by a crash: roost.lock says that nobody else writes it.
		if rerr := dir.Remove(tmpName); rerr != nil {
			return nil, err
		}
		if f, err = dir.Create(tmpName, mode); err != nil {
			return nil, err
		}
	}
	l := &Log{dir: dir, modSeq: c.Head.ModSeq, next: c.Head.Next, sets: len(c.Sets)}
	l.size, l.sum, err = writeAll(f, c)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = dir.Rename(tmpName, dir, Name)
	}
	if err != nil {
		dir.Remove(tmpName) // best effort: the first error is the one to tell
		return nil, err
	}
	l.snapshot = l.size
	return l, nil
}

func writeAll(f io.Writer, c Contents) (size int64, s sum, err error) {
	b := make([]byte, 0, 2*blockBytes)
	b = append(b, magic...)
	var at int
	end := func(last bool) {
		s.endBlock(b, at)
		if err != nil || len(b) < blockBytes && !last {
			return
		}
		var n int
		n, err = f.Write(b)
		size += int64(n)
		b = b[:0]
	}
	at, b = beginBlock(b, kindHead)
	b = c.Head.append(b)
	end(false)
	if len(c.Sets) > 0 {
		at, b = beginBlock(b, kindSets)
		for _, names := range c.Sets {
			b = appendSet(b, names)
		}
		end(false)
	}
	var rows uint64
	var prev Row
	at, b = beginBlock(b, kindRows)
	for r := range c.Rows {
		b = r.append(b, &prev)
		prev = Row{UID: r.UID, ModSeq: r.ModSeq, Internal: r.Internal}
		rows++
		if len(b)-at >= blockBytes {
			if end(false); err != nil {
				return size, s, err
			}
			at, b = beginBlock(b, kindRows)
			prev = Row{} // each block stands alone
		}
	}
	end(false)
	at, b = beginBlock(b, kindVanished)
	var last uint64
	for _, v := range c.Vanished {
		b = binary.AppendUvarint(b, v.ModSeq-last)
		b = binary.AppendUvarint(b, uint64(v.UID))
		last = v.ModSeq
	}
	end(false)
	at, b = beginBlock(b, kindEnd)
	b = binary.AppendUvarint(b, rows)
	end(true)
	return size, s, err
}

// Remove deletes the index, where one must not be found again.
func Remove(dir fsys.Dir) error { return dir.Remove(Name) }
