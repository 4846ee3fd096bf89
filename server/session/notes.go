package session

import (
	"bytes"
	"io"
	"strings"

	"roost/message"
	"roost/server/wire"
	"roost/store"
)

// What the session keeps with a message in the store, so that the next FETCH
// costs a copy: the kind in the high byte, in the low one the version of its form.
// A form that changes gets a new version; the old notes are then not asked for any
// more, and no one has to be told.
const (
	noteParts     store.NoteKind = 1<<8 | 1 // message.AppendParts
	noteEnvelope  store.NoteKind = 2<<8 | 1 // ENVELOPE as it goes to the client
	noteStructure store.NoteKind = 3<<8 | 1 // BODYSTRUCTURE, likewise
	noteBody      store.NoteKind = 4<<8 | 1 // BODY, likewise; only once a client asked for it
	noteFields    store.NoteKind = 5<<8 | 2 // the header without the bulkyFields, as it was written
	noteKeys      store.NoteKind = 6<<8 | 1 // what SORT and THREAD compare; only once a client asked for it
	notePreview   store.NoteKind = 7<<8 | 1 // PREVIEW, likewise (previewNote)
	noteDigest    store.NoteKind = 8<<8 | 1 // message.Digest, of which EMAILID is made
)

// noteKinds are all of them, by their high byte.
var noteKinds = [9]store.NoteKind{
	0, noteParts, noteEnvelope, noteStructure, noteBody, noteFields, noteKeys, notePreview, noteDigest,
}

// rowNotes are the notes of one message, by the high byte of their kind; nil is none.
type rowNotes [len(noteKinds)][]byte

// of is the note of this kind, nil where there is none.
func (n *rowNotes) of(kind store.NoteKind) []byte { return n[kind>>8] }

func (n *rowNotes) set(kind store.NoteKind, b []byte) { n[kind>>8] = b }

// noteLimit is the size above which nothing is kept: what is that big is rare,
// and made again at the price of reading the message.
const noteLimit = 16 << 10

// bulkyFields are those that transport leaves behind for machines: three quarters of most
// headers. Who asks for one of them gets it from the message; every other field that a
// client can think of is kept, for webmails, phones and filters each have their own list.
var bulkyFields = message.NewFieldNames(strings.Fields(`
	Received X-Received Received-SPF Authentication-Results X-Original-Authentication-Results
	DKIM-Signature DomainKey-Signature X-Google-DKIM-Signature ARC-Seal ARC-Message-Signature ARC-Authentication-Results
	X-Spam-Report X-Spam-Details X-Face Face Autocrypt X-Gm-Message-State X-Google-Smtp-Source
	X-Microsoft-Antispam X-Microsoft-Antispam-Message-Info X-Microsoft-Antispam-Mailbox-Delivery
	X-Forefront-Antispam-Report X-Forefront-Antispam-Report-Untrusted X-MS-Exchange-AntiSpam-MessageData
	X-MS-Exchange-AntiSpam-MessageData-0 X-MS-Exchange-AntiSpam-MessageData-ChunkCount X-Exchange-Antispam-Report-Test`)...)

// newDeriver gives a writer through which a message passes while it is stored,
// and what makes its notes once it has passed.
func newDeriver(l message.Limits) (io.Writer, func() map[store.NoteKind][]byte) {
	s, digest := message.NewScanner(l), message.NewDigest()
	return io.MultiWriter(s, digest), func() map[store.NoteKind][]byte {
		notes := map[store.NoteKind][]byte{noteDigest: digest.Sum()}
		for i, b := range deriveAll(s) {
			if b != nil && len(b) <= noteLimit {
				notes[noteKinds[i]] = b
			}
		}
		return notes
	}
}

// deriveAll makes every note of what was scanned that is not made only when it is asked for.
func deriveAll(s *message.Scanner) (notes rowNotes) {
	parts := s.Finish()
	notes.set(noteParts, message.AppendParts(nil, parts))
	notes.set(noteEnvelope, envelopeBytes(parts[0].Info.Envelope))
	notes.set(noteStructure, structureBytes(parts, true))
	if h := s.Header(); int64(len(h)) == parts[0].Header.Len {
		notes.set(noteFields, slimHeader(h))
	}
	return notes
}

func envelopeBytes(e *message.Envelope) []byte {
	return encoded(func(enc *wire.Encoder) { writeEnvelope(enc, e) })
}

func structureBytes(parts []message.Part, extended bool) []byte {
	return encoded(func(enc *wire.Encoder) { writeStructure(enc, parts, extended) })
}

func encoded(write func(enc *wire.Encoder)) []byte {
	var b bytes.Buffer
	enc := wire.NewEncoder(&b)
	write(enc)
	enc.Flush() // a buffer takes all
	return b.Bytes()
}

// slimHeader is header without its bulkyFields.
func slimHeader(header []byte) []byte {
	out := make([]byte, 0, min(len(header), 1<<10))
	for f := range message.Fields(header) {
		if f.Name != nil && !bulkyFields.Has(f.Name) {
			out = append(out, f.Raw...)
		}
	}
	return out
}

// keptHeader is slimHeader, or nil where that is too much to keep.
func keptHeader(header []byte) []byte {
	if b := slimHeader(header); len(b) <= noteLimit {
		return b
	}
	return nil
}

// allKept tells whether noteFields can answer for these names.
func allKept(names []string) bool {
	for _, n := range names {
		if bulkyFields.Has([]byte(n)) {
			return false
		}
	}
	return true
}
