package session

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

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
			if !s.oneEvent(name, ofSelected, given, &g, &err) || err != nil {
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

// oneEvent notes an event, and reports whether data items may follow it.
func (s *session) oneEvent(name string, ofSelected bool, given map[string]bool, g *groupEvents, err *error) (items bool) {
	for _, e := range notifyEvents {
		if !strings.EqualFold(e.name, name) {
			continue
		}
		if ofSelected && !e.message {
			*err = bad("%s does not go with SELECTED", e.name)
			return false
		}
		if e.interest == 0 {
			g.unsupported = e.name
		}
		given[e.name] = true
		g.interest |= e.interest
		return e.name == "MessageNew"
	}
	given["?"] = true
	g.unsupported = name
	return false
}

// ofSelected tells whether the filter means the selected mailbox, and no other.
func (f *mailboxFilter) ofSelected() bool { return f.kind <= filterSelectedDelayed }

// wantsAnnotated tells whether NOTIFY asked for changes of annotations, of a mailbox or,
// where n is "", of the server. RFC 5465 section 5.6, RFC 5465 section 5.7.
func (s *session) wantsAnnotated(n store.Name) bool {
	switch {
	case s.notify == nil:
		return false
	case n == "":
		return slices.ContainsFunc(s.notify.groups, func(g eventGroup) bool { return g.events&interestServer != 0 })
	}
	e := store.Entry{Name: n}
	for x, err := range s.acct.List(context.Background(), store.ListQuery{Patterns: []string{string(n)}}) {
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

// wakeNews is what a Watch calls. It never blocks.
func (s *session) wakeNews() {
	s.push.mu.Lock()
	defer s.push.mu.Unlock()
	s.push.news = true
	s.pushLocked()
}

// tellNews tells what happened in other mailboxes.
func (s *session) tellNews(ctx context.Context) {
	n := s.notify
	if n == nil || n.watch == nil || !s.push.takeNews() {
		return
	}
	var except store.Name
	if s.sel != nil {
		except = s.sel.name
	}
	events, err := n.watch.Pull(ctx, except)
	own := n.own
	n.own = nil
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		s.overflow(err)
		return
	}
	s.follow(events)
	for _, e := range events {
		for _, o := range own {
			e.Kind &^= o.explains(e, s.sep)
		}
		if s.sel != nil && s.sel.name == e.Name { // which had another name before
			e.Kind &^= store.InterestMessages | store.InterestUnseen | store.InterestFlags
		}
		s.writeEvent(e)
	}
}

// follow finds the selected mailbox again where it has another name.
func (s *session) follow(events []store.Event) {
	if s.sel == nil {
		return
	}
	for _, e := range events {
		if e.From == s.sel.name {
			s.sel.name = e.Name
			return
		}
	}
	for _, e := range events {
		if before := s.sel.name; e.From != "" && !e.Torn {
			if s.renamed(e.From, e.Name); s.sel.name != before {
				return
			}
		}
	}
}

// ownChange is what the client did itself to a name, of which it is not told (RFC 5465
// section 5). What others did to the same name meanwhile it is told.
type ownChange struct {
	name  store.Name
	event store.Interest // InterestNames or InterestSubscriptions
	on    bool           // it is there now, or subscribed
}

// explains gives those changes of e that the client knows of.
func (o ownChange) explains(e store.Event, sep byte) store.Interest {
	there := !slices.Contains(e.Entry.Attrs, imap.MailboxAttrNonExistent)
	switch {
	case e.Torn:
	case o.event == store.InterestSubscriptions:
		if e.Name == o.name && e.Entry.Subscribed == o.on {
			return store.InterestSubscriptions
		}
	case e.Name == o.name && there == o.on,
		!e.Came && strings.HasPrefix(string(o.name), string(e.Name)+string(sep)): // it has children now, or none
		return store.InterestNames
	}
	return 0
}

// overflow ends all notifications that can be told no longer. RFC 5465 section 5.8.
func (s *session) overflow(err error) {
	text := "Mailboxes cannot be watched any more"
	if errors.Is(err, store.ErrLimit) {
		text = "Too many mailboxes"
	} else {
		s.log.Warn("mailboxes cannot be watched", "event", "watch_failed", "err", err)
	}
	s.endWatch()
	s.notify = &notify{}
	s.enc.Raw("* OK [NOTIFICATIONOVERFLOW] ").Raw(text).Raw("; as after NOTIFY NONE\r\n")
}

// writeEvent tells of one mailbox.
func (s *session) writeEvent(e store.Event) {
	told := s.told(e.Name)
	if e.Kind&(store.InterestNames|store.InterestSubscriptions|store.NoAccess) != 0 {
		attrs := slices.Clone(e.Entry.Attrs)
		if e.Entry.Subscribed {
			attrs = append(attrs, imap.MailboxAttrSubscribed)
		}
		if e.Kind&store.NoAccess != 0 {
			attrs = append(attrs, `\NoAccess`)
		}
		if slices.Contains(attrs, imap.MailboxAttrNonExistent) && !s.rev2 && !slices.Contains(attrs, imap.MailboxAttrNoSelect) {
			attrs = append(attrs, imap.MailboxAttrNoSelect)
		}
		s.writeListed("LIST", attrs, told)
		if e.From != "" && !e.Torn {
			s.enc.Raw(` ("OLDNAME" (`).Mailbox(string(s.told(e.From))).Raw("))")
		}
		s.enc.CRLF()
	}
	what := e.Kind & (store.InterestMessages | store.InterestUnseen)
	if s.condstore {
		what |= e.Kind & store.InterestFlags
	}
	if what != 0 {
		s.writeStatus(e.Name, told, s.statusOfEvents(s.notify.interest(e.Entry), false), e.Status)
	}
}

// didOwn notes what the client did by the command at hand.
func (s *session) didOwn(changes ...ownChange) {
	if s.notify != nil && s.notify.watch != nil {
		s.notify.own = append(s.notify.own, changes...)
	}
}

// addedOwn notes messages that the client itself added to a mailbox.
func (s *session) addedOwn(n store.Name, c store.Copied) {
	if s.notify != nil && s.notify.watch != nil {
		s.notify.watch.Told(n, func(st *store.Status) { st.Added(c) })
	}
	if sel := s.sel; sel != nil && sel.name == n && (s.notify != nil || len(sel.contexts) > 0) {
		sel.ownAdded = append(sel.ownAdded, c.To...)
	}
}

// leaves notes what the client knows of the mailbox that was selected, less gone messages.
func (s *session) leaves(sel *selected, gone int) {
	if s.notify == nil || s.notify.watch == nil {
		return
	}
	s.notify.watch.Told(sel.name, func(st *store.Status) {
		st.Messages = uint32(max(sel.view.UIDs.Len()-gone, 0))
		st.UIDNext = max(sel.view.UIDNext, 1)
		if !sel.noModSeq {
			st.HighestModSeq = sel.cursor()
		}
	})
	s.wakeNews() // what was kept back while it was selected
}

// tellFresh tells more of the messages that are new since the view old than EXISTS does:
// the data items that MessageNew asked for (RFC 5465 section 5.2), which results of
// searches they are, and those of changed, and the data items that UPDATE asked for (RFC 5465
// section 7), which stand before them: in section 5.2 those of MessageNew alone stand behind.
func (s *session) tellFresh(ctx context.Context, old store.View, changed []imap.UID) error {
	sel, n := s.sel, s.notify
	first, _ := sel.view.UIDs.Find(old.UIDNext)
	var fresh arrived
	for _, uid := range sel.view.UIDs.All(first) {
		fresh.uids = append(fresh.uids, uid)
	}
	tellResults := s.updateResults(ctx, changed, &fresh)
	updates := fresh.items != nil
	if n != nil && len(n.selected.items) > 0 {
		for i := range fresh.uids {
			fresh.want(i, n.selected.items)
		}
	}
	if fresh.items != nil && len(sel.ownAdded) > 0 {
		for i, uid := range fresh.uids {
			if slices.Contains(sel.ownAdded, uid) {
				fresh.items[i] = nil
			}
		}
	}
	sel.ownAdded = nil
	if updates {
		err := s.fetchFresh(ctx, &fresh)
		tellResults()
		return err
	}
	tellResults()
	return s.fetchFresh(ctx, &fresh)
}

// fetchFresh writes the data items of new messages. \Seen is not set: the client has seen
// nothing yet.
func (s *session) fetchFresh(ctx context.Context, fresh *arrived) error {
	for from := 0; from < len(fresh.items); {
		to := from + 1
		for to < len(fresh.items) && len(fresh.items[to]) == len(fresh.items[from]) && reflect.DeepEqual(fresh.items[to], fresh.items[from]) {
			to++
		}
		if err := s.fetchItems(ctx, fresh.uids[from:to], fresh.items[from]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func (s *session) fetchItems(ctx context.Context, uids []imap.UID, items []fetchItem) error {
	sel := s.sel
	if len(items) == 0 {
		return nil
	}
	plan := planOf(slices.Clone(items))
	if sel.noModSeq {
		plan = planOf(slices.DeleteFunc(plan.items, func(i fetchItem) bool { return i.kind == fetchModSeq }))
	} else if s.condstore && !plan.mod { // RFC 7162 section 3.1.4.1
		plan.items = append(plan.items, fetchItem{kind: fetchModSeq})
		plan.mod, plan.onlyUID = true, false
	}
	plan.seen = false
	f := &fetcher{s: s, box: sel.box, enc: s.enc, uid: s.condstore, plan: plan}
	_, err := f.run(ctx, uids, 0)
	if f.failed != nil {
		s.log.Warn("a new message could not be told of", "event", "notify_failed", "mailbox", sel.name, "uid", f.failedUID, "err", f.failed)
	}
	return err
}

// await waits for the next command. Under NOTIFY the pusher writes meanwhile, and the
// client may be silent for as long as it is there, as when it idles.
func (s *session) await(ctx context.Context) error {
	if s.notify == nil || !s.notify.listens || s.lex.Pending() > 0 {
		return s.lex.Wait()
	}
	if err := s.enc.Flush(); err != nil {
		return err
	}
	if sel := s.sel; sel != nil && s.notify.selected.messages && !s.notify.selected.delayed && sel.box.View().ModSeq > sel.view.ModSeq {
		s.push.awake() // an EXPUNGE that the last command had to keep back
	}
	s.readWithin(0)
	s.listening = true
	s.startPush(ctx)
	err := s.lex.Wait()
	s.push.stop()
	s.listening = false
	return err
}
