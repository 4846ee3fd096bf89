package main

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func figures(v float64) *figure { return &figure{Median: v, P99: 2 * v, N: 3, Rounds: []float64{v}} }

func TestResultSurvivesJSON(t *testing.T) {
	res := &Result{
		When: time.Date(2026, 11, 27, 16, 0, 0, 0, time.UTC), Version: "v1", Settings: []string{"x"},
		Rows: []Row{
			{Name: "fetch/flags", About: "FETCH", Unit: seconds, Roost: figures(0.1), Dovecot: figures(0.2), Machine: figures(0.05), Against: "readdir"},
			{Name: "memory/idle", About: "a session", Unit: bytesOf, Roost: figures(1000), Missed: []string{"median is too much"}},
		},
	}
	file := filepath.Join(t.TempDir(), "r.json")
	if err := res.write(file); err != nil {
		t.Fatal(err)
	}
	got, err := readResult(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, res) {
		t.Errorf("read\n%+v\nwrote\n%+v", got, res)
	}
}

func TestVerdict(t *testing.T) {
	rows := []Row{
		{Name: "a", Unit: seconds, Roost: figures(1), Dovecot: figures(4)},
		{Name: "b", Unit: rate, Roost: figures(100), Dovecot: figures(100)},
		{Name: "near", Unit: seconds, Roost: figures(9), Dovecot: figures(10), Machine: figures(4)},
		{Name: "memory", Unit: bytesOf, Roost: figures(9), Dovecot: figures(1)},
		{Name: "own", Unit: seconds, Roost: figures(1), Missed: []string{"because"}},
		{Name: "growth/x@1000", Unit: seconds, Roost: figures(1)},
		{Name: "growth/x@10", Unit: seconds, Roost: figures(0.1)},
		{Name: "growth/y@1000", Unit: seconds, Roost: figures(1)},
		{Name: "growth/y@10", Unit: seconds, Roost: figures(1)},
	}
	mean, of, missed := verdict(rows)
	if of != 3 || mean < 0.60 || mean > 0.62 {
		t.Errorf("the mean is %v of %d", mean, of)
	}
	want := []string{"b: 1.00 of Dovecot's", "own: because", "growth/x: at 1000 messages it is 10.0 times"}
	if len(missed) != len(want) {
		t.Fatalf("missed: %q", missed)
	}
	for i := range want {
		if !strings.HasPrefix(missed[i], want[i]) {
			t.Errorf("missed %q, want %q", missed[i], want[i])
		}
	}
}

func TestBarsOfARow(t *testing.T) {
	row := Row{Unit: seconds, Roost: figures(0.010), Machine: figures(0.002)}
	for _, c := range []struct {
		bar  bar
		want int
	}{
		{bar{}, 0},
		{bar{limit: 5}, 0},
		{bar{limit: 4.9}, 1},
		{bar{limit9: 4.9}, 1},
		{bar{max: 0.011}, 0},
		{bar{max: 0.009}, 1},
		{bar{max9: 0.019}, 1},
		{bar{limit: 1, max: 0.001, max9: 0.001}, 3},
	} {
		if got := c.bar.missed(row); len(got) != c.want {
			t.Errorf("%+v: %q", c.bar, got)
		}
	}
}

// A table can be pasted: as many cells in each line as there are headings.
func TestMarkdownTable(t *testing.T) {
	res := &Result{Settings: []string{"x"}, Rows: []Row{{Name: "a", About: "b", Unit: seconds, Roost: figures(1)}}}
	var out bytes.Buffer
	if err := res.print(&out, true, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for _, l := range lines[2:5] {
		if n := strings.Count(l, "|"); n != len(headings)+1 {
			t.Errorf("%d bars in %q", n, l)
		}
	}
}
