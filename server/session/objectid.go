package session

import (
	"context"
	"encoding/hex"
	"strings"

	"roost/message"
	"roost/server/search"
	"roost/server/wire"
	"roost/store"
)

// OBJECTID: RFC 8474. A mailbox is known by its MAILBOXID, which the store has, a
// message's content by its EMAILID, which is made of its bytes alone: so copies have the
// same one in each mailbox, and one that is no longer kept is found again. THREADID is NIL
// (RFC 8474 section 5.2): it could never change again, and which messages belong together is
// only known when all of them came.

// emailID is the EMAILID of the message with this digest: hex digits, which cannot spell
// NIL and differ by more than their case (RFC 8474 section 8.1).
func emailID(digest []byte) string { return "M" + hex.EncodeToString(digest) }

// emailDigest gives the digest of an EMAILID; false for an id that is none of ours.
func emailDigest(id string) ([]byte, bool) {
	digits, ok := strings.CutPrefix(id, "M")
	digest, err := hex.DecodeString(digits)
	if !ok || err != nil || len(digest) != message.DigestLen || emailID(digest) != id {
		return nil, false // an id has one spelling: RFC 8474 section 7
	}
	return digest, true
}

// objectID reads an objectid. RFC 8474 section 7.
func objectID(lex *wire.Lexer) (string, error) {
	id, err := lex.Atom()
	if err != nil {
		return "", err
	}
	strange := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-')
	}
	if len(id) > 255 || strings.ContainsFunc(id, strange) {
		return "", bad("%s is no object identifier", shown(id))
	}
	return id, nil
}

// objectKey adds the search key EMAILID or THREADID. RFC 8474 section 6.
func (p *searchParser) objectKey(word string) error {
	id, err := objectID(p.s.lex)
	if err != nil {
		return err
	}
	digest, ok := emailDigest(id)
	if word == "THREADID" || !ok {
		return p.add(search.Key{Op: search.UIDs}) // none
	}
	return p.add(search.Key{Op: search.Digest, Text: string(digest)})
}

// mailboxID is the response code that tells a MAILBOXID, and its form in STATUS.
func mailboxID(id string) string { return "MAILBOXID (" + id + ")" }

// createdCode is the response code of CREATE (RFC 8474 section 4.1), "" where the mailbox was
// made and cannot be opened: that was not asked for.
func (s *session) createdCode(ctx context.Context, n store.Name) string {
	st, err := s.acct.Status(ctx, n, true) // the id is to outlive a crash
	if err != nil {
		s.log.Warn("a new mailbox cannot be opened", "event", "mailbox_failed", "mailbox", n, "err", err)
		return ""
	}
	return mailboxID(st.ID)
}
