package session

import (
	"context"
	"errors"
	"slices"
	"strings"

	"roost/store"
)

// NOTIFY: RFC 5465. What is told of the selected mailbox is tellChanges's to say, by
// notify.selected; what is told of the others comes from a store.Watch, which compares with
// what it told last, so that nothing piles up. Both are told when a command ends, while the
// client idles, and between commands (await).

// notify is what a NOTIFY command asked for. NOTIFY NONE asks for nothing.
type notify struct {
	selected selectedEvents
	groups   []eventGroup // of other mailboxes, in order
	sep      byte
	listens  bool        // something is wanted
	watch    store.Watch // nil: nothing is wanted of other mailboxes

	own []ownChange // by the command at hand
}

// selectedEvents are those of SELECTED and SELECTED-DELAYED. RFC 5465 section 6.1.
type selectedEvents struct {
	messages bool // MessageNew and MessageExpunge, which come together
	flags    bool
	delayed  bool
	items    []fetchItem // of MessageNew
}

// eventGroup is one event-group of other mailboxes. RFC 5465 section 8.
type eventGroup struct {
	filter mailboxFilter
	events store.Interest // none: NONE
}

// notifyEvents are the events by their names in small letters: BADEVENT lists those that
// are supported, in this order.
var notifyEvents = []struct {
	name     string
	interest store.Interest // 0: not supported
	message  bool           // a message-event
}{
	{"MessageNew", store.InterestMessages, true},
	{"MessageExpunge", store.InterestMessages, true},
	{"FlagChange", store.InterestUnseen | store.InterestFlags, true},
	{"AnnotationChange", 0, true},
	{"MailboxName", store.InterestNames, false},
	{"SubscriptionChange", store.InterestSubscriptions, false},
	{"MailboxMetadataChange", interestMetadata, false},
	{"ServerMetadataChange", interestServer, false},
}

// What a store.Watch does not tell: annotations have a watch of their own (metadata.go).
const (
	interestMetadata store.Interest = 1 << 6
	interestServer   store.Interest = 1 << 7
)

// notifyCommand runs NOTIFY. RFC 5465 section 3.1.
func (s *session) notifyCommand(ctx context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	word, err := s.lex.Keyword()
	if err != nil {
		return "", err
	}
	switch word {
	case "NONE":
		if err := s.end(); err != nil {
			return "", err
		}
		return "", s.setNotify(ctx, &notify{})
	case "SET":
	default:
		return "", bad("NOTIFY takes SET or NONE, not %s", shown(word))
	}
	n, status, err := s.notifyGroups(ctx)
	if err != nil {
		return "", err
	}
	n.listens = n.selected.messages || slices.ContainsFunc(n.groups, func(g eventGroup) bool { return g.events != 0 })
	if len(n.groups) > 0 {
		n.watch, err = s.acct.Watch(ctx, store.WatchOptions{Want: n.interest, Limit: s.opt.Limits.Watched, Wake: s.wakeNews})
		if errors.Is(err, store.ErrLimit) {
			return "", no("NOTIFICATIONOVERFLOW", "More than %d mailboxes would be watched", s.opt.Limits.Watched)
		} else if err != nil {
			return "", err
		}
	}
	if err := s.setNotify(ctx, n); err != nil {
		return "", err
	}
	if status && n.watch != nil {
		if err := s.writeWatched(ctx); err != nil {
			return "", err
		}
	}
	s.wakeNews() // of what cannot be watched
	return "", nil
}

