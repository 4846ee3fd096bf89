package main

import (
	"bytes"
	"strings"
	"testing"
)

func rounds(u unit, ours []float64, theirs float64) Row {
	return Row{Name: "x", Unit: u, Roost: figureOf([][]float64{ours[:1], ours[1:2], ours[2:]}), Dovecot: &figure{Median: theirs}}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name         string
		older, newer Row
		ratio, level float64
		mark         string
	}{
		{"all rounds are better", rounds(seconds, []float64{10, 11, 12}, 10), rounds(seconds, []float64{5, 5.5, 6}, 10), 0.5, 0.5, "faster"},
		{"all rounds are worse", rounds(seconds, []float64{5, 5.5, 6}, 10), rounds(seconds, []float64{10, 11, 12}, 10), 2, 2, "slower"},
		{"some overlap", rounds(seconds, []float64{10, 11, 12}, 10), rounds(seconds, []float64{9, 9.9, 10.5}, 10), 0.9, 0.9, ""},
		{"the machine is slower today", rounds(seconds, []float64{10, 11, 12}, 10), rounds(seconds, []float64{20, 22, 24}, 20), 2, 1, "slower"},
		{"more of a rate", rounds(rate, []float64{10, 11, 12}, 10), rounds(rate, []float64{20, 22, 24}, 10), 0.5, 0.5, "faster"},
		{"less memory", rounds(bytesOf, []float64{10, 11, 12}, 10), rounds(bytesOf, []float64{5, 5.5, 6}, 10), 0.5, 0.5, "better"},
	} {
		got := compare(&Result{Rows: []Row{c.older}}, &Result{Rows: []Row{c.newer}})
		if len(got) != 1 || !near(got[0].Ratio, c.ratio) || !near(got[0].Level, c.level) || got[0].Mark != c.mark {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func near(a, b float64) bool { return a-b < 0.01 && b-a < 0.01 }

// Rows that only one run has, or in another unit, are passed over.
func TestCompareWhatBothHave(t *testing.T) {
	older := &Result{Rows: []Row{rounds(seconds, []float64{1, 2, 3}, 1), {Name: "gone", Unit: seconds, Roost: figures(1)}, {Name: "limit", Unit: seconds, Machine: figures(1)}}}
	newer := &Result{Rows: []Row{rounds(rate, []float64{1, 2, 3}, 1), {Name: "new", Unit: seconds, Roost: figures(1)}, {Name: "limit", Unit: seconds, Machine: figures(1)}}}
	if got := compare(older, newer); len(got) != 0 {
		t.Errorf("compared %+v", got)
	}
}

func TestPrintChanges(t *testing.T) {
	var out bytes.Buffer
	err := printChanges(&out, []change{{Row: "a", Old: 2, New: 1, unit: seconds, Ratio: 0.5, Mark: "faster"}, {Row: "b", Old: 1, New: 2, unit: bytesOf, Ratio: 2}})
	if err != nil || !strings.Contains(out.String(), "over 1 rows: 0.500") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
