package session

import (
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// store changes flags. RFC 9051 section 6.4.6.
func (s *session) store(ctx context.Context, c call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	set, err := s.lex.NumSet(c.uid)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	op, silent, err := s.storeItem()
	if err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	uids, err := s.sel.resolve(set)
	if err != nil {
		return "", err
	}
	if s.sel.readOnly {
		return "", store.ErrReadOnly
	}
	if len(uids) == 0 {
		return "", nil
	}
	var before []store.Row
	if silent && op.Op != imap.StoreFlagsSet {
		if before, err = s.rowsOf(ctx, uids, 0); err != nil {
			return "", err
		}
	}
	rows, _, err := s.sel.box.SetFlags(ctx, uids, op)
	if err != nil {
		return "", err
	}
	if silent {
		s.noteSilent(op, before, rows)
	} else {
		if len(rows) > 0 {
			s.writeNewKeywords()
		}
		for _, row := range rows {
			if n := s.sel.seq(row.UID); n > 0 {
				s.writeFlagsFetch(n, row, c.uid)
				s.sel.answered(row)
			}
		}
	}
	switch {
	case len(rows) == len(uids) || c.uid:
		return "", nil
	case silent:
		return okCode("EXPUNGEISSUED", "Some of the messages were expunged"), nil // RFC 2180 section 4.2.1
	}
	return "", store.ErrGone // RFC 2180 section 4.2.3: the rest was done
}

// storeItem reads "+FLAGS.SILENT (\Seen)"; the parentheses may be missing.
func (s *session) storeItem() (op store.FlagOp, silent bool, err error) {
	switch {
	case s.lex.Accept('+'):
		op.Op = imap.StoreFlagsAdd
	case s.lex.Accept('-'):
		op.Op = imap.StoreFlagsDel
	default:
		op.Op = imap.StoreFlagsSet
	}
	if c, err := s.lex.Peek(); err == nil && c == '(' {
		return op, false, bad("STORE has no modifiers here")
	}
	word, err := s.lex.Keyword()
	if err != nil {
		return op, false, err
	}
	word, silent = strings.CutSuffix(word, ".SILENT")
	if word != "FLAGS" {
		return op, false, bad("Expected FLAGS, got %s", shown(word))
	}
	if err := s.lex.SP(); err != nil {
		return op, false, err
	}
	flags := []imap.Flag{}
	if c, perr := s.lex.Peek(); perr != nil {
		return op, false, perr
	} else if c == '(' {
		flags, err = s.lex.FlagList()
	} else {
		for {
			f, ferr := s.lex.Flag()
			if ferr != nil {
				return op, false, ferr
			}
			flags = append(flags, f)
			if !s.lex.Accept(' ') || s.lex.AtEnd() {
				break
			}
		}
	}
	if err != nil {
		return op, false, err
	}
	op.Flags, err = keptFlags(flags)
	return op, silent, err
}

// noteSilent decides which of rows the client can work out for itself, and need not
// be told: it knew the flags before, and the change explains the flags now. Where
// another session changed them meanwhile it is told, .SILENT or not.
func (s *session) noteSilent(op store.FlagOp, before, rows []store.Row) {
	sys, names, _ := store.SplitFlags(op.Flags)
	for _, row := range rows {
		if op.Op == imap.StoreFlagsSet {
			if row.Flags == sys && sameKeywords(row.Keywords, names) {
				s.sel.answered(row)
			}
			continue
		}
		i, ok := slices.BinarySearchFunc(before, row.UID, func(r store.Row, uid imap.UID) int {
			return int(int64(r.UID) - int64(uid))
		})
		if !ok || !s.sel.knows(before[i]) {
			continue
		}
		want, keywords := before[i].Flags|sys, slices.Concat(before[i].Keywords.Names(), names)
		if op.Op == imap.StoreFlagsDel {
			want = before[i].Flags &^ sys
			keywords = slices.DeleteFunc(slices.Clone(before[i].Keywords.Names()), func(k string) bool {
				return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, k) })
			})
		}
		if row.Flags == want && sameKeywords(row.Keywords, keywords) {
			s.sel.answered(row)
		}
	}
}

// sameKeywords compares without case: the mailbox keeps its first spelling.
func sameKeywords(set store.Keywords, names []string) bool {
	have := set.Names()
	for _, n := range names {
		if !set.Has(n) {
			return false
		}
	}
	for _, h := range have {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, h) }) {
			return false
		}
	}
	return true
}
