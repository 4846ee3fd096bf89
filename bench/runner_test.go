package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// aloneRun is a run without servers: only the machine's side takes turns.
func aloneRun(ctx context.Context, rounds int) *run {
	return &run{sizes: sizes{rounds: rounds, quick: true, patience: time.Hour}, ctx: ctx, progress: func(string, ...any) {}}
}

// What was prepared is taken back, the last first, also where a round fails; the other
// operations go on.
func TestAFailureIsToldAndTheOthersGoOn(t *testing.T) {
	var log []string
	broken := errors.New("broken")
	op := func(name string, err error) operation {
		return operation{name: name, limit: func(st *stand) (step, error) {
			st.cleanup(func() { log = append(log, name+" first") })
			st.cleanup(func() { log = append(log, name+" second") })
			return func(rec *record) error {
				rec.add(1)
				return err
			}, nil
		}}
	}
	rows, err := aloneRun(t.Context(), 2).all([]operation{op("a/x", broken), op("a/y", nil)})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "a/x: machine, round 1") {
		t.Errorf("the error is %v", err)
	}
	if len(rows) != 1 || rows[0].Name != "a/y" || rows[0].Machine.N != 2 {
		t.Errorf("rows: %+v", rows)
	}
	if want := []string{"a/x second", "a/x first", "a/y second", "a/y first"}; !slices.Equal(log, want) {
		t.Errorf("taken back: %q", log)
	}
}

// An operation that waits for ever ends, and is named.
func TestWhatHangsIsToldOf(t *testing.T) {
	r := aloneRun(t.Context(), 1)
	r.patience = time.Millisecond
	_, err := r.all([]operation{{name: "a/hangs", limit: func(st *stand) (step, error) {
		return func(rec *record) error {
			<-st.ctx.Done()
			return st.ctx.Err()
		}, nil
	}}})
	if err == nil || !strings.Contains(err.Error(), "a/hangs: no end after 1ms") {
		t.Errorf("got %v", err)
	}
	if r.ctx.Err() != nil {
		t.Error("it ends the run")
	}
}

// An interrupt ends the run at once.
func TestAnInterruptEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := false
	op := operation{name: "a/x", limit: func(st *stand) (step, error) {
		st.cleanup(func() { taken = true })
		return func(rec *record) error {
			cancel()
			return nil
		}, nil
	}}
	rows, err := aloneRun(ctx, 1).all([]operation{op, op})
	if !errors.Is(err, context.Canceled) || len(rows) != 0 || !taken {
		t.Errorf("rows %v, %v, taken back: %v", rows, err, taken)
	}
}

// The sides' values come together by label, the operation's own row and its bars first.
func TestRowsOfAnOperation(t *testing.T) {
	rec := func(v float64, label string, u unit) *record {
		r := newRecord("")
		r.add(v)
		if label != "" {
			r.row(label, "about "+label, u, 10*v)
		}
		return r
	}
	op := operation{name: "a/x", about: "x", against: "readdir", bars: []bar{{max: 1}, {row: "size", max: 100}}}
	rows := rowsOf(op, map[string][]*record{
		sideRoost:   {rec(2, "size", bytesOf), rec(4, "size", bytesOf)},
		sideDovecot: {rec(6, "", "")},
		sideMachine: {rec(1, "", "")},
	})
	if len(rows) != 2 {
		t.Fatalf("rows: %+v", rows)
	}
	x, size := rows[0], rows[1]
	if x.Name != "a/x" || x.Roost.Median != 3 || x.neighbour() != 0.5 || x.limit() != 3 || x.Against != "readdir" || len(x.Missed) != 1 {
		t.Errorf("%+v", x)
	}
	if size.Name != "a/x size" || size.About != "about size" || size.Unit != bytesOf || size.Roost.Median != 30 || size.Dovecot != nil || size.Against != "" || len(size.Missed) != 0 {
		t.Errorf("%+v", size)
	}
}
