package session

import (
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// uses are the special uses that CREATE takes (RFC 6154 section 2, RFC 8457 section 3):
// not \All and \Flagged, which are views of other mailboxes.
var uses = []imap.MailboxAttr{
	imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrImportant,
	imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// create makes a mailbox. RFC 9051 section 6.3.4; with USE, RFC 6154 section 3; it tells the
// MAILBOXID, RFC 8474 section 4.1.
func (s *session) create(ctx context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	n, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	var use []imap.MailboxAttr
	if s.lex.Accept(' ') && !s.lex.AtEnd() {
		if use, err = s.createOptions(); err != nil {
			return "", err
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	kept, err := canonicalUses(use)
	if err != nil {
		return "", err
	}
	n = n.withoutEnd(s.sep)
	if err := checkNew(n.name); err != nil {
		return "", err
	}
	if err := s.acct.Create(ctx, n.name, kept); err != nil {
		return "", err
	}
	s.didOwn(ownChange{n.name, store.InterestNames, true})
	s.writeOldName(n)
	if code := s.createdCode(ctx, n.name); code != "" {
		return okCode(code, "Mailbox created"), nil
	}
	return "", nil
}

// canonicalUses gives special uses each once and as the RFCs spell them, or refuses one.
func canonicalUses(use []imap.MailboxAttr) (kept []imap.MailboxAttr, err error) {
	for _, u := range use {
		k := slices.IndexFunc(uses, func(k imap.MailboxAttr) bool { return strings.EqualFold(string(u), string(k)) })
		if k < 0 {
			return nil, no("USEATTR", "Special use %s is not supported", shown(string(u)))
		}
		if !slices.Contains(kept, uses[k]) {
			kept = append(kept, uses[k])
		}
	}
	return kept, nil
}

// createOptions reads "(USE (\Sent ...))".
func (s *session) createOptions() (use []imap.MailboxAttr, err error) {
	err = s.lex.List(func() error {
		word, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		if word != "USE" {
			return bad("CREATE has no parameter %s", shown(word))
		}
		if err := s.lex.SP(); err != nil {
			return err
		}
		flags, err := s.lex.FlagList()
		for _, f := range flags {
			use = append(use, imap.MailboxAttr(f))
		}
		return err
	})
	return use, err
}
