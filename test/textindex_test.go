package test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"mime"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir"
	"roost/server/search"
	"roost/store"
)

// scanned is a mailbox without an index of text.
type scanned struct{ store.Mailbox }

func (scanned) Candidates(context.Context, store.View, []byte) ([]imap.UID, bool, error) {
	return nil, false, nil
}

// searchWords are what random messages and queries are made of.
var searchWords = strings.Fields(`invoice Invoices INVOICE Rechnung Straße STRASSE İstanbul istanbul ISTANBUL ıssız ΣΊΣΥΦΟΣ σίσυφος
	naïve café cafe\u0301 東京 東京都庁 大阪 한글 한국어 привет ПРИВЕТ Привет ﬁle ſtrange the of and to in meeting 2024-11-27 a ab`)

// randomLetter makes a message of any kind that mail has.
func randomLetter(r *rand.Rand) []byte {
	phrase := func(n int) string {
		var b strings.Builder
		for range 1 + r.IntN(n) {
			b.WriteString(searchWords[r.IntN(len(searchWords))] + []string{" ", "", "\r\n", ", "}[r.IntN(4)])
		}
		return b.String()
	}
	flat := func(n int) string { return strings.ReplaceAll(phrase(n), "\r\n", " ") }
	word := func() string {
		return mime.WordEncoder([]byte("bq")[r.IntN(2)]).Encode([]string{"utf-8", "UTF-8"}[r.IntN(2)], flat(4))
	}
	body := func(text string) string {
		switch r.IntN(4) {
		case 0:
			return "Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n"
		case 1:
			var b strings.Builder
			w := quotedprintable.NewWriter(&b)
			w.Write([]byte(text))
			w.Close()
			return "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b.String() + "\r\n"
		case 2:
			return "Content-Transfer-Encoding: x-unknown\r\n\r\n" + text + "\r\n"
		}
		return "\r\n" + text + "\r\n"
	}
	charset := func() string {
		return []string{"", "; charset=utf-8", "; charset=koi8-r", "; charset=iso-8859-1", "; charset=utf-7", "; charset=no-such", "; charset=iso-2022-jp"}[r.IntN(7)]
	}
	head := "From: " + word() + " <" + fmt.Sprint(r.IntN(50)) + "@example.org>\r\nSubject: " + word() + " " + flat(3) + "\r\n " + word() + "\r\n"
	if r.IntN(5) == 0 {
		head += "X-Garbage: \xff\xfe\x80 " + flat(2) + "\x00\r\nno field at all\r\n"
	}
	switch r.IntN(8) {
	case 0:
		return []byte(head + "\r\n" + phrase(30))
	case 1:
		return []byte(head + "Content-Type: text/html" + charset() + "\r\n" + body("<p>"+phrase(20)+"<b>in</b>voice</p>"))
	case 2:
		m := head + "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble " + flat(3) + "\r\n--b\r\nContent-Type: text/plain" + charset() + "\r\n" + body(phrase(20)) +
			"--b\r\nContent-Type: application/pdf; name=\"" + flat(2) + "\"\r\n" + body(phrase(10)) +
			"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: " + word() + "\r\n" + body(phrase(5))
		if r.IntN(3) > 0 {
			m += "--b--\r\nepilogue " + flat(3)
		}
		return []byte(m)
	case 3: // broken: the boundary never comes, or the header never ends
		return []byte(head + "Content-Type: multipart/mixed; boundary=never\r\n\r\n" + phrase(20))
	case 4:
		return []byte(head + strings.ReplaceAll(phrase(10), "\r\n", "\r\nX-More: "))
	case 5:
		garbage := make([]byte, r.IntN(3000))
		for i := range garbage {
			garbage[i] = byte(r.Uint32())
		}
		return append([]byte(head+"Content-Type: text/plain"+charset()+"\r\n\r\n"+phrase(3)), garbage...)
	case 6:
		return []byte(strings.ReplaceAll(head+"\r\n"+phrase(30), "\r\n", "\n"))
	}
	return []byte(head + "Content-Type: text/plain" + charset() + "\r\n" + body(phrase(40)))
}

// randomQuery makes a query of up to depth levels. own is a piece of a message, or "".
func randomQuery(r *rand.Rand, q *search.Query, depth int, own string) {
	if depth > 0 && r.IntN(3) > 0 {
		switch r.IntN(3) {
		case 0:
			randomQuery(r, q, depth-1, own)
			q.Add(search.Key{Op: search.Not})
		case 1:
			randomQuery(r, q, depth-1, own)
			randomQuery(r, q, depth-1, own)
			q.Add(search.Key{Op: search.Or})
		case 2:
			randomQuery(r, q, depth-1, own)
			randomQuery(r, q, depth-1, own)
			q.Add(search.Key{Op: search.And, N: 2})
		}
		return
	}
	text := searchWords[r.IntN(len(searchWords))]
	switch r.IntN(6) {
	case 0:
		runes := []rune(text)
		from := r.IntN(len(runes))
		text = string(runes[from : from+1+r.IntN(len(runes)-from)])
	case 1:
		text += " " + searchWords[r.IntN(len(searchWords))]
	case 2:
		text = strings.ToUpper(text)
	case 3, 4:
		if own != "" {
			text = strings.ToValidUTF8(own, "?")
		}
	}
	k := search.Key{Op: []search.Op{search.Body, search.Text, search.Header, search.Text}[r.IntN(4)], Text: text}
	if k.Op == search.Header {
		k.Field = []string{"From", "subject", "X-Garbage", "Content-Type", "Message-Id"}[r.IntN(5)]
	}
	switch r.IntN(12) {
	case 0:
		k = search.Key{Op: search.Flag, Flags: store.FlagSeen}
	case 1:
		q.AddFuzzy(k)
		return
	}
	q.Add(k)
}

