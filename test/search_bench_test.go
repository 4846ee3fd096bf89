package test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/maildir"
	"roost/server/search"
	"roost/store"
)

// BenchmarkSearchUnindexed is one search that has to look through all messages, of the kinds
// that mail is of.
func BenchmarkSearchUnindexed(b *testing.B) {
	words := strings.Fields("the of and to in that it is was for on are with meeting invoice report attached please regards thanks monday budget")
	for _, c := range []struct {
		name    string
		n, size int
		message func(text string) string
	}{
		{"small", 2000, 1500, func(text string) string { return "Content-Type: text/plain; charset=utf-8\n\n" + text }},
		{"plain", 500, 20_000, func(text string) string { return "Content-Type: text/plain; charset=utf-8\n\n" + text }},
		{"qp-latin1", 500, 20_000, func(text string) string {
			return "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(text, "meeting", "m=E4=\neting")
		}},
		{"alternative", 500, 20_000, func(text string) string {
			return "Content-Type: multipart/alternative; boundary=bb\n\n--bb\nContent-Type: text/plain\n\n" + text[:len(text)/2] + "\n--bb\nContent-Type: text/html; charset=utf-8\n\n<html>" + text[len(text)/2:] + "\n--bb--\n"
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			root := filepath.Join(b.TempDir(), "Maildir")
			r := rand.New(rand.NewPCG(1, 1))
			for _, d := range []string{"cur", "new", "tmp"} {
				os.MkdirAll(filepath.Join(root, d), 0o700)
			}
			bytes := 0
			for i := range c.n {
				var text strings.Builder
				for text.Len() < c.size {
					text.WriteString(words[r.IntN(len(words))] + " ")
					if r.IntN(10) == 0 {
						text.WriteString("\n")
					}
				}
				m := fmt.Sprintf("From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: number %d\nDate: Tue, 24 Nov 2026 10:00:00 +0000\nMessage-ID: <%d@example.org>\nMIME-Version: 1.0\n", i, i) + c.message(text.String())
				bytes += len(m)
				if err := os.WriteFile(filepath.Join(root, "cur", fmt.Sprintf("17955%05d.M1P%d.host,S=%d:2,S", i, i, len(m))), []byte(m), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			st, err := maildir.New(maildir.Options{Log: slog.New(slog.DiscardHandler), NoTextIndex: true})
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close(b.Context())
			a, err := st.Account(b.Context(), store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: root, Layout: store.LayoutMaildirPP}}})
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			box, err := a.Hold(b.Context(), store.Inbox, true, func() {})
			if err != nil {
				b.Fatal(err)
			}
			defer box.Close()
			var q search.Query
			q.Add(search.Key{Op: search.Body, Text: "xyzzyxyzzy"})
			plan, err := search.NewPlan(q)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				found, err := plan.Search(b.Context(), search.Source{Box: box, View: box.View(), Parts: 1, Fields: 2}, imap.SearchOptions{})
				if err != nil || len(found.UIDs) != 0 {
					b.Fatal(err, len(found.UIDs))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(c.n), "µs/message")
		})
	}
}
