package session

import (
	"strings"

	"roost/server/wire"
	"roost/store"
)

// mailbox reads a mailbox name: an astring, in UTF-8 for those who enabled it, in
// modified UTF-7 else (RFC 9051 section 5.1, RFC 3501 section 5.1.3).
func (s *session) mailbox() (store.Name, error) {
	at := s.lex.Offset()
	raw, err := s.lex.AString()
	if err != nil {
		return "", err
	}
	return s.nameOf(raw, at)
}

func (s *session) nameOf(raw string, at int64) (store.Name, error) {
	name, err := s.decodeName(raw, at)
	if err != nil {
		return "", err
	}
	return s.prefixed(store.Name(name).Canonical(s.sep)), nil
}

func (s *session) decodeName(raw string, at int64) (string, error) {
	if s.utf8 {
		return raw, nil // the lexer took only UTF-8 in quotes; a literal is checked by the store
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

// onlyMailbox reads the one argument of a command.
func (s *session) onlyMailbox() (store.Name, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	name, err := s.mailbox()
	if err != nil {
		return "", err
	}
	return name, s.end()
}
