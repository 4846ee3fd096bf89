package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// A World is what one history happens in: a store, its model, and who else touches
// the mail. All but Real and Model may be missing.
type World struct {
	Real Backend // fresh; numbers UIDs from 1

	// Model makes the model, fresh at each call: of an unanswered command several are
	// tried.
	Model func() Model

	// Beside is another process on the mail of Real, of which one half of the sessions is.
	// Its Who is not looked at.
	Beside *Backend

	Outside Outside

	// Settle returns when the store, and the one beside it, know what happened to their
	// files so far; nil: they do at once.
	Settle func()

	// Closed are things that may happen between Close and Reopen, and change nothing that
	// a client can see.
	Closed []Mishap

	Faults Faults
}

// A Model is the store that is obviously right.
type Model struct {
	Backend
	// SkipTo raises UIDNEXT of a mailbox: a store may count on, rather than give a UID
	// twice. nil where World.Faults is.
	SkipTo func(n store.Name, next imap.UID)
}

// A Mishap is something that happens to a store that is closed.
type Mishap struct {
	Name string
	Do   func() error
	// Forgets: what was expunged is no longer known. A file that comes back with its old
	// name then has its old UID again, which names the same bytes.
	Forgets bool
}

// History does steps random things, which seed decides, in several sessions on a store
// and on its model, lets others change the mail meanwhile, and ends the test where the
// two answer differently, or where an answer breaks a promise (witness.go). What it
// prints then is the shortest way there that it finds, and how to repeat it. MODSEQs
// are compared by their order only, \Recent not at all.
func History(t *testing.T, seed uint64, steps int, open func(t *testing.T) World) {
	t.Helper()
	all := make([]int, steps)
	for k := range all {
		all[k] = k
	}
	f := play(t, seed, all, open)
	if f == nil {
		return
	}
	f = shorten(f, func(steps []int) *failure { return play(t, seed, steps, open) })
	t.Fatalf("seed %d (ROOST_SEEDS=%d-%d repeats it), %s\nthe shortest way there that was found, %d of %d steps:\n%s",
		seed, seed, seed, f, len(f.steps), steps, strings.Join(f.done, "\n"))
}

// failure is where a history ended before its time.
type failure struct {
	what  string
	steps []int    // that were taken, the last one failed
	done  []string // what they were, for people
}

func (f *failure) String() string { return f.what }

// shorten leaves out steps as long as what is left fails too. Each step has its own
// randomness, so that those that stay choose as before.
func shorten(f *failure, play func(steps []int) *failure) *failure {
	for size, tries := (len(f.steps)+1)/2, 400; size > 0 && tries > 0; {
		shorter := false
		for at := 0; at < len(f.steps)-1 && tries > 0; {
			without := slices.Delete(slices.Clone(f.steps), at, min(at+size, len(f.steps)-1))
			tries--
			if g := play(without); g != nil {
				f, shorter = g, true
				continue
			}
			at += size
		}
		if !shorter || size == 1 {
			size /= 2
		}
	}
	return f
}

// sessions is how many sessions there are on each side.
const sessions = 4

// history is one run of History.
type history struct {
	t     *testing.T
	seed  uint64
	step  int        // the one that is being taken
	r     *rand.Rand // its randomness
	ctx   context.Context
	world World
	sides [2]*side // the real store and its model

	weights []int // of actions
	closed  bool  // both are, just now
	burnt   bool  // UIDs may have been given to what nobody was shown
	taken   []int
	done    []string             // what was done and answered, for people
	course  []func(*side) string // the same, to be done again to another model
}

// side is one of the two stores with its sessions.
type side struct {
	Backend
	ctx      context.Context
	beside   *Backend // another process, or nil
	sessions [sessions]*client
	witness  *witness
	skipTo   func(n store.Name, next imap.UID)
}

// play takes some steps of the history that seed decides.
func play(t *testing.T, seed uint64, steps []int, open func(t *testing.T) World) (f *failure) {
	t.Helper()
	h := &history{t: t, seed: seed, ctx: context.Background(), world: open(t), r: rand.New(rand.NewPCG(seed, 0))}
	h.weigh()
	h.sides[0] = &side{Backend: h.world.Real, ctx: h.ctx, beside: h.world.Beside, witness: newWitness()}
	h.sides[1] = h.newModel()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		var ok bool
		if f, ok = p.(*failure); !ok {
			t.Logf("seed %d, panic: %v\n%s\n%s", seed, p, strings.Join(h.done, "\n"), debug.Stack())
			panic(p)
		}
		f.steps, f.done = h.taken, h.done
		h.sides[0].abandon()
	}()
	for _, s := range h.sides {
		s.open()
	}
	for _, k := range steps {
		h.step, h.r = k, rand.New(rand.NewPCG(seed, uint64(k)+1))
		h.taken = append(h.taken, k)
		h.act()
	}
	h.step, h.r = -1, rand.New(rand.NewPCG(seed, 0))
	h.quiet()
	for _, s := range h.sides {
		s.close()
	}
	return nil
}

// newModel is a model to which nothing was done.
func (h *history) newModel() *side {
	m := h.world.Model()
	return &side{Backend: m.Backend, ctx: h.ctx, witness: newWitness(), skipTo: m.SkipTo}
}

// fail ends the history.
func fail(format string, args ...any) { panic(&failure{what: fmt.Sprintf(format, args...)}) }

// both does one thing to both stores and compares what they say of it.
func (h *history) both(what string, do func(s *side) string) string {
	return h.compare(what, do, func() {})
}

// adding is both where do may add messages. After a call that failed they may have
// higher UIDs than the model would give them.
func (h *history) adding(what string, do func(s *side) string) string {
	return h.compare(what, do, h.catchUp)
}

