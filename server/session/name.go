package session

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"roost/server/wire"
	"roost/store"
)

// spelled is a mailbox name as a client gave it, as it is known, and as it is told:
//
//	mail.prefix   mail.accept_prefix   given              known as     told as
//	"INBOX."                           INBOX.Sent, Sent   INBOX.Sent   INBOX.Sent
//	""            "INBOX."             INBOX.Sent, Sent   Sent         Sent
//	""            "INBOX."             INBOX.INBOX.x      INBOX.x      INBOX.INBOX.x
//
// STATUS answers under the name given, as a client looks for what it asked; but in the
// form of Unicode in which it is told elsewhere: that is asked.
type spelled struct{ given, name, told, asked store.Name }

// withoutEnd drops a separator at the end, which says of a new name that children will
// come (RFC 9051 section 6.3.4).
func (n spelled) withoutEnd(sep byte) spelled {
	n.given = store.Name(strings.TrimSuffix(string(n.given), string(sep)))
	n.name = store.Name(strings.TrimSuffix(string(n.name), string(sep)))
	n.told = store.Name(strings.TrimSuffix(string(n.told), string(sep)))
	n.asked = store.Name(strings.TrimSuffix(string(n.asked), string(sep)))
	return n
}

// mailbox reads a mailbox name: an astring, in UTF-8 for those who enabled it, in
// modified UTF-7 else (RFC 9051 section 5.1, RFC 3501 section 5.1.3).
func (s *session) mailbox(ctx context.Context) (spelled, error) {
	at := s.lex.Offset()
	raw, err := s.lex.AString()
	if err != nil {
		return spelled{}, err
	}
	decoded, err := s.decodeName(raw, at)
	if err != nil {
		return spelled{}, err
	}
	return s.spell(ctx, store.Name(decoded).Canonical(s.sep)), nil
}

// spell finds the mailbox that a client means.
func (s *session) spell(ctx context.Context, given store.Name) spelled {
	name, old := s.withoutOldPrefix(string(given))
	if !old {
		name = s.prefixed(given)
	}
	n := spelled{given: given, name: s.normal(ctx, name), asked: given}
	if n.told = s.told(n.name); n.name != name {
		n.asked = n.told
	}
	return n
}

// withoutOldPrefix puts the prefix of the user's mailboxes in place of the one that
// clients may still have from another server.
func (s *session) withoutOldPrefix(given string) (store.Name, bool) {
	old := s.oldPrefix()
	if old == "" || len(given) <= len(old) || given[:len(old)] != old && !(isInbox(old) && strings.EqualFold(given[:len(old)], old)) {
		return "", false
	}
	return store.Name(s.login.Who.Roots[0].Prefix + given[len(old):]).Canonical(s.sep), true
}

func (s *session) oldPrefix() string {
	if roots := s.login.Who.Roots; len(roots) > 0 && roots[0].OldPrefix != roots[0].Prefix {
		return roots[0].OldPrefix
	}
	return ""
}

// isInbox tells whether the first level of a prefix is INBOX, whose case is nothing.
func isInbox(prefix string) bool {
	return len(prefix) > len(store.Inbox) && strings.EqualFold(prefix[:len(store.Inbox)], string(store.Inbox))
}

// withOldPrefix is the name that a mailbox had on the other server; none for INBOX, which
// had no prefix.
func (s *session) withOldPrefix(name store.Name) store.Name {
	if name == store.Inbox {
		return ""
	}
	return store.Name(s.oldPrefix() + strings.TrimPrefix(string(name), s.login.Who.Roots[0].Prefix))
}

// told is how a client is told of a mailbox: a name that begins as those of the other
// server did gets that prefix once more, or it would mean another mailbox.
func (s *session) told(name store.Name) store.Name {
	if _, old := s.withoutOldPrefix(string(name)); old {
		return s.withOldPrefix(name)
	}
	return name
}

// onlyMailbox reads the one argument of a command, or the last.
func (s *session) onlyMailbox(ctx context.Context) (spelled, error) {
	if err := s.lex.SP(); err != nil {
		return spelled{}, err
	}
	n, err := s.mailbox(ctx)
	if err != nil {
		return spelled{}, err
	}
	return n, s.end()
}

func (s *session) decodeName(raw string, at int64) (string, error) {
	if s.utf8 {
		if !utf8.ValidString(raw) { // in a literal: the lexer looks at what is quoted
			return "", bad("Mailbox name at byte %d is not valid UTF-8", at)
		}
		return raw, nil
	}
	name, err := wire.DecodeMailbox(raw)
	if err != nil {
		return "", bad("Mailbox name at byte %d is not valid modified UTF-7", at)
	}
	return name, nil
}

// prefixed puts the personal namespace before a name that lacks it, where that is
// Courier's "INBOX.": Outlook and others know no namespaces and ask for "Sent".
func (s *session) prefixed(name store.Name) store.Name {
	roots := s.login.Who.Roots
	if len(roots) == 0 || !strings.EqualFold(roots[0].Prefix, "INBOX"+string(s.sep)) || name == store.Inbox || name == "" {
		return name
	}
	for _, r := range roots {
		if r.Prefix != "" && strings.HasPrefix(string(name), r.Prefix) {
			return name
		}
	}
	return store.Name(roots[0].Prefix) + name
}

// normal is the name in Unicode's form C, in which alone names are made: two names that
// look alike are one, whatever the client's keyboard sends (RFC 9051 section 5.1).
// Levels that other programs made in another form keep it.
func (s *session) normal(ctx context.Context, name store.Name) store.Name {
	if norm.NFC.IsNormalString(string(name)) {
		return name
	}
	kept := name
	for !s.known(ctx, kept) {
		parent, ok := kept.Parent(s.sep)
		if !ok {
			kept = ""
			break
		}
		kept = parent
	}
	return kept + store.Name(norm.NFC.String(string(name[len(kept):])))
}

// known tells whether there is such a mailbox, level or subscription.
func (s *session) known(ctx context.Context, name store.Name) bool {
	for _, subscribed := range []bool{false, true} {
		for e, err := range s.acct.List(ctx, store.ListQuery{Patterns: []string{string(name)}, Subscribed: subscribed}) {
			if err == nil && e.Name == name { // a name may hold wildcards
				return true
			}
		}
	}
	return false
}

// checkNew refuses names that Net-Unicode does not have. RFC 6855 section 3.
func checkNew(name store.Name) error {
	if strings.ContainsFunc(string(name), func(r rune) bool {
		return r < ' ' || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029'
	}) {
		return no("CANNOT", "Mailbox name has a control character")
	}
	return nil
}

// writeOldName tells clients of IMAP4rev2 the name under which a mailbox is known
// that they named in another form. RFC 9051 section 6.3.9.7.
func (s *session) writeOldName(n spelled, attrs ...imap.MailboxAttr) {
	if !s.rev2 || n.given == n.told {
		return
	}
	s.writeListed("LIST", attrs, n.told)
	s.writeOldNameItem(n)
	s.enc.CRLF()
}

func (s *session) writeOldNameItem(n spelled) {
	if n.given != n.told {
		s.enc.Raw(` ("OLDNAME" (`).Mailbox(string(n.given)).Raw("))")
	}
}
