package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"roost/test/neighbour"
)

// The corpus is mail of all kinds, the same in each run: short notes, newsletters with HTML
// beside the text, lists with long headers and threads, attachments, 8-bit text. It is made
// once; mailboxes hold hard links to it, for no server changes a message.
type corpus struct {
	dir      string
	messages []message
}

// message is one file of the corpus.
type message struct {
	size, crlf int // bytes on disk, and with CRLF
	flags      string
	date       time.Time // of arrival
}

// rareWord stands in the text of one message in a thousand, and in none of the headers.
const rareWord = "quandary"

// rareEvery: message i has the rare word where i%rareEvery is rareAt.
const (
	rareEvery = 1000
	rareAt    = 50
)

// began is when the first message arrived; one came every hour.
var began = time.Date(2024, 1, 1, 8, 0, 0, 0, time.UTC)

// path of message i; a mailbox may have more messages than the corpus.
func (c *corpus) path(i int) string {
	return filepath.Join(c.dir, fmt.Sprintf("%06d", i%len(c.messages)))
}

func (c *corpus) message(i int) message { return c.messages[i%len(c.messages)] }

// bytes of the first n messages: on disk, and as a client gets them.
func (c *corpus) bytes(n int) (disk, crlf int64) {
	for i := range n {
		disk += int64(c.message(i).size)
		crlf += int64(c.message(i).crlf)
	}
	return disk, crlf
}

// makeCorpus writes n messages into dir.
func makeCorpus(ctx context.Context, dir string, n int) (*corpus, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &corpus{dir: dir, messages: make([]message, n)}
	w := newWriter()
	for i := range n {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		text := w.message(i)
		date := began.Add(time.Duration(i) * time.Hour)
		c.messages[i] = message{
			size: len(text), crlf: len(text) + bytes.Count(text, []byte("\n")),
			flags: w.flags(i), date: date,
		}
		if err := os.WriteFile(c.path(i), text, 0o600); err != nil {
			return nil, err
		}
		if err := os.Chtimes(c.path(i), date, date); err != nil {
			return nil, err
		}
	}
	return c, neighbour.Own(dir)
}

// writer writes mail.
type writer struct {
	r       *rand.Rand
	zipf    *rand.Zipf
	words   []string
	people  []string
	threads []thread
}

// thread is a conversation that goes on.
type thread struct {
	subject string
	ids     []string
}

var (
	onsets = []string{"b", "br", "d", "f", "g", "gl", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "w"}
	vowels = []string{"a", "e", "i", "o", "u", "ei", "au", "ie"}
	codas  = []string{"", "", "n", "r", "s", "t", "l", "ck", "nd"}
	firsts = []string{"Ann", "Bob", "Cem", "Dörte", "Eve", "François", "Greta", "Håkon", "Irina", "José", "Käthe", "Lars"}
	exotic = []string{"größer", "naïve", "señor", "żółć", "письмо", "привет", "会議", "資料", "παράδειγμα", "fjällräven"}
)

func newWriter() *writer {
	w := &writer{r: rand.New(rand.NewPCG(1, 2))}
	for len(w.words) < 8000 {
		word := ""
		for range 1 + w.r.IntN(3) {
			word += w.pick(onsets) + w.pick(vowels) + w.pick(codas)
		}
		w.words = append(w.words, word)
	}
	w.zipf = rand.NewZipf(w.r, 1.1, 4, uint64(len(w.words)-1))
	for i := range 300 {
		last := w.words[w.r.IntN(len(w.words))]
		w.people = append(w.people, fmt.Sprintf("%s %s <%s%d@%s.example>", encodeWord(w.pick(firsts)), strings.ToUpper(last[:1])+last[1:], last, i, w.words[i%40]))
	}
	return w
}

func (w *writer) pick(list []string) string { return list[w.r.IntN(len(list))] }

// encodeWord as RFC 2047 has it, where that is needed.
func encodeWord(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
		}
	}
	return s
}

