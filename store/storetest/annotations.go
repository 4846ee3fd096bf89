package storetest

import (
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

var annotations = []promise{
	{"annotations are kept", func(w *world) {
		w.create("a")
		for _, n := range []store.Name{"", store.Inbox, "a"} {
			w.same("at first", w.annotations(n), "")
			w.annotate(n, "/private/comment", "mine", "/shared/Comment", "", "/private/vendor/x/y", "\x00\r\n\t \xff%ä")
			w.annotate(n, "/PRIVATE/comment", "ours")
			want := "/private/comment=ours|/private/vendor/x/y=\x00\r\n\t \xff%ä|/shared/Comment="
			w.same("entries", w.annotations(n), want)
			w.reopenIfPossible()
			w.same("entries later", w.annotations(n), want)
			w.ok(w.a.Annotate(w.ctx, n, []store.Annotation{{Entry: "/shared/comment"}, {Entry: "/private/never"}, {Entry: "/private/vendor/x/y"}}))
			w.same("entries left", w.annotations(n), "/private/comment=ours")
			w.annotate(n, "/shared/x", "1", "/Shared/X", "2")
			w.same("of two the last", w.annotations(n), "/private/comment=ours|/shared/x=2")
			w.ok(w.a.Annotate(w.ctx, n, []store.Annotation{{Entry: "/private/comment"}, {Entry: "/shared/x"}}))
			w.same("none", w.annotations(n), "")
		}
	}},
	{"annotations of what is not there", func(w *world) {
		w.create(w.name("a", "b"))
		w.ok(w.a.Delete(w.ctx, "a"))
		_, err := w.a.Annotations(w.ctx, "no")
		w.is(err, store.ErrNotFound)
		w.is(w.a.Annotate(w.ctx, "no", []store.Annotation{{Entry: "/private/comment", Value: []byte("x")}}), store.ErrNotFound)
	}},
	{"annotations are all set or none", func(w *world) {
		w.annotate(store.Inbox, "/private/comment", "old")
		big := store.Annotation{Entry: "/private/big", Value: make([]byte, store.MaxAnnotation+1)}
		mine := store.Annotation{Entry: "/private/comment", Value: []byte("new")}
		w.is(w.a.Annotate(w.ctx, store.Inbox, []store.Annotation{mine, big}), store.ErrTooBig)
		w.same("entries", w.annotations(store.Inbox), "/private/comment=old")
		big.Value = big.Value[:store.MaxAnnotation]
		w.ok(w.a.Annotate(w.ctx, store.Inbox, []store.Annotation{mine, big}))
	}},
	{"annotations have limits", func(w *world) {
		w.create("a", "b")
		var many []store.Annotation
		for i := range store.MaxAnnotations {
			many = append(many, store.Annotation{Entry: fmt.Sprintf("/private/n%d", i), Value: []byte{}})
		}
		w.ok(w.a.Annotate(w.ctx, "a", many))
		one := []store.Annotation{{Entry: "/private/more", Value: []byte("x")}}
		w.is(w.a.Annotate(w.ctx, "a", one), store.ErrLimit)
		w.ok(w.a.Annotate(w.ctx, "a", append(one, store.Annotation{Entry: "/private/n0"})))
		many = many[:store.MaxAnnotationBytes/store.MaxAnnotation]
		for i := range many {
			many[i].Value = make([]byte, store.MaxAnnotation)
		}
		w.is(w.a.Annotate(w.ctx, "b", many), store.ErrLimit)
		w.same("entries", w.annotations("b"), "")
		w.ok(w.a.Annotate(w.ctx, "b", many[1:]))
	}},
	{"a special use is an annotation", func(w *world) {
		w.ok(w.a.Create(w.ctx, "Out", []imap.MailboxAttr{imap.MailboxAttrSent}))
		w.same("entries", w.annotations("Out"), `/private/specialuse=\Sent`)
		w.annotate("Out", "/private/SpecialUse", `\Drafts \Junk`, "/private/comment", "x")
		w.same("list", w.list("Out"), `Out(\Drafts \HasNoChildren \Junk)`)
		w.same("entries", w.annotations("Out"), `/private/comment=x|/private/specialuse=\Drafts \Junk`)
		w.reopenIfPossible()
		w.same("list", w.list("Out"), `Out(\Drafts \HasNoChildren \Junk)`)
		w.ok(w.a.Annotate(w.ctx, "Out", []store.Annotation{{Entry: store.SpecialUseEntry}}))
		w.same("list", w.list("Out"), `Out(\HasNoChildren)`)
		w.same("entries", w.annotations("Out"), `/private/comment=x`)
	}},
	{"Rename takes annotations along, Delete removes them", func(w *world) {
		child := w.name("a", "b")
		w.create(child)
		w.annotate("a", "/private/comment", "a")
		w.annotate(child, "/private/comment", "b")
		w.ok(w.a.Rename(w.ctx, "a", w.name("x", "y")))
		w.same("entries", w.annotations(w.name("x", "y")), "/private/comment=a")
		w.same("of the child", w.annotations(w.name("x", "y", "b")), "/private/comment=b")
		w.create("a")
		w.same("of the new one", w.annotations("a"), "")
		w.ok(w.a.Delete(w.ctx, w.name("x", "y", "b")))
		w.create(w.name("x", "y", "b"))
		w.same("of the new child", w.annotations(w.name("x", "y", "b")), "")
	}},
	{"Rename of INBOX copies its annotations", func(w *world) { // RFC 5464 section 4.1
		w.annotate(store.Inbox, "/private/comment", "in", "/shared/x", "y")
		w.ok(w.a.Rename(w.ctx, store.Inbox, "old"))
		w.same("INBOX", w.annotations(store.Inbox), "/private/comment=in|/shared/x=y")
		w.same("old", w.annotations("old"), "/private/comment=in|/shared/x=y")
	}},
	{"annotations raise the MODSEQ", func(w *world) { // RFC 7162 section 3.2
		w.add(store.Inbox, plain(1)...)
		s := w.hold(store.Inbox, true)
		before := w.status(store.Inbox).HighestModSeq
		s.forget()
		w.annotate(store.Inbox, "/private/comment", "x")
		s.wake()
		d := s.advance(true)
		after := w.status(store.Inbox).HighestModSeq
		if after <= before || s.view.ModSeq != after || len(d.Changed)+len(d.Vanished) > 0 || d.Grown {
			w.Fatalf("MODSEQ was %d, is %d; %+v", before, after, d)
		}
		w.annotate(store.Inbox, "/private/comment", "x")
		w.same("MODSEQ after nothing", w.status(store.Inbox).HighestModSeq, after)
		w.flagLater(s, after)
		w.reopenIfPossible()
		if last := w.status(store.Inbox).HighestModSeq; last <= after {
			w.Fatalf("MODSEQ was above %d, is %d", after, last)
		}
	}},
	{"accounts hear of annotations that others change", func(w *world) {
		w.create("a")
		other := w.account(w.Who)
		woken, own := 0, 0
		heard, mine := other.WatchAnnotations(func() { woken++ }), w.a.WatchAnnotations(func() { own++ })
		w.annotate("a", "/private/comment", "x", "/shared/y", "z")
		w.annotate("a", "/private/COMMENT", "y")
		w.annotate("", "/private/z", "1")
		w.annotate(store.Inbox, "/private/z", "1")
		w.same("told", fmt.Sprint(heard.Pull()), "[{a [/private/comment /shared/y]} { [/private/z]} {INBOX [/private/z]}]")
		w.same("told again", len(heard.Pull()), 0)
		w.same("told of its own", len(mine.Pull()), 0)
		w.same("wakes", []int{woken, own}, []int{4, 0})
		w.annotate("a", "/private/comment", "y")
		w.ok(w.a.Annotate(w.ctx, "a", []store.Annotation{{Entry: "/shared/y"}}))
		w.same("told of a removal", fmt.Sprint(heard.Pull()), "[{a [/shared/y]}]")
		heard.Close()
		mine.Close()
		w.annotate("a", "/private/comment", "last")
		w.same("wakes after the end", woken, 5)
	}},
}

// annotations prints what is kept: entry=value|entry=value.
func (w *world) annotations(n store.Name) string {
	w.Helper()
	list, err := w.a.Annotations(w.ctx, n)
	w.ok(err)
	var out []string
	for _, a := range list {
		out = append(out, a.Entry+"="+string(a.Value))
	}
	return strings.Join(out, "|")
}

// annotate sets entries, given in pairs with their values.
func (w *world) annotate(n store.Name, pairs ...string) {
	w.Helper()
	var set []store.Annotation
	for i := 0; i < len(pairs); i += 2 {
		set = append(set, store.Annotation{Entry: pairs[i], Value: []byte(pairs[i+1])})
	}
	w.ok(w.a.Annotate(w.ctx, n, set))
}

// reopenIfPossible restarts the store where something outlives it.
func (w *world) reopenIfPossible() {
	w.Helper()
	if w.Reopen != nil {
		w.reopen()
	}
}

// flagLater changes a flag after the annotation: what comes later lies above.
func (w *world) flagLater(s *session, above store.ModSeq) {
	w.Helper()
	if row := s.flag(imap.StoreFlagsAdd, imap.FlagFlagged, 1)[0]; row.ModSeq <= above {
		w.Fatalf("flag has MODSEQ %d, not above %d", row.ModSeq, above)
	}
}
