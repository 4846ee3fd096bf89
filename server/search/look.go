package search

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/emersion/go-imap/v2"

	"roost/message"
	"roost/store"
)

// look is one message that must be opened, and what is known of it.
type look struct {
	at    int // its index among the rows of the slice
	row   store.Row
	depth level
	found []bool // by what was looked at so far
	day   int64
	sum   []byte
	noted []byte

	truth truth
	kept  kept
	err   error
}

// kept are notes that the store shall keep; nil: none.
type kept struct{ fields, digest []byte }

// open looks into the messages of looks.
func (r *run) open() error {
	defer func() {
		clear(r.looks)
		r.looks = r.looks[:0]
	}()
	r.noteParts()
	r.crew.each(len(r.looks), func(reader, i int) {
		if r.readers[reader] == nil {
			w := newRun(r.ctx, r.plan, r.src)
			w.may, w.common = r.may, r.common
			r.readers[reader] = w
		}
		r.readers[reader].into(&r.looks[i])
		r.src.Progress.At(r.done + r.looks[i].at + 1)
	})
	for i := range r.looks {
		l := &r.looks[i]
		if err := r.found.missed(r.ctx, l.err); err != nil {
			return err
		}
		r.keep(l.row.UID, l.kept)
		r.verdicts[l.at] = l.truth
	}
	return nil
}

// noteParts asks for the notes on the parts of looks.
func (r *run) noteParts() {
	if len(r.plan.content) == 0 || len(r.looks) == 0 {
		return
	}
	uids := r.uidsRoom[:0]
	for i := range r.looks {
		uids = append(uids, r.looks[i].row.UID)
	}
	r.uidsRoom = uids
	i := 0
	for uid, note := range r.src.Box.Notes(r.ctx, uids, r.src.Parts) {
		for uids[i] != uid {
			i++
		}
		r.looks[i].noted = bytes.Clone(note)
	}
}

// into looks into one message, from where the search came with it.
func (r *run) into(l *look) {
	r.meet(l.row)
	copy(r.match.found, l.found)
	r.depth, r.day, r.sum, r.noted, r.kept = l.depth, l.day, l.sum, l.noted, kept{}
	r.pending = append(r.pending[:0], r.plan.pieces...)
	r.hold(r.pending)
	l.truth, l.err = r.read()
	l.kept = r.kept
}

// openNow looks into the message at hand.
func (r *run) openNow(row store.Row) (truth, error) {
	if r.src.Opened != nil {
		if err := r.src.Opened(); err != nil {
			return no, err
		}
	}
	r.crew.turns.give()
	r.noted, r.kept = nil, kept{}
	if len(r.plan.content) > 0 {
		for _, note := range r.notes(r.src.Parts) {
			r.noted = bytes.Clone(note)
		}
	}
	t, err := r.read()
	if err := r.found.missed(r.ctx, err); err != nil {
		return no, err
	}
	r.keep(row.UID, r.kept)
	return t, nil
}

// missed takes note of a message that could not be read, which does not match; other errors
// end the search.
func (f *Found) missed(ctx context.Context, err error) error {
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrGone):
	case errors.Is(err, store.ErrUnreadable), errors.Is(err, store.ErrUnsupported):
		if f.Unread++; f.Err == nil {
			f.Err = err
		}
	default:
		return err
	}
	return nil
}

// keep gives the store what was made of a message.
func (r *run) keep(uid imap.UID, k kept) {
	if k.fields != nil {
		r.src.Box.Note(uid, r.src.Fields, k.fields)
	}
	if k.digest != nil && r.src.Digest != 0 {
		r.src.Box.Note(uid, r.src.Digest, k.digest)
	}
}

// notes yields the note of the message at hand, if there is one.
func (r *run) notes(kind store.NoteKind) iter.Seq2[imap.UID, []byte] {
	return r.src.Box.Notes(r.ctx, []imap.UID{r.uid}, kind)
}

// header notes what the header fields decide. It fails as ctx does.
func (r *run) header(header []byte) error {
	compared := 0
	for f := range message.Fields(header) {
		if r.plan.dates && r.day == 0 && f.Is("Date") {
			if t, ok := message.ParseDate(f.Value); ok {
				r.day = DayOf(t)
			}
		}
		wanted := r.plan.named(f)
		if len(wanted) == 0 {
			continue
		}
		r.foldRoom = message.AppendFold(r.foldRoom[:0], []byte(message.DecodeText(f.Value)))
		for _, i := range wanted {
			r.match.found[i] = r.match.found[i] || bytes.Contains(r.foldRoom, r.plan.folded[i])
			if compared += 64 + len(r.foldRoom); compared < comparisons {
				continue
			}
			compared = 0
			r.match.turns.give()
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
	}
	r.depth = byHeader
	return nil
}

// read opens the message at hand for what is still not decided. What is to be kept is in
// kept then.
func (r *run) read() (truth, error) {
	m, err := r.src.Box.Message(r.ctx, r.uid)
	if err != nil {
		return no, err
	}
	defer m.Close()
	if r.size < 0 {
		if r.size, err = m.Size(); err != nil {
			return no, err
		}
		if t := r.hold(r.pending); r.decided(t) {
			return t, nil
		}
	}
	if r.depth < byHeader && (len(r.plan.fields) > 0 || r.plan.dates) {
		if r.headRoom, err = readHeader(m, r.headRoom); err != nil {
			return no, err
		}
		if err := r.header(r.headRoom); err != nil {
			return no, err
		}
		if r.common { // there was no such note
			r.kept.fields = r.src.commonOf(r.headRoom)
		}
		if t := r.hold(r.pending); r.decided(t) {
			return t, nil
		}
	}
	if r.plan.digests && r.sum == nil {
		if r.sum, err = Digested(r.ctx, m); err != nil {
			return no, err
		}
		r.kept.digest = r.sum
		if t := r.hold(r.pending); r.decided(t) {
			return t, nil
		}
	}
	if err := r.content(m); err != nil {
		return no, err
	}
	r.depth = byContent
	return r.hold(r.pending), nil
}
