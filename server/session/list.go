package session

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"roost/store"
)

// listQuery is LIST as it was asked. RFC 9051 section 6.3.9, RFC 5258.
type listQuery struct {
	patterns []string // with the reference in front

	subscribed, deep, specialUse bool // selection options

	returnSubscribed bool
	status           *statusItems // RETURN (STATUS (...)), RFC 5819
	metadata         []string     // RETURN (METADATA (...)), RFC 9590
	extended         bool         // any of the extended syntax was used
}

// list names the mailboxes that match. RFC 9051 section 6.3.9.
func (s *session) list(ctx context.Context, _ call) (string, error) {
	q, err := s.listArguments()
	if err != nil {
		return "", err
	}
	return "", s.runList(ctx, "LIST", q)
}

// xlist is an older name of LIST with special uses; Outlook asks for them by it
// alone. It also marks INBOX.
func (s *session) xlist(ctx context.Context, _ call) (string, error) {
	q, err := s.listArguments()
	if err != nil {
		return "", err
	}
	return "", s.runList(ctx, "XLIST", q)
}

// lsub lists subscriptions. RFC 3501 section 6.3.9.
func (s *session) lsub(ctx context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	q := listQuery{subscribed: true}
	if err := s.listPatterns(&q); err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	// "%" shows, as \Noselect, a level that is not subscribed but has a subscribed
	// mailbox below it (RFC 3501 section 6.3.9).
	q.deep = slices.ContainsFunc(q.patterns, func(p string) bool { return strings.Contains(p, "%") })
	for e, err := range s.listed(ctx, store.ListQuery{Patterns: q.patterns, Subscribed: true, Deep: q.deep}) {
		if err != nil {
			return "", err
		}
		attrs := e.Attrs
		if !e.Subscribed {
			// Here \Noselect says "not subscribed itself".
			attrs = append(slices.Clone(attrs), imap.MailboxAttrNoSelect)
		}
		s.writeListed("LSUB", attrs, e.told)
		s.enc.CRLF()
	}
	return "", nil
}

func (s *session) listArguments() (q listQuery, err error) {
	if err := s.lex.SP(); err != nil {
		return q, err
	}
	if c, err := s.lex.Peek(); err != nil {
		return q, err
	} else if c == '(' {
		q.extended = true
		if err := s.listSelection(&q); err != nil {
			return q, err
		}
		if err := s.lex.SP(); err != nil {
			return q, err
		}
	}
	if err := s.listPatterns(&q); err != nil {
		return q, err
	}
	if s.lex.Accept(' ') && !s.lex.AtEnd() {
		q.extended = true
		word, err := s.lex.Keyword()
		if err != nil {
			return q, err
		}
		if word != "RETURN" {
			return q, bad("Expected RETURN, got %s", shown(word))
		}
		if err := s.lex.SP(); err != nil {
			return q, err
		}
		if err := s.listReturn(&q); err != nil {
			return q, err
		}
	}
	return q, s.end()
}

// listSelection reads the options in front. RFC 9051 section 6.3.9.1.
func (s *session) listSelection(q *listQuery) error {
	err := s.lex.List(func() error {
		word, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		switch word {
		case "SUBSCRIBED":
			q.subscribed = true
		case "REMOTE": // there are no remote mailboxes: nothing to add
		case "RECURSIVEMATCH":
			q.deep = true
		case "SPECIAL-USE":
			q.specialUse = true
		default:
			return bad("LIST has no selection option %s", shown(word))
		}
		return nil
	})
	if err == nil && q.deep && !q.subscribed && !q.specialUse {
		err = bad("RECURSIVEMATCH needs another selection option beside it")
	}
	return err
}

// maxPatterns bounds the patterns of one LIST, the reference in front of each: every name
// is matched against every byte of them.
const maxPatterns = 16 << 10

// listPatterns reads the reference and one or more patterns.
func (s *session) listPatterns(q *listQuery) error {
	at := s.lex.Offset()
	raw, err := s.lex.AString()
	if err != nil {
		return err
	}
	reference, err := s.decodeName(raw, at)
	if err != nil {
		return err
	}
	if err := s.lex.SP(); err != nil {
		return err
	}
	given, total := 0, 0
	one := func() error {
		at := s.lex.Offset()
		raw, err := s.lex.ListMailbox()
		if err != nil {
			return err
		}
		given++
		pattern, err := s.decodeName(raw, at)
		if err != nil {
			return nil // no name is like that, and that is no error (RFC 9051 section 6.3.9)
		}
		for _, p := range s.joined(reference, pattern) {
			if total += len(p); total > maxPatterns {
				return no("LIMIT", "Patterns are longer than %d bytes", maxPatterns)
			}
			q.patterns = append(q.patterns, p)
		}
		return nil
	}
	if c, err := s.lex.Peek(); err != nil {
		return err
	} else if c != '(' {
		return one()
	}
	q.extended = true
	if err := s.lex.List(one); err != nil {
		return err
	}
	if given == 0 {
		return bad("LIST needs a pattern")
	}
	return nil
}

