package session

import (
	"context"
	"errors"
	"io"

	"github.com/emersion/go-imap/v2"

	"roost/message"
	"roost/server/search"
	"roost/store"
)

// opened is one message of a FETCH, with as much of it in memory as the items
// need: never its body.
type opened struct {
	store.Message
	size int64

	header []byte         // its header; nil when no item needs it, or it is too long
	parts  []message.Part // nil when no item needs them

	derived map[store.NoteKind][]byte // made now, because the store had no note
}

// load opens a message and makes ready what the plan needs and the notes do not
// have. What it derives goes to the store.
func (f *fetcher) load(ctx context.Context, uid imap.UID, plan *fetchPlan, notes *rowNotes) (*opened, error) {
	msg, err := f.box.Message(ctx, uid)
	if err != nil {
		return nil, err
	}
	m := &opened{Message: msg}
	err = f.fill(ctx, m, uid, plan, notes)
	if err == nil && plan.preview && notes.of(notePreview) == nil {
		err = f.preview(m, uid)
	}
	if err != nil {
		msg.Close()
		return nil, err
	}
	return m, nil
}

func (f *fetcher) fill(ctx context.Context, m *opened, uid imap.UID, plan *fetchPlan, notes *rowNotes) (err error) {
	if m.size, err = m.Size(); err != nil {
		return err
	}
	scan := false
	if plan.parts || plan.preview && notes.of(notePreview) == nil {
		m.parts, err = message.DecodeParts(notes.of(noteParts))
		// A note that does not fit the message is none.
		scan = err != nil || m.parts[0].Body.End() != m.size
	}
	for _, kind := range []store.NoteKind{noteStructure, noteBody} {
		scan = scan || plan.has(kind) && notes.of(kind) == nil
	}
	if !scan && plan.header(notes) {
		switch m.header, err = readHeader(m); {
		case errors.Is(err, errHeaderLong):
			scan = true
		case err != nil:
			return err
		}
	}
	if scan {
		return f.scan(m, uid, plan, notes)
	}
	if plan.has(noteDigest) && notes.of(noteDigest) == nil {
		digest, err := search.Digested(ctx, m)
		if err != nil {
			return err
		}
		m.keep(f.box, uid, noteDigest, digest)
	}
	if m.header != nil && plan.missing(notes) {
		m.keep(f.box, uid, noteEnvelope, envelopeBytes(message.ParseEnvelope(m.header)))
		m.keep(f.box, uid, noteFields, commonBytes(m.header))
	}
	return nil
}

// scan reads the whole message once.
func (f *fetcher) scan(m *opened, uid imap.UID, plan *fetchPlan, notes *rowNotes) error {
	s := message.NewScanner(f.s.opt.Limits.MIME)
	var w io.Writer = s
	var digest *message.Digest
	if plan.has(noteDigest) && notes.of(noteDigest) == nil {
		digest = message.NewDigest()
		w = io.MultiWriter(s, digest)
	}
	if _, err := m.WriteRange(w, 0, m.size); err != nil {
		return err
	}
	if digest != nil {
		m.keep(f.box, uid, noteDigest, digest.Sum())
	}
	m.parts = s.Finish()
	m.size = s.Size() // the literal must be as long as what is read
	m.header = nil
	if h := s.Header(); int64(len(h)) == m.parts[0].Header.Len {
		m.header = h
	}
	for kind, b := range deriveAll(s) {
		m.keep(f.box, uid, kind, b)
	}
	if plan.has(noteBody) {
		m.keep(f.box, uid, noteBody, structureBytes(m.parts, false))
	}
	return nil
}

// keep remembers a derived note, and lets the store keep it when it is not too big.
func (m *opened) keep(box store.Mailbox, uid imap.UID, kind store.NoteKind, b []byte) {
	if m.derived == nil {
		m.derived = map[store.NoteKind][]byte{}
	}
	m.derived[kind] = b
	if len(b) <= noteLimit {
		box.Note(uid, kind, b)
	}
}

// collector gathers what is written to it.
type collector []byte

func (c *collector) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}
