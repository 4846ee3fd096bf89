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

// spelled is a mailbox name as a client gave it, and as it is known.
type spelled struct{ given, name store.Name }

// withoutEnd drops a separator at the end, which says of a new name that children will
// come (RFC 9051 section 6.3.4).
func (n spelled) withoutEnd(sep byte) spelled {
	n.given = store.Name(strings.TrimSuffix(string(n.given), string(sep)))
	n.name = store.Name(strings.TrimSuffix(string(n.name), string(sep)))
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
	given := s.prefixed(store.Name(decoded).Canonical(s.sep))
	return spelled{given, s.normal(ctx, given)}, nil
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
	if !s.rev2 || n.given == n.name {
		return
	}
	s.writeListed("LIST", attrs, n.name)
	s.writeOldNameItem(n)
	s.enc.CRLF()
}

func (s *session) writeOldNameItem(n spelled) {
	if n.given != n.name {
		s.enc.Raw(` ("OLDNAME" (`).Mailbox(string(n.given)).Raw("))")
	}
}
