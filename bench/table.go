package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// cells of a row: what it is, Roost, Dovecot, the machine, and the two ratios.
func (r Row) cells() []string {
	side := func(f *figure) string {
		if f == nil {
			return ""
		}
		s := r.Unit.format(f.Median)
		if f.N >= enough && r.Unit == seconds {
			s += ", p99 " + r.Unit.format(f.P99)
		}
		return s
	}
	limit := side(r.Machine)
	if limit != "" && r.Against != "" {
		limit += " (" + r.Against + ")"
	}
	ratio := func(v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f", v)
	}
	return []string{r.Name, r.About, side(r.Roost), side(r.Dovecot), limit, ratio(r.neighbour()), ratio(r.limit())}
}

var headings = []string{"operation", "what", "Roost", "Dovecot", "the machine", "/ Dovecot", "/ machine"}

// print writes the table, as text or as Markdown, and the verdict where one is asked for.
func (res *Result) print(out io.Writer, markdown, judge bool) error {
	for _, s := range res.Settings {
		fmt.Fprintln(out, s)
	}
	fmt.Fprintln(out)
	if markdown {
		fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(headings, " | "), strings.Repeat("---|", len(headings)))
		for _, row := range res.Rows {
			fmt.Fprintf(out, "| %s |\n", strings.Join(row.cells(), " | "))
		}
	} else {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, cells := range [][]string{headings} {
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
		for _, row := range res.Rows {
			fmt.Fprintln(w, strings.Join(row.cells(), "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if !judge {
		return nil
	}
	mean, of, missed := verdict(res.Rows)
	fmt.Fprintln(out)
	if of > 0 {
		fmt.Fprintf(out, "Geometric mean of the ratios to Dovecot, over %d rows: %.3f (the bar %.1f)\n", of, mean, meanBar)
	}
	if len(missed) == 0 {
		fmt.Fprintln(out, "Every row keeps its bar.")
		return nil
	}
	fmt.Fprintf(out, "\nBelow the bar:\n")
	for _, m := range missed {
		if markdown {
			m = "- " + m
		} else {
			m = "  " + m
		}
		fmt.Fprintln(out, m)
	}
	return nil
}
