package storetest

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// replace gives a message in place of another one, by an account of its own.
func (w *world) replace(src *session, uid imap.UID, to store.Name, m store.Meta, text string) (store.Copied, error) {
	w.Helper()
	b, err := src.a.Batch(w.ctx, to)
	w.ok(err)
	defer func() { w.ok(b.Close()) }()
	if err := b.Replace(src.Mailbox, uid); err != nil {
		return store.Copied{}, err
	}
	if err := b.Admit(int64(len(text))); err != nil {
		return store.Copied{}, err
	}
	if err := b.Add(w.ctx, m, strings.NewReader(text)); err != nil {
		return store.Copied{}, err
	}
	return b.Commit(w.ctx)
}

var replaces = []promise{
	{"Replace puts a message in the place of another", func(w *world) {
		w.add(store.Inbox, with(imap.FlagDraft), with(), with())
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		other.forget()
		c, err := w.replace(s, 2, store.Inbox, with("kw"), letter(7))
		w.ok(err)
		w.same("told", []any{c.UIDValidity, c.From, c.To}, []any{s.Info().UIDValidity, []imap.UID(nil), []imap.UID{4}})
		other.wake()
		d := other.advance(true)
		w.same("delta", []any{d.Vanished, d.Exists}, []any{[]imap.UID{2}, 3})
		w.same("messages", other.uids(), []imap.UID{1, 3, 4})
		r := other.row(4)
		w.same("row", []any{r.Flags, r.Keywords.Names()}, []any{store.Flags(0), "[kw]"})
		w.same("text", other.read(4), letter(7))
		gone, known, err := other.Vanished(s.view.ModSeq, other.view)
		w.ok(err)
		w.same("vanished", []any{gone, known}, []any{[]imap.UID{2}, true})
	}},
	{"Replace reaches into another mailbox", func(w *world) {
		w.create("Sent")
		w.add(store.Inbox, plain(2)...)
		s := w.hold(store.Inbox, true)
		c, err := w.replace(s, 1, "Sent", with(imap.FlagSeen), letter(5))
		w.ok(err)
		w.same("source", s.advance(true).Vanished, []imap.UID{1})
		sent := w.hold("Sent", false)
		w.same("target", []any{sent.uids(), sent.Info().UIDValidity}, []any{c.To, c.UIDValidity})
		w.same("text", sent.read(c.To[0]), letter(5))
	}},
	{"Replace of what is gone adds nothing", func(w *world) {
		w.create("Sent")
		w.add(store.Inbox, plain(3)...)
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		other.expunge(1)
		for _, uid := range []imap.UID{1, 9} {
			_, err := w.replace(s, uid, "Sent", store.Meta{}, letter(1))
			w.is(err, store.ErrGone)
		}
		// and when it goes while the new one comes
		b, err := s.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Replace(s.Mailbox, 2))
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(1))))
		other.expunge(2)
		_, err = b.Commit(w.ctx)
		w.is(err, store.ErrGone)
		w.ok(b.Close())
		w.same("messages", []any{w.status(store.Inbox).Messages, w.status("Sent").Messages}, []any{1, 0})
	}},
	{"Replace that is not committed leaves all as it was", func(w *world) {
		w.add(store.Inbox, plain(1)...)
		s := w.hold(store.Inbox, true)
		b, err := s.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Replace(s.Mailbox, 1))
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(3))))
		w.ok(b.Close())
		s.advance(true)
		w.same("messages", s.uids(), upTo(1))
		w.same("text", s.read(1), letter(0))
	}},
	{"Replace needs a hold for writing", func(w *world) {
		w.add(store.Inbox, plain(1)...)
		_, err := w.replace(w.hold(store.Inbox, false), 1, store.Inbox, store.Meta{}, letter(1))
		w.is(err, store.ErrReadOnly)
	}},
	{"Replace counts what goes as gone", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		who := w.Who
		who.Quota.Messages = 2
		who.Quota.Bytes = int64(len(letter(0)) + len(letter(9)))
		s := &session{w: w, a: w.account(who)}
		m, err := s.a.Hold(w.ctx, store.Inbox, true, func() {})
		w.ok(err)
		w.closers = append(w.closers, m)
		s.Mailbox = m
		_, err = w.replace(s, 2, store.Inbox, store.Meta{}, letter(9))
		w.ok(err)
		_, err = w.replace(s, 3, store.Inbox, store.Meta{}, letter(10))
		w.is(err, store.ErrOverQuota)
		w.same("messages", w.status(store.Inbox).Messages, 2)
	}},
	{"Replace lasts", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		s := w.hold(store.Inbox, true)
		_, err := w.replace(s, 1, store.Inbox, store.Meta{}, letter(4))
		w.ok(err)
		w.reopen()
		s = w.hold(store.Inbox, false)
		w.same("messages", s.uids(), []imap.UID{2, 3})
		w.same("text", s.read(3), letter(4))
	}},
}