// notifyGroups reads " [STATUS] (...) (...)" to the end of the command.
func (s *session) notifyGroups(ctx context.Context) (n *notify, status bool, err error) {
	n = &notify{sep: s.sep}
	if err := s.lex.SP(); err != nil {
		return nil, false, err
	}
	if c, err := s.lex.Peek(); err != nil {
		return nil, false, err
	} else if c != '(' {
		word, err := s.lex.Keyword()
		if err == nil && word != "STATUS" {
			err = bad("NOTIFY SET takes STATUS or a list, not %s", shown(word))
		}
		if err == nil {
			err = s.lex.SP()
		}
		if err != nil {
			return nil, false, err
		}
		status = true
	}
	unsupported, selected := "", false
	for first := true; first || !s.lex.AtEnd(); first = false {
		if !first {
			if err := s.lex.SP(); err != nil {
				return nil, false, err
			}
			if s.lex.AtEnd() {
				break
			}
		}
		if err := s.lex.Expect('('); err != nil {
			return nil, false, err
		}
		filter, err := s.mailboxFilter(ctx)
		if err == nil {
			err = s.lex.SP()
		}
		if err != nil {
			return nil, false, err
		}
		events, err := s.groupEvents(filter.ofSelected())
		if err == nil {
			err = s.lex.Expect(')')
		}
		if err != nil {
			return nil, false, err
		}
		if events.unsupported != "" {
			unsupported = events.unsupported
		}
		if !filter.ofSelected() {
			n.groups = append(n.groups, eventGroup{filter, events.interest})
			continue
		}
		if selected {
			return nil, false, bad("The selected mailbox is named twice")
		}
		selected = true
		n.selected = selectedEvents{
			messages: events.interest&store.InterestMessages != 0,
			flags:    events.interest&store.InterestFlags != 0,
			delayed:  filter.kind == filterSelectedDelayed,
			items:    events.items,
		}
	}
	if err := s.end(); err != nil {
		return nil, false, err
	}
	if unsupported != "" {
		var known []string
		for _, e := range notifyEvents {
			if e.interest != 0 {
				known = append(known, e.name)
			}
		}
		return nil, false, no("BADEVENT ("+strings.Join(known, " ")+")", "Event %s is not supported", shown(unsupported))
	}
	return n, status, nil
}

// groupEvents is the second half of an event-group.
type groupEvents struct {
	interest    store.Interest
	items       []fetchItem
	unsupported string
}

// groupEvents reads "NONE" or a list of events, and holds them to the rules of
// RFC 5465 section 5.
func (s *session) groupEvents(ofSelected bool) (g groupEvents, err error) {
	if c, err := s.lex.Peek(); err != nil {
		return g, err
	} else if c != '(' {
		word, err := s.lex.Keyword()
		if err == nil && word != "NONE" {
			err = bad("Events are NONE or a list, not %s", shown(word))
		}
		return g, err
	}
	given := map[string]bool{}
	err = s.lex.List(func() error {
		for {
			name, err := s.lex.Atom()
			if err != nil {
				return err
			}
			items, err := g.note(name, ofSelected, given)
			if err != nil || !items {
				return err
			}
			// MessageNew, and behind its blank a list of data items or the next event.
			if !s.lex.Accept(' ') {
				return nil
			}
			if c, err := s.lex.Peek(); err != nil {
				return err
			} else if c != '(' {
				continue
			}
			if !ofSelected {
				return bad("Data items can be asked for SELECTED and SELECTED-DELAYED only")
			}
			g.items, err = parseItems(s.lex)
			return err
		}
	})
	switch {
	case err != nil:
		return g, err
	case len(given) == 0:
		return g, bad("The list of events is empty")
	case given["MessageNew"] != given["MessageExpunge"]:
		return g, bad("MessageNew and MessageExpunge need each other")
	case (given["FlagChange"] || given["AnnotationChange"]) && !given["MessageNew"]:
		return g, bad("FlagChange and AnnotationChange need MessageNew and MessageExpunge")
	}
	return g, nil
}

// note takes one event, and reports whether data items may follow it.
func (g *groupEvents) note(name string, ofSelected bool, given map[string]bool) (items bool, err error) {
	for _, e := range notifyEvents {
		if !strings.EqualFold(e.name, name) {
			continue
		}
		if ofSelected && !e.message {
			return false, bad("%s does not go with SELECTED", e.name)
		}
		if e.interest == 0 {
			g.unsupported = e.name
		}
		given[e.name] = true
		g.interest |= e.interest
		return e.name == "MessageNew", nil
	}
	given["?"] = true
	g.unsupported = name
	return false, nil
}

// ofSelected tells whether the filter means the selected mailbox, and no other.
func (f *mailboxFilter) ofSelected() bool { return f.kind <= filterSelectedDelayed }

// wantsAnnotated tells whether NOTIFY asked for changes of annotations, of a mailbox or,
// where n is "", of the server. RFC 5465 section 5.6, RFC 5465 section 5.7.
func (s *session) wantsAnnotated(ctx context.Context, n store.Name) bool {
	switch {
	case s.notify == nil:
		return false
	case n == "":
		return slices.ContainsFunc(s.notify.groups, func(g eventGroup) bool { return g.events&interestServer != 0 })
	}
	e := store.Entry{Name: n}
	for x, err := range s.acct.List(ctx, store.ListQuery{Patterns: []string{string(n)}}) {
		if err == nil && x.Name == n { // a name may hold wildcards
			e = x
		}
	}
	return s.notify.interest(e)&interestMetadata != 0
}