// catchUp lets the model count on from where the real store does.
func (h *history) catchUp() {
	if !h.burnt {
		return
	}
	next := h.sides[0].nexts(h.names())
	align := func(s *side) string { s.align(next, true); return "" }
	align(h.sides[1])
	h.course = append(h.course, align)
}

func (h *history) compare(what string, do func(s *side) string, between func()) string {
	what = fmt.Sprintf("%4d %s", h.step, what)
	h.done = append(h.done, what)
	real := do(h.sides[0])
	between()
	model := do(h.sides[1])
	if real != model {
		fail("step %s\nreal:  %s\nmodel: %s", what, real, model)
	}
	h.done[len(h.done)-1] += ": " + model
	h.course = append(h.course, do)
	return model
}

// settle lets the store learn of what others did.
func (h *history) settle() {
	if h.world.Settle != nil && !h.closed {
		h.world.Settle()
	}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// store is the one that session i is of.
func (s *side) store(i int) store.Store {
	if s.beside != nil && i >= sessions/2 {
		return s.beside.Store
	}
	return s.Store
}

func (s *side) open() {
	for i := range s.sessions {
		s.sessions[i] = s.connect(i)
	}
}

// connect is a new session in place of number i.
func (s *side) connect(i int) *client {
	a, err := s.store(i).Account(s.ctx, s.Who)
	if err != nil {
		fail("account: %v", err)
	}
	return &client{side: s, account: a}
}

func (s *side) close() {
	for _, c := range s.sessions {
		c.leave()
		if err := c.account.Close(); err != nil {
			fail("close account: %v", err)
		}
	}
	if err := s.Store.Close(s.ctx); err != nil {
		fail("close: %v", err)
	}
	if s.beside != nil {
		if err := s.beside.Store.Close(s.ctx); err != nil {
			fail("close the other process: %v", err)
		}
	}
}

// abandon closes what can be closed after a failure.
func (s *side) abandon() {
	for _, c := range s.sessions {
		if c != nil {
			c.leave()
			c.account.Close()
		}
	}
	s.Store.Close(s.ctx)
	if s.beside != nil {
		s.beside.Store.Close(s.ctx)
	}
}

// quiet lets all sessions come to the end and compares all that they see.
func (h *history) quiet() {
	for i := range sessions {
		if h.model(i).box == nil {
			continue
		}
		if h.advance(i, true); h.model(i).box == nil {
			continue
		}
		h.both(fmt.Sprintf("%d sees", i), func(s *side) string {
			c := s.sessions[i]
			c.readAll()
			rows, err := c.rows(c.shows, 0)
			return show(rows) + " " + word(err)
		})
	}
	h.both("all there is", func(s *side) string { return s.inventory() })
}

// model is session i as the model has it: what is chosen is chosen there, for both
// sides have the same up to here.
func (h *history) model(i int) *client { return h.sides[1].sessions[i] }

// inventory is all mail that an account has, by a session that comes for it.
func (s *side) inventory() string {
	a, err := s.Store.Account(s.ctx, s.Who)
	if err != nil {
		fail("account: %v", err)
	}
	defer a.Close()
	var out []string
	for e, err := range a.List(s.ctx, store.ListQuery{Patterns: []string{"*"}}) {
		if err != nil {
			fail("list: %v", err)
		}
		out = append(out, fmt.Sprintf("%s: %s", e.Name, s.inventoryOf(a, e.Name)))
	}
	for e, err := range a.List(s.ctx, store.ListQuery{Patterns: []string{"*"}, Subscribed: true}) {
		if err != nil {
			fail("list subscriptions: %v", err)
		}
		out = append(out, fmt.Sprintf("subscribed: %s", e.Name))
	}
	return strings.Join(out, "\n")
}

func (s *side) inventoryOf(a store.Account, n store.Name) string {
	st, err := a.Status(s.ctx, n, true)
	if err != nil {
		return word(err)
	}
	c := &client{side: s, account: a}
	if err := c.hold(n, false); err != nil {
		return word(err)
	}
	defer c.leave()
	if _, _, err := c.advance(true); err != nil {
		return word(err)
	}
	rows, err := c.rows(c.shows, 0)
	if err != nil {
		return word(err)
	}
	var unseen, deleted int
	for _, r := range rows {
		if r.Flags&store.FlagSeen == 0 {
			unseen++
		}
		if r.Flags&store.FlagDeleted != 0 {
			deleted++
		}
	}
	if int(st.Messages) != len(rows) || int(st.Unseen) != unseen || int(st.Deleted) != deleted {
		fail("status of %s is %+v, its rows are %s", n, st, show(rows))
	}
	if st.UIDNext != c.view.UIDNext || st.UIDValidity != c.info.UIDValidity || st.ID != c.info.ID {
		fail("status of %s is %+v, its View has UIDNEXT %d, its Info is %+v", n, st, c.view.UIDNext, c.info)
	}
	return fmt.Sprint(show(rows), " ", c.readAll(), " next ", st.UIDNext, " size ", st.Size)
}

// show prints what two stores must have alike of rows.
func show(rows []store.Row) string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.UID, r.Flags.Names(), r.Keywords.Names(), r.Internal))
	}
	return strings.Join(out, " ")
}

// word names an error by what a caller decides on. A level without mail, and one
// that has only children, is as good as missing.
func word(err error) string {
	if err == nil {
		return "ok"
	}
	for _, e := range []error{store.ErrNoSelect, store.ErrHasChildren} {
		if errors.Is(err, e) {
			return store.ErrNotFound.Error()
		}
	}
	for _, e := range []error{store.ErrNotFound, store.ErrExists, store.ErrReadOnly, store.ErrGone, store.ErrReplaced, store.ErrCannot, store.ErrOverQuota} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}
