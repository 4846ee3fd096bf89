package storetest

import (
	"slices"
	"strings"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var mailboxes = []promise{
	{"INBOX is always there", func(w *world) {
		w.same("list", w.list("*"), `INBOX(\HasNoChildren)`)
		w.is(w.a.Create(w.ctx, store.Inbox, nil), store.ErrExists)
		w.is(w.a.Delete(w.ctx, store.Inbox), store.ErrCannot)
		w.same("messages", w.status(store.Inbox).Messages, 0)
	}},
	{"Create makes parents", func(w *world) {
		w.create(w.name("a", "b", "c"))
		w.same("list", w.list("*"), w.sep(`INBOX(\HasNoChildren) a(\HasChildren) a/b(\HasChildren) a/b/c(\HasNoChildren)`))
		w.is(w.a.Create(w.ctx, w.name("a", "b"), nil), store.ErrExists)
	}},
	{"impossible names are refused", func(w *world) {
		for _, n := range []store.Name{"", w.name("a", "", "b"), w.name("", "a"), "a\x00b", "a\nb"} {
			w.is(w.a.Create(w.ctx, n, nil), store.ErrCannot)
		}
	}},
	{"names are UTF-8", func(w *world) {
		n := w.name("Entwürfe & 送信", "台北")
		w.create(n)
		w.same("list", w.list(string(n)), string(n)+`(\HasNoChildren)`)
		w.add(n, plain(1)...)
		w.same("messages", w.status(n).Messages, 1)
	}},
	{"special use is kept", func(w *world) {
		w.ok(w.a.Create(w.ctx, "Out", []imap.MailboxAttr{imap.MailboxAttrSent}))
		w.same("list", w.list("Out"), `Out(\HasNoChildren \Sent)`)
		w.ok(w.a.Create(w.ctx, "All", []imap.MailboxAttr{imap.MailboxAttrArchive, imap.MailboxAttrDrafts,
			imap.MailboxAttrImportant, imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash}))
		w.same("list", w.list("All"), `All(\Archive \Drafts \HasNoChildren \Important \Junk \Sent \Trash)`)
	}},
	{"Delete keeps children and subscription", func(w *world) {
		w.create(w.name("a", "b"))
		w.ok(w.a.Subscribe(w.ctx, "a", true))
		w.ok(w.a.Delete(w.ctx, "a"))
		w.same("list", w.list("a*"), w.sep(`a(\HasChildren \NonExistent) a/b(\HasNoChildren)`))
		w.ok(w.a.Delete(w.ctx, w.name("a", "b")))
		w.same("list", w.list("a*"), "")
		w.same("subscribed", w.subscribed("*", false), `a(\HasNoChildren \NonExistent)`)
		w.is(w.a.Delete(w.ctx, w.name("a", "b")), store.ErrNotFound)
		w.is(w.a.Delete(w.ctx, "never"), store.ErrNotFound)
	}},
	{"a deleted mailbox ends its holds", func(w *world) {
		w.create("a")
		w.add("a", plain(2)...)
		s := w.hold("a", true)
		s.forget()
		w.ok(w.a.Delete(w.ctx, "a"))
		s.wake()
		w.create("a")
		_, _, err := s.Advance(s.view, true)
		w.is(err, store.ErrReplaced)
		_, _, err = s.SetFlags(w.ctx, upTo(1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		w.is(err, store.ErrReplaced)
		_, _, err = s.Expunge(w.ctx, nil)
		w.is(err, store.ErrReplaced)
		_, err = s.Message(w.ctx, 1)
		w.is(err, store.ErrReplaced)
		_, err = s.Copy(w.ctx, upTo(1), store.Inbox)
		w.is(err, store.ErrReplaced)
		_, err = s.Move(w.ctx, upTo(1), store.Inbox)
		w.is(err, store.ErrReplaced)
		err = nil
		for _, err = range s.Rows(w.ctx, upTo(1), 0) {
		}
		w.is(err, store.ErrReplaced)
	}},
	{"a new mailbox of an old name has another UIDVALIDITY", func(w *world) {
		w.create("a")
		w.add("a", plain(1)...)
		old := w.status("a")
		w.ok(w.a.Delete(w.ctx, "a"))
		w.create("a")
		st := w.status("a")
		if st.UIDValidity <= old.UIDValidity || st.ID == old.ID || st.Messages != 0 {
			w.Fatalf("was %+v, is %+v", old, st)
		}
	}},
	{"a Counter counts what came before it, and each change of its own account", func(w *world) {
		w.create("a", "b")
		w.add("a", plain(2)...)
		w.add("b", plain(1)...)
		count := w.a.Counter()
		for _, n := range []store.Name{"a", store.Inbox, "b", "a"} {
			st, err := count(w.ctx, n, true)
			w.ok(err)
			w.same("status", st, w.status(n))
		}
		w.add("a", plain(1)...)
		st, err := count(w.ctx, "a", true)
		w.ok(err)
		w.same("messages", st.Messages, 3)
		_, err = count(w.ctx, "no", false)
		w.is(err, store.ErrNotFound)
	}},
	{"what is missing is ErrNotFound", func(w *world) {
		_, err := w.a.Status(w.ctx, "no", false)
		w.is(err, store.ErrNotFound)
		_, err = w.a.Hold(w.ctx, "no", true, func() {})
		w.is(err, store.ErrNotFound)
		_, err = w.a.Batch(w.ctx, "no")
		w.is(err, store.ErrNotFound)
		w.is(w.a.Rename(w.ctx, "no", "yes"), store.ErrNotFound)
		w.add(store.Inbox, plain(1)...)
		s := w.hold(store.Inbox, true)
		_, err = s.Copy(w.ctx, upTo(1), "no")
		w.is(err, store.ErrNotFound)
		_, err = s.Move(w.ctx, upTo(1), "no")
		w.is(err, store.ErrNotFound)
		w.same("messages", w.status(store.Inbox).Messages, 1)
	}},
	{"Rename takes all along", func(w *world) {
		from, child := store.Name("a"), w.name("a", "b")
		w.create(child)
		w.add(from, plain(3)...)
		w.add(child, plain(1)...)
		w.hold(from, true).expunge(2)
		w.ok(w.a.Subscribe(w.ctx, child, true))
		before, beforeChild := w.status(from), w.status(child)
		to := w.name("x", "y")
		w.ok(w.a.Rename(w.ctx, from, to))
		w.same("list", w.list("*"), w.sep(`INBOX(\HasNoChildren) x(\HasChildren) x/y(\HasChildren) x/y/b(\HasNoChildren)`))
		w.same("subscribed", w.subscribed("*", false), w.sep(`x/y/b(\HasNoChildren)`))
		for _, c := range []struct{ got, was store.Status }{{w.status(to), before}, {w.status(w.name("x", "y", "b")), beforeChild}} {
			c.got.Recent, c.was.Recent = 0, 0
			w.same("status", c.got, c.was)
		}
		w.same("UIDs", w.hold(to, false).uids(), []imap.UID{1, 3})
	}},
	{"a renamed mailbox keeps its holds", func(w *world) {
		w.create("a")
		w.add("a", plain(1)...)
		s := w.hold("a", true)
		w.ok(w.a.Rename(w.ctx, "a", "b"))
		s.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1)
		w.add("b", plain(1)...)
		w.same("UIDs added", s.advance(true).Exists, 2)
		w.same("message", s.read(1), letter(0))
	}},
	{"Rename refuses", func(w *world) {
		w.create("a", "b", w.name("a", "x"))
		w.is(w.a.Rename(w.ctx, "a", "b"), store.ErrExists)
		w.is(w.a.Rename(w.ctx, "a", store.Inbox), store.ErrExists)
		w.is(w.a.Rename(w.ctx, "a", w.name("a", "x", "y")), store.ErrCannot)
		w.is(w.a.Rename(w.ctx, "a", ""), store.ErrCannot)
		w.is(w.a.Rename(w.ctx, store.Inbox, "b"), store.ErrExists)
		w.same("list", w.list("*"), w.sep(`INBOX(\HasNoChildren) a(\HasChildren) a/x(\HasNoChildren) b(\HasNoChildren)`))
	}},
	{"a mailbox keeps its ID and shares it with none", func(w *world) {
		w.create("a", w.name("a", "b"), "c")
		ids := map[store.Name]string{}
		seen := map[string]bool{}
		for _, n := range []store.Name{store.Inbox, "a", w.name("a", "b"), "c"} {
			id := w.status(n).ID
			if len(id) < 2 || len(id) > 255 || id[0] != 'F' || seen[id] {
				w.Fatalf("%q has the ID %q", n, id)
			}
			ids[n], seen[id] = id, true
		}
		s := w.hold(w.name("a", "b"), false)
		w.ok(w.a.Rename(w.ctx, "a", "d"))
		w.same("renamed", w.status("d").ID, ids["a"])
		w.same("renamed child", w.status(w.name("d", "b")).ID, ids[w.name("a", "b")])
		w.same("held", s.Info().ID, ids[w.name("a", "b")])
		w.create("a")
		if id := w.status("a").ID; seen[id] {
			w.Fatalf("a new mailbox has the ID %q, which another had", id)
		}
		if w.Reopen != nil {
			w.reopen()
			w.same("reopened", w.status("d").ID, ids["a"])
			w.same("reopened", w.status("c").ID, ids["c"])
		}
	}},
	{"Rename of INBOX moves its messages only", func(w *world) {
		child := store.Inbox + store.Name(w.Who.Sep()) + "c"
		w.create(child)
		w.add(store.Inbox, with(imap.FlagSeen), with("kw"))
		before := w.status(store.Inbox)
		s := w.hold(store.Inbox, true)
		w.ok(w.a.Rename(w.ctx, store.Inbox, "old"))
		w.same("list", w.list("*"), w.sep(`INBOX(\HasChildren) INBOX/c(\HasNoChildren) old(\HasNoChildren)`))
		w.same("vanished", s.advance(true).Vanished, []imap.UID{1, 2})
		inbox, old := w.status(store.Inbox), w.status("old")
		w.same("messages", []uint32{inbox.Messages, old.Messages, old.Unseen}, []uint32{0, 2, 1})
		w.same("UIDVALIDITY", inbox.UIDValidity, before.UIDValidity)
		if inbox.UIDNext < before.UIDNext || inbox.ID == old.ID || inbox.ID != before.ID {
			w.Fatalf("INBOX was %+v, is %+v, and old is %+v", before, inbox, old)
		}
		w.add(store.Inbox, plain(1)...)
		w.same("UIDs", s.advance(true).Exists, 1)
	}},
	{"subscriptions are names", func(w *world) {
		n := w.name("p", "q")
		w.ok(w.a.Subscribe(w.ctx, n, true))
		w.ok(w.a.Subscribe(w.ctx, n, true))
		w.ok(w.a.Subscribe(w.ctx, store.Inbox, true))
		w.ok(w.a.Subscribe(w.ctx, "never", false))
		w.same("subscribed", w.subscribed("*", false), w.sep(`INBOX(\HasNoChildren) p/q(\HasNoChildren \NonExistent)`))
		w.same("subscribed at the top", w.subscribed("%", false), `INBOX(\HasNoChildren)`)
		w.create(n)
		w.same("deep", w.subscribed("%", true), `INBOX(\HasNoChildren) p(\HasChildren)-child-only`)
		w.same("all", w.list("*"), w.sep(`INBOX(\HasNoChildren) p(\HasChildren) p/q(\HasNoChildren)`))
		w.ok(w.a.Subscribe(w.ctx, n, false))
		w.same("subscribed", w.subscribed("*", false), `INBOX(\HasNoChildren)`)
	}},
	{"List matches patterns, each mailbox once, sorted", func(w *world) {
		w.create("b", w.name("b", "x"), "a", "ab")
		w.same("two", w.list("a*", "*"), w.sep(`INBOX(\HasNoChildren) a(\HasNoChildren) ab(\HasNoChildren) b(\HasChildren) b/x(\HasNoChildren)`))
		w.same("top", w.list("%"), `INBOX(\HasNoChildren) a(\HasNoChildren) ab(\HasNoChildren) b(\HasChildren)`)
		w.same("below", w.list(w.sep("%/%")), w.sep(`b/x(\HasNoChildren)`))
		w.same("INBOX", w.list("inbox"), `INBOX(\HasNoChildren)`)
		w.same("none", w.list(), "")
	}},
	{"Status counts", func(w *world) {
		w.add(store.Inbox, with(imap.FlagSeen), with(imap.FlagDeleted), with("kw"))
		st := w.status(store.Inbox)
		want := int64(len(letter(0)) + len(letter(1)) + len(letter(2)))
		w.same("counts", []any{st.Messages, st.Unseen, st.Deleted, st.UIDNext, st.Size}, []any{3, 2, 1, 4, want})
		s := w.hold(store.Inbox, true)
		w.same("shown by the hold", []any{s.view.UIDNext, s.view.ModSeq, s.Info().UIDValidity, s.Info().ID}, []any{st.UIDNext, st.HighestModSeq, st.UIDValidity, st.ID})
	}},
	{"sessions see each other's mailboxes", func(w *world) {
		other := w.account(w.Who)
		w.ok(other.Create(w.ctx, "fresh", nil))
		w.ok(other.Subscribe(w.ctx, "fresh", true))
		w.same("list", w.subscribed("*", false), `fresh(\HasNoChildren)`)
	}},
}

// list prints what List gives: name(attributes), attributes sorted.
func (w *world) list(patterns ...string) string {
	w.Helper()
	return w.entries(store.ListQuery{Patterns: patterns})
}

func (w *world) subscribed(pattern string, deep bool) string {
	w.Helper()
	return w.entries(store.ListQuery{Patterns: []string{pattern}, Subscribed: true, Deep: deep})
}

func (w *world) entries(q store.ListQuery) string {
	w.Helper()
	var out []string
	for e, err := range w.a.List(w.ctx, q) {
		w.ok(err)
		var attrs []string
		for _, a := range e.Attrs {
			// \NonExistent says it already (RFC 9051 section 7.3.1).
			if a != imap.MailboxAttrNoSelect {
				attrs = append(attrs, string(a))
			}
		}
		slices.Sort(attrs)
		line := string(e.Name) + "(" + strings.Join(attrs, " ") + ")"
		if q.Subscribed && !e.Subscribed {
			line += "-child-only"
			if !e.ChildSubscribed {
				w.Fatalf("%+v is not subscribed, nor is a child", e)
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, " ")
}

// sep writes names with the user's separator.
func (w *world) sep(s string) string { return strings.ReplaceAll(s, "/", string(w.Who.Sep())) }