// interest is what is wanted of a mailbox that is not selected. Several groups may speak
// of one (RFC 5465 section 6); NONE keeps it from those that follow. It is called by the
// store, from the pusher's goroutine too.
func (n *notify) interest(e store.Entry) (what store.Interest) {
	for i := range n.groups {
		g := &n.groups[i]
		if !g.filter.covers(e.Name, e.Subscribed, n.sep) {
			continue
		}
		if g.events == 0 {
			break
		}
		what |= g.events
	}
	if what&store.InterestMessages != 0 {
		what |= store.NoAccess
	}
	return what
}

// setNotify makes n what is told from now on. What the client was not told yet of the
// selected mailbox comes first, whatever it wanted before: RFC 5465 section 3.1.
func (s *session) setNotify(ctx context.Context, n *notify) error {
	old := s.notify
	s.notify = nil
	err := s.tellChanges(ctx, tellAll)
	s.notify = old
	if err != nil {
		if n.watch != nil {
			n.watch.Close()
		}
		return err
	}
	s.endWatch()
	s.notify = n
	if slices.ContainsFunc(n.groups, func(g eventGroup) bool { return g.events&(interestMetadata|interestServer) != 0 }) {
		s.watchAnnotations()
	}
	for _, item := range n.selected.items {
		if item.kind == fetchModSeq {
			s.condstoreOn()
		}
	}
	return nil
}

// endWatch lets go of the other mailboxes.
func (s *session) endWatch() {
	if s.notify == nil || s.notify.watch == nil {
		return
	}
	if err := s.notify.watch.Close(); err != nil {
		s.log.Warn("a watch does not close", "event", "watch_failed", "err", err)
	}
	s.notify.watch = nil
}

// writeWatched answers the STATUS indicator: the counts of all that is watched, but of the
// selected mailbox. RFC 5465 section 3.1.
func (s *session) writeWatched(ctx context.Context) error {
	n := s.notify
	ctx, stop := s.watched(ctx)
	defer stop()
	progress := s.working(false)
	defer progress.stop()
	for e, err := range s.listed(ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err != nil {
			return err
		}
		progress.tellIfDue()
		what := n.interest(e.Entry)
		if what&store.InterestMessages == 0 || !canSelect(e.Attrs) || s.sel != nil && s.sel.name == e.Name {
			continue
		}
		st, err := n.watch.Status(ctx, e.Name)
		switch {
		case ctx.Err() != nil:
			return err
		case err == nil:
			s.writeStatus(e.Name, e.told, s.statusOfEvents(what, true), st)
		case errors.Is(err, store.ErrNoPermission): // told with what cannot be watched
		case !errors.Is(err, store.ErrNotFound):
			s.log.Warn("a mailbox that is watched could not be counted", "event", "watch_failed", "mailbox", e.Name, "err", err)
		}
	}
	return nil
}

// statusOfEvents are the items of a STATUS that tells of a mailbox. RFC 5465 section 5.1,
// RFC 5465 section 5.2; with first, RFC 5465 section 3.1.
func (s *session) statusOfEvents(what store.Interest, first bool) statusItems {
	items := statusItems{order: []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY"}}
	flags := what&store.InterestFlags != 0
	if flags {
		items.order = append(items.order, "UNSEEN")
	}
	if s.condstore || flags && first {
		items.order = append(items.order, "HIGHESTMODSEQ")
	}
	return items
}

// await waits for the next command, or the end of an IDLE. Then, and under NOTIFY, the
// pusher writes meanwhile, and the client may be silent for as long as it is there.
func (s *session) await(ctx context.Context) error {
	switch {
	case s.idling:
		s.packed.rest(true)
	case s.notify == nil || !s.notify.listens || s.lex.Pending() > 0:
		return s.lex.Wait()
	default:
		if err := s.settleNow(ctx); err != nil {
			return err
		}
		if err := s.listen(); err != nil {
			return err
		}
	}
	s.startPush(ctx)
	err := s.lex.Wait()
	s.push.stop()
	if ferr := s.afterNow(); err == nil {
		err = ferr
	}
	s.idling, s.listening = false, false
	s.packed.rest(false)
	return err
}

// listen makes ready to be told between commands.
func (s *session) listen() error {
	if err := s.enc.Flush(); err != nil {
		return err
	}
	if sel := s.sel; sel != nil && s.notify.selected.messages && !s.notify.selected.delayed && sel.box.View().ModSeq > sel.view.ModSeq {
		s.wake() // an EXPUNGE that the last command had to keep back
	}
	s.readWithin(0)
	s.listening = true
	return nil
}
