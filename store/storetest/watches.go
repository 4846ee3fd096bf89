package storetest

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// watcher is a Watch, and whether it was woken since the last Pull.
type watcher struct {
	store.Watch
	w     *world
	woken *atomic.Bool
}

const everything = store.InterestNames | store.InterestSubscriptions | store.InterestMessages | store.InterestUnseen | store.InterestFlags

// watch begins to watch what want names, for the world's own account.
func (w *world) watch(want func(store.Entry) store.Interest) *watcher {
	w.Helper()
	x := &watcher{w: w, woken: new(atomic.Bool)}
	var err error
	x.Watch, err = w.a.Watch(w.ctx, store.WatchOptions{Want: want, Limit: 100, Wake: func() { x.woken.Store(true) }})
	w.ok(err)
	w.closers = append(w.closers, x.Watch)
	return x
}

// all wants everything.
func all(store.Entry) store.Interest { return everything }

// tells checks what the next Pull has to tell, and that it was woken for it.
func (x *watcher) tells(want ...string) {
	x.w.Helper()
	x.tellsBut("", want...)
}

func (x *watcher) tellsBut(except store.Name, want ...string) {
	x.w.Helper()
	woken := x.woken.Swap(false)
	events, err := x.Pull(x.w.ctx, except)
	x.w.ok(err)
	var got []string
	for _, e := range events {
		got = append(got, eventText(e))
	}
	x.w.same("events", strings.Join(got, "; "), x.w.sep(strings.Join(want, "; ")))
	if len(want) > 0 && !woken {
		x.w.Fatalf("nobody was woken for %q", want)
	}
}

// eventText: "Work names(\HasNoChildren) from=Play messages=3,4 unseen=2 flags".
func eventText(e store.Event) string {
	text := string(e.Name)
	if e.Kind&store.InterestNames != 0 {
		text += " names"
	}
	if e.Kind&store.InterestSubscriptions != 0 {
		text += fmt.Sprintf(" subscribed=%v", e.Entry.Subscribed)
	}
	if e.Kind&(store.InterestNames|store.InterestSubscriptions) != 0 {
		var attrs []string
		for _, a := range e.Entry.Attrs {
			attrs = append(attrs, string(a))
		}
		text += "(" + strings.Join(attrs, " ") + ")"
	}
	if e.From != "" {
		text += " from=" + string(e.From)
		if e.Torn {
			text += " torn"
		}
	}
	if e.Kind&store.InterestMessages != 0 {
		text += fmt.Sprintf(" messages=%d,%d", e.Status.Messages, e.Status.UIDNext)
	}
	if e.Kind&store.InterestUnseen != 0 {
		text += fmt.Sprintf(" unseen=%d", e.Status.Unseen)
	}
	if e.Kind&store.InterestFlags != 0 {
		text += " flags"
	}
	if e.Kind&store.NoAccess != 0 {
		text += " noaccess"
	}
	return text
}

