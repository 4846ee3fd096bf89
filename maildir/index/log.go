package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"roost/maildir/fsys"
)

// What a log block holds, each behind its letter.
const (
	opHead = 'H' // a head
	opSet  = 'K' // a keyword set
	opRow  = 'R' // a row: new, or in place of the one with its UID
	opGone = 'G' // UID and MODSEQ of an expunge
)

// A Batch is the changes of one moment: after a crash all of them are found, or none.
// The zero value is empty.
type Batch struct {
	b    []byte
	sets int
}

// Empty reports whether nothing was put in.
func (t *Batch) Empty() bool { return len(t.b) == 0 }

// Put logs the state of a message, new or changed; it must not have been expunged.
func (t *Batch) Put(r Row) { t.b = r.append(append(t.b, opRow)) }

// Gone logs an expunge, once a UID. MODSEQs are ascending over the life of a mailbox.
func (t *Batch) Gone(v Vanished) {
	t.b = binary.AppendUvarint(append(t.b, opGone), uint64(v.UID))
	t.b = binary.AppendUvarint(t.b, v.ModSeq)
}

// Set logs a further keyword set; it has the number after all that were written.
func (t *Batch) Set(names []string) {
	t.b = appendSet(append(t.b, opSet), names)
	t.sets++
}

// Head logs another head; Validity and Boot stay.
func (t *Batch) Head(h Head) { t.b = h.append(append(t.b, opHead)) }

// errLog is a log that cannot be continued: only the next snapshot helps.
var errLog = errors.New("roost.index cannot be continued")

// Log adds changes behind the snapshot. One goroutine at a time.
type Log struct {
	dir            fsys.Dir
	file           fsys.File // nil: opened by the next Append
	snapshot, size int64
	sum            sum
	modSeq         uint64
	next           uint32
	sets           int
	broken         bool
}

// Sets is how many keyword sets were written so far.
func (l *Log) Sets() int { return l.sets }

// Append writes one batch. at is the time, modSeq the highest that was given so far,
// next UIDNEXT: no row of the batch may be beyond them. After an error the log is closed
// to more: what it says so far stays true, and a new snapshot starts another.
func (l *Log) Append(at int64, modSeq uint64, next uint32, t *Batch) error {
	if t.Empty() {
		return nil
	}
	if l.broken {
		return errLog
	}
	modSeq, next = max(modSeq, l.modSeq), max(next, l.next)
	from, b := beginBlock(make([]byte, 0, blockHeader+3*binary.MaxVarintLen64+len(t.b)), kindLog)
	b = binary.AppendVarint(b, at)
	b = binary.AppendUvarint(b, modSeq)
	b = binary.AppendUvarint(b, uint64(next))
	b = append(b, t.b...)
	sum := l.sum
	sum.endBlock(b, from)
	if err := l.write(b); err != nil {
		l.broken = true
		l.Release() // best effort: nothing more is written to it
		return err
	}
	l.sum, l.modSeq, l.next = sum, modSeq, next
	l.size += int64(len(b))
	l.sets += t.sets
	return nil
}

func (l *Log) write(b []byte) (err error) {
	if l.file == nil {
		if l.file, err = l.dir.Append(Name); err != nil {
			return err
		}
	}
	st, err := l.file.Stat()
	if err != nil {
		return err
	}
	if st.Size != l.size || st.Nlink == 0 {
		return fmt.Errorf("%w: another program changed it", errLog)
	}
	_, err = l.file.Write(b)
	return err
}

// Release closes the file until the next Append.
func (l *Log) Release() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// Wasteful reports whether a new snapshot is due: the log is as long as what it
// follows, or broken.
func (l *Log) Wasteful() bool {
	return l.broken || l.size-l.snapshot > max(l.snapshot, 256<<10)
}