// joined puts the reference in front of a pattern, with no more than one separator
// between them (RFC 2683 section 3.4.9), and adds its form in which names are made.
func (s *session) joined(reference, pattern string) []string {
	if reference != "" && pattern != "" {
		if sep := string(s.sep); strings.HasSuffix(reference, sep) {
			pattern = strings.TrimPrefix(pattern, sep)
		}
		pattern = reference + pattern
	}
	if normal := norm.NFC.String(pattern); normal != pattern {
		return []string{pattern, normal}
	}
	return []string{pattern}
}

// listReturn reads the options behind RETURN. RFC 9051 section 6.3.9.2.
func (s *session) listReturn(q *listQuery) error {
	return s.lex.List(func() error {
		word, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		switch word {
		case "SUBSCRIBED":
			q.returnSubscribed = true
		case "CHILDREN", "SPECIAL-USE": // answered always
		case "STATUS":
			if err := s.lex.SP(); err != nil {
				return err
			}
			items, err := s.statusItems()
			if err != nil {
				return err
			}
			q.status = &items
		case "METADATA":
			if err := s.lex.SP(); err != nil {
				return err
			}
			m := metadataQuery{}
			if err := s.metadataEntries(&m, false); err != nil {
				return err
			}
			if q.metadata = m.entries; len(m.entries) == 0 {
				return bad("METADATA needs the name of an entry")
			}
		default:
			return bad("LIST has no return option %s", shown(word))
		}
		return nil
	})
}

