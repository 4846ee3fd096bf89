package main

import (
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all := []operation{{name: "fetch/flags"}, {name: "fetch/one"}, {name: "search/body"}, {name: "search/body-first"}, {name: "growth/flag@10"}, {name: "growth/flag@100"}}
	for _, c := range []struct{ patterns, want string }{
		{"", "fetch/flags fetch/one search/body search/body-first growth/flag@10 growth/flag@100"},
		{"growth/flag", "growth/flag@10 growth/flag@100"},
		{"growth/flag@10", "growth/flag@10"},
		{"fetch", "fetch/flags fetch/one"},
		{"search/body", "search/body"},
		{"search/body*,fetch/one", "fetch/one search/body search/body-first"},
		{"*/body-first", "search/body-first"},
	} {
		got, err := choose(all, c.patterns)
		var names []string
		for _, op := range got {
			names = append(names, op.name)
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("-only %q: %q, %v", c.patterns, names, err)
		}
	}
	for _, p := range []string{"fetc", "fetch/", "[", "fetch,nothing"} {
		if _, err := choose(all, p); err == nil {
			t.Errorf("-only %q is taken", p)
		}
	}
}

// Each operation has a name of its own that -only can mean, and can be done.
func TestOperationsAreWhole(t *testing.T) {
	for _, z := range []sizes{full(10_000, 5, true), full(100, 1, false), quick()} {
		var seen []string
		for _, op := range operations(z) {
			if slices.Contains(seen, op.name) {
				t.Errorf("%s is there twice", op.name)
			}
			seen = append(seen, op.name)
			if strings.Count(op.name, "/") != 1 || op.about == "" {
				t.Errorf("%q: %q", op.name, op.about)
			}
			if op.begin == nil && op.limit == nil {
				t.Errorf("%s does nothing", op.name)
			}
			if op.begin != nil && (op.limit == nil) != (op.against == "") {
				t.Errorf("%s: a limit and its name go together", op.name)
			}
		}
	}
}

// A wrong answer is told with both sides' words.
func TestAgree(t *testing.T) {
	said := func(s ...string) *record { return &record{answers: s} }
	if err := agree([]*record{said("a", "b"), said("c")}, []*record{said("a", "b"), said("c")}); err != nil {
		t.Error(err)
	}
	err := agree([]*record{said("a"), said("c")}, []*record{said("a"), said("d")})
	if err == nil || !strings.Contains(err.Error(), "round 2") {
		t.Errorf("got %v", err)
	}
}

// The corpus is the same whenever it is made.
func TestCorpusIsDeterministic(t *testing.T) {
	a, b := newWriter(), newWriter()
	rare := 0
	for i := range 120 {
		x, y := a.message(i), b.message(i)
		if string(x) != string(y) {
			t.Fatalf("message %d differs", i)
		}
		rare += strings.Count(string(x), rareWord)
		if !strings.Contains(string(x), "\nMessage-ID: ") || strings.Contains(string(x), "\r") {
			t.Errorf("message %d is not mail as an MTA writes it", i)
		}
	}
	if rare != 1 {
		t.Errorf("the rare word stands %d times in the first messages", rare)
	}
}
