package session

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// selectMailbox opens a mailbox. RFC 9051 section 6.3.2, RFC 3501 section 6.3.1.
func (s *session) selectMailbox(ctx context.Context, _ call) (string, error) {
	return s.open(ctx, false)
}

// examine is SELECT without the right to change anything. RFC 9051 section 6.3.3.
func (s *session) examine(ctx context.Context, _ call) (string, error) {
	return s.open(ctx, true)
}

func (s *session) open(ctx context.Context, readOnly bool) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	n, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	params, err := s.selectParams()
	if err != nil {
		return "", err
	}
	// Whatever comes of it, the mailbox that was selected is selected no more
	// (RFC 9051 section 6.3.2).
	if err := s.deselect(); err != nil {
		s.log.Warn("mailbox does not close", "event", "mailbox_failed", "err", err)
	}
	progress := s.waiting()
	box, err := s.acct.Hold(ctx, n.name, !readOnly, s.wake)
	progress.stop()
	if err != nil {
		return "", err
	}
	view, d, err := box.Advance(store.View{}, true)
	if err != nil {
		box.Close()
		return "", err
	}
	info := box.Info()
	sel := &selected{name: n.name, box: box, readOnly: readOnly || info.ReadOnly, view: view, recent: d.Recent, noModSeq: info.NoModSeq}
	s.sel = sel
	s.condstore = s.condstore || params.condstore || params.resync != nil // told below in any case

	s.writeFlagsLines(info)
	s.enc.Untagged(uint32(view.UIDs.Len())).Raw("EXISTS\r\n")
	s.writeRecent()
	if !s.rev2 && !s.uidOnly {
		if unseen := sel.seq(box.FirstUnseen()); unseen > 0 {
			s.enc.Raw("* OK [UNSEEN ").Number(uint64(unseen)).Raw("] First unseen message\r\n")
		}
	}
	s.enc.Raw("* OK [UIDVALIDITY ").Number(uint64(info.UIDValidity)).Raw("] UIDs valid\r\n")
	s.enc.Raw("* OK [UIDNEXT ").Number(uint64(max(view.UIDNext, 1))).Raw("] Predicted next UID\r\n")
	s.enc.Line("OK [" + mailboxID(info.ID) + "] Kept when the mailbox is renamed") // RFC 8474 section 4.2

	if sel.noModSeq { // RFC 7162 section 3.1.2
		s.enc.Line("OK [NOMODSEQ] Another process keeps the MODSEQs of this mailbox")
	} else {
		s.writeHighest(view.ModSeq)
	}
	if s.rev2 {
		s.writeListed("LIST", s.attributes(ctx, n.name), n.told)
		s.writeOldNameItem(n)
		s.enc.CRLF()
	}
	if params.resync != nil {
		if err := s.resync(ctx, params.resync); err != nil {
			// A SELECT that fails selects nothing (RFC 9051 section 6.3.2).
			s.sel = nil
			return "", errors.Join(err, box.Close())
		}
		sel.shown = 0 // the view is the newest: nothing is behind
	}
	if sel.readOnly {
		return okCode("READ-ONLY", "Mailbox opened, read-only"), nil
	}
	return okCode("READ-WRITE", "Mailbox opened"), nil
}

// writeFlagsLines writes FLAGS and PERMANENTFLAGS. RFC 9051 section 7.3.5, RFC 9051 section 7.1.
func (s *session) writeFlagsLines(info store.Info) {
	s.sel.keywords = len(info.Keywords)
	flags := []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
	for _, k := range info.Keywords {
		flags = append(flags, imap.Flag(k))
	}
	s.enc.Raw("* FLAGS ").Flags(flags).CRLF()
	switch {
	case s.sel.readOnly:
		s.enc.Line("OK [PERMANENTFLAGS ()] No flag can be changed")
		return
	case !info.KeywordsEnd:
		flags = append(flags, imap.FlagWildcard)
	}
	s.enc.Raw("* OK [PERMANENTFLAGS ").Flags(flags).Raw("] Flags that are kept\r\n")
}

// deselect lets go of the selected mailbox, and says so: clients want to know which
// answers belong to which (RFC 9051 section 7.1, CLOSED; RFC 7162 section 3.2.11 has it
// said to all).
func (s *session) deselect() error {
	if s.sel == nil {
		return nil
	}
	err := s.sel.box.Close()
	s.leaves(s.sel, 0)
	s.sel = nil
	s.enc.Line("OK [CLOSED] Previous mailbox is closed")
	return err
}
