package search

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"roost/message"
)

// What SORT and THREAD compare, made of a header once and kept as a note, so that the
// next sort of a mailbox reads some hundred bytes a message and takes nothing apart.
//
//	uvarint  keyReply | keyDated
//	varint   sent, unix seconds (keyDated)
//	7 times  uvarint length, bytes: Subject, From, To, Cc, DisplayFrom, DisplayTo, and
//	         ids of 8 bytes each: that of the message (0 none), then of its references
type keys struct {
	sent    int64 // the sent date (RFC 5256 section 2.2), unix seconds
	dated   bool  // else it is INTERNALDATE
	reply   bool  // the subject was a reply's or a forward's
	strings [6][]byte
	id      msgID
	refs    []byte // ids, oldest first
}

// The strings of keys, as they are compared.
const (
	keySubject = iota
	keyFrom
	keyTo
	keyCc
	keyDisplayFrom
	keyDisplayTo
)

const (
	keyReply = 1 << iota
	keyDated
)

// A msgID stands for a Message-ID: 8 bytes of its SHA-256. 0 is none.
type msgID uint64

// Bounds of what is kept of one message. Names and subjects that are alike for so long
// are taken for equal; of more references the first and the last are kept, as RFC 5537
// section 3.4.4 has it of programs that write them.
const (
	maxKeyBytes = 1000
	maxRefs     = 100
)

// keysOf makes the keys of a header.
func keysOf(header []byte) keys {
	var k keys
	env := message.ParseEnvelope(header)
	if t, ok := message.ParseSentDate([]byte(env.Date.Value)); ok {
		k.sent, k.dated = t.Unix(), true
	}
	var subject string
	subject, k.reply = message.BaseSubject(message.DecodeText([]byte(env.Subject.Value)))
	k.strings[keySubject] = collation(subject)
	for i, list := range [][]message.Address{keyFrom: env.From, keyTo: env.To, keyCc: env.Cc} {
		if len(list) > 0 {
			k.strings[i] = collation(mailboxOf(list[0]))
		}
	}
	for i, list := range [][]message.Address{keyDisplayFrom: env.From, keyDisplayTo: env.To} {
		if len(list) > 0 {
			k.strings[i] = collation(displayOf(list[0]))
		}
	}
	for id := range message.MessageIDs([]byte(env.MessageID.Value)) {
		k.id = hash(id)
		break
	}
	k.refs = references(header)
	if len(k.refs) == 0 {
		for id := range message.MessageIDs([]byte(env.InReplyTo.Value)) {
			k.refs = appendID(nil, hash(id))
			break
		}
	}
	return k
}

// mailboxOf is addr-mailbox, by which FROM, TO and CC sort; of a group it is its name.
func mailboxOf(a message.Address) string {
	if a.Mailbox == message.MissingMailbox {
		return ""
	}
	return a.Mailbox
}

// displayOf is what DISPLAYFROM and DISPLAYTO sort by. RFC 5957 section 3.
func displayOf(a message.Address) string {
	if name := message.DecodeText([]byte(a.Name)); name != "" {
		return name
	}
	if box := mailboxOf(a); a.Kind == message.Single && a.Host != message.MissingDomain && box != "" {
		return box + "@" + a.Host
	} else {
		return box
	}
}

// collation gives the bytes by which text is sorted: folded, and behind all others, as it
// is, where it is no UTF-8 (RFC 5255 section 4.6).
func collation(text string) []byte {
	var b []byte
	if utf8.ValidString(text) {
		b = message.AppendFold(nil, []byte(text[:min(len(text), 2*maxKeyBytes)]))
	} else {
		b = append([]byte{0xFF}, text...)
	}
	return b[:min(len(b), maxKeyBytes)]
}

// references gives the ids of the References fields. RFC 5322 section 3.6.4.
func references(header []byte) []byte {
	var ids []byte
	for f := range message.Fields(header) {
		if !f.Is("References") {
			continue
		}
		for id := range message.MessageIDs(f.Value) {
			if len(ids) == 8*maxRefs { // without the second
				ids = append(ids[:8], ids[16:]...)
			}
			ids = appendID(ids, hash(id))
		}
	}
	return ids
}

func hash(id string) msgID {
	sum := sha256.Sum256([]byte(id))
	return msgID(max(1, binary.LittleEndian.Uint64(sum[:])))
}

func appendID(b []byte, id msgID) []byte { return binary.LittleEndian.AppendUint64(b, uint64(id)) }

// ids yields the ids in b.
func ids(b []byte) func(func(msgID) bool) {
	return func(yield func(msgID) bool) {
		for ; len(b) >= 8; b = b[8:] {
			if !yield(msgID(binary.LittleEndian.Uint64(b))) {
				return
			}
		}
	}
}

// appendKeys appends the form that is kept.
func appendKeys(b []byte, k keys) []byte {
	var flags uint64
	if k.reply {
		flags |= keyReply
	}
	if k.dated {
		flags |= keyDated
	}
	b = binary.AppendUvarint(b, flags)
	if k.dated {
		b = binary.AppendVarint(b, k.sent)
	}
	for _, s := range k.strings {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(8+len(k.refs)))
	b = appendID(b, k.id)
	return append(b, k.refs...)
}

// errKeys is returned for bytes that appendKeys does not write.
var errKeys = errors.New("search: broken sort keys")

// decodeKeys reads what appendKeys wrote; the strings are parts of b.
func decodeKeys(b []byte) (k keys, err error) {
	flags, n := binary.Uvarint(b)
	if n <= 0 || flags > keyReply|keyDated {
		return k, errKeys
	}
	b = b[n:]
	k.reply, k.dated = flags&keyReply != 0, flags&keyDated != 0
	if k.dated {
		if k.sent, n = binary.Varint(b); n <= 0 {
			return k, errKeys
		}
		b = b[n:]
	}
	take := func() (s []byte) {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			err = errKeys
			return nil
		}
		s, b = b[n:n+int(size)], b[n+int(size):]
		return s
	}
	for i := range k.strings {
		k.strings[i] = take()
	}
	all := take()
	if err != nil || len(all) < 8 || len(all)%8 != 0 || len(b) > 0 {
		return keys{}, errKeys
	}
	k.id = msgID(binary.LittleEndian.Uint64(all))
	k.refs = all[8:]
	return k, nil
}
