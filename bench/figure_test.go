package main

import (
	"math"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{4, 1, 2, 3}, 0, 1},
		{[]float64{4, 1, 2, 3}, 1, 4},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.values, c.q, got, c.want)
		}
	}
}

// The median is that of all values, the rounds keep their own.
func TestFigureOfRounds(t *testing.T) {
	f := figureOf([][]float64{{1, 2, 3}, nil, {10, 20, 30}})
	if f.Median != 6.5 || f.N != 6 || len(f.Rounds) != 2 || f.Rounds[0] != 2 || f.Rounds[1] != 20 {
		t.Errorf("got %+v", *f)
	}
	if f := figureOf([][]float64{nil, {}}); f != nil {
		t.Errorf("a figure of nothing: %+v", *f)
	}
}

// Below 1 is better, whatever the unit.
func TestCostIsBelowOneWhereBetter(t *testing.T) {
	at := func(v float64) *figure { return &figure{Median: v} }
	for _, c := range []struct {
		u    unit
		a, b *figure
		want float64
	}{
		{seconds, at(1), at(4), 0.25},
		{bytesOf, at(1), at(4), 0.25},
		{rate, at(4), at(1), 0.25},
		{seconds, at(1), nil, 0},
		{seconds, nil, at(1), 0},
		{seconds, at(1), at(0), 0},
	} {
		if got := cost(c.u, c.a, c.b); got != c.want {
			t.Errorf("cost(%s, %v, %v) = %v, want %v", c.u, c.a, c.b, got, c.want)
		}
	}
}

func TestGeometricMean(t *testing.T) {
	if got := geometricMean([]float64{0.5, 2, 8, 0.125}); math.Abs(got-1) > 1e-9 {
		t.Errorf("got %v, want 1", got)
	}
	if got := geometricMean(nil); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		u    unit
		v    float64
		want string
	}{
		{seconds, (1234567 * time.Nanosecond).Seconds(), "1.23ms"},
		{bytesOf, 985, "985 bytes"},
		{bytesOf, 25 << 10, "25.0 KiB"},
		{bytesOf, 5 << 19, "2.5 MiB"},
		{bytesOf, 207 << 20, "207 MiB"},
		{rate, 239.4e6, "239 MB/s"},
		{count, 12, "12"},
	} {
		if got := c.u.format(c.v); got != c.want {
			t.Errorf("%s %v is shown as %q, want %q", c.u, c.v, got, c.want)
		}
	}
}
