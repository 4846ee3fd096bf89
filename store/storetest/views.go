package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var views = []promise{
	{"a hold starts with what is there", func(w *world) {
		empty := w.hold(store.Inbox, true)
		w.same("nothing", []any{empty.view.UIDs.Len(), empty.first.Exists, empty.first.Grown}, []any{0, 0, false})
		w.add(store.Inbox, with(imap.FlagSeen), with())
		s := w.hold(store.Inbox, true)
		w.same("UIDs", s.uids(), upTo(2))
		w.same("delta", []any{s.first.Exists, s.first.Grown, s.first.Vanished, len(s.first.Changed)}, []any{2, true, []imap.UID(nil), 0})
		w.same("UIDNEXT", s.view.UIDNext, 3)
		if s.view.ModSeq == 0 {
			w.Fatal("MODSEQ 0 was shown")
		}
		w.same("View", s.View().UIDs.Len(), 2)
	}},
	{"a message that was added is not coming any more", func(w *world) {
		s := w.hold(store.Inbox, true)
		w.add(store.Inbox, plain(2)...)
		w.ok(s.Settled(w.Context()))
		n, _ := s.Coming()
		w.same("coming", n, 0)
		w.same("View", s.View().UIDs.Len(), 2)
	}},
	{"the first unseen message is known", func(w *world) {
		w.add(store.Inbox, with(imap.FlagSeen), with(), with(imap.FlagSeen), with())
		s := w.hold(store.Inbox, true)
		w.same("at first", s.FirstUnseen(), 2)
		s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 2)
		w.same("after it was read", s.FirstUnseen(), 4)
		s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 4)
		w.same("when all were", s.FirstUnseen(), 0)
		s.flag(imap.StoreFlagsDel, imap.FlagSeen, 1)
		w.same("when one was not after all", s.FirstUnseen(), 1)
		s.expunge(1)
		w.add(store.Inbox, with())
		w.same("when another came", s.FirstUnseen(), 5)
	}},
	{"Advance tells what others did", func(w *world) {
		w.add(store.Inbox, plain(3)...)
		a, b := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		b.flag(imap.StoreFlagsAdd, imap.FlagSeen, 3)
		b.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1)
		b.flag(imap.StoreFlagsAdd, imap.FlagAnswered, 3)
		w.add(store.Inbox, plain(2)...)
		d := a.advance(false)
		w.same("delta", []any{d.Exists, d.Grown, d.Vanished, uidsOf(d.Changed)}, []any{5, true, []imap.UID(nil), []imap.UID{1, 3}})
		w.same("flags of 3", d.Changed[1].Flags, store.FlagSeen|store.FlagAnswered)
		d = a.advance(true)
		w.same("nothing more", []any{d.Exists, d.Grown, len(d.Vanished), len(d.Changed)}, []any{5, false, 0, 0})
		b.expunge(2, 4)
		d = a.advance(true)
		w.same("expunged", []any{d.Exists, d.Grown, d.Vanished}, []any{3, false, []imap.UID{2, 4}})
		w.same("UIDs", a.uids(), []imap.UID{1, 3, 5})
	}},
	{"Advance stops before an expunge that may not be told", func(w *world) {
		w.add(store.Inbox, plain(3)...)
		a, b := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		b.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1)
		w.add(store.Inbox, plain(1)...)
		m := b.expunge(2)
		b.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 3)
		w.add(store.Inbox, plain(1)...)

		d := a.advance(false)
		w.same("before it", []any{a.uids(), d.Grown, d.Exists, d.Vanished}, []any{upTo(4), true, 4, []imap.UID(nil)})
		w.same("changed before it", slices.Contains(uidsOf(d.Changed), 1), true)
		w.same("changed behind it", slices.Contains(uidsOf(d.Changed), 3), false)
		if a.view.ModSeq >= m {
			w.Fatalf("the cursor is at %d and the expunge at %d: a client cut off now would never hear of it", a.view.ModSeq, m)
		}
		stopped := a.view
		d = a.advance(false)
		w.same("no further", []any{a.view.ModSeq, d.Grown, len(d.Changed)}, []any{stopped.ModSeq, false, 0})
		d = a.advance(true)
		w.same("after it", []any{a.uids(), d.Grown, d.Exists, d.Vanished, uidsOf(d.Changed)},
			[]any{[]imap.UID{1, 3, 4, 5}, true, 4, []imap.UID{2}, []imap.UID{3}})
		w.same("the end", a.view.ModSeq, b.View().ModSeq)
	}},
	{"a message that came and went is never shown", func(w *world) {
		a, b := w.hold(store.Inbox, true), w.hold(store.Inbox, true)
		w.add(store.Inbox, plain(1)...)
		b.expunge(1)
		d := a.advance(true)
		w.same("delta", []any{d.Exists, d.Vanished, a.view.UIDNext}, []any{0, []imap.UID(nil), 2})
	}},
	{"old views stay as they were", func(w *world) {
		w.add(store.Inbox, plain(300)...)
		s := w.hold(store.Inbox, true)
		old := s.view
		s.expunge(1, 150, 300)
		w.add(store.Inbox, plain(10)...)
		s.advance(true)
		w.same("old", old.UIDs.Slice(0, old.UIDs.Len()), upTo(300))
		w.same("new", s.view.UIDs.Len(), 307)
	}},
	{"any old view can be advanced", func(w *world) {
		w.add(store.Inbox, plain(20)...)
		s := w.hold(store.Inbox, true)
		old := []store.View{s.view}
		for i := range 8 {
			s.expunge(imap.UID(2*i + 1))
			w.add(store.Inbox, plain(1)...)
			s.flag([]imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel}[i%2], imap.FlagFlagged, 20)
			s.advance(true)
			old = append(old, s.view)
		}
		for i, v := range old[:8] {
			next, d, err := s.Advance(v, true)
			w.ok(err)
			w.same("vanished", len(d.Vanished), 8-i)
			w.same("changed", uidsOf(d.Changed), []imap.UID{20})
			w.same("UIDs", next.UIDs.Slice(0, next.UIDs.Len()), s.uids())
			next, d, err = s.Advance(v, false)
			w.ok(err)
			w.same("vanished without expunges", len(d.Vanished), 0)
			for k, u := range v.UIDs.All(0) {
				if next.UIDs.At(k) != u {
					w.Fatalf("sequence number %d was UID %d and became %d", k+1, u, next.UIDs.At(k))
				}
			}
		}
	}},
	{"expunges since a MODSEQ are known, or it is said that they are not", func(w *world) {
		w.add(store.Inbox, plain(30)...)
		s := w.hold(store.Inbox, true)
		type step struct {
			before store.View
			gone   []imap.UID
		}
		var steps []step
		for i := range 6 {
			steps = append(steps, step{s.view, []imap.UID{imap.UID(5*i + 2), imap.UID(5*i + 4)}})
			s.expunge(steps[i].gone...)
			s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 1)
			w.add(store.Inbox, plain(1)...)
			s.advance(true)
		}
		reopened := false
		check := func(s *session, from, to int, v store.View) {
			w.Helper()
			var want []imap.UID
			for _, x := range steps[from:to] {
				want = append(want, x.gone...)
			}
			got, known, err := s.Vanished(steps[from].before.ModSeq, v)
			w.ok(err)
			if !known {
				if !reopened {
					w.Fatalf("expunges since step %d are forgotten already", from)
				}
				return
			}
			if reopened { // more may be told than was asked for, and nothing that is there
				for _, uid := range got {
					if _, there := v.UIDs.Find(uid); there {
						w.Fatalf("UID %d is told as expunged", uid)
					}
				}
				got = slices.DeleteFunc(got, func(uid imap.UID) bool { return !slices.Contains(want, uid) })
			}
			w.same(fmt.Sprintf("vanished from %d to %d", from, to), got, want)
		}
		for from := range steps {
			check(s, from, len(steps), s.view)
			for to := from; to < len(steps); to++ {
				check(s, from, to, steps[to].before)
			}
		}
		got, known, err := s.Vanished(s.view.ModSeq, s.view)
		w.ok(err)
		w.same("nothing since now", []any{len(got), known}, []any{0, true})
		last := s.view
		w.reopen()
		reopened = true
		s = w.hold(store.Inbox, true)
		if s.view.ModSeq < last.ModSeq {
			w.Fatalf("MODSEQ went from %d to %d", last.ModSeq, s.view.ModSeq)
		}
		for from := range steps {
			check(s, from, len(steps), s.view)
		}
	}},
	{"what changed since is named without what did not", func(w *world) {
		w.add(store.Inbox, plain(40)...)
		s := w.hold(store.Inbox, true)
		type moment struct {
			view store.View
			here bool // and not before the store was opened anew
		}
		var moments []moment
		step := func(do func()) {
			moments = append(moments, moment{s.view, true})
			do()
			s.advance(true)
		}
		check := func() {
			w.Helper()
			all := s.view.UIDs.Slice(0, s.view.UIDs.Len())
			for i, m := range moments {
				var want []imap.UID
				for rows, err := range s.Rows(w.Context(), all, m.view.ModSeq) {
					w.ok(err)
					for _, r := range rows {
						want = append(want, r.UID)
					}
				}
				got, known, err := s.Changed(m.view.ModSeq, s.view)
				w.ok(err)
				if !known {
					if m.here {
						w.Fatalf("changes since step %d are forgotten already", i)
					}
					continue
				}
				if !slices.IsSorted(got) {
					w.Fatalf("changes since step %d are %v", i, got)
				}
				for _, uid := range want {
					if !slices.Contains(got, uid) {
						w.Fatalf("UID %d changed since step %d, which names %v", uid, i, got)
					}
				}
				if m.here && len(got) > len(want)+2 { // an expunged one that was changed before
					w.Fatalf("since step %d %v changed, and %v are named", i, want, got)
				}
			}
		}
		step(func() { s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 7, 30) })
		step(func() { s.expunge(30, 31) })
		step(func() { w.add(store.Inbox, plain(2)...) })
		step(func() { s.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 7, 41) })
		step(func() {})
		check()
		w.reopen()
		s = w.hold(store.Inbox, true)
		for i := range moments {
			moments[i].here = false
		}
		step(func() { s.flag(imap.StoreFlagsDel, imap.FlagFlagged, 7) })
		check()
	}},
	{"everything wakes those who hold the mailbox", func(w *world) {
		w.create("b")
		w.add("b", plain(3)...)
		b := w.hold("b", true)
		inbox := w.hold(store.Inbox, true)
		for _, what := range []func(){
			func() { w.add(store.Inbox, plain(2)...) },
			func() { inbox.flag(imap.StoreFlagsAdd, imap.FlagSeen, 1) },
			func() { inbox.expunge(1) },
			func() { _, err := b.Copy(w.ctx, upTo(1), store.Inbox); w.ok(err) },
			func() { _, err := b.Move(w.ctx, upTo(1), store.Inbox); w.ok(err) },
			func() { _, err := inbox.Move(w.ctx, []imap.UID{2}, "b"); w.ok(err) },
		} {
			s := w.hold(store.Inbox, false)
			s.forget()
			what()
			s.wake()
			v, _, err := s.Advance(s.view, true)
			w.ok(err)
			if v.ModSeq <= s.view.ModSeq {
				w.Fatal("a wake, and nothing new")
			}
		}
	}},
	{"a wake may call the hold", func(w *world) {
		var m store.Mailbox
		var v store.View
		called := make(chan error, 10)
		a := w.account(w.Who)
		var once sync.Mutex
		m, err := a.Hold(w.ctx, store.Inbox, true, func() {
			once.Lock()
			defer once.Unlock()
			if m != nil {
				_, _, err := m.Advance(v, true)
				called <- err
			}
		})
		w.ok(err)
		w.closers = append(w.closers, m)
		w.add(store.Inbox, plain(1)...)
		w.ok(<-called)
	}},
	{"Recent is claimed once", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		recent := w.status(store.Inbox).Recent
		reader := w.hold(store.Inbox, false)
		w.same("told to a reader", len(reader.first.Recent), recent)
		w.same("not claimed by it", w.status(store.Inbox).Recent, recent)
		first := w.hold(store.Inbox, true)
		w.same("told to the first", len(first.first.Recent), recent)
		second := w.hold(store.Inbox, true)
		w.same("told to the second", len(second.first.Recent), 0)
		w.same("left", w.status(store.Inbox).Recent, 0)
		w.add(store.Inbox, plain(1)...)
		recent = w.status(store.Inbox).Recent
		told := len(first.advance(false).Recent) + len(second.advance(false).Recent)
		w.same("told to both", told, recent)
	}},
	{"MODSEQs only rise", func(w *world) {
		s := w.hold(store.Inbox, true)
		last := s.view.ModSeq
		higher := func(what string, m store.ModSeq) {
			w.Helper()
			if m <= last {
				w.Fatalf("%s: MODSEQ %d after %d", what, m, last)
			}
			last = m
			w.same("the View's", s.View().ModSeq, m)
		}
		for range 3 {
			added := w.add(store.Inbox, plain(2)...).To
			higher("add", s.rows(0, added...)[1].ModSeq)
			higher("flag", s.flag(imap.StoreFlagsAdd, imap.FlagSeen, added...)[1].ModSeq)
			higher("keyword", s.flag(imap.StoreFlagsAdd, "kw", added...)[1].ModSeq)
			s.flag(imap.StoreFlagsAdd, imap.FlagDeleted, added[0])
			last = s.View().ModSeq
			_, m, err := s.Expunge(w.ctx, nil)
			w.ok(err)
			higher("expunge", m)
		}
	}},
	{"Rows leaves out the gone and the old", func(w *world) {
		w.add(store.Inbox, plain(1200)...)
		s := w.hold(store.Inbox, true)
		all := s.uids()
		w.same("all", uidsOf(s.rows(0, all...)), all)
		m := s.view.ModSeq
		s.flag(imap.StoreFlagsAdd, imap.FlagSeen, 7, 1100)
		s.expunge(8)
		w.same("newer", uidsOf(s.rows(m, all...)), []imap.UID{7, 1100})
		w.same("not gone", uidsOf(s.rows(0, 7, 8, 9, 5000)), []imap.UID{7, 9})
		w.same("none", len(s.rows(0)), 0)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		chunks := 0
		var err error
		for _, e := range s.Rows(ctx, all, 0) {
			chunks, err = chunks+1, e
			cancel()
		}
		w.is(err, context.Canceled)
		w.same("chunks before the end", chunks, 2)
	}},
	{"Look finds nothing where nothing happened", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		s := w.hold(store.Inbox, true)
		w.ok(s.Look(w.ctx))
		d := s.advance(true)
		w.same("delta", []any{d.Exists, d.Grown, len(d.Changed), len(d.Vanished)}, []any{2, false, 0, 0})
	}},
	{"all sessions end alike", func(w *world) {
		w.create("b")
		w.add(store.Inbox, plain(40)...)
		var sessions []*session
		var wg sync.WaitGroup
		for k := range 4 {
			s := w.hold(store.Inbox, true)
			sessions = append(sessions, s)
			wg.Go(func() {
				for i := range 10 {
					u := imap.UID(10*k + i + 1)
					_, _, err := s.SetFlags(w.ctx, []imap.UID{u, 40 - u + 1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
					if err == nil && i%3 == 0 {
						_, _, err = s.Expunge(w.ctx, []imap.UID{u})
					}
					if err == nil && i%4 == 1 {
						_, err = s.Move(w.ctx, []imap.UID{u}, "b")
					}
					if err == nil {
						s.view, _, err = s.Advance(s.view, i%2 == 0)
					}
					if err != nil {
						w.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, s := range sessions {
			s.advance(true)
			w.same("UIDs", s.uids(), sessions[0].uids())
			w.same("rows", s.rows(0, s.uids()...), sessions[0].rows(0, s.uids()...))
		}
	}},
}
