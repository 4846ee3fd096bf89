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
	noteFields    store.NoteKind = 5<<8 | 1 // the header fields of commonFields, as they were written
	noteKeys      store.NoteKind = 6<<8 | 1 // what SORT and THREAD compare; only once a client asked for it
	notePreview   store.NoteKind = 7<<8 | 1 // PREVIEW, likewise (previewNote)
	noteDigest    store.NoteKind = 8<<8 | 1 // message.Digest, of which EMAILID is made
)

// rowNotes are the notes of one message.
type rowNotes [9][]byte

// of is the note of this kind, nil where there is none.
func (n *rowNotes) of(kind store.NoteKind) []byte { return n[kind>>8] }

// noteLimit is the size above which nothing is kept: what is that big is rare,
// and made again at the price of reading the message.
const noteLimit = 16 << 10

// commonFields are those that clients ask for by HEADER.FIELDS to draw a list of
// messages, in capitals. The long ones that no list shows (Received, DKIM, ARC)
// would make the notes five times as big.
var commonFields = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`
		Date From Sender Reply-To To Cc Bcc Subject Message-ID In-Reply-To References
		MIME-Version Content-Type Content-Transfer-Encoding Content-Disposition Content-Language
		Resent-Date Resent-From Resent-Sender Resent-To Resent-Cc Resent-Bcc Resent-Message-ID
		List-ID List-Post List-Unsubscribe List-Unsubscribe-Post List-Archive List-Help List-Subscribe List-Owner
		Mail-Followup-To Mail-Reply-To Newsgroups Followup-To Disposition-Notification-To Return-Receipt-To
		Delivered-To X-Original-To Envelope-To Return-Path Lines Status X-Status X-Label X-Keywords Keywords Comments
		Priority X-Priority X-MSMail-Priority Importance Precedence Auto-Submitted Organization User-Agent X-Mailer
		X-Spam-Flag X-Spam-Level X-Spam-Status X-Mozilla-Draft-Info X-Evolution-Source Chat-Version
		X-UID X-Confirm-Reading-To X-Attachment-Id X-Draft-Info X-Uniform-Type-Identifier X-Universally-Unique-Identifier`) {
		m[strings.ToUpper(name)] = true
	}
	return m
}()

// newDeriver gives a writer through which a message passes while it is stored,
// and what makes its notes once it has passed.
func newDeriver(l message.Limits) (io.Writer, func() map[store.NoteKind][]byte) {
	s, digest := message.NewScanner(l), message.NewDigest()
	return io.MultiWriter(s, digest), func() map[store.NoteKind][]byte {
		notes := map[store.NoteKind][]byte{noteDigest: digest.Sum()}
		for kind, b := range deriveAll(s) {
			if len(b) <= noteLimit {
				notes[kind] = b
			}
		}
		return notes
	}
}

// deriveAll makes every note but noteBody and noteDigest of what was scanned.
func deriveAll(s *message.Scanner) map[store.NoteKind][]byte {
	parts := s.Finish()
	notes := map[store.NoteKind][]byte{
		noteParts:     message.AppendParts(nil, parts),
		noteEnvelope:  envelopeBytes(parts[0].Info.Envelope),
		noteStructure: structureBytes(parts, true),
	}
	if h := s.Header(); int64(len(h)) == parts[0].Header.Len {
		notes[noteFields] = commonBytes(h)
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

// commonBytes is a header of the common fields of header.
func commonBytes(header []byte) []byte {
	out := []byte{}
	for f := range message.Fields(header) {
		if commonFields[strings.ToUpper(string(f.Name))] {
			out = append(out, f.Raw...)
		}
	}
	return out
}

// allCommon tells whether noteFields can answer for these names.
func allCommon(names []string) bool {
	for _, n := range names {
		if !commonFields[strings.ToUpper(n)] {
			return false
		}
	}
	return true
}
