package storetest

import (
	"slices"
	"strings"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var copies = []promise{
	{"Copy takes content, flags and date along", func(w *world) {
		w.create("b")
		w.add("b", plain(2)...)
		when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		w.add(store.Inbox, with(), store.Meta{Flags: []imap.Flag{imap.FlagSeen, "kw"}, Time: when}, with())
		s := w.hold(store.Inbox, false)
		c, err := s.Copy(w.ctx, []imap.UID{2, 3}, "b")
		w.ok(err)
		b := w.hold("b", true)
		w.same("copied", []any{c.UIDValidity, c.From, c.To}, []any{b.Info().UIDValidity, []imap.UID{2, 3}, []imap.UID{3, 4}})
		r := b.row(3)
		w.same("row", []any{r.Flags, r.Keywords.Names(), r.Internal}, []any{store.FlagSeen, "[kw]", when.Unix()})
		w.same("message", b.read(3), letter(1))
		w.same("source", s.advance(true).Exists, 3)
		b.flag(imap.StoreFlagsSet, imap.FlagFlagged, 3)
		w.same("the source is another message", s.row(2).Flags, store.FlagSeen)
	}},
	{"Copy is all or none", func(w *world) {
		w.create("b")
		w.add(store.Inbox, plain(3)...)
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		other.expunge(3)
		_, err := s.Copy(w.ctx, upTo(3), "b")
		w.is(err, store.ErrGone)
		w.same("messages", w.status("b").Messages, 0)
	}},
	{"Copy works within a mailbox", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		s := w.hold(store.Inbox, true)
		c, err := s.Copy(w.ctx, upTo(2), store.Inbox)
		w.ok(err)
		w.same("to", c.To, []imap.UID{3, 4})
		w.same("exists", s.advance(true).Exists, 4)
		w.same("message", s.read(4), letter(1))
	}},
	{"Copy of nothing is nothing", func(w *world) {
		w.create("b")
		s := w.hold(store.Inbox, true)
		c, err := s.Copy(w.ctx, nil, "b")
		w.ok(err)
		w.same("copied", []any{len(c.From), len(c.To)}, []any{0, 0})
	}},
	{"Copy keeps to the quota", func(w *world) {
		w.add(store.Inbox, plain(4)...)
		who := w.Who
		who.Quota.Messages = 6
		a := w.account(who)
		m, err := a.Hold(w.ctx, store.Inbox, true, func() {})
		w.ok(err)
		w.closers = append(w.closers, m)
		_, err = m.Copy(w.ctx, upTo(4), store.Inbox)
		w.is(err, store.ErrOverQuota)
		w.same("messages", w.status(store.Inbox).Messages, 4)
		_, err = m.Copy(w.ctx, upTo(2), store.Inbox)
		w.ok(err)
		b, err := a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.is(b.Admit(1), store.ErrOverQuota)
		w.ok(b.Close())
	}},
	{"Move leaves out the gone", func(w *world) {
		w.create("b")
		w.add(store.Inbox, with(imap.FlagSeen), with(), with("kw"))
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		other.expunge(2)
		c, err := s.Move(w.ctx, upTo(3), "b")
		w.ok(err)
		w.same("moved", []any{c.From, c.To}, []any{[]imap.UID{1, 3}, upTo(2)})
		w.same("vanished", s.advance(true).Vanished, upTo(3))
		b := w.hold("b", true)
		w.same("rows", []any{b.row(1).Flags, b.row(2).Keywords.Names()}, []any{store.FlagSeen, "[kw]"})
		w.same("message", b.read(2), letter(2))
		w.same("UIDNEXT of the source", w.status(store.Inbox).UIDNext, 4)
	}},
	{"a message that is moved to and fro gets new UIDs", func(w *world) {
		w.create("b")
		w.add(store.Inbox, plain(1)...)
		inbox, b := w.hold(store.Inbox, true), w.hold("b", true)
		for i := range 3 {
			c, err := inbox.Move(w.ctx, []imap.UID{imap.UID(i + 1)}, "b")
			w.ok(err)
			w.same("there", c.To, []imap.UID{imap.UID(i + 1)})
			c, err = b.Move(w.ctx, c.To, store.Inbox)
			w.ok(err)
			w.same("back", c.To, []imap.UID{imap.UID(i + 2)})
		}
		inbox.advance(true)
		b.advance(true)
		w.same("UIDs", []any{inbox.uids(), len(b.uids())}, []any{[]imap.UID{4}, 0})
		w.same("message", inbox.read(4), letter(0))
	}},
}