// text of about so many bytes, in lines of at most 72; foreign words come in where raw.
func (w *writer) text(size int, raw bool) []byte {
	var b bytes.Buffer
	line := 0
	for b.Len() < size {
		word := w.words[w.zipf.Uint64()]
		if raw && w.r.IntN(12) == 0 {
			word = w.pick(exotic)
		}
		switch {
		case line+len(word) > 71:
			b.WriteByte('\n')
			line = 0
		case line > 0:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// flags of message i, as they stand in its name.
func (w *writer) flags(i int) string {
	switch {
	case i%50 == 7:
		return "FS"
	case i%10 == 3:
		return ""
	case i%7 == 1:
		return "RS"
	}
	return "S"
}

// message i, with LF, as an MTA writes it.
func (w *writer) message(i int) []byte {
	var h, b bytes.Buffer
	date := began.Add(time.Duration(i) * time.Hour)
	id := fmt.Sprintf("<%x.%d@%s.example>", w.r.Uint64(), i, w.words[i%40])
	field := func(name, format string, args ...any) { fmt.Fprintf(&h, name+": "+format+"\n", args...) }

	kind := w.r.IntN(100)
	hops := 2 + w.r.IntN(3)
	if kind < 20 {
		hops += 6 // through a list
	}
	field("Return-Path", "<bounces-%d@%s.example>", i, w.words[i%40])
	for n := range hops {
		field("Received", "from mx%d.%s.example (mx%d.%s.example [192.0.2.%d])\n\tby mail%d.example.org (Postfix) with ESMTPS id %X\n\tfor <ann@example.org>; %s",
			n, w.words[n], n, w.words[n], n+1, n, w.r.Uint32(), date.Format(time.RFC1123Z))
	}
	if kind < 60 {
		field("DKIM-Signature", "v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s.example; s=mail;\n\th=from:to:subject:date; bh=%s;\n\tb=%s", w.words[i%40], w.base64(32, 70), strings.ReplaceAll(w.base64(256, 64), "\n", "\n\t "))
	}
	field("From", "%s", w.people[w.r.IntN(len(w.people))])
	field("To", "Ann <ann@example.org>")
	if w.r.IntN(4) == 0 {
		field("Cc", "%s,\n\t%s", w.people[w.r.IntN(len(w.people))], w.people[w.r.IntN(len(w.people))])
	}
	field("Date", "%s", date.Format(time.RFC1123Z))
	field("Message-ID", "%s", id)
	w.conversation(field, id)
	field("MIME-Version", "1.0")
	if kind < 20 {
		field("List-Id", "<%s.lists.example.org>", w.words[i%40])
		field("List-Unsubscribe", "<https://lists.example.org/unsubscribe/%x>", w.r.Uint64())
		field("Precedence", "bulk")
	}

	rare := []byte(nil)
	if i%rareEvery == rareAt {
		rare = []byte("That leaves us in a " + rareWord + ", I am afraid.\n")
	}
	boundary := fmt.Sprintf("=_%x", w.r.Uint64())
	part := func(headers string, body []byte) {
		fmt.Fprintf(&b, "--%s\n%s\n\n%s\n", boundary, headers, body)
	}
	switch {
	case kind < 20, kind >= 55 && kind < 75: // text as it is
		field("Content-Type", "text/plain; charset=utf-8")
		raw := kind%3 == 0
		if raw {
			field("Content-Transfer-Encoding", "8bit")
		}
		b.Write(w.text(600+w.r.IntN(5000), raw))
		b.Write(rare)
	case kind < 55: // a newsletter
		field("Content-Type", "multipart/alternative;\n\tboundary=%q", boundary)
		text := w.text(1500+w.r.IntN(5000), true)
		part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", append(text, rare...))
		var html bytes.Buffer
		html.WriteString("<html><head><style>td { font: 12px/1.5 sans-serif }</style></head><body><table>\n")
		for line := range bytes.Lines(text) {
			fmt.Fprintf(&html, "<tr><td style=3D\"padding: 4px 8px\">%s</td></tr>\n", quotedPrintable(bytes.TrimSpace(line)))
		}
		html.WriteString("</table></body></html>\n")
		part("Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable", html.Bytes())
		fmt.Fprintf(&b, "--%s--\n", boundary)
	case kind < 85: // 8-bit text of the old kind
		field("Content-Type", "text/plain; charset=iso-8859-1")
		field("Content-Transfer-Encoding", "8bit")
		text := w.text(800+w.r.IntN(3000), false)
		b.Write(bytes.ReplaceAll(text, []byte("ei"), []byte("\xe4")))
		b.Write(rare)
	default: // attachments
		field("Content-Type", "multipart/mixed;\n\tboundary=%q", boundary)
		part("Content-Type: text/plain; charset=us-ascii", append(w.text(400+w.r.IntN(2000), false), rare...))
		for n := range 1 + w.r.IntN(2) {
			size := 5_000 + w.r.IntN(85_000)
			part(fmt.Sprintf("Content-Type: application/pdf; name=\"paper-%d.pdf\"\nContent-Disposition: attachment;\n\tfilename=\"paper-%d.pdf\"\nContent-Transfer-Encoding: base64", n, n), []byte(w.base64(size, 76)))
		}
		fmt.Fprintf(&b, "--%s--\n", boundary)
	}
	h.WriteByte('\n')
	h.Write(b.Bytes())
	return h.Bytes()
}

// conversation makes the message start a thread or answer in one.
func (w *writer) conversation(field func(name, format string, args ...any), id string) {
	if len(w.threads) > 0 && w.r.IntN(100) < 55 {
		t := &w.threads[max(0, len(w.threads)-1-w.r.IntN(40))]
		field("Subject", "Re: %s", encodeWord(t.subject))
		field("In-Reply-To", "%s", t.ids[len(t.ids)-1])
		field("References", "%s", strings.Join(t.ids[max(0, len(t.ids)-25):], "\n\t"))
		t.ids = append(t.ids, id)
		return
	}
	t := thread{subject: strings.TrimSpace(strings.ReplaceAll(string(w.text(20+w.r.IntN(40), w.r.IntN(5) == 0)), "\n", " ")), ids: []string{id}}
	w.threads = append(w.threads, t)
	field("Subject", "%s", encodeWord(t.subject))
}

// base64 of so many random bytes, in lines.
func (w *writer) base64(size, width int) string {
	raw := make([]byte, size)
	for i := 0; i+8 <= len(raw); i += 8 {
		v := w.r.Uint64()
		for k := range 8 {
			raw[i+k] = byte(v >> (8 * k))
		}
	}
	s := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width])
		b.WriteByte('\n')
		s = s[width:]
	}
	b.WriteString(s)
	return b.String()
}

// quotedPrintable of a short line.
func quotedPrintable(line []byte) string {
	var b strings.Builder
	for _, c := range line {
		if c >= 0x80 || c == '=' {
			fmt.Fprintf(&b, "=%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
