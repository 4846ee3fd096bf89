package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	mail "roost/message"
	"roost/store"
)

// candidates: what narrows a search leaves out nothing that it would find.
var candidates = []promise{
	{"Candidates leaves out only what does not hold the text", func(w *world) {
		texts := map[imap.UID]string{}
		s := w.hold(store.Inbox, true)
		add := func(n int) {
			b, err := w.a.Batch(w.ctx, store.Inbox)
			w.ok(err)
			from := len(texts)
			for i := range n {
				w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(candidate(from+i))))
			}
			done, err := b.Commit(w.ctx)
			w.ok(err)
			w.ok(b.Close())
			for i, uid := range done.To {
				texts[uid] = string(mail.AppendFold(nil, []byte(candidate(from+i))))
			}
		}
		// Each time what the store does meanwhile may have come further.
		check := func(v store.View, rounds int) {
			for range rounds {
				for _, text := range []string{"number 17 ", "straße", "every message", "nowhere", "x", "", "letter", "ΣΊΣΥΦΟΣ"} {
					folded := mail.AppendFold(nil, []byte(text))
					may, ok, err := s.Candidates(w.ctx, v, folded)
					w.ok(err)
					if !ok {
						continue
					}
					if !slices.IsSorted(may) {
						w.Fatalf("candidates for %q do not ascend: %v", text, may)
					}
					for _, uid := range v.UIDs.All(0) {
						if _, in := slices.BinarySearch(may, uid); !in && strings.Contains(texts[uid], string(folded)) {
							w.Fatalf("UID %d, which holds %q, is no candidate", uid, text)
						}
					}
					for _, uid := range may {
						if _, in := v.UIDs.Find(uid); !in {
							w.Fatalf("candidate %d for %q is not in the view", uid, text)
						}
					}
				}
			}
		}
		add(150)
		check(s.View(), 20)
		old := s.View()
		add(80)
		check(s.View(), 20)
		check(old, 2)
		gone := upTo(40)
		_, _, err := s.SetFlags(w.ctx, gone, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}})
		w.ok(err)
		_, _, err = s.Expunge(w.ctx, gone)
		w.ok(err)
		check(s.View(), 5)
		check(old, 2)
		if w.Reopen == nil {
			return
		}
		w.reopen()
		s = w.hold(store.Inbox, true)
		check(s.View(), 5)
		add(10)
		check(s.View(), 5)
	}},
}

// candidate is a message that ends in text which only the decoded body has.
func candidate(n int) string {
	return fmt.Sprintf("Subject: letter number %d to all\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nevery message has this, and %s\r\n",
		n, []string{"Straße", "σίσυφος", "東京", "nothing else"}[n%4])
}