var durable = []promise{
	{"all is there after a restart", func(w *world) {
		n := w.name("a", "b")
		w.create(n, "gone")
		w.ok(w.a.Create(w.ctx, "Out", []imap.MailboxAttr{imap.MailboxAttrSent}))
		w.ok(w.a.Subscribe(w.ctx, n, true))
		w.ok(w.a.Delete(w.ctx, "gone"))
		when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		w.add(n, with(imap.FlagSeen), store.Meta{Flags: []imap.Flag{"kw", "$Label1"}, Time: when}, with(), with())
		s := w.hold(n, true)
		s.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1, 3)
		s.expunge(4)
		_, err := s.Copy(w.ctx, []imap.UID{2}, store.Inbox)
		w.ok(err)
		_, err = s.Move(w.ctx, []imap.UID{3}, store.Inbox)
		w.ok(err)
		before, list := w.status(n), w.list("*")
		rows := s.rows(0, upTo(9)...)

		w.reopen()
		w.same("list", w.list("*"), list)
		w.same("subscribed", w.subscribed("*", false), string(n)+`(\HasNoChildren)`)
		after := w.status(n)
		if after.HighestModSeq < before.HighestModSeq {
			w.Fatalf("MODSEQ went from %d to %d", before.HighestModSeq, after.HighestModSeq)
		}
		before.Recent, after.Recent, before.HighestModSeq, after.HighestModSeq = 0, 0, 0, 0
		w.same("status", after, before)
		s = w.hold(n, true)
		again := s.rows(0, upTo(9)...)
		for i := range again {
			again[i].ModSeq, rows[i].ModSeq = 0, 0
			if again[i].Size == -1 || rows[i].Size == -1 {
				again[i].Size, rows[i].Size = 0, 0
			}
			same := slices.Equal(again[i].Keywords.Names(), rows[i].Keywords.Names())
			again[i].Keywords, rows[i].Keywords = store.Keywords{}, store.Keywords{}
			if !same || again[i] != rows[i] {
				w.Fatalf("row was %+v, is %+v", rows[i], again[i])
			}
		}
		w.same("message", s.read(2), letter(1))
		inbox := w.hold(store.Inbox, true)
		w.same("moved", []any{inbox.read(1), inbox.read(2), inbox.row(2).Flags}, []any{letter(1), letter(2), store.FlagFlagged})
		w.same("next UID", w.add(n, plain(1)...).To, []imap.UID{5})
	}},
	{"a restart changes nothing that clients know", func(w *world) {
		w.add(store.Inbox, with("kw"), with(), with())
		s := w.hold(store.Inbox, true)
		s.expunge(2)
		s.advance(true)
		view, validity, id := s.view, s.Info().UIDValidity, s.Info().ID
		for range 3 {
			w.reopen()
			s = w.hold(store.Inbox, true)
			w.same("known", []any{s.Info().UIDValidity, s.Info().ID, s.uids(), s.view.UIDNext}, []any{validity, id, []imap.UID{1, 3}, 4})
			if s.view.ModSeq < view.ModSeq {
				w.Fatalf("MODSEQ went from %d to %d", view.ModSeq, s.view.ModSeq)
			}
			view = s.view
			w.same("message", strings.HasPrefix(s.read(3), "Subject:"), true)
		}
	}},
}
