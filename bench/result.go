package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Result is what -json writes and -compare reads.
type Result struct {
	When     time.Time `json:"when"`
	Version  string    `json:"version"`  // of the tree that was measured
	Settings []string  `json:"settings"` // in words
	Rows     []Row     `json:"rows"`
}

// Row is one line of the table.
type Row struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Unit    unit     `json:"unit"`
	Roost   *figure  `json:"roost,omitempty"`
	Dovecot *figure  `json:"dovecot,omitempty"`
	Machine *figure  `json:"machine,omitempty"`
	Against string   `json:"against,omitempty"` // what the machine did
	Missed  []string `json:"missed,omitempty"`  // bars of its own
}

// neighbour is Roost's cost over Dovecot's, 0 where it was not measured.
func (r Row) neighbour() float64 { return cost(r.Unit, r.Roost, r.Dovecot) }

// limit is Roost's cost over the machine's.
func (r Row) limit() float64 { return cost(r.Unit, r.Roost, r.Machine) }

func (res *Result) write(path string) error {
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func readResult(path string) (*Result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	res := &Result{}
	if err := json.Unmarshal(b, res); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return res, nil
}

// The bar that holds for every operation that both servers did.
const (
	meanBar  = 0.3 // geometric mean of the ratios to Dovecot
	eachBar  = 0.8 // of one
	closeBar = 1.0 // of one that Dovecot does within closeTo of the machine
	closeTo  = 3.5
)

// missed gives why a row misses this bar, in words.
func (b bar) missed(row Row) (why []string) {
	over := func(what string, have, want float64) {
		if want > 0 && have > want {
			why = append(why, fmt.Sprintf("%s%.3g of the machine's, the bar %.3g%s", what, have, want, prefixed(": ", b.why)))
		}
	}
	over("", row.limit(), b.limit)
	if row.Roost != nil && row.Machine != nil {
		over("p99 ", costOf(row.Unit, row.Roost.P99, row.Machine.P99), b.limit9)
	}
	if row.Roost != nil {
		for _, m := range []struct {
			what       string
			have, want float64
		}{{"median", row.Roost.Median, b.max}, {"p99", row.Roost.P99, b.max9}} {
			if m.want > 0 && m.have > m.want {
				why = append(why, fmt.Sprintf("%s is %s, the bar %s%s", m.what, row.Unit.format(m.have), row.Unit.format(m.want), prefixed(": ", b.why)))
			}
		}
	}
	return why
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// timed says whether a row counts for the bar of all: CPU, memory and counts do not.
func (r Row) timed() bool { return r.Unit == seconds || r.Unit == rate }

// verdict is the geometric mean, of how many rows it is, and which rows miss which bar.
func verdict(rows []Row) (mean float64, of int, missed []string) {
	var ratios []float64
	for _, row := range rows {
		ratio := row.neighbour()
		if ratio > 0 && row.timed() {
			ratios = append(ratios, ratio)
			limit, theirs := eachBar, cost(row.Unit, row.Dovecot, row.Machine)
			if theirs > 0 && theirs <= closeTo {
				limit = closeBar
			}
			if ratio > limit {
				missed = append(missed, fmt.Sprintf("%s: %.2f of Dovecot's, the bar %.1f", row.Name, ratio, limit))
			}
		}
		for _, why := range row.Missed {
			missed = append(missed, row.Name+": "+why)
		}
	}
	return geometricMean(ratios), len(ratios), append(missed, grown(rows)...)
}

// sized are rows whose names end in @ and a size: what they cost must not grow with it.
const growthBar = 2.0

// grown names the operations that cost more in a large mailbox than in a small one.
func grown(rows []Row) (missed []string) {
	type at struct {
		size int
		cost float64
	}
	ladders := map[string][]at{}
	var names []string
	for _, row := range rows {
		name, size, ok := strings.Cut(row.Name, "@")
		if n := 0; ok && row.Roost != nil && row.Unit == seconds && strings.HasPrefix(name, "growth/") {
			if _, err := fmt.Sscanf(size, "%d", &n); err == nil {
				if ladders[name] == nil {
					names = append(names, name)
				}
				ladders[name] = append(ladders[name], at{n, row.Roost.Median})
			}
		}
	}
	for _, name := range names {
		l := ladders[name]
		slices.SortFunc(l, func(a, b at) int { return cmp.Compare(a.size, b.size) })
		first, last := l[0], l[len(l)-1]
		if ratio := costOf(seconds, last.cost, first.cost); ratio > growthBar {
			missed = append(missed, fmt.Sprintf("%s: at %d messages it is %.1f times what it is at %d, the bar %.1f", name, last.size, ratio, first.size, growthBar))
		}
	}
	return missed
}