var watches = []promise{
	{"a watch tells what others did to messages", func(w *world) {
		w.create("Work", "Play")
		w.add("Work", plain(2)...)
		w.add("Play", plain(1)...)
		x := w.watch(func(e store.Entry) store.Interest {
			if e.Name == "Play" {
				return store.InterestMessages
			}
			return everything
		})
		x.tells()
		w.add("Work", plain(1)...)
		w.add("Work", plain(1)...)
		x.tells("Work messages=4,5 unseen=4 flags")
		x.tells()
		for _, n := range []store.Name{"Work", "Play"} {
			s := w.hold(n, true)
			_, _, err := s.SetFlags(w.ctx, upTo(1), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
			w.ok(err)
		}
		x.tells("Work unseen=3 flags")
		s := w.hold("Work", true)
		_, _, err := s.SetFlags(w.ctx, upTo(2), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		w.ok(err)
		x.tells("Work flags")
		_, _, err = s.Expunge(w.ctx, nil)
		w.ok(err)
		x.tells("Work messages=2,5 unseen=2 flags")
	}},
	{"a watch leaves the messages of one mailbox for later", func(w *world) {
		w.create("Work")
		x := w.watch(all)
		w.add("Work", plain(1)...)
		x.tellsBut("Work")
		x.woken.Store(true)
		x.tells("Work messages=1,2 unseen=1 flags")
		w.add("Work", plain(1)...)
		x.tellsBut("Work")
		now := w.status("Work")
		x.Told("Work", func(st *store.Status) { *st = now })
		x.tells()
	}},
	{"a watch knows what its caller added", func(w *world) {
		w.create("Work")
		x := w.watch(func(store.Entry) store.Interest { return store.InterestMessages })
		_, err := x.Status(w.ctx, "Work")
		w.ok(err)
		own := func(n int) {
			c := w.add("Work", plain(n)...)
			x.Told("Work", func(st *store.Status) { st.Added(c) })
		}
		own(2)
		x.tells()
		w.add("Work", plain(1)...)
		own(1) // behind one that is not known yet
		x.tells("Work messages=4,5")
		own(1)
		w.add("Work", plain(1)...)
		x.tells("Work messages=6,7")
	}},
	{"a watch tells of names", func(w *world) {
		x := w.watch(all)
		x.tells()
		w.create(w.name("a", "b"))
		x.tells(`a names(\HasChildren)`, `a/b names(\HasNoChildren)`)
		w.create(w.name("a", "c"))
		x.tells(`a names(\HasChildren)`, `a/c names(\HasNoChildren)`)
		w.ok(w.a.Delete(w.ctx, w.name("a", "c")))
		x.tells(`a names(\HasChildren)`, `a/c names(\NonExistent)`)
		w.ok(w.a.Delete(w.ctx, "a"))
		x.tells(`a names(\NonExistent \HasChildren)`)
		w.ok(w.a.Delete(w.ctx, w.name("a", "b")))
		x.tells(`a names(\NonExistent)`, `a/b names(\NonExistent)`)
		w.create("z")
		w.ok(w.a.Delete(w.ctx, "z"))
		x.tells()
	}},
	{"a watch tells the old name, of children their subscriptions", func(w *world) {
		w.create(w.name("a", "b"), "t")
		w.add(w.name("a", "b"), plain(1)...)
		w.ok(w.a.Subscribe(w.ctx, w.name("a", "b"), true))
		x := w.watch(all)
		w.ok(w.a.Rename(w.ctx, "a", "z"))
		x.tells(`z names(\HasChildren) from=a`, `a/b subscribed=false(\NonExistent)`, `z/b subscribed=true(\HasNoChildren)`)
		w.add(w.name("z", "b"), plain(1)...)
		x.tells(`z/b messages=2,3 unseen=2 flags`)
		w.ok(w.a.Rename(w.ctx, "z", w.name("t", "z")))
		x.tells(`t/z names(\HasChildren) from=z`, `t names(\HasChildren)`, `t/z/b subscribed=true(\HasNoChildren)`, `z/b subscribed=false(\NonExistent)`)
		w.create("z")
		x.tells(`z names(\HasNoChildren)`)
		w.add("z", plain(1)...)
		w.ok(w.a.Rename(w.ctx, "z", "y"))
		x.tells(`y names(\HasNoChildren) from=z messages=1,2 unseen=1 flags`)
	}},
	{"a watch tells names apart where the old name alone would mislead", func(w *world) {
		w.create("a", "b")
		w.add("a", plain(1)...)
		w.add("b", plain(2)...)
		x := w.watch(all)
		w.ok(w.a.Rename(w.ctx, "a", "c")) // and another one is at its place
		w.create("a")
		w.add("a", plain(3)...)
		x.tells(`a messages=3,4 unseen=3 flags`, `c names(\HasNoChildren) from=a torn messages=1,2 unseen=1 flags`)
		w.ok(w.a.Rename(w.ctx, "a", "t")) // two change places
		w.ok(w.a.Rename(w.ctx, "b", "a"))
		w.ok(w.a.Rename(w.ctx, "t", "b"))
		x.tells(`a names(\HasNoChildren) from=b torn messages=2,3 unseen=2 flags`, `b names(\HasNoChildren) from=a torn messages=3,4 unseen=3 flags`)
		d, e := w.name("d", "x"), w.name("e", "x")
		w.create("d", d)
		x.tells(`d names(\HasChildren)`, string(d)+` names(\HasNoChildren)`)
		w.ok(w.a.Rename(w.ctx, "d", "e")) // and another one is at its place, but no other child
		w.create("d")
		x.tells(string(e)+` names(\HasNoChildren) from=`+string(d), `d names(\HasNoChildren) messages=0,1 flags`, `e names(\HasChildren) from=d torn`)
	}},
	{"a watch tells of subscriptions, with a mailbox or without", func(w *world) {
		w.create("a")
		x := w.watch(all)
		w.ok(w.a.Subscribe(w.ctx, "a", true))
		w.ok(w.a.Subscribe(w.ctx, "ghost", true))
		x.tells(`a subscribed=true(\HasNoChildren)`, `ghost subscribed=true(\NonExistent \HasNoChildren)`)
		w.ok(w.a.Subscribe(w.ctx, "a", true))
		x.tells()
		w.ok(w.a.Subscribe(w.ctx, "a", false))
		w.ok(w.a.Subscribe(w.ctx, "ghost", false))
		x.tells(`a subscribed=false(\HasNoChildren)`, `ghost subscribed=false(\NonExistent)`)
	}},
	{"what is wanted follows names and subscriptions", func(w *world) {
		w.create("a")
		x := w.watch(func(e store.Entry) store.Interest {
			if e.Subscribed || strings.HasPrefix(string(e.Name), "box") {
				return store.InterestMessages
			}
			return 0
		})
		w.add("a", plain(1)...)
		x.tells()
		w.create("box1", "box2")
		w.add("box2", plain(1)...)
		x.tells("box2 messages=1,2")
		w.add("box1", plain(1)...)
		x.tells("box1 messages=1,2")
		w.ok(w.a.Subscribe(w.ctx, "a", true))
		x.Pull(w.ctx, "") // of a nothing may be known yet
		w.add("a", plain(1)...)
		x.tells("a messages=2,3")
		w.ok(w.a.Subscribe(w.ctx, "a", false))
		w.ok(w.a.Delete(w.ctx, "box1"))
		x.tells()
		w.add("a", plain(1)...)
		x.tells()
		w.create("box1")
		w.add("box1", plain(1)...)
		x.tells("box1 messages=1,2")
	}},
	{"a mailbox that is deleted and made again has another UIDVALIDITY", func(w *world) {
		w.create("a")
		x := w.watch(func(store.Entry) store.Interest { return store.InterestMessages })
		_, err := x.Status(w.ctx, "a")
		w.ok(err)
		w.ok(w.a.Delete(w.ctx, "a"))
		w.create("a")
		x.tells("a messages=0,1")
	}},
	{"a watch is bounded", func(w *world) {
		w.create("a", "b")
		opt := store.WatchOptions{Want: all, Limit: 2, Wake: func() {}}
		_, err := w.a.Watch(w.ctx, opt)
		w.is(err, store.ErrLimit)
		opt.Limit = 3
		x, err := w.a.Watch(w.ctx, opt)
		w.ok(err)
		w.closers = append(w.closers, x)
		w.create("c")
		_, err = x.Pull(w.ctx, "")
		w.is(err, store.ErrLimit)
	}},
	{"Status of a watch is taken for told", func(w *world) {
		w.create("a")
		x := w.watch(all)
		w.add("a", plain(1)...)
		st, err := x.Status(w.ctx, "a")
		w.ok(err)
		w.same("messages", st.Messages, 1)
		x.tells()
		_, err = x.Status(w.ctx, "never")
		w.is(err, store.ErrNotFound)
	}},
}
