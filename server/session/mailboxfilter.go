package session

import (
	"context"

	"roost/store"
)

// Mailbox specifiers, by which NOTIFY and MULTISEARCH name sets of mailboxes:
// RFC 5465 section 6, RFC 7377 section 2.2.

// filterKind says how a mailboxFilter chooses.
type filterKind uint8

const (
	filterSelected        filterKind = iota // the selected mailbox, whichever it is at the time
	filterSelectedDelayed                   // the same; EXPUNGE waits for a command (RFC 5465 section 6.1.2)
	filterInboxes                           // where mail is delivered to: here any mailbox may be, so filterPersonal
	filterPersonal                          // all that can be selected
	filterSubscribed                        // all that are subscribed
	filterSubtree                           // the names and all that is below them
	filterSubtreeOne                        // the names and one level below them (RFC 7377)
	filterMailboxes                         // the names
)

// filterKinds are the words of filter-mailboxes. RFC 5465 section 8, RFC 7377 section 4.
var filterKinds = map[string]filterKind{
	"SELECTED": filterSelected, "SELECTED-DELAYED": filterSelectedDelayed, "INBOXES": filterInboxes,
	"PERSONAL": filterPersonal, "SUBSCRIBED": filterSubscribed, "SUBTREE": filterSubtree,
	"SUBTREE-ONE": filterSubtreeOne, "MAILBOXES": filterMailboxes,
}

// maxFilterNames bounds the mailboxes that one filter names: each is looked up.
const maxFilterNames = 2000

// mailboxFilter is one filter-mailboxes.
type mailboxFilter struct {
	kind  filterKind
	names []spelled               // of the kinds that take names, as they were given
	set   map[store.Name]struct{} // the same, as they are known; "" is above all
}

// mailboxFilter reads one. Which kinds a command takes is the command's to say.
func (s *session) mailboxFilter(ctx context.Context) (f mailboxFilter, err error) {
	word, err := s.lex.Keyword()
	if err != nil {
		return f, err
	}
	kind, ok := filterKinds[word]
	if !ok {
		return f, bad("Unknown mailbox specifier %s", shown(word))
	}
	f.kind = kind
	if !f.named() {
		return f, nil
	}
	if err := s.lex.SP(); err != nil {
		return f, err
	}
	f.set = map[store.Name]struct{}{}
	one := func() error {
		n, err := s.mailbox(ctx)
		if err != nil {
			return err
		}
		if len(f.names) == maxFilterNames {
			return no("LIMIT", "More than %d mailboxes in one list", maxFilterNames)
		}
		f.names = append(f.names, n)
		f.set[n.name] = struct{}{}
		return nil
	}
	if c, err := s.lex.Peek(); err != nil {
		return f, err
	} else if c != '(' {
		return f, one()
	}
	err = s.lex.List(one)
	if err == nil && len(f.names) == 0 {
		err = bad("%s needs a mailbox", word)
	}
	return f, err
}

// named tells whether the filter takes names.
func (f *mailboxFilter) named() bool { return f.kind >= filterSubtree }

// covers tells whether the filter names a mailbox that is not the selected one, or is not
// meant as such. Names are compared, so that what is not there yet is covered too; only
// SUBSCRIBED depends on more.
func (f *mailboxFilter) covers(name store.Name, subscribed bool, sep byte) bool {
	switch f.kind {
	case filterInboxes, filterPersonal: // all namespaces are personal: namespace.go
		return true
	case filterSubscribed:
		return subscribed
	case filterMailboxes:
		return f.has(name)
	case filterSubtreeOne:
		parent, _ := name.Parent(sep) // "" for a name at the top
		return f.has(name) || f.has(parent)
	case filterSubtree:
		for at, ok := name, true; ok; at, ok = at.Parent(sep) {
			if f.has(at) {
				return true
			}
		}
		return f.has("")
	}
	return false
}

func (f *mailboxFilter) has(name store.Name) bool {
	_, ok := f.set[name]
	return ok
}
