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

// A Batch is changes that are logged together: after a crash all of them are found,
// or none. The zero value is empty.
type Batch struct {
	b    []byte
	sets int
}

// Empty reports whether nothing was put in.
func (t *Batch) Empty() bool { return len(t.b) == 0 }

// Put logs the state of a message, new or changed.
func (t *Batch) Put(r Row) { t.b = r.append(append(t.b, opRow), &Row{}) }

// Gone logs an expunge. MODSEQs are ascending over the life of a mailbox.
func (t *Batch) Gone(v Vanished) {
	t.b = binary.AppendUvarint(append(t.b, opGone), uint64(v.UID))
	t.b = binary.AppendUvarint(t.b, v.ModSeq)
}

// Set logs a further keyword set; it has the number after all that were written.
func (t *Batch) Set(names []string) {
	t.b = appendSet(append(t.b, opSet), names)
	t.sets++
}

// Head logs another head.
func (t *Batch) Head(h Head) { t.b = h.append(append(t.b, opHead)) }

// errLog is a log that cannot be continued: only the next snapshot helps.
var errLog = errors.New("roost.index cannot be continued")

// Log adds changes behind the snapshot. One goroutine at a time.
type Log struct {
	dir            fsys.Dir
	snapshot, size int64
	sets           int
	broken         bool
}

// Sets is how many keyword sets were written so far.
func (l *Log) Sets() int { return l.sets }

// Append writes one batch. After an error the log is closed to more: what it says so
// far stays true, and a new snapshot starts another.
func (l *Log) Append(t *Batch) error {
	if t.Empty() {
		return nil
	}
	if l.broken {
		return errLog
	}
	at, b := beginBlock(nil, kindLog)
	b = append(b, t.b...)
	endBlock(b, at)
	if err := l.write(b); err != nil {
		l.broken = true
		return err
	}
	l.size += int64(len(b))
	l.sets += t.sets
	return nil
}

func (l *Log) write(b []byte) error {
	f, err := l.dir.Append(Name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size != l.size {
		return fmt.Errorf("%w: it has %d bytes, not %d", errLog, st.Size, l.size)
	}
	_, err = f.Write(b)
	return err
}

// Wasteful reports whether a new snapshot is due: the log is as long as what it
// follows, or broken.
func (l *Log) Wasteful() bool {
	return l.broken || l.size-l.snapshot > max(l.snapshot, 256<<10)
}
