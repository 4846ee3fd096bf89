package session

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// replace appends a message and expunges another one in one step, all or none. RFC 8508.
// The new one has the flags that it is given, none of the old one's; the mailbox may be
// another. What can be refused is refused before the client is asked for the message.
func (s *session) replace(ctx context.Context, c call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	old, err := s.oneMessage(c)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	to, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	meta, err := s.appendMeta()
	if err != nil {
		return "", err
	}
	lit, utf8, err := s.appendLiteral()
	if err != nil {
		return "", err
	}
	switch {
	case s.sel.readOnly:
		return "", store.ErrReadOnly
	case old == 0:
		return "", no("", "There is no such message to be replaced")
	}
	batch, err := s.acct.Batch(ctx, to.name)
	if err != nil {
		return "", toTarget(err)
	}
	defer batch.Close()
	if err := batch.Replace(s.sel.box, old); err != nil {
		return "", err
	}
	if err := s.take(ctx, batch, meta, lit, utf8); err != nil {
		return "", toTarget(err)
	}
	if err := s.end(); err != nil {
		return "", err
	}
	code, err := s.commit(ctx, batch, to)
	if err != nil {
		return "", err
	}
	s.expunged = true
	s.did(Deed{What: "replace", Mailbox: s.sel.name, To: to.name, UIDs: []imap.UID{old}})
	// In front of the EXPUNGE, which follows when the command ends: RFC 8508 section 4.3.
	s.enc.Raw("* OK [").Raw(code).Raw("] Replacement is saved\r\n")
	return "", nil
}

// oneMessage reads the number of one message, or "*", and gives its UID: 0 where no
// message has that UID.
func (s *session) oneMessage(c call) (imap.UID, error) {
	var n uint32 // 0: the last one
	if !s.lex.Accept('*') {
		var err error
		if n, err = s.lex.NZNumber(); err != nil {
			return 0, err
		}
	}
	var set imap.NumSet = imap.SeqSet{{Start: n, Stop: n}}
	if c.uid {
		set = imap.UIDSet{{Start: imap.UID(n), Stop: imap.UID(n)}}
	}
	uids, err := s.sel.resolve(set)
	if err != nil || len(uids) == 0 {
		return 0, err
	}
	return uids[0], nil
}
