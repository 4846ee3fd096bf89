package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"roost/test/neighbour"
)

// sizes are how much there is of everything.
type sizes struct {
	messages int   // of the mailbox that most operations are about
	growth   []int // of mailboxes whose cost is compared
	cold     []int // of mailboxes that are opened without any index
	big      int   // messages of the mailbox whose memory is measured
	folders  int
	sessions []int // that idle
	pushed   []int // sessions that idle while mail comes
	burst    int   // deliveries at once
	each     int   // small things in a round
	rounds   int
	quick    bool

	// patience is how long an operation may take: one that waits for what never comes is
	// told of, and the others go on.
	patience time.Duration
}

// full sizes; -quick has small ones.
func full(messages, rounds int, large bool) sizes {
	z := sizes{
		messages: messages, growth: []int{1000, 10_000, 100_000}, cold: []int{10_000, 100_000}, big: 100_000,
		folders: 1000, sessions: []int{100, 1000, 10_000}, pushed: []int{1, 100, 1000}, burst: 10_000,
		each: 50, rounds: rounds, patience: time.Hour,
	}
	if large {
		z.growth, z.cold, z.big = append(z.growth, 1_000_000), append(z.cold, 1_000_000), 1_000_000
	}
	return z
}

func quick() sizes {
	return sizes{
		messages: 300, growth: []int{50, 200}, cold: []int{100, 300}, big: 300, folders: 20,
		sessions: []int{10}, pushed: []int{1, 5}, burst: 60, each: 5, rounds: 2, quick: true, patience: 5 * time.Minute,
	}
}

// settle is how long a server lives before it is stopped. What was written within two
// seconds of a snapshot is not believed, for a second change could hide in the same tick
// of the clock; servers live longer than that.
func (z sizes) settle() time.Duration {
	if z.quick {
		return 0
	}
	return 2500 * time.Millisecond
}

// run is the state of one measurement.
type run struct {
	sizes
	ctx      context.Context
	dir, bin string
	corpus   *corpus
	servers  []*server
	profile  *profile // nil: none
	roostEnv []string

	cheap, dear string            // hashes of password
	given       map[string]int    // users so far, at each side
	shared      map[string]string // users, see common
	progress    func(format string, args ...any)
}

