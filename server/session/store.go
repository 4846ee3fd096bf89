package session

import (
	"context"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// store changes flags. RFC 9051 section 6.4.6, RFC 7162 section 3.1.3.
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
	var op store.FlagOp
	if err := s.storeModifiers(&op); err != nil {
		return "", err
	}
	silent, err := s.storeItem(&op)
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
	if op.HasUnchangedSince {
		if err := s.needsModSeq("UNCHANGEDSINCE"); err != nil {
			return "", err
		}
	}
	if s.sel.readOnly {
		return "", store.ErrReadOnly
	}
	if len(uids) == 0 {
		return "", nil
	}
	uids, limit := s.limited(uids)
	var before []store.Row
	if silent && op.Op != imap.StoreFlagsSet {
		if before, err = s.rowsOf(ctx, uids, 0); err != nil {
			return "", err
		}
	}
	progress := s.waiting()
	rows, modified, err := s.sel.box.SetFlags(ctx, uids, op)
	progress.stop()
	if err != nil {
		return "", err
	}
	if s.opt.Audit != nil {
		s.did(Deed{What: "flags", Mailbox: s.sel.name, UIDs: uidsOf(rows), Flags: op.Flags, Op: opSign(op.Op)})
	}
	if limit != "" { // RFC 9738 section 3.1: from the highest to the lowest
		slices.Reverse(rows)
	}
	s.tellStored(c, op, silent, before, rows, modified)
	answer := reply{kind: "OK", text: "STORE completed"}
	if len(modified) > 0 {
		answer.code, answer.text = s.modifiedCode(c, modified), "Some of the messages were changed by others"
	}
	if len(rows) < len(uids) && !c.uid {
		if answer.code == "" {
			answer.code = "EXPUNGEISSUED"
		}
		answer.text = "Some of the messages were expunged"
		if !silent && limit == "" {
			answer.kind = "NO" // RFC 2180 section 4.2.3: the rest was done; OK for .SILENT, section 4.2.1
		}
	}
	if answer.code == "" && limit != "" {
		return "", partly(limit)
	}
	s.writeLimit(limit)
	return "", answer
}

// tellStored writes what the client must hear of the rows that a STORE was for: all,
// or with .SILENT those whose flags it cannot work out. A client that knows MODSEQs is
// told those of the rest, and the flags of what UNCHANGEDSINCE refused.
func (s *session) tellStored(c call, op store.FlagOp, silent bool, before, rows []store.Row, modified []imap.UID) {
	if len(rows) > 0 && !silent {
		s.writeNewKeywords()
	}
	modSeq := s.condstore && !s.sel.noModSeq
	for _, row := range rows {
		n := s.sel.seq(row.UID)
		if n == 0 {
			continue
		}
		_, refused := slices.BinarySearch(modified, row.UID)
		switch {
		case !silent || refused:
			s.writeFlagsFetch(n, row, c.uid)
		case !s.explained(op, before, row):
			if !modSeq {
				continue // Advance tells it
			}
			s.writeFlagsFetch(n, row, c.uid)
		case modSeq:
			s.writeModSeqFetch(n, row)
		}
		s.sel.answered(row)
	}
}

// storeItem reads "+FLAGS.SILENT (\Seen)"; the parentheses may be missing.
func (s *session) storeItem(op *store.FlagOp) (silent bool, err error) {
	switch {
	case s.lex.Accept('+'):
		op.Op = imap.StoreFlagsAdd
	case s.lex.Accept('-'):
		op.Op = imap.StoreFlagsDel
	default:
		op.Op = imap.StoreFlagsSet
	}
	word, err := s.lex.Keyword()
	if err != nil {
		return false, err
	}
	word, silent = strings.CutSuffix(word, ".SILENT")
	if word != "FLAGS" {
		return false, bad("Expected FLAGS, got %s", shown(word))
	}
	if err := s.lex.SP(); err != nil {
		return false, err
	}
	flags := []imap.Flag{}
	if c, perr := s.lex.Peek(); perr != nil {
		return false, perr
	} else if c == '(' {
		flags, err = s.lex.FlagList()
	} else {
		for {
			f, ferr := s.lex.Flag()
			if ferr != nil {
				return false, ferr
			}
			flags = append(flags, f)
			if !s.lex.Accept(' ') || s.lex.AtEnd() {
				break
			}
		}
	}
	if err != nil {
		return false, err
	}
	op.Flags, err = keptFlags(flags)
	return silent, err
}

// explained tells whether the client can work out the flags of row for itself, and
// need not be told: it knew those before, and the change explains those now. Where
// another session changed them meanwhile it is told, .SILENT or not.
func (s *session) explained(op store.FlagOp, before []store.Row, row store.Row) bool {
	sys, names, _ := store.SplitFlags(op.Flags)
	if op.Op == imap.StoreFlagsSet {
		return row.Flags == sys && sameKeywords(row.Keywords, names)
	}
	i, ok := slices.BinarySearchFunc(before, row.UID, func(r store.Row, uid imap.UID) int {
		return int(int64(r.UID) - int64(uid))
	})
	if !ok || !s.sel.knows(before[i]) {
		return false
	}
	want, keywords := before[i].Flags|sys, slices.Concat(before[i].Keywords.Names(), names)
	if op.Op == imap.StoreFlagsDel {
		want = before[i].Flags &^ sys
		keywords = slices.DeleteFunc(slices.Clone(before[i].Keywords.Names()), func(k string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, k) })
		})
	}
	return row.Flags == want && sameKeywords(row.Keywords, keywords)
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
