package session

import (
	"context"
	"strings"

	"roost/store"
)

// rename gives a mailbox and its children another name; of INBOX it moves the
// messages. RFC 9051 section 6.3.6.
func (s *session) rename(ctx context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	old, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	n, err := s.onlyMailbox(ctx)
	if err != nil {
		return "", err
	}
	n = n.withoutEnd(s.sep)
	if err := checkNew(n.name); err != nil {
		return "", err
	}
	from, to := old.name, n.name
	progress := s.waiting()
	err = s.acct.Rename(ctx, from, to)
	progress.stop()
	if err != nil {
		return "", err
	}
	s.did(Deed{What: "rename_mailbox", Mailbox: from, To: to})
	s.didOwn(ownChange{from, store.InterestNames, false}, ownChange{to, store.InterestNames, true})
	if old.given != old.told || n.given != n.told {
		s.writeOldName(spelled{given: old.given, name: to, told: n.told})
	}
	if from != store.Inbox {
		s.renamed(from, to)
	}
	return "", nil
}

// renamed follows the selected mailbox to its new name.
func (s *session) renamed(from, to store.Name) {
	if s.sel == nil {
		return
	}
	if s.sel.name == from {
		s.sel.name = to
	} else if rest, ok := strings.CutPrefix(string(s.sel.name), string(from)+string(s.sep)); ok {
		s.sel.name = to + store.Name(s.sep) + store.Name(rest)
	}
}
