package search

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roost/store/memstore"

	"github.com/emersion/go-imap/v2"
)

func fuzzyPlan(t *testing.T, scored bool, keys ...Key) *Plan {
	t.Helper()
	q := Query{Scored: scored}
	for _, k := range keys {
		if err := q.AddFuzzy(k); err != nil {
			t.Fatal(err)
		}
	}
	p, err := NewPlan(q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What matches as it is matches fuzzily too, whether scores are wanted or not.
func TestFuzzyLosesNothing(t *testing.T) {
	words := []string{"invoice", "invoices", "May", "unpaid", "of", "Köln", "a"}
	r := rand.New(rand.NewPCG(1, 1))
	some := func(n int) string {
		var s []string
		for range n {
			s = append(s, words[r.IntN(len(words))])
		}
		return strings.Join(s, " ")
	}
	var seeds []memstore.Seed
	for range 60 {
		seeds = append(seeds, memstore.Seed{Message: "Subject: " + some(5) + "\n\n" + some(8) + "\n"})
	}
	src := open(t, seeds...)
	more := 0
	for range 300 {
		k := Key{Op: []Op{Header, Body, Text}[r.IntN(3)], Field: "Subject", Text: some(1 + r.IntN(3))}
		exact := find(t, src, k)
		plain, err := fuzzyPlan(t, false, k).Search(t.Context(), src, imap.SearchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		scored, err := fuzzyPlan(t, true, k).Search(t.Context(), src, imap.SearchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(plain.UIDs, scored.UIDs) || len(scored.Scores) != len(scored.UIDs) || plain.Scores != nil {
			t.Fatalf("%v: %v, with scores %v %v", k, plain.UIDs, scored.UIDs, scored.Scores)
		}
		weight := map[Op]uint8{Header: weightHeader, Body: weightBody, Text: weightText}[k.Op]
		for i, uid := range scored.UIDs {
			if _, ok := slices.BinarySearch(exact, uid); ok != (scored.Scores[i] == weight) {
				t.Fatalf("%v: message %d has score %d", k, uid, scored.Scores[i])
			}
		}
		for _, uid := range exact {
			if _, ok := slices.BinarySearch(plain.UIDs, uid); !ok {
				t.Fatalf("%v: message %d is lost", k, uid)
			}
		}
		more += len(plain.UIDs) - len(exact)
	}
	if more == 0 {
		t.Error("FUZZY found no more")
	}
}

func TestFuzzyIsLimited(t *testing.T) {
	q := Query{}
	var err error
	for range MaxTexts {
		if err = q.AddFuzzy(Key{Op: Body, Text: "one two three"}); err != nil {
			break
		}
	}
	var limit *LimitError
	if !errors.As(err, &limit) {
		t.Errorf("%v", err)
	}
	q = Query{}
	if err := q.AddFuzzy(Key{Op: Header, Field: "Subject", Text: strings.Repeat("word ", 100_000)}); err != nil || len(q.keys) != maxFuzzyWords+1 {
		t.Errorf("%v, %d keys", err, len(q.keys))
	}
}