// start makes the directory, the corpus and the servers. What it returns takes all of it
// down again, also where start itself failed.
func (r *run) start(parent string, withDovecot bool) (stop func() error, err error) {
	var undo []func() error
	stop = func() (err error) {
		for _, f := range slices.Backward(undo) {
			err = errors.Join(err, f())
		}
		return err
	}
	if r.dir, err = os.MkdirTemp(parent, "roost-bench-"); err != nil {
		return stop, err
	}
	undo = append(undo, func() (err error) {
		for range 10 { // a child of a server that has ended may still write
			if err = os.RemoveAll(r.dir); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return err
	})
	if err := os.Chmod(r.dir, 0o755); err != nil { // the mail user has to reach it
		return stop, err
	}
	for _, side := range []string{sideRoost, sideDovecot, sideMachine} {
		if err := os.Mkdir(filepath.Join(r.dir, side), 0o755); err != nil {
			return stop, err
		}
	}
	r.shared, r.given = map[string]string{}, map[string]int{}
	if r.cheap, r.dear, err = hashes(); err != nil {
		return stop, err
	}
	var flags []string
	if r.profile != nil {
		flags = []string{"-tags", "profile"}
		if r.roostEnv, err = r.profile.prepare(filepath.Join(r.dir, "profile")); err != nil {
			return stop, err
		}
	}
	if r.bin, err = neighbour.BuildRoost(filepath.Join(r.dir, "bin"), flags...); err != nil {
		return stop, err
	}
	if err := neighbour.Certificate(filepath.Join(r.dir, "etc")); err != nil {
		return stop, err
	}
	began := time.Now()
	if r.corpus, err = makeCorpus(r.ctx, filepath.Join(r.dir, "corpus"), r.messages); err != nil {
		return stop, err
	}
	disk, _ := r.corpus.bytes(r.messages)
	r.progress("%d messages of %s made in %s", r.messages, bytesOf.format(float64(disk)), round(time.Since(began)))

	all := []*server{r.newRoost()}
	if withDovecot {
		all = append(all, r.newDovecot("", ""))
	}
	for _, s := range all {
		if err := s.start(); err != nil {
			var missing neighbour.Missing
			if s.name == sideDovecot && (errors.As(err, &missing) || os.Getuid() != 0) {
				fmt.Fprintln(os.Stderr, "without Dovecot:", err)
				continue
			}
			return stop, err
		}
		r.servers = append(r.servers, s)
		undo = append(undo, func() error { return s.stop() })
	}
	return stop, nil
}

// onStop calls f when the run is interrupted; what it returns takes that back.
func (r *run) onStop(f func()) func() bool { return context.AfterFunc(r.ctx, f) }

// all measures operations; the rows of those that succeeded come with the errors of others.
func (r *run) all(ops []operation) (rows []Row, err error) {
	for _, op := range ops {
		began, whole := time.Now(), r.ctx
		ctx, cancel := context.WithTimeout(whole, r.patience)
		r.ctx = ctx // connections end with it
		more, failed := r.one(op)
		if failed != nil && ctx.Err() != nil {
			failed = fmt.Errorf("no end after %s: %w", r.patience, failed)
		}
		cancel()
		if r.ctx = whole; whole.Err() != nil {
			return rows, whole.Err()
		}
		if failed != nil {
			failed = fmt.Errorf("%s: %w", op.name, failed)
			r.progress("%v", failed)
		}
		r.progress("%-28s %s", op.name, round(time.Since(began)))
		rows, err = append(rows, more...), errors.Join(err, failed)
	}
	return rows, err
}

// one measures an operation: each side begins, then they take turns.
func (r *run) one(op operation) (rows []Row, err error) {
	with := &meeting{}
	type turn struct {
		st      *stand
		do      step
		records []*record
	}
	var turns []*turn
	defer func() {
		for _, t := range slices.Backward(turns) {
			t.st.end()
		}
	}()
	join := func(side string, s *server, begin func(st *stand) (step, error)) error {
		t := &turn{st: &stand{run: r, side: side, srv: s, with: with}}
		turns = append(turns, t)
		do, err := begin(t.st)
		t.do = do
		var missing neighbour.Missing
		switch {
		case errors.As(err, &missing):
			fmt.Fprintf(os.Stderr, "%s without %s: %v\n", op.name, side, missing)
			t.st.end()
			turns = turns[:len(turns)-1]
		case err != nil:
			return fmt.Errorf("%s begins: %w%s", side, err, t.st.said())
		}
		return nil
	}
	for _, s := range r.servers {
		if op.begin != nil && (s.name == sideRoost || !op.alone && r.profile == nil) {
			if err := join(s.name, s, op.begin); err != nil {
				return nil, err
			}
		}
	}
	if op.limit != nil && r.profile == nil {
		if err := join(sideMachine, nil, op.limit); err != nil {
			return nil, err
		}
	}
	rounds := r.rounds
	if op.rounds > 0 {
		rounds = min(rounds, op.rounds)
	}
	if !r.quick {
		rounds *= max(1, op.finer)
	}
	if err := r.profile.begin(r); err != nil {
		return nil, err
	}
	for i := range rounds {
		order := slices.Clone(turns)
		if i%2 == 1 && len(order) > 1 && order[1].st.srv != nil { // neither server is always the first
			order[0], order[1] = order[1], order[0]
		}
		for _, t := range order {
			if err := r.rest(); err != nil {
				return nil, err
			}
			rec := newRecord(op.unit)
			if err := t.do(rec); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w%s", t.st.side, i+1, err, t.st.said())
			}
			t.records = append(t.records, rec)
		}
	}
	if err := r.profile.end(r); err != nil {
		return nil, err
	}
	records := map[string][]*record{}
	for _, t := range turns {
		records[t.st.side] = t.records
	}
	if err := agree(records[sideRoost], records[sideDovecot]); err != nil {
		return nil, err
	}
	return rowsOf(op, records), nil
}

// rest waits until both servers do nothing, and collects our own garbage.
func (r *run) rest() error {
	if r.quick {
		return nil
	}
	for _, s := range r.servers {
		if err := s.rest(r.ctx); err != nil {
			return err
		}
	}
	runtime.GC()
	return nil
}

// agree compares what two servers answered, round by round.
func agree(ours, theirs []*record) error {
	for i := range min(len(ours), len(theirs)) {
		if a, b := ours[i].answers, theirs[i].answers; !slices.Equal(a, b) {
			return fmt.Errorf("round %d: the servers do not agree:\n  roost:   %s\n  dovecot: %s", i+1, strings.Join(a, "; "), strings.Join(b, "; "))
		}
	}
	return nil
}

// rowsOf makes the rows of an operation, the one with its own name first.
func rowsOf(op operation, records map[string][]*record) []Row {
	var labels []string
	first := map[string]*record{}
	for _, side := range []string{sideRoost, sideDovecot, sideMachine} {
		for _, rec := range records[side] {
			for _, l := range rec.labels {
				if first[l] == nil {
					first[l] = rec
					labels = append(labels, l)
				}
			}
		}
	}
	var rows []Row
	for _, l := range labels {
		figures := func(side string) *figure {
			var values [][]float64
			for _, rec := range records[side] {
				values = append(values, rec.values[l])
			}
			return figureOf(values)
		}
		row := Row{Name: op.name, About: op.about, Unit: first[l].units[l], Roost: figures(sideRoost), Dovecot: figures(sideDovecot), Machine: figures(sideMachine)}
		if l != "" {
			row.Name, row.About = op.name+" "+l, first[l].abouts[l]
		}
		if row.Machine != nil {
			row.Against = op.against
		}
		for _, b := range op.bars {
			if b.row == l {
				row.Missed = append(row.Missed, b.missed(row)...)
			}
		}
		rows = append(rows, row)
	}
	return rows
}
