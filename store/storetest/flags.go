package storetest

import (
	"slices"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var flags = []promise{
	{"flags are added, removed and set", func(w *world) {
		w.add(store.Inbox, with(imap.FlagSeen, "one"), with())
		s := w.hold(store.Inbox, true)
		rows := s.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1, 2)
		w.same("added", []any{rows[0].Flags, rows[1].Flags}, []any{store.FlagSeen | store.FlagFlagged, store.FlagFlagged})
		rows = s.flag(imap.StoreFlagsAdd, "two", 1, 2)
		w.same("keywords added", []any{rows[0].Keywords.Names(), rows[1].Keywords.Names()}, []any{"[one two]", "[two]"})
		rows = s.flag(imap.StoreFlagsDel, "one", 1, 2)
		w.same("keyword removed", []any{rows[0].Keywords.Names(), rows[1].Keywords.Names()}, []any{"[two]", "[two]"})
		rows = s.flag(imap.StoreFlagsDel, imap.FlagSeen, 1, 2)
		w.same("removed", []any{rows[0].Flags, rows[0].Keywords.Names()}, []any{store.FlagFlagged, "[two]"})
		rows = s.flag(imap.StoreFlagsSet, imap.FlagDraft, 1, 2)
		w.same("set", []any{rows[0].Flags, rows[0].Keywords.Names()}, []any{store.FlagDraft, "[]"})
		w.same("kept", s.row(2), rows[1])
	}},
	{"Having finds messages by their flags", func(w *world) {
		w.add(store.Inbox, with(imap.FlagSeen), with(imap.FlagSeen, imap.FlagFlagged), with(), with(imap.FlagSeen, "kw"), with(imap.FlagFlagged))
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		having := func(mask, want store.Flags, among ...imap.UID) []imap.UID {
			got, err := s.Having(w.ctx, slices.Clone(among), mask, want)
			w.ok(err)
			return append([]imap.UID{}, got...)
		}
		w.same("seen", having(store.FlagSeen, store.FlagSeen, 1, 2, 3, 4, 5), []imap.UID{1, 2, 4})
		w.same("seen and not flagged", having(store.FlagSeen|store.FlagFlagged, store.FlagSeen, 1, 2, 3, 4, 5), []imap.UID{1, 4})
		w.same("neither", having(store.FlagSeen|store.FlagFlagged, 0, 1, 2, 3, 4, 5), []imap.UID{3})
		w.same("among some", having(store.FlagSeen, 0, 2, 5, 9), []imap.UID{5})
		other.flag(imap.StoreFlagsAdd, imap.FlagSeen, 3)
		other.expunge(1)
		w.same("after a change and an expunge", having(store.FlagSeen, store.FlagSeen, 1, 2, 3, 4, 5), []imap.UID{2, 3, 4})
	}},
	{"SetFlags answers for each message that is there", func(w *world) {
		w.add(store.Inbox, with(imap.FlagSeen), with(), with(imap.FlagSeen))
		s, other := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		other.expunge(2)
		rows := s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 1, 2, 3, 9)
		w.same("rows", uidsOf(rows), []imap.UID{1, 3})
		other.flag(imap.StoreFlagsAdd, "kw", 3)
		rows = s.flag(imap.StoreFlagsAdd, imap.FlagAnswered, 3)
		w.same("newest", []any{rows[0].Flags, rows[0].Keywords.Names()}, []any{store.FlagSeen | store.FlagAnswered, "[kw]"})
	}},
	{"UnchangedSince refuses what changed", func(w *world) {
		w.add(store.Inbox, plain(3)...)
		s := w.hold(store.Inbox, true)
		op := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered}, UnchangedSince: s.view.ModSeq, HasUnchangedSince: true}
		s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 2)
		_, modified, err := s.SetFlags(w.ctx, upTo(3), op)
		w.ok(err)
		w.same("modified", modified, []imap.UID{2})
		w.same("flags", []any{s.row(1).Flags, s.row(2).Flags, s.row(3).Flags}, []any{store.FlagAnswered, store.FlagSeen, store.FlagAnswered})
		op.UnchangedSince = 0
		op.Flags = []imap.Flag{imap.FlagDraft}
		_, modified, err = s.SetFlags(w.ctx, upTo(3), op)
		w.ok(err)
		w.same("UNCHANGEDSINCE 0", modified, upTo(3))
		op.HasUnchangedSince = false
		_, modified, err = s.SetFlags(w.ctx, upTo(3), op)
		w.ok(err)
		w.same("no condition", modified, []imap.UID(nil))
	}},
	{"keywords keep the spelling first seen", func(w *world) {
		w.add(store.Inbox, with("$Forwarded"), with())
		s := w.hold(store.Inbox, true)
		s.flag(imap.StoreFlagsAdd, "$FORWARDED", 1, 2)
		s.flag(imap.StoreFlagsAdd, "NonJunk", 2)
		w.same("rows", []any{s.row(1).Keywords.Names(), s.row(2).Keywords.Names()}, []any{"[$Forwarded]", "[$Forwarded NonJunk]"})
		known := slices.Sorted(slices.Values(s.Info().Keywords))
		w.same("known", known, "[$Forwarded NonJunk]")
		w.same("equal sets", s.row(1).Keywords == s.flag(imap.StoreFlagsDel, "nonjunk", 2)[0].Keywords, true)
	}},
	{"many keywords are kept, or refused whole", func(w *world) {
		w.add(store.Inbox, with())
		s := w.hold(store.Inbox, true)
		for i := range 40 {
			kw := imap.Flag("kw" + string(rune('A'+i%26)) + string(rune('a'+i/26)))
			before := s.row(1)
			_, _, err := s.SetFlags(w.ctx, upTo(1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{kw}})
			if err != nil {
				w.is(err, store.ErrLimit)
				w.same("unchanged", s.row(1), before)
				return
			}
			w.same("kept", s.row(1).Keywords.Has(string(kw)), true)
		}
		w.same("all", len(s.row(1).Keywords.Names()), 40)
	}},
	{"Expunge removes what is Deleted now", func(w *world) {
		w.add(store.Inbox, with(imap.FlagDeleted), with(), with(imap.FlagDeleted), with(imap.FlagDeleted))
		s := w.hold(store.Inbox, true)
		gone, m, err := s.Expunge(w.ctx, []imap.UID{})
		w.ok(err)
		w.same("none", []any{len(gone), m}, []any{0, s.view.ModSeq})
		gone, m, err = s.Expunge(w.ctx, []imap.UID{1, 2})
		w.ok(err)
		w.same("those named", gone, []imap.UID{1})
		w.same("MODSEQ", m, s.View().ModSeq)
		s.flag(imap.StoreFlagsDel, imap.FlagDeleted, 3)
		gone, _, err = s.Expunge(w.ctx, nil)
		w.ok(err)
		w.same("all", gone, []imap.UID{4})
		w.same("vanished", s.advance(true).Vanished, []imap.UID{1, 4})
	}},
	{"UIDs are never used again", func(w *world) {
		w.add(store.Inbox, plain(3)...)
		s := w.hold(store.Inbox, true)
		s.expunge(2, 3)
		w.same("UIDNEXT", w.status(store.Inbox).UIDNext, 4)
		w.same("next", w.add(store.Inbox, plain(1)...).To, []imap.UID{4})
	}},
	{"a hold for reading changes nothing", func(w *world) {
		w.create("b")
		w.add(store.Inbox, with(imap.FlagDeleted))
		s := w.hold(store.Inbox, false)
		w.same("ReadOnly", s.Info().ReadOnly, true)
		_, _, err := s.SetFlags(w.ctx, upTo(1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		w.is(err, store.ErrReadOnly)
		_, _, err = s.Expunge(w.ctx, nil)
		w.is(err, store.ErrReadOnly)
		_, err = s.Move(w.ctx, upTo(1), "b")
		w.is(err, store.ErrReadOnly)
		_, err = s.Copy(w.ctx, upTo(1), "b")
		w.ok(err)
		st := w.status(store.Inbox)
		w.same("as it was", []any{st.Messages, st.Unseen, st.Deleted}, []any{1, 1, 1})
	}},
}
