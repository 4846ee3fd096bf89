package storetest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

var content = []promise{
	{"Batch adds in order, all at once", func(w *world) {
		s := w.hold(store.Inbox, true)
		s.forget()
		b, err := w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		for i := range 3 {
			w.ok(b.Admit(int64(len(letter(i)))))
			w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(i))))
		}
		w.same("before", []any{w.status(store.Inbox).Messages, s.advance(true).Grown}, []any{0, false})
		c, err := b.Commit(w.ctx)
		w.ok(err)
		w.ok(b.Close())
		s.wake()
		w.same("copied", []any{c.UIDValidity, c.From, c.To}, []any{s.Info().UIDValidity, []imap.UID(nil), upTo(3)})
		w.same("after", s.advance(true).Exists, 3)
		for i := range 3 {
			w.same("message", s.read(imap.UID(i+1)), letter(i))
		}
	}},
	{"batches that are committed together keep their order, and one that fails stays alone", func(w *world) {
		s := w.hold(store.Inbox, true)
		s.forget()
		cut := errors.New("the client hung up")
		var list []store.Batch
		n := 0
		for i := range 4 {
			b, err := w.a.Batch(w.ctx, store.Inbox)
			w.ok(err)
			defer func() { w.ok(b.Close()) }()
			list = append(list, b)
			if i == 2 {
				w.is(b.Add(w.ctx, store.Meta{}, iotest.ErrReader(cut)), cut)
				continue
			}
			for range i + 1 { // the second has two
				w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(n))))
				n++
			}
		}
		w.same("before", []any{w.status(store.Inbox).Messages, s.advance(true).Grown}, []any{0, false})
		done := w.a.Commit(w.ctx, list...)
		w.ok(done[0].Err)
		w.ok(done[1].Err)
		w.is(done[2].Err, cut)
		w.ok(done[3].Err)
		w.same("UIDs", []any{done[0].Copied.To, done[1].Copied.To, len(done[3].Copied.To)}, []any{upTo(1), []imap.UID{2, 3}, 4})
		w.same("UIDVALIDITY", done[3].Copied.UIDValidity, s.Info().UIDValidity)
		s.wake()
		w.same("after", s.advance(true).Exists, 7)
		for i := range 7 {
			w.same("message", s.read(imap.UID(i+1)), letter(i))
		}
	}},
	{"Batch keeps flags, date and keywords", func(w *world) {
		when := time.Date(1999, 12, 31, 23, 59, 58, 0, time.UTC)
		b, err := w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Add(w.ctx, store.Meta{Flags: []imap.Flag{imap.FlagSeen, imap.FlagDraft, "kw"}, Time: when}, strings.NewReader(letter(0))))
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(1))))
		_, err = b.Commit(w.ctx)
		w.ok(err)
		w.ok(b.Close())
		s := w.hold(store.Inbox, true)
		r := s.row(1)
		w.same("row", []any{r.Flags, r.Keywords.Names(), r.Internal}, []any{store.FlagSeen | store.FlagDraft, "[kw]", when.Unix()})
		if now := s.row(2); now.Internal == 0 || r.Saved == 0 || r.Saved < now.Internal-1000 {
			w.Fatalf("dates of what was added now: %+v, %+v", r, now)
		}
	}},
	{"a batch that is closed leaves nothing", func(w *world) {
		b, err := w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(0))))
		w.ok(b.Close())
		w.same("messages", w.status(store.Inbox).Messages, 0)
		b, err = w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		cut := errors.New("the client hung up")
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(letter(0))))
		w.is(b.Add(w.ctx, store.Meta{}, io.MultiReader(strings.NewReader("Subject: x"), iotest.ErrReader(cut))), cut)
		w.ok(b.Close())
		w.same("messages", w.status(store.Inbox).Messages, 0)
		w.same("next UID", w.add(store.Inbox, plain(1)...).To, upTo(1))
	}},
	{"Batch keeps to the limits", func(w *world) {
		who := w.Who
		who.Quota.MessageBytes = 100
		b, err := w.account(who).Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Admit(100))
		w.is(b.Admit(101), store.ErrTooBig)
		w.is(b.Add(w.ctx, store.Meta{}, strings.NewReader(strings.Repeat("x", 101))), store.ErrTooBig)
		w.ok(b.Close())
		w.same("messages", w.status(store.Inbox).Messages, 0)
	}},
	{"line ends are CRLF, whatever was stored", func(w *world) {
		for _, c := range [][2]string{
			{"A: b\n\nc\nd\n", "A: b\r\n\r\nc\r\nd\r\n"},
			{"A: b\r\n\nmixed\r\n\n", "A: b\r\n\r\nmixed\r\n\r\n"},
			{"no end", "no end"},
			{"bare\rCR\r\n", "bare\rCR\r\n"},
			{"ends in CR\r", "ends in CR\r"},
			{"\n\n\n", "\r\n\r\n\r\n"},
			{"nul\x00byte\n", "nul\x00byte\r\n"},
			{strings.Repeat("long line ends in LF\n", 10000), strings.Repeat("long line ends in LF\r\n", 10000)},
		} {
			b, err := w.a.Batch(w.ctx, store.Inbox)
			w.ok(err)
			w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(c[0])))
			copied, err := b.Commit(w.ctx)
			w.ok(err)
			w.ok(b.Close())
			s := w.hold(store.Inbox, true)
			uid := copied.To[0]
			if got := s.read(uid); got != c[1] {
				w.Fatalf("%.40q is read as %.40q", c[0], got)
			}
			if size := s.row(uid).Size; size != -1 && size != int64(len(c[1])) {
				w.Fatalf("%.40q has size %d, not %d", c[0], size, len(c[1]))
			}
		}
	}},
	{"ranges count CRLF", func(w *world) {
		stored := strings.Repeat("0123456789\nab\r\n\n", 600)
		want := strings.ReplaceAll(strings.ReplaceAll(stored, "\r\n", "\n"), "\n", "\r\n")
		b, err := w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		w.ok(b.Add(w.ctx, store.Meta{}, strings.NewReader(stored)))
		_, err = b.Commit(w.ctx)
		w.ok(err)
		w.ok(b.Close())
		m, err := w.hold(store.Inbox, true).Message(w.ctx, 1)
		w.ok(err)
		defer m.Close()
		// Backwards and forwards, so that what remembers a place has to find another.
		for _, off := range []int{9000, 0, 11, 12, 10, 5000, 4999, len(want) - 1, len(want), len(want) + 5, 3} {
			for _, n := range []int{0, 1, 2, 100, 20000} {
				part := want[min(off, len(want)):min(off+n, len(want))]
				var out bytes.Buffer
				wrote, err := m.WriteRange(&out, int64(off), int64(n))
				w.ok(err)
				if out.String() != part || int(wrote) != len(part) {
					w.Fatalf("WriteRange(%d, %d) wrote %d bytes, want %d", off, n, wrote, len(part))
				}
				buf := make([]byte, n)
				k, err := m.ReadAt(buf, int64(off))
				if string(buf[:k]) != part || n > 0 && (err == nil) != (k == n) || err != nil && err != io.EOF {
					w.Fatalf("ReadAt(%d, %d) = %d, %v, want %d bytes", off, n, k, err, len(part))
				}
			}
		}
		var stream strings.Builder
		w.ok(m.Stream(&stream))
		if got := strings.ReplaceAll(strings.ReplaceAll(stream.String(), "\r\n", "\n"), "\n", "\r\n"); got != want {
			w.Fatalf("Stream wrote %q, want %q", got, want)
		}
		broken := errors.New("broken pipe")
		_, err = m.WriteRange(failing{broken}, 0, 10)
		if err != broken {
			w.Fatalf("an error of the writer came back as %v", err)
		}
	}},
	{"what is open stays readable when it is expunged", func(w *world) {
		w.add(store.Inbox, plain(2)...)
		s := w.hold(store.Inbox, true)
		m, err := s.Message(w.ctx, 2)
		w.ok(err)
		defer m.Close()
		s.expunge(2)
		var b strings.Builder
		_, err = m.WriteRange(&b, 0, 1000)
		w.ok(err)
		w.same("message", b.String(), letter(1))
		_, err = s.Message(w.ctx, 2)
		w.is(err, store.ErrGone)
		_, err = s.Message(w.ctx, 77)
		w.is(err, store.ErrGone)
	}},
	{"several open messages at once, and beside what else a hold does", func(w *world) {
		w.add(store.Inbox, plain(20)...)
		s := w.hold(store.Inbox, true)
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Go(func() {
				for i := range 20 {
					uid := imap.UID(1 + (i+5*k)%20)
					m, err := s.Message(w.ctx, uid)
					if err != nil {
						w.Errorf("UID %d: %v", uid, err)
						return
					}
					var b strings.Builder
					if _, err := m.WriteRange(&b, 0, 1000); err != nil || b.String() != letter(int(uid)-1) {
						w.Errorf("UID %d: %q, %v", uid, b.String(), err)
					}
					m.Close()
				}
			})
		}
		for uid := range imap.UID(20) {
			s.Note(uid+1, 8, []byte("note"))
			for range s.Notes(w.ctx, []imap.UID{uid + 1}, 8) {
			}
		}
		_, _, err := s.SetFlags(w.ctx, upTo(20), store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		w.ok(err)
		wg.Wait()
	}},
	{"notes are kept or lost, never mixed up", func(w *world) {
		b, err := w.a.Batch(w.ctx, store.Inbox)
		w.ok(err)
		for i := range 3 {
			var read strings.Builder
			m := store.Meta{Notes: func() map[store.NoteKind][]byte {
				return map[store.NoteKind][]byte{7: []byte(read.String())}
			}}
			w.ok(b.Add(w.ctx, m, io.TeeReader(strings.NewReader(letter(i)), &read)))
		}
		_, err = b.Commit(w.ctx)
		w.ok(err)
		w.ok(b.Close())
		s := w.hold(store.Inbox, true)
		s.Note(2, 8, []byte("eight"))
		s.Note(99, 8, []byte("nobody"))
		for uid, note := range s.Notes(w.ctx, []imap.UID{1, 2, 3, 99}, 7) {
			w.same("note from the batch", string(note), letter(int(uid)-1))
		}
		for uid, note := range s.Notes(w.ctx, []imap.UID{1, 2, 3, 99}, 8) {
			w.same("note", []any{uid, string(note)}, []any{2, "eight"})
		}
		for range s.Notes(w.ctx, upTo(3), 9) {
			w.Fatal("a note that nobody wrote")
		}
	}},
}

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