func (s *session) runList(ctx context.Context, verb string, q listQuery) error {
	if !q.extended && slices.Equal(q.patterns, []string{""}) {
		// The separator was asked for, and the root of the reference.
		s.enc.Raw("* ").Raw(verb).Raw(` (\Noselect) "`).Raw(string(s.sep)).Raw("\" \"\"\r\n")
		return nil
	}
	query := store.ListQuery{Patterns: q.patterns, Subscribed: q.subscribed, Deep: q.deep && q.subscribed}
	var entries []listed
	for e, err := range s.listed(ctx, query) {
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	var below family
	if q.deep {
		var err error
		if below, err = s.family(ctx, q, entries); err != nil {
			return err
		}
	}
	count := s.acct.Counter()
	for _, e := range entries {
		selected := q.selects(e.Entry)
		if !selected && !below.untold[e.Name] {
			continue
		}
		attrs := slices.Clip(e.Attrs) // what is appended goes elsewhere
		if e.Subscribed && (q.subscribed || q.returnSubscribed) {
			attrs = append(attrs, imap.MailboxAttrSubscribed)
		}
		if slices.Contains(attrs, imap.MailboxAttrNonExistent) && !s.rev2 && !slices.Contains(attrs, imap.MailboxAttrNoSelect) {
			attrs = append(attrs, imap.MailboxAttrNoSelect) // implied, but not known to old clients
		}
		if verb == "XLIST" && e.Name == store.Inbox {
			attrs = append(attrs, `\Inbox`)
		}
		var st *store.Status
		if q.status != nil && selected && canSelect(attrs) {
			// One mailbox that fails must not hide the others; that it cannot be selected any
			// more is told in its own line (RFC 9051 section 6.3.9.2).
			progress := s.waiting()
			got, err := count(ctx, e.Name, q.status.exact)
			progress.stop()
			switch {
			case err == nil:
				st = &got
			case ctx.Err() != nil:
				return err
			case errors.Is(err, store.ErrNoPermission), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoSelect):
				attrs = append(attrs, imap.MailboxAttrNoSelect)
			}
		}
		s.writeListed(verb, attrs, e.told)
		if below.some[e.Name] {
			s.enc.Raw(` ("CHILDINFO" (`).Raw(q.criteria()).Raw("))")
		}
		s.enc.CRLF()
		if st != nil {
			s.writeStatus(e.Name, e.told, *q.status, *st)
		}
		if q.metadata != nil && selected && !slices.Contains(attrs, imap.MailboxAttrNonExistent) {
			// What cannot be read is left out: RFC 9590 section 3.
			if list, err := s.acct.Annotations(ctx, e.Name); err == nil {
				s.writeMetadata(e.told, &metadataQuery{entries: q.metadata, maxSize: -1}, list)
			} else if ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// selects tells whether a mailbox is what the selection options ask for.
func (q listQuery) selects(e store.Entry) bool {
	return (e.Subscribed || !q.subscribed) && (!q.specialUse || slices.ContainsFunc(e.Attrs, isUse))
}

// criteria names the selection options as CHILDINFO does (RFC 9051 section 6.3.9.6).
func (q listQuery) criteria() string {
	var names []string
	if q.subscribed {
		names = append(names, `"SUBSCRIBED"`)
	}
	if q.specialUse {
		names = append(names, `"SPECIAL-USE"`)
	}
	return strings.Join(names, " ")
}

// family is what RECURSIVEMATCH knows of parents: those that have something below them
// which the selection options select, and those of which some is not in the answer
// itself, so that they must speak for it (RFC 9051 section 6.3.9.3).
type family struct{ some, untold map[store.Name]bool }

func (s *session) family(ctx context.Context, q listQuery, answered []listed) (family, error) {
	f := family{map[store.Name]bool{}, map[store.Name]bool{}}
	told := map[store.Name]bool{}
	for _, e := range answered {
		told[e.Name] = q.selects(e.Entry)
	}
	for e, err := range s.acct.List(ctx, store.ListQuery{Patterns: []string{"*"}, Subscribed: q.subscribed}) {
		if err != nil {
			return f, err
		}
		if !q.selects(e) {
			continue
		}
		for p, ok := e.Name.Parent(s.sep); ok; p, ok = p.Parent(s.sep) {
			f.some[p] = true
			if !told[e.Name] {
				f.untold[p] = true
			}
		}
	}
	return f, nil
}

// listed is a mailbox and what it is called in the answer.
type listed struct {
	store.Entry
	told store.Name
}

// listed gives the mailboxes that match. A pattern that begins with the prefix of the
// other server asks for names with that prefix, and for no others; mbsync asks for INBOX
// and them at once, by "INBOX*".
func (s *session) listed(ctx context.Context, q store.ListQuery) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		var own, old []string
		for _, p := range q.Patterns {
			if name, ok := s.withoutOldPrefix(p); ok {
				old = append(old, string(name))
				continue
			}
			own = append(own, p)
			level := strings.TrimSuffix(s.oldPrefix(), string(s.sep))
			if head, rest, ok := strings.Cut(p, "*"); ok && level != "" && strings.EqualFold(head, level) {
				prefix := s.login.Who.Roots[0].Prefix
				old = append(old, prefix+"*"+rest)
				if rest, ok := strings.CutPrefix(rest, string(s.sep)); ok {
					old = append(old, prefix+rest)
				}
			}
		}
		some := func(patterns []string, told func(store.Name) store.Name) bool {
			if q.Patterns = patterns; len(patterns) == 0 {
				return true
			}
			for e, err := range s.acct.List(ctx, q) {
				if l := (listed{e, told(e.Name)}); (l.told != "" || err != nil) && !yield(l, err) {
					return false
				}
			}
			return true
		}
		_ = some(own, s.told) && some(old, s.withOldPrefix)
	}
}

// attributes are those of one mailbox, as LIST tells them.
func (s *session) attributes(ctx context.Context, n store.Name) []imap.MailboxAttr {
	for e, err := range s.acct.List(ctx, store.ListQuery{Patterns: []string{string(n)}}) {
		if err == nil && e.Name == n { // a name may hold wildcards
			return e.Attrs
		}
	}
	return nil
}

func isUse(a imap.MailboxAttr) bool {
	return slices.Contains(uses, a) || a == imap.MailboxAttrAll || a == imap.MailboxAttrFlagged
}

func canSelect(attrs []imap.MailboxAttr) bool {
	return !slices.Contains(attrs, imap.MailboxAttrNoSelect) && !slices.Contains(attrs, imap.MailboxAttrNonExistent)
}

// writeListed writes a line of LIST without its end.
func (s *session) writeListed(verb string, attrs []imap.MailboxAttr, name store.Name) {
	s.enc.Raw("* ").Raw(verb).Raw(" (")
	for i, a := range attrs {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.Raw(string(a))
	}
	s.enc.Raw(`) "`).Raw(string(s.sep)).Raw(`" `).Mailbox(string(name))
}
