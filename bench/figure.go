package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A unit is what the values of a row are.
type unit string

const (
	seconds unit = "s"
	cpuTime unit = "cpu s" // of the server: it does not count for the bar of all
	bytesOf unit = "B"
	rate    unit = "B/s" // the only one of which more is better
	count   unit = "n"
)

// format shows a value with three digits.
func (u unit) format(v float64) string {
	switch u {
	case seconds, cpuTime:
		return round(time.Duration(v * float64(time.Second))).String()
	case bytesOf:
		switch {
		case v >= 10<<20:
			return fmt.Sprintf("%.0f MiB", v/(1<<20))
		case v >= 1<<20:
			return fmt.Sprintf("%.1f MiB", v/(1<<20))
		case v >= 10_000:
			return fmt.Sprintf("%.1f KiB", v/1024)
		}
		return fmt.Sprintf("%.0f bytes", v)
	case rate:
		return fmt.Sprintf("%.0f MB/s", v/1e6)
	}
	return fmt.Sprintf("%.4g", v)
}

// round keeps three digits.
func round(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}

// A figure is what the rounds of one side came to.
type figure struct {
	Median float64   `json:"median"` // of all values
	P99    float64   `json:"p99"`    // likewise; only of enough values is it shown
	N      int       `json:"n"`
	Rounds []float64 `json:"rounds"` // the median of each round
}

// figureOf makes a figure of the values of each round. It is nil without any.
func figureOf(rounds [][]float64) *figure {
	f := &figure{}
	all := slices.Concat(rounds...)
	if len(all) == 0 {
		return nil
	}
	f.Median, f.P99, f.N = quantile(all, 0.5), quantile(all, 0.99), len(all)
	for _, r := range rounds {
		if len(r) > 0 {
			f.Rounds = append(f.Rounds, quantile(r, 0.5))
		}
	}
	return f
}

// enough is how many values a p99 takes.
const enough = 100

// quantile is the value below which the part q of all lies, between two where it falls
// between them. values is not empty and keeps its order.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// cost is how much worse a is than b: below 1 it is better. It is 0 where one of them is
// missing.
func cost(u unit, a, b *figure) float64 {
	if a == nil || b == nil {
		return 0
	}
	return costOf(u, a.Median, b.Median)
}

func costOf(u unit, a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	if u == rate {
		return b / a
	}
	return a / b
}

// geometricMean of positive values; 0 of none.
func geometricMean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += math.Log(v)
	}
	if len(values) == 0 {
		return 0
	}
	return math.Exp(sum / float64(len(values)))
}
