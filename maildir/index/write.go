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
// not synced: see the package's comment. The slices of c.Rows are used up at once.
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
	size, err := writeAll(f, c)
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
	return &Log{dir: dir, snapshot: size, size: size, sets: len(c.Sets)}, nil
}

func writeAll(f io.Writer, c Contents) (size int64, err error) {
	b := make([]byte, 0, 2*blockBytes)
	flush := func(at int) error {
		endBlock(b, at)
		n, err := f.Write(b)
		size += int64(n)
		b = b[:0]
		return err
	}
	b = append(b, magic...)
	at, b2 := beginBlock(b, kindHead)
	b = c.Head.append(b2)
	if err := flush(at); err != nil {
		return size, err
	}
	if len(c.Sets) > 0 {
		at, b = beginBlock(b, kindSets)
		for _, s := range c.Sets {
			b = appendSet(b, s)
		}
		if err := flush(at); err != nil {
			return size, err
		}
	}
	var rows uint64
	var prev Row
	at, b = beginBlock(b, kindRows)
	for r := range c.Rows {
		b = r.append(b, &prev)
		prev = Row{UID: r.UID, ModSeq: r.ModSeq, Internal: r.Internal}
		rows++
		if len(b) >= blockBytes {
			if err := flush(at); err != nil {
				return size, err
			}
			at, b = beginBlock(b, kindRows)
			prev = Row{} // each block stands alone
		}
	}
	if err := flush(at); err != nil {
		return size, err
	}
	at, b = beginBlock(b, kindVanished)
	var last uint64
	for _, v := range c.Vanished {
		b = binary.AppendUvarint(b, v.ModSeq-last)
		b = binary.AppendUvarint(b, uint64(v.UID))
		last = v.ModSeq
	}
	if err := flush(at); err != nil {
		return size, err
	}
	at, b = beginBlock(b, kindEnd)
	b = binary.AppendUvarint(b, rows)
	return size, flush(at)
}

// Remove deletes the index, where one must not be found again.
func Remove(dir fsys.Dir) error { return dir.Remove(Name) }
