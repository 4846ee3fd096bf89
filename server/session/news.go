package session

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// What NOTIFY tells of mailboxes that are not selected, and what it does not, since the
// client did it itself: RFC 5465 sections 5 and 6.

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
	if !s.push.takeNews() || n == nil || n.watch == nil {
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
		if s.sel != nil && s.sel.name == e.Name && !e.Torn { // which had another name before
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
			s.sel.name, s.sel.unnamed = e.Name, e.Torn
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
	if !sel.unnamed {
		s.notify.watch.Told(sel.name, func(st *store.Status) {
			st.Messages = uint32(max(sel.view.UIDs.Len()-gone, 0))
			st.UIDNext = max(sel.view.UIDNext, 1)
			if !sel.noModSeq {
				st.HighestModSeq = sel.cursor()
			}
		})
	}
	s.wakeNews() // what was kept back while it was selected
}
