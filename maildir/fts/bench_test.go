package fts

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"roost/message"
)

// prose makes mail as people get it: words as often as in a language, headers with noise.
type prose struct {
	r     *rand.Rand
	words []string
}

func newProse() *prose {
	p := &prose{r: rand.New(rand.NewPCG(2, 3))}
	starts := strings.Fields("b c d f g h j k l m n p r s t v w st tr pr ch sh th br cl fr gr pl sp qu")
	vowels := strings.Fields("a e i o u ea ou ie ai oo a e i o")
	ends := strings.Fields("n r s t l m d nd st ng ck rt ly tion ment er ing ed es al ic x")
	for range 60_000 {
		w := ""
		for range 1 + p.r.IntN(3) {
			w += starts[p.r.IntN(len(starts))] + vowels[p.r.IntN(len(vowels))]
		}
		if p.r.IntN(4) > 0 {
			w += ends[p.r.IntN(len(ends))]
		}
		p.words = append(p.words, w)
	}
	return p
}

func (p *prose) word() string {
	// Zipf's law: the n-th word 1/n as often as the first.
	return p.words[int(math.Exp(p.r.Float64()*math.Log(float64(len(p.words)))))-1]
}

func (p *prose) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(p.r.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

// message of about n bytes of text.
func (p *prose) message(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s.example.org (%s.example.org [192.0.2.%d]) by mx.example.net (Postfix) with ESMTPS id %s\r\n for <ann@example.net>; Tue, %d Nov 2026 10:%02d:%02d +0000 (UTC)\r\n",
		p.word(), p.word(), p.r.IntN(256), p.noise(8), 1+p.r.IntN(28), p.r.IntN(60), p.r.IntN(60))
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail; h=From:To:Subject:Date; bh=%s;\r\n b=%s\r\n", p.noise(32), p.noise(256))
	fmt.Fprintf(&b, "From: %s %s <%s@example.org>\r\nTo: Ann <ann@example.net>\r\nSubject: %s %s %s %s\r\nMessage-ID: <%s@example.org>\r\nDate: Tue, %d Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
		p.word(), p.word(), p.word(), p.word(), p.word(), p.word(), p.word(), p.noise(16), 1+p.r.IntN(28))
	for line := 0; b.Len() < n; {
		w := p.word()
		if line += len(w) + 1; line > 72 {
			b.WriteString("\r\n")
			line = 0
		}
		b.WriteString(w + " ")
	}
	return b.String()
}

// BenchmarkBuild is what indexing takes, and how big the index is.
func BenchmarkBuild(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
		size func(r *rand.Rand) int
	}{
		{"2KB", 8000, func(r *rand.Rand) int { return 1000 + r.IntN(2000) }},
		{"8KB", 8000, func(r *rand.Rand) int { return 1000 + r.IntN(15_000) }},
		{"20KB", 8000, func(r *rand.Rand) int { return 2000 + r.IntN(36_000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newProse()
			s := &shelf{base: map[uint32]string{}}
			all := make([]string, c.n)
			text := int64(0)
			for i := range all {
				all[i] = p.message(c.size(p.r))
				text += int64(len(all[i]))
				s.base[uint32(i+1)] = fmt.Sprint(i)
			}
			b.SetBytes(text)
			b.ReportAllocs()
			var x *Index
			for b.Loop() {
				d, _ := desk(b)
				x = New(d, 0o600, 7, 1, s.names)
				build(b, x, s, all)
			}
			b.ReportMetric(100*float64(x.size)/float64(text), "%ofText")
			b.ReportMetric(100*float64(x.unused)/float64(text), "%unused")
			b.ReportMetric(float64(len(x.segs)), "segments")
			x.Release()
		})
	}
}

func build(tb testing.TB, x *Index, s *shelf, all []string) {
	batch := NewBatch()
	for i, raw := range all {
		uid := uint32(i + 1)
		batch.Add(uid, Sum(uid, s.base[uid]), &wholeMessage{[]byte(raw)})
		if batch.Full() {
			if err := x.Add(batch, x.Last()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := x.Add(batch, x.Last()); err != nil {
		tb.Fatal(err)
	}
	if err := tidy(x); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkAsk is what narrowing one search takes in 100,000 messages.
func BenchmarkAsk(b *testing.B) {
	p := newProse()
	s := &shelf{base: map[uint32]string{}}
	all := make([]string, 100_000)
	for i := range all {
		all[i] = p.message(2000)
		s.base[uint32(i+1)] = fmt.Sprint(i)
	}
	d, _ := desk(b)
	x := New(d, 0o600, 7, 1, s.names)
	build(b, x, s, all)
	for _, c := range []struct{ name, text string }{
		{"nowhere", "xyzzyxyzzy"}, {"rareWord", p.words[40_000]}, {"frequentWord", p.words[3]}, {"phrase", p.words[3] + " " + p.words[7] + " " + p.words[100]},
	} {
		text := message.AppendFold(nil, []byte(c.text))
		b.Run(c.name, func(b *testing.B) {
			left := 0
			for b.Loop() {
				left = len(all)
				if _, err := x.RuledOut(context.Background(), text, func(uint32) { left-- }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(left), "left")
		})
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			x.Release()
			x.Load()
		}
	})
	x.Release()
}
