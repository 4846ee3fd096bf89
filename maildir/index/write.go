package index

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"iter"

	"roost/maildir/fsys"
)

const (
	writeBytes = 64 << 10 // about how much is written at once
	blockRows  = 1024
)

// Contents is what Write writes.
type Contents struct {
	Head     Head
	Sets     [][]string      // set n+1 of Entry.Keywords is Sets[n]
	Infos    []string        // info n+1 of Entry.Info is Infos[n]; none is ""
	Names    [][]byte        // bases, each behind its length as a varint; a chunk has at most 64 KiB
	Count    int             // of Rows
	Rows     iter.Seq[Entry] // ascending UIDs
	Vanished []Vanished      // ascending MODSEQs, all above Head.Since
}

// Write puts a snapshot in place of the index, atomically, and gives its Log. It is
// not synced: see the package's comment. No UID may be as high as Head.Next, no MODSEQ
// above Head.ModSeq.
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
	b := make([]byte, 0, 3*writeBytes)
	b = append(b, magic...)
	var at int
	end := func(last bool) {
		s.endBlock(b, at)
		if err != nil || len(b) < writeBytes && !last {
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
	at, b = beginBlock(b, kindWords)
	b = binary.AppendUvarint(b, uint64(c.Count))
	b = binary.AppendUvarint(b, uint64(len(c.Sets)))
	for _, names := range c.Sets {
		b = appendSet(b, names)
	}
	for _, info := range c.Infos {
		b = appendBytes(b, info)
	}
	end(false)
	for _, chunk := range c.Names {
		if len(chunk) == 0 {
			return size, s, errors.New("an empty chunk of names")
		}
		at, b = beginBlock(b, kindNames)
		b = append(b, chunk...)
		if end(false); err != nil {
			return size, s, err
		}
	}
	rows := 0
	for e := range c.Rows {
		if rows%blockRows == 0 {
			if rows > 0 {
				if end(false); err != nil {
					return size, s, err
				}
			}
			at, b = beginBlock(b, kindRows)
		}
		b = e.append(b)
		rows++
	}
	if rows > 0 {
		end(false)
	}
	at, b = beginBlock(b, kindVanished)
	var last uint64
	for _, v := range c.Vanished {
		b = binary.AppendUvarint(b, v.ModSeq-last)
		b = binary.AppendUvarint(b, uint64(v.UID))
		last = v.ModSeq
	}
	end(false)
	at, b = beginBlock(b, kindEnd)
	b = binary.AppendUvarint(b, uint64(rows))
	end(true)
	return size, s, err
}

// Remove deletes the index, where one must not be found again.
func Remove(dir fsys.Dir) error { return dir.Remove(Name) }
