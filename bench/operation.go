package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// An operation is one thing that a user waits for, measured the same way at each side.
type operation struct {
	name    string // theme/what
	about   string // what the table says
	unit    unit   // of the row with the operation's own name; "" is seconds
	against string // what the machine does in limit: "readdir"
	alone   bool   // Dovecot has nothing like it
	rounds  int    // at most; 0: as many as the run has
	finer   int    // so many turns in place of one, where what else goes on would fall on one side
	bars    []bar  // beside those that hold for all

	// begin prepares a server, untimed, and gives what a round does.
	begin func(st *stand) (step, error)
	// limit is the same for the machine itself.
	limit func(st *stand) (step, error)
}

// A step does one round and notes what it took.
type step func(rec *record) error

// A bar is what a row of an operation has to keep beyond the general ones. Each number is
// unused where it is 0.
type bar struct {
	row    string  // "" is the one with the operation's own name
	limit  float64 // median over that of the machine
	limit9 float64 // p99 over that of the machine
	max    float64 // of the median, in the row's unit
	max9   float64 // of the p99
	why    string
}

// record takes what a round gives.
type record struct {
	unit    unit
	labels  []string // in the order of their first use
	values  map[string][]float64
	units   map[string]unit
	abouts  map[string]string
	answers []string
}

func newRecord(u unit) *record {
	if u == "" {
		u = seconds
	}
	return &record{unit: u, values: map[string][]float64{}, units: map[string]unit{}, abouts: map[string]string{}}
}

// took notes a duration for the operation's own row.
func (rec *record) took(d time.Duration) { rec.add(d.Seconds()) }

// add notes a value for the operation's own row.
func (rec *record) add(v float64) { rec.row("", "", rec.unit, v) }

// row notes a value for a further row of the operation: its name is the operation's with
// the label behind it.
func (rec *record) row(label, about string, u unit, v float64) {
	if _, ok := rec.values[label]; !ok {
		rec.labels = append(rec.labels, label)
	}
	rec.values[label] = append(rec.values[label], v)
	rec.units[label], rec.abouts[label] = u, about
}

// answer notes what the server said, where each server has to say the same in this round.
func (rec *record) answer(format string, args ...any) {
	rec.answers = append(rec.answers, fmt.Sprintf(format, args...))
}

// timed notes how long f takes.
func (rec *record) timed(f func() error) error {
	t := time.Now()
	err := f()
	rec.took(time.Since(t))
	return err
}

// choose gives the operations that the patterns mean: names, with their sizes or without,
// themes, or path.Match patterns, separated by commas. "" means all.
func choose(all []operation, patterns string) ([]operation, error) {
	if patterns == "" {
		return all, nil
	}
	chosen := map[string]bool{}
	for p := range strings.SplitSeq(patterns, ",") {
		found := false
		for _, op := range all {
			match, err := path.Match(p, op.name)
			if err != nil {
				return nil, fmt.Errorf("-only %s: %w", p, err)
			}
			if match || strings.HasPrefix(op.name, p+"/") || strings.HasPrefix(op.name, p+"@") {
				chosen[op.name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only %s: no operation is called so; -list names them", p)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(op operation) bool { return !chosen[op.name] }), nil
}