// SEARCH finds the same with the index of text and without it, whatever is in the mailbox
// and asked for, and whatever happened to the file; and with it looks at few messages.
func TestSearchFindsTheSameWithAnIndex(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 17))
		root := filepath.Join(t.TempDir(), "Maildir")
		file := filepath.Join(root, "roost.fts")
		who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: root, Layout: store.LayoutMaildirPP, Create: true}}}
		var letters [][]byte
		for round := range 6 {
			st, err := maildir.New(maildir.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			a, err := st.Account(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			b, err := a.Batch(t.Context(), store.Inbox)
			if err != nil {
				t.Fatal(err)
			}
			for range 70 + r.IntN(60) {
				m := randomLetter(r)
				letters = append(letters, m)
				meta := store.Meta{}
				if r.IntN(3) == 0 {
					meta.Flags = append(meta.Flags, imap.FlagSeen)
				}
				if err := b.Add(t.Context(), meta, strings.NewReader(string(m))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.Close()
			box, err := a.Hold(t.Context(), store.Inbox, true, func() {})
			if err != nil {
				t.Fatal(err)
			}
			compare := func(n int) {
				t.Helper()
				for range n {
					own := letters[r.IntN(len(letters))]
					from := r.IntN(len(own))
					own = own[from : from+r.IntN(min(30, len(own)-from))]
					compareSearch(t, r, box, string(own))
				}
			}
			compare(10)
			waitForIndex(t, box)
			compare(25)
			opened := countOpened(t, box, "no such text")
			const most = 64 + 1 + 20 // those of the tail, before the index is asked, and that are noise
			if opened > most && round%3 == 2 {
				// It was the first to meet the damage, and the index is made anew.
				waitForIndex(t, box)
				opened = countOpened(t, box, "no such text")
			}
			if opened > most {
				t.Errorf("seed %d, round %d: %d messages are opened for a text that none has", seed, round, opened)
			}
			var gone []imap.UID
			for _, u := range box.View().UIDs.All(0) {
				if r.IntN(4) == 0 {
					gone = append(gone, u)
				}
			}
			if _, _, err := box.SetFlags(t.Context(), gone, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := box.Expunge(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			compare(10)
			box.Close()
			a.Close()
			if err := st.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			switch b, err := os.ReadFile(file); {
			case err != nil:
				t.Fatal(err)
			case round%3 == 1:
				for range 1 + r.IntN(20) {
					b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
				}
				os.WriteFile(file, b, 0o600)
			case round%3 == 2:
				os.Remove(file)
			}
		}
	}
}

func compareSearch(t *testing.T, r *rand.Rand, box store.Mailbox, own string) {
	t.Helper()
	var q search.Query
	randomQuery(r, &q, 3, own)
	plan, err := search.NewPlan(q)
	if err != nil {
		t.Fatal(err)
	}
	src := search.Source{Box: box, View: box.View(), Parts: 1, Fields: 2, Common: func(f []string) bool { return false }}
	var found [2]search.Found
	for i, b := range []store.Mailbox{box, scanned{box}} {
		src.Box = b
		if found[i], err = plan.Search(t.Context(), src, imap.SearchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(found[0].UIDs, found[1].UIDs) {
		t.Fatalf("query %+v finds %v with the index, %v without it", q, found[0].UIDs, found[1].UIDs)
	}
}

// waitForIndex waits until all but a few messages are indexed.
func waitForIndex(t *testing.T, box store.Mailbox) {
	t.Helper()
	for {
		may, ok, err := box.Candidates(t.Context(), box.View(), []byte("NO SUCH TEXT"))
		if err != nil {
			t.Fatal(err)
		}
		n := box.View().UIDs.Len()
		if ok && len(may) < 64+n/10 {
			return
		}
		time.Sleep(time.Millisecond) // the work is in the background, and tells nobody
	}
}

// countOpened gives how many messages a search opens.
func countOpened(t *testing.T, box store.Mailbox, text string) (n int) {
	t.Helper()
	var q search.Query
	q.Add(search.Key{Op: search.Text, Text: text})
	plan, err := search.NewPlan(q)
	if err != nil {
		t.Fatal(err)
	}
	src := search.Source{Box: box, View: box.View(), Opened: func() error { n++; return nil }}
	if _, err := plan.Search(t.Context(), src, imap.SearchOptions{}); err != nil {
		t.Fatal(err)
	}
	return n
}
