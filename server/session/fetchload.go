package session

import (
	"context"
	"errors"
	"io"

	"roost/message"
	"roost/server/search"
	"roost/store"
)

// opened is one message of a FETCH, with as much of it in memory as the items
// need: never its body.
type opened struct {
	store.Message
	size int64 // -1: no item needed it

	header []byte         // its header; nil when no item needs it, or it is too long
	parts  []message.Part // nil when no item needs them

	derived rowNotes // made now, because the store had no note

	head *[headBytes]byte // in which header may lie
}

func (m *opened) readHeader() ([]byte, error) {
	m.head = headPool.Get().(*[headBytes]byte)
	return readHeader(m, m.head)
}

// Close gives the message back, and what lies in it.
func (m *opened) Close() error {
	if m.head != nil {
		headPool.Put(m.head)
		m.head, m.header = nil, nil
	}
	return m.Message.Close()
}

// load opens a message and makes ready what the plan needs and the notes do not
// have. Several goroutines may be at it.
func (f *fetcher) load(ctx context.Context, row store.Row, notes *rowNotes) (*opened, error) {
	msg, err := f.box.Message(ctx, row.UID)
	if err != nil {
		return nil, err
	}
	m := &opened{Message: msg, size: -1}
	whole := false
	defer func() {
		if !whole { // by a panic perhaps
			m.Close()
		}
	}()
	if err := f.fill(ctx, m, row, notes); err != nil {
		return nil, err
	}
	if f.plan.preview && notes.of(notePreview) == nil {
		if err := m.makePreview(); err != nil {
			return nil, err
		}
	}
	whole = true
	return m, nil
}

func (f *fetcher) fill(ctx context.Context, m *opened, row store.Row, notes *rowNotes) (err error) {
	plan := f.plan
	digests := plan.has(noteDigest) && notes.of(noteDigest) == nil
	parts := plan.parts || plan.preview && notes.of(notePreview) == nil
	scan := false
	for _, kind := range []store.NoteKind{noteStructure, noteBody} {
		scan = scan || plan.has(kind) && notes.of(kind) == nil
	}
	if plan.sized || parts || digests || plan.size && row.Size < 0 {
		if m.size, err = m.Size(); err != nil {
			return err
		}
	}
	if parts {
		m.parts, err = message.DecodeParts(notes.of(noteParts))
		// A note that does not fit the message is none.
		scan = scan || err != nil || m.parts[0].Body.End() != m.size
	}
	if !scan && plan.header(notes) {
		switch m.header, err = m.readHeader(); {
		case errors.Is(err, errHeaderLong):
			scan = true
		case err != nil:
			return err
		}
	}
	if scan {
		return f.scan(m, plan, notes)
	}
	if digests {
		digest, err := search.Digested(ctx, m)
		if err != nil {
			return err
		}
		m.derived.set(noteDigest, digest)
	}
	if m.header != nil && plan.missing(notes) {
		m.derived.set(noteEnvelope, envelopeBytes(message.ParseEnvelope(m.header)))
		m.derived.set(noteFields, slimHeader(m.header))
	}
	return nil
}

// scan reads the whole message once.
func (f *fetcher) scan(m *opened, plan *fetchPlan, notes *rowNotes) (err error) {
	s := message.NewScanner(f.s.opt.Limits.MIME)
	var digest *message.Digest
	if plan.has(noteDigest) && notes.of(noteDigest) == nil {
		digest = message.NewDigest()
		_, err = m.WriteRange(io.MultiWriter(s, digest), 0, m.size)
	} else {
		err = m.Stream(s)
	}
	if err != nil {
		return err
	}
	m.derived = deriveAll(s)
	if digest != nil {
		m.derived.set(noteDigest, digest.Sum())
	}
	m.parts = s.Finish()
	m.size = s.Size() // the literal must be as long as what is read
	m.header = nil
	if h := s.Header(); int64(len(h)) == m.parts[0].Header.Len {
		m.header = h
	}
	if plan.has(noteBody) {
		m.derived.set(noteBody, structureBytes(m.parts, false))
	}
	return nil
}

// collector gathers what is written to it.
type collector []byte

func (c *collector) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}
