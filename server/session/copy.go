package session

import (
	"context"
	"errors"
	"strconv"

	"github.com/emersion/go-imap/v2"

	"roost/server/wire"
	"roost/store"
)

// copy copies messages, all or none. RFC 9051 section 6.4.7. Messages that are
// gone are passed over by UID COPY, and fail COPY (RFC 2180 section 4.4.1).
func (s *session) copy(ctx context.Context, c call) (string, error) {
	uids, to, err := s.copyArguments(ctx, c)
	if err != nil {
		return "", err
	}
	if err := s.checkSaved(uids); err != nil {
		return "", err
	}
	var copied store.Copied
	for len(uids) > 0 {
		progress := s.waiting()
		copied, err = s.sel.box.Copy(ctx, uids, to)
		progress.stop()
		if !errors.Is(err, store.ErrGone) || !c.uid {
			break
		}
		left, rerr := s.present(ctx, uids)
		if rerr != nil {
			return "", rerr
		}
		if len(left) == len(uids) {
			break // gone and not gone: the error stands
		}
		uids, err = left, nil
	}
	if err != nil {
		return "", toTarget(err)
	}
	s.addedOwn(to, copied)
	if len(copied.To) == 0 {
		return "Nothing to copy", nil
	}
	return okCode(copyUID(copied), "Copied"), nil
}

// copyArguments reads the messages and the target of COPY and MOVE.
func (s *session) copyArguments(ctx context.Context, c call) ([]imap.UID, store.Name, error) {
	if err := s.lex.SP(); err != nil {
		return nil, "", err
	}
	set, err := s.lex.NumSet(c.uid)
	if err != nil {
		return nil, "", err
	}
	to, err := s.onlyMailbox(ctx)
	if err != nil {
		return nil, "", err
	}
	uids, err := s.sel.resolve(set)
	return uids, to.name, err
}

// present are those of uids that the mailbox still has.
func (s *session) present(ctx context.Context, uids []imap.UID) ([]imap.UID, error) {
	rows, err := s.rowsOf(ctx, uids, 0)
	left := make([]imap.UID, len(rows))
	for i, r := range rows {
		left[i] = r.UID
	}
	return left, err
}

// copyUID is the response code that says where messages went. RFC 4315 section 3.
func copyUID(c store.Copied) string {
	b := wire.AppendSet([]byte("COPYUID "+uintText(c.UIDValidity)+" "), c.From)
	return string(wire.AppendSet(append(b, ' '), c.To))
}

func uintText(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
