package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A change is one row in two runs.
type change struct {
	Row      string
	Old, New float64
	unit     unit
	Ratio    float64 // cost of the new one over the old one's
	Level    float64 // the same with each over Dovecot in its own run: the machine's mood taken out; 0 without
	Mark     string  // "faster", "slower", or "" where the rounds of both overlap
}

// compare gives the rows that both runs have, in the order of the new one.
func compare(older, newer *Result) (list []change) {
	before := map[string]Row{}
	for _, row := range older.Rows {
		before[row.Name] = row
	}
	for _, row := range newer.Rows {
		old, ok := before[row.Name]
		if !ok || old.Roost == nil || row.Roost == nil || old.Unit != row.Unit {
			continue
		}
		c := change{Row: row.Name, Old: old.Roost.Median, New: row.Roost.Median, unit: row.Unit, Ratio: cost(row.Unit, row.Roost, old.Roost)}
		if a, b := row.neighbour(), old.neighbour(); a > 0 && b > 0 {
			c.Level = a / b
		}
		c.Mark = mark(row.Unit, old.Roost.Rounds, row.Roost.Rounds)
		list = append(list, c)
	}
	return list
}

// mark says whether all rounds of one run lie beyond all rounds of the other.
func mark(u unit, older, newer []float64) string {
	if len(older) == 0 || len(newer) == 0 {
		return ""
	}
	less, more := "better", "worse"
	if u == seconds {
		less, more = "faster", "slower"
	}
	if u == rate {
		less, more = "slower", "faster"
	}
	switch {
	case slices.Max(newer) < slices.Min(older):
		return less
	case slices.Min(newer) > slices.Max(older):
		return more
	}
	return ""
}

// printChanges writes them as a table.
func printChanges(out io.Writer, list []change) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operation\told\tnew\tnew/old\twith each over Dovecot\tbeyond the spread of rounds")
	var ratios []float64
	for _, c := range list {
		level := ""
		if c.Level > 0 {
			level = fmt.Sprintf("%.2f", c.Level)
		}
		if c.Ratio > 0 && (c.unit == seconds || c.unit == rate) {
			ratios = append(ratios, c.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\n", c.Row, c.unit.format(c.Old), c.unit.format(c.New), c.Ratio, level, c.Mark)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nGeometric mean of new/old over %d rows: %.3f\n", len(ratios), geometricMean(ratios))
	return err
}
