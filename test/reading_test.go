package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/maildir"
	"roost/server/session"
	"roost/store"
)

// letters is a user's mail as it is: headers of 2 KB, short texts, HTML, some attachments.
func letters(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	text := func(lines int) {
		for range lines {
			b.WriteString("the quick brown fox jumps over the lazy dog and goes on for a while\n")
		}
	}
	blob := func(n int) {
		raw := make([]byte, n)
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		for text := base64.StdEncoding.EncodeToString(raw); text != ""; text = text[min(76, len(text)):] {
			b.WriteString(text[:min(76, len(text))] + "\n")
		}
	}
	for k := range 3 {
		fmt.Fprintf(&b, "Received: from mx%d.example.net (mx.example.net [192.0.2.%d])\n\tby mail.example.org with ESMTPS id %X\n\tfor <ann@example.org>; Tue, 24 Nov 2026 10:00:00 +0000\n", k, k, r.Uint64())
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=s1;\n\tb=")
	fmt.Fprintf(&b, "%s\nFrom: \"User %d\" <user%d@example.net>\nTo: Ann <ann@example.org>\nSubject: message %d of many\n", strings.Repeat("Abc/", 60), n, n%99, n)
	fmt.Fprintf(&b, "Date: Tue, 24 Nov 2026 10:00:00 +0000\nMessage-ID: <%d@example.net>\nMIME-Version: 1.0\n", n)
	switch n % 10 {
	default:
		b.WriteString("Content-Type: text/plain; charset=utf-8\n\n")
		text(10 + r.IntN(60))
	case 5, 6, 7:
		b.WriteString("Content-Type: multipart/alternative; boundary=x1\n\n--x1\nContent-Type: text/plain\n\n")
		text(30)
		b.WriteString("--x1\nContent-Type: text/html; charset=utf-8\n\n")
		text(200)
		b.WriteString("--x1--\n")
	case 9:
		b.WriteString("Content-Type: multipart/mixed; boundary=x1\n\n--x1\nContent-Type: text/plain\n\n")
		text(20)
		b.WriteString("--x1\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n")
		blob(20_000 + r.IntN(80_000))
		b.WriteString("--x1--\n")
	}
	return b.Bytes()
}

// script is a client that has sent all it will send: a session's answers are counted. It
// waits at the marks between commands.
type script struct {
	commands chan string
	left     string
	wrote    atomic.Int64
	writes   atomic.Int64
	done     chan struct{} // all is answered and the next command is waited for
}

func (s *script) Read(p []byte) (int, error) {
	if s.left == "" {
		s.done <- struct{}{}
		next, ok := <-s.commands
		if !ok {
			return 0, io.EOF
		}
		s.left = next
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.wrote.Add(int64(len(p)))
	s.writes.Add(1)
	return len(p), nil
}

func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }

// reader is a session on a Maildir of n messages.
type reader struct {
	t      testing.TB
	root   string
	stream *script
	ended  chan error
	st     *maildir.Store
	n      int
}

func readers(t testing.TB, n int) *reader {
	root := filepath.Join(t.TempDir(), "Maildir")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		b := letters(r, i)
		name := fmt.Sprintf("%d.M%06dP1.mail.example.org,S=%d,W=%d:2,%s", 1_700_000_000+i, i, len(b), len(b)+bytes.Count(b, []byte("\n")), []string{"S", "", "RS"}[i%3])
		if err := os.WriteFile(filepath.Join(root, "cur", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rd := &reader{t: t, root: root, n: n}
	rd.open()
	t.Cleanup(rd.close)
	return rd
}

// open starts a server's store and a session on it.
func (r *reader) open() {
	log := slog.New(slog.DiscardHandler)
	st, err := maildir.New(maildir.Options{Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	r.st, r.stream, r.ended = st, &script{commands: make(chan string), done: make(chan struct{})}, make(chan error, 1)
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: r.root, Layout: store.LayoutMaildirPP, Escape: store.EscapeBackslash}}}
	go func() { // ends with close
		_, err := session.Serve(context.Background(), r.stream, &session.Login{Who: who, Tag: "l"}, st, &session.Options{Log: log})
		r.ended <- err
	}()
	<-r.stream.done
	r.do("SELECT INBOX")
}

// do has a command answered.
func (r *reader) do(command string) (written int64, writes int) {
	n, w := r.stream.wrote.Load(), r.stream.writes.Load()
	r.stream.commands <- "a " + command + "\r\n"
	<-r.stream.done
	return r.stream.wrote.Load() - n, int(r.stream.writes.Load() - w)
}

func (r *reader) close() {
	close(r.stream.commands)
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
	if err := r.st.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
}

// forget opens the mailbox again without what the cache holds.
func (r *reader) forget() {
	r.close()
	if err := os.Remove(filepath.Join(r.root, "roost.cache")); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	r.open()
}

// A list of messages costs no allocation a message, and a write of the stream for each
// 64 KiB of it and no more.
func TestRowsCostNothing(t *testing.T) {
	r := readers(t, 2000)
	for _, command := range []string{
		"FETCH 1:* FLAGS",
		"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)",
		"FETCH 1:* (UID FLAGS ENVELOPE)",
		"FETCH 1:* BODY.PEEK[HEADER.FIELDS (From To Subject Date X-Whatever)]",
	} {
		r.do(command)
		var written int64
		var writes int
		allocs := math.Inf(1)
		for range 5 { // what goes on in the background allocates too: the least counts
			allocs = min(allocs, testing.AllocsPerRun(1, func() { written, writes = r.do(command) }))
		}
		if allocs > float64(r.n)/4 {
			t.Errorf("%s: %.0f allocations for %d messages", command, allocs, r.n)
		}
		if most := int(written)/(64<<10) + 2; writes > most { // the first has 16 KiB
			t.Errorf("%s: %d bytes in %d writes", command, written, writes)
		}
	}
}

// What a client fetches of a mailbox of 2,000 varied messages, from a Maildir and without a
// network: first, when nothing is kept of it, and again.
func BenchmarkRead(b *testing.B) {
	r := readers(b, 2000)
	for _, c := range []struct{ name, command string }{
		{"Flags", "FETCH 1:* FLAGS"},
		{"Meta", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"},
		{"Envelope", "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"},
		{"Fields", "FETCH 1:* BODY.PEEK[HEADER.FIELDS (From To Subject Date References)]"},
		{"Header", "FETCH 1:* BODY.PEEK[HEADER]"},
		{"Body", "FETCH 1:* BODY.PEEK[]"},
		{"EmailID", "FETCH 1:* EMAILID"},
		{"Unseen", "SEARCH UNSEEN"},
		{"Sort", "SORT (SUBJECT) UTF-8 ALL"},
		{"Thread", "THREAD REFERENCES UTF-8 ALL"},
		{"One", "FETCH 1000 BODY.PEEK[]"},
		{"Noop", "NOOP"},
	} {
		for _, first := range []bool{true, false} {
			name := c.name + "Again"
			if first {
				name = c.name + "First"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				var n int64
				for b.Loop() {
					if first {
						b.StopTimer()
						r.forget()
						b.StartTimer()
					}
					n, _ = r.do(c.command)
				}
				b.SetBytes(n)
			})
		}
	}
}
