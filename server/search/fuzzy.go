package search

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// FUZZY (RFC 6203): a text matches where its words are found, in any order and anywhere in
// words, long ones without their endings. Keys that ask for no text match as they do
// without it. So nothing that matches without FUZZY is lost with it.

// maxFuzzyWords are looked for of one text.
const maxFuzzyWords = 20

// Scores, RFC 6203 section 4: how much of a text was found, in per cent, and where.
const (
	scorePhrase = 100
	scoreWords  = 70
	scoreStems  = 40

	weightHeader = 100
	weightText   = 90
	weightBody   = 80
)

// fuzzy is one text that was asked for with FUZZY: the keys that look for it as it is, for
// each of its words, and for each without its ending. The first two are there where
// scores are wanted.
type fuzzy struct {
	phrase, words, stems []int
	weight               int
}

// AddFuzzy appends a Header, Body or Text key that matches fuzzily. It fails with a
// *LimitError.
func (q *Query) AddFuzzy(k Key) error {
	words := strings.FieldsFunc(k.Text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`,;:"()`, r) })
	if len(words) == 0 {
		return q.Add(k)
	}
	words = words[:min(len(words), maxFuzzyWords)]
	g := fuzzy{weight: weightHeader}
	switch k.Op {
	case Text:
		g.weight = weightText
	case Body:
		g.weight = weightBody
	}
	all := func(texts []string, cut func(string) string) (at []int, err error) {
		for _, text := range texts {
			k.Text = cut(text)
			if err := q.Add(k); err != nil {
				return nil, err
			}
			at = append(at, len(q.keys)-1)
		}
		return at, q.Add(Key{Op: And, N: int64(len(texts))})
	}
	whole := func(s string) string { return s }
	text := k.Text
	var err error
	if g.stems, err = all(words, stem); err != nil || !q.Scored {
		return err
	}
	// These hold where the stems do; that they were found tells how well.
	if g.words, err = all(words, whole); err != nil {
		return err
	}
	if g.phrase, err = all([]string{text}, whole); err != nil {
		return err
	}
	q.fuzzies = append(q.fuzzies, g)
	if err := q.Add(Key{Op: Or}); err != nil {
		return err
	}
	return q.Add(Key{Op: Or})
}

// stem takes the ending from a long word, so that "invoices" finds "invoice", and
// "breaking" "break": two characters of six and seven, three of more.
func stem(word string) string {
	ending := 0
	switch n := utf8.RuneCountInString(word); {
	case n > 7:
		ending = 3
	case n > 5:
		ending = 2
	}
	for range ending {
		_, size := utf8.DecodeLastRuneInString(word)
		word = word[:len(word)-size]
	}
	return word
}

// score tells how well the message at hand, which matches, does so: 1 to 100.
func (r *run) score() uint8 {
	if len(r.plan.fuzzies) == 0 {
		return scorePhrase // of keys that ask for no text
	}
	sum, n := 0, 0
	for _, g := range r.plan.fuzzies {
		score := 0
		switch {
		case r.foundAll(g.phrase):
			score = scorePhrase
		case r.foundAll(g.words):
			score = scoreWords
		case r.foundAll(g.stems):
			score = scoreStems
		default:
			continue
		}
		sum += score * g.weight / 100
		n++
	}
	if n == 0 {
		return 1
	}
	return uint8(max(1, sum/n))
}

func (r *run) foundAll(keys []int) bool {
	for _, i := range keys {
		if !r.match.found[i] {
			return false
		}
	}
	return true
}

// decided tells whether no deeper look at the message at hand is needed. Where scores
// are wanted the fuzzy keys must be looked for even if others decided.
func (r *run) decided(t truth) bool {
	return t == no || t == yes && (len(r.plan.fuzzies) == 0 || r.depth >= r.plan.scoredAt)
}
