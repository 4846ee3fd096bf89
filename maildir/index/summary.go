package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"roost/maildir/fsys"
)

// A Summary is what an index says of a mailbox as a whole: enough to answer SELECT and
// STATUS before the first row is read. It is the last block of a file that was closed:
//
//	head; unseen, deleted, first unseen UID; number of keywords, then each;
//	number of runs of UIDs, then each by the distance from the one before and its
//	length; the same for those in new/
//	u32 checksum of the block before | u32 length of this block | "SumEnds\x01"
//
// Its end tells where it begins and from where its checksum goes on, so that it proves
// itself; that it belongs behind the blocks before it shows when these are read.
type Summary struct {
	Head        Head
	Unseen      uint32 // messages without \Seen
	Deleted     uint32 // messages with \Deleted
	FirstUnseen uint32 // UID; 0 none
	Keywords    []string
	UIDs        []Run
	InNew       []Run // those whose files lie in new/
}

// A Run is neighbouring UIDs: Count of them from First on.
type Run struct{ First, Count uint32 }

// AppendUID adds a UID above all that are there.
func AppendUID(runs []Run, uid uint32) []Run {
	if k := len(runs) - 1; k >= 0 && runs[k].First+runs[k].Count == uid {
		runs[k].Count++
		return runs
	}
	return append(runs, Run{uid, 1})
}

const (
	summaryEnd  = "SumEnds\x01"
	summaryFoot = 4 + 4 + len(summaryEnd)

	// peekBytes is how much of the end of a file is read at once: enough for most.
	peekBytes = 4 << 10
)

func (s *Summary) append(b []byte, before sum) []byte {
	from := len(b)
	b = s.Head.append(b)
	for _, v := range []uint32{s.Unseen, s.Deleted, s.FirstUnseen} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = appendSet(b, s.Keywords)
	for _, runs := range [][]Run{s.UIDs, s.InNew} {
		b = binary.AppendUvarint(b, uint64(len(runs)))
		last := uint32(0)
		for _, r := range runs {
			b = binary.AppendUvarint(b, uint64(r.First-last))
			b = binary.AppendUvarint(b, uint64(r.Count))
			last = r.First + r.Count
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(before))
	b = binary.LittleEndian.AppendUint32(b, uint32(blockHeader+len(b)-from+4+len(summaryEnd)))
	return append(b, summaryEnd...)
}

// readSummary takes a payload apart; ok is false where it says what cannot be.
func readSummary(payload []byte) (s Summary, ok bool) {
	if len(payload) < summaryFoot {
		return s, false
	}
	d := decoder{b: payload[:len(payload)-summaryFoot]}
	s.Head = d.head()
	s.Unseen, s.Deleted, s.FirstUnseen = d.uint32(), d.uint32(), d.uint32()
	s.Keywords = d.set()
	s.UIDs = d.runs(s.Head.Next)
	s.InNew = d.runs(s.Head.Next)
	return s, !d.bad && len(d.b) == 0 && s.Head.sound()
}

// runs reads UIDs below next.
func (d *decoder) runs(next uint32) []Run {
	n := d.uint()
	if n > uint64(len(d.b)) { // each takes a byte at least
		d.bad = true
		return nil
	}
	runs := make([]Run, 0, n)
	last := uint64(0)
	for range n {
		first := last + uint64(d.uint32())
		count := uint64(d.uint32())
		if last = first + count; d.bad || first == 0 || count == 0 || last > uint64(next) {
			d.bad = true
			return nil
		}
		runs = append(runs, Run{uint32(first), uint32(count)})
	}
	return runs
}

// Finish ends the log with a head and the summary that holds under it: the mailbox is
// closed. What is added later makes an end of it.
func (l *Log) Finish(at int64, s Summary) error {
	if l.broken {
		return errLog
	}
	h := &s.Head
	h.ModSeq, h.Next = max(h.ModSeq, l.modSeq), max(h.Next, l.next)
	batch := new(Batch)
	batch.Head(*h)
	sum := l.sum
	from, b := beginBlock(nil, kindLog)
	b = binary.AppendVarint(b, at)
	b = binary.AppendUvarint(b, h.ModSeq)
	b = binary.AppendUvarint(b, uint64(h.Next))
	b = append(b, batch.b...)
	sum.endBlock(b, from)
	before := sum
	from, b = beginBlock(b, kindSummary)
	b = s.append(b, before)
	sum.endBlock(b, from)
	if err := l.write(b); err != nil {
		l.broken = true
		l.Release() // best effort: nothing more is written to it
		return err
	}
	l.sum, l.modSeq, l.next = sum, h.ModSeq, h.Next
	l.size += int64(len(b))
	return nil
}

// Unread is an index of which only the summary was read. The file stays open until Load
// or Close: what takes its place meanwhile is another.
type Unread struct {
	Summary Summary

	dir  fsys.Dir
	f    fsys.File
	size int64
	sum  sum
}

// Peek reads the summary of an index of at most limit bytes. ErrNone where it has none, and
// where nothing is to be believed: Load knows more.
func Peek(dir fsys.Dir, limit int64) (*Unread, error) {
	f, err := dir.Open(Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	u := &Unread{dir: dir, f: f}
	if err := u.peek(limit); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s/%s: %w", dir.Path(), Name, err)
	}
	return u, nil
}

var errNoSummary = fmt.Errorf("%w: it does not end with a summary", ErrNone)

func (u *Unread) peek(limit int64) error {
	st, err := u.f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	if u.size = st.Size; u.size > limit {
		return ErrNone
	}
	b, err := u.tail(peekBytes)
	if err != nil {
		return err
	}
	if len(b) < blockHeader+summaryFoot || string(b[len(b)-len(summaryEnd):]) != summaryEnd {
		return errNoSummary
	}
	foot := b[len(b)-summaryFoot:]
	before, n := binary.LittleEndian.Uint32(foot), int64(binary.LittleEndian.Uint32(foot[4:]))
	if n < int64(blockHeader+summaryFoot) || n > u.size {
		return errNoSummary
	}
	if n > int64(len(b)) {
		if b, err = u.tail(n); err != nil {
			return err
		}
	}
	b = b[int64(len(b))-n:]
	u.sum = sum(crc32.Update(before, castagnoli, b[8:]))
	if int64(binary.LittleEndian.Uint32(b)) != n-blockHeader || binary.LittleEndian.Uint32(b[4:]) != uint32(u.sum) || b[8] != kindSummary {
		return errNoSummary
	}
	s, ok := readSummary(b[blockHeader:])
	if !ok {
		return errNoSummary
	}
	u.Summary = s
	return nil
}

// tail reads the last n bytes, or all there are.
func (u *Unread) tail(n int64) ([]byte, error) {
	b := make([]byte, min(n, u.size))
	if k, err := u.f.ReadAt(b, u.size-int64(len(b))); k < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return b, nil
}

// Load reads the whole file, as Load does, and closes it. ErrNone also where what is read is
// not what the summary was written behind.
func (u *Unread) Load(take Taker) (*Snapshot, error) {
	defer u.f.Close()
	s, err := read(u.f, u.size, take)
	if err == nil && (s.Torn || s.log.size != u.size || s.log.sum != u.sum || s.Head != u.Summary.Head) {
		err = fmt.Errorf("%w: its summary does not belong to it", ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", u.dir.Path(), Name, err)
	}
	s.log.dir = u.dir
	return s, nil
}

// Close lets go of a file that is not to be read.
func (u *Unread) Close() error { return u.f.Close() }
