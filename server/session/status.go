package session

import (
	"context"

	"roost/store"
)

// statusItems are what STATUS can be asked for, each once.
type statusItems struct {
	order []string
	exact bool // SIZE: files may have to be read

	modSeq bool // HIGHESTMODSEQ, which turns CONDSTORE on
}

// statusOf counts a mailbox without selecting it. RFC 9051 section 6.3.11,
// RFC 8438, RFC 7889 section 5, RFC 8474 section 4.3. Many clients send it for the
// selected mailbox.
func (s *session) statusOf(ctx context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	n, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	items, err := s.statusItems()
	if err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	progress := s.waiting()
	st, err := s.acct.Status(ctx, n.name, items.exact)
	progress.stop()
	if err != nil {
		return "", err
	}
	if items.modSeq {
		s.condstoreOn()
	}
	s.writeStatus(n.name, n.asked, items, st)
	return "", nil
}

// statusItems reads "(MESSAGES UNSEEN ...)".
func (s *session) statusItems() (items statusItems, err error) {
	seen := map[string]bool{}
	err = s.lex.List(func() error {
		word, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		switch word {
		case "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "APPENDLIMIT", "MAILBOXID":
		case "SIZE":
			items.exact = true
		case "HIGHESTMODSEQ": // RFC 7162 section 3.1.7
			items.modSeq = true
		default:
			return bad("STATUS has no item %s", shown(word))
		}
		if !seen[word] {
			seen[word] = true
			items.order = append(items.order, word)
		}
		return nil
	})
	return items, err
}

// writeStatus answers for the mailbox name, which is called told.
func (s *session) writeStatus(name, told store.Name, items statusItems, st store.Status) {
	s.enc.Raw("* STATUS ").Mailbox(string(told)).Raw(" (")
	for i, word := range items.order {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.Raw(word).SP()
		var n uint64
		switch word {
		case "MESSAGES":
			n = uint64(st.Messages)
		case "RECENT":
			n = uint64(st.Recent)
			if s.sel != nil && s.sel.name == name {
				n = uint64(len(s.sel.recent)) // claimed by this session, so recent to nobody else
			}
		case "UIDNEXT":
			n = uint64(st.UIDNext)
		case "UIDVALIDITY":
			n = uint64(st.UIDValidity)
		case "UNSEEN":
			n = uint64(st.Unseen)
		case "DELETED":
			n = uint64(st.Deleted)
		case "SIZE":
			n = uint64(st.Size)
		case "HIGHESTMODSEQ":
			n = uint64(st.HighestModSeq)
		case "APPENDLIMIT":
			n = uint64(s.appendLimit())
		case "MAILBOXID": // RFC 8474 section 4.3
			s.enc.Raw("(").Raw(st.ID).Raw(")")
			continue
		}
		s.enc.Number(n)
	}
	s.enc.Raw(")\r\n")
}
