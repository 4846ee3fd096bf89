package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"roost/store"
)

// GETMETADATA, SETMETADATA and what is told of others' changes: RFC 5464. The entry
// /private/specialuse is that of RFC 6154 section 4; a filter is looked at when it is set
// (RFC 5466 section 3.2). What is shared by all users of the server comes from its
// configuration.

// metadataQuery is what GETMETADATA and LIST ask for.
type metadataQuery struct {
	entries []string
	depth   int   // levels below an entry that are asked for too; -1 is all
	maxSize int64 // of a value in bytes; -1: no limit
	long    int   // the largest value that was above it
}

// getMetadata tells what is kept with a mailbox or the server. RFC 5464 section 4.2.
func (s *session) getMetadata(ctx context.Context, _ call) (string, error) {
	q := metadataQuery{maxSize: -1}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	if c, err := s.lex.Peek(); err != nil {
		return "", err
	} else if c == '(' { // as section 5 has it; the examples have the options behind the name
		if err := s.lex.List(func() error { return s.metadataOption(&q, "") }); err != nil {
			return "", err
		}
		if err := s.lex.SP(); err != nil {
			return "", err
		}
	}
	n, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	if err := s.metadataEntries(&q, true); err != nil {
		return "", err
	}
	for s.lex.Accept(' ') && !s.lex.AtEnd() { // some examples of section 4.4.1 have no parentheses
		if err := s.metadataEntries(&q, false); err != nil {
			return "", err
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	if len(q.entries) == 0 {
		return "", bad("GETMETADATA needs the name of an entry")
	}
	list, err := s.annotations(ctx, n.name)
	if err != nil {
		return "", err
	}
	s.writeMetadata(n.asked, &q, list)
	if q.long > 0 {
		return okCode(fmt.Sprintf("METADATA LONGENTRIES %d", q.long), "GETMETADATA completed"), nil
	}
	return "", nil
}

// metadataEntries reads an entry, or a list of them. With options the list may be one of
// options instead, which the entries follow.
func (s *session) metadataEntries(q *metadataQuery, options bool) error {
	one := func() error {
		at := s.lex.Offset()
		word, err := s.lex.AString()
		if err != nil {
			return err
		}
		if options && !strings.HasPrefix(word, "/") {
			return s.metadataOption(q, strings.ToUpper(word))
		}
		if !store.ValidEntry(word + "/x") { // "/private" itself may be asked for, with DEPTH
			return bad("Entry %s at byte %d is none: names begin with /private/ or /shared/, without *, %% and empty levels", shown(word), at)
		}
		if len(q.entries) == store.MaxAnnotations {
			return no("LIMIT", "More than %d entries are asked for", store.MaxAnnotations)
		}
		q.entries = append(q.entries, word)
		return nil
	}
	if c, err := s.lex.Peek(); err != nil {
		return err
	} else if c != '(' {
		options = false
		return one()
	}
	return s.lex.List(one)
}

// metadataOption reads an option of GETMETADATA; word is its name where that was read.
// RFC 5464 sections 4.2.1 and 4.2.2.
func (s *session) metadataOption(q *metadataQuery, word string) (err error) {
	if word == "" {
		if word, err = s.lex.Keyword(); err != nil {
			return err
		}
	}
	switch word {
	case "MAXSIZE":
		if err := s.lex.SP(); err != nil {
			return err
		}
		n, err := s.lex.Number()
		q.maxSize = int64(n)
		return err
	case "DEPTH":
		if err := s.lex.SP(); err != nil {
			return err
		}
		depth, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		var ok bool
		if q.depth, ok = map[string]int{"0": 0, "1": 1, "INFINITY": -1}[depth]; !ok {
			return bad("DEPTH is 0, 1 or infinity, not %s", shown(depth))
		}
		return nil
	}
	return bad("GETMETADATA has no option %s", shown(word))
}

// annotations are those of a mailbox, or of account and server for "".
func (s *session) annotations(ctx context.Context, n store.Name) ([]store.Annotation, error) {
	list, err := s.acct.Annotations(ctx, n)
	if err == nil && n == "" {
		list = slices.DeleteFunc(list, func(a store.Annotation) bool { return !a.IsPrivate() })
		list = append(list, s.opt.Shared...)
	}
	return list, err
}

// writeMetadata answers with what was asked for, an entry that is not there with NIL.
func (s *session) writeMetadata(told store.Name, q *metadataQuery, list []store.Annotation) {
	between := ""
	write := func(entry string, value []byte, ok bool) {
		if between == "" {
			s.enc.Raw("* METADATA ").Mailbox(string(told)).Raw(" (")
		}
		s.enc.Raw(between).AString(entry).SP()
		between = " "
		switch {
		case !ok:
			s.enc.Raw("NIL")
		case bytes.IndexByte(value, 0) >= 0:
			s.enc.Literal8(int64(len(value)), func(w io.Writer) error { _, err := w.Write(value); return err })
		default:
			s.enc.String(string(value))
		}
	}
	answered := make([]bool, len(list))
	for _, entry := range q.entries {
		some := false
		for i, a := range list {
			name := a.Entry
			switch rest, below := store.EntryBelow(entry, a.Entry); {
			case strings.EqualFold(entry, a.Entry):
				name = entry // as it was asked for
			case !below, q.depth == 0, q.depth == 1 && strings.Contains(rest, "/"):
				continue
			}
			some = true
			if answered[i] {
				continue
			}
			answered[i] = true
			if q.maxSize >= 0 && int64(len(a.Value)) > q.maxSize {
				q.long = max(q.long, len(a.Value))
				continue
			}
			write(name, a.Value, true)
		}
		if !some {
			write(entry, nil, false)
		}
	}
	if between != "" {
		s.enc.Raw(")\r\n")
	}
}

// setMetadata changes what is kept with a mailbox or the account. RFC 5464 section 4.3.
func (s *session) setMetadata(ctx context.Context, _ call) (string, error) {
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
	var set []store.Annotation
	size := 0
	err = s.lex.List(func() error {
		at := s.lex.Offset()
		entry, err := s.lex.AString()
		if err != nil {
			return err
		}
		if !settable(entry) {
			return bad("Entry %s at byte %d is none: names are /private/... or /shared/... without *, %% and empty levels, and have four levels below vendor", shown(entry), at)
		}
		if err := s.lex.SP(); err != nil {
			return err
		}
		value, err := s.metadataValue()
		if err != nil {
			return err
		}
		if size += len(entry) + len(value); size > store.MaxAnnotationBytes || len(set) >= store.MaxAnnotations {
			return errTooMany
		}
		set = append(set, store.Annotation{Entry: entry, Value: value})
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	if len(set) == 0 {
		return "", bad("SETMETADATA needs an entry")
	}
	for i := range set {
		if err := checkAnnotation(n.name, &set[i]); err != nil {
			return "", err
		}
	}
	err = s.acct.Annotate(ctx, n.name, set)
	switch {
	case errors.Is(err, store.ErrTooBig):
		return "", errLongValue
	case errors.Is(err, store.ErrLimit):
		return "", errTooMany
	case errors.Is(err, store.ErrUnsupported):
		return "", no("METADATA NOPRIVATE", "Others use this mailbox too: it has no private annotations")
	case errors.Is(err, store.ErrCannot):
		r := s.status(err)
		r.code = "USEATTR"
		return "", r
	}
	return "", err
}

var (
	errLongValue = no(fmt.Sprintf("METADATA MAXSIZE %d", store.MaxAnnotation), "Value is too long")
	errTooMany   = no("METADATA TOOMANY", "There would be more than %d annotations, or %d bytes of them", store.MaxAnnotations, store.MaxAnnotationBytes)
)

// settable tells names that can be set: those of vendors have four levels at least
// (RFC 5464 section 3.2).
func settable(entry string) bool {
	if !store.ValidEntry(entry) {
		return false
	}
	levels := strings.Split(entry, "/")[1:]
	return !strings.EqualFold(levels[1], "vendor") || len(levels) >= 4
}

// metadataValue reads nstring / literal8; nil is NIL.
func (s *session) metadataValue() ([]byte, error) {
	c, err := s.lex.Peek()
	if err != nil {
		return nil, err
	}
	if c != '{' && c != '~' {
		value, ok, err := s.lex.NString()
		switch {
		case err != nil || !ok:
			return nil, err
		case len(value) > store.MaxAnnotation:
			return nil, errLongValue
		}
		return []byte(value), nil
	}
	lit, err := s.lex.Literal()
	if err != nil {
		return nil, err
	}
	if lit.Size > store.MaxAnnotation {
		return nil, errLongValue // before it is asked for
	}
	var b bytes.Buffer // grows with what comes, not with what was announced
	if _, err := b.ReadFrom(lit); err != nil {
		return nil, err
	}
	if !lit.Binary && bytes.IndexByte(b.Bytes(), 0) >= 0 {
		return nil, bad("Literal has a NUL; only ~{n} may")
	}
	return append([]byte{}, b.Bytes()...), nil
}

// checkAnnotation refuses what no client may set, and spells what is spelled in one way.
func checkAnnotation(n store.Name, a *store.Annotation) error {
	if n == "" && !a.IsPrivate() {
		return no("NOPERM", "What all users of the server share is set by its administrator")
	}
	if n == "" {
		return checkFilter(a)
	}
	if a.Value == nil || !strings.EqualFold(a.Entry, store.SpecialUseEntry) {
		return nil
	}
	uses, err := canonicalUses(store.SplitUses(a.Value)) // as CREATE does: RFC 6154 section 4
	if err != nil {
		return err
	}
	a.Value = store.JoinUses(uses)
	return nil
}

// metadataOn has the client told of annotations that others change (RFC 5464
// section 4.1).
func (s *session) metadataOn() {
	s.metadata = true
	s.watchAnnotations()
}

func (s *session) watchAnnotations() {
	if s.annotated == nil {
		s.annotated = s.acct.WatchAnnotations(s.wake)
	}
}

// tellAnnotated tells which annotations others have changed. RFC 5464 section 4.4.2. It
// comes after tellChanges, which forgets wake-ups.
func (s *session) tellAnnotated(ctx context.Context) {
	if s.annotated == nil {
		return
	}
	for _, c := range s.annotated.Pull() {
		if !s.metadata && !s.wantsAnnotated(ctx, c.Name) {
			continue
		}
		entries := c.Entries
		if entries == nil { // too many to remember: all that are there
			list, err := s.acct.Annotations(ctx, c.Name)
			if err != nil {
				continue // the mailbox is gone meanwhile, or the store has logged it
			}
			for _, a := range list {
				entries = append(entries, a.Entry)
			}
		}
		if len(entries) == 0 {
			continue
		}
		s.enc.Raw("* METADATA ").Mailbox(string(s.told(c.Name)))
		for _, entry := range entries {
			s.enc.SP().AString(entry)
		}
		s.enc.CRLF()
	}
}
