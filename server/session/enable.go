package session

import (
	"context"
	"slices"
	"strings"
)

// enable switches extensions on, for good. What it does not know it passes over.
// RFC 9051 section 6.3.1, RFC 5161, RFC 6855 section 3, RFC 7162 section 3.2.3. It does not look whether a
// mailbox is selected, which RFC 5161 section 3.1 leaves to servers.
func (s *session) enable(_ context.Context, _ call) (string, error) {
	var on []string
	rev2, utf8 := s.rev2, s.utf8
	condstore, qresync, metadata, uidOnly := false, false, false, false
	for first := true; first || !s.lex.AtEnd(); first = false {
		if err := s.lex.SP(); err != nil {
			return "", err
		}
		if !first && s.lex.AtEnd() {
			break
		}
		name, err := s.lex.Keyword()
		if err != nil {
			return "", err
		}
		if s.hiding.hides(name) {
			continue
		}
		switch name {
		case "IMAP4REV2":
			name, rev2, utf8 = "IMAP4rev2", true, true
		case "UTF8=ACCEPT":
			utf8 = true
		case "CONDSTORE":
			condstore = true
		case "UIDONLY": // RFC 9586
			uidOnly = true
		case "QRESYNC": // RFC 7162 section 3.2.3
			condstore, qresync = true, true
		case "METADATA": // RFC 5464 section 4.1
			metadata = true
		default:
			continue
		}
		if !slices.Contains(on, name) {
			on = append(on, name)
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	s.rev2, s.utf8, s.enc.UTF8 = rev2, utf8, utf8
	s.qresync = s.qresync || qresync
	if uidOnly {
		s.forgetNumbers()
	}
	s.enc.Line(strings.TrimSpace("ENABLED " + strings.Join(on, " ")))
	if metadata {
		s.metadataOn()
	}
	if condstore {
		s.condstoreOn()
	}
	return "", nil
}
