package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

const (
	queued   = 256              // events that wait to be written down; more are dropped
	again    = time.Hour        // the same event of the same user and address is told again
	known    = 10_000           // of which that is remembered
	running  = 4                // actions at one time
	waiting  = 64               // actions that wait for their turn; more are dropped
	aMinute  = 30               // actions
	runsFor  = 30 * time.Second // a command is ended then, and all that it started
	textSize = 512              // bytes of a field
)

// An Event is something unusual. Its fields may come from strangers; Note makes them
// printable and short.
type Event struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"event"` // stable: scripts live on it
	User   string    `json:"user,omitempty"`
	Addr   string    `json:"addr,omitempty"`
	Client string    `json:"client,omitempty"`
	Detail string    `json:"detail,omitempty"` // a sentence
}

// A Rule says what is to be done about an event.
type Rule struct {
	Name string
	Run  []string // a program with its arguments; the event is in its environment
	Mail bool     // write to the user
}

// Options of a Watch.
type Options struct {
	// Mail writes to a user. It may take as long as ctx lasts.
	Mail func(ctx context.Context, e Event) error

	Log *slog.Logger
}

// Watch takes events. Safe for concurrent use.
type Watch struct {
	opt   Options
	rules atomic.Pointer[[]Rule]
	noted chan Event
	free  chan struct{} // of running

	ctx     context.Context // of commands; ends with Close
	stop    context.CancelFunc
	wg      sync.WaitGroup
	dropped atomic.Int64

	mu      sync.Mutex // guards all below
	history *history   // nil: none is kept
	closed  bool

	// Of the goroutine in loop alone.
	told    map[string]time.Time
	begun   []time.Time // of the last actions, within a minute
	waiting atomic.Int64
}

// New starts a Watch, without a history and without rules.
func New(opt Options) *Watch {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	w := &Watch{opt: opt, noted: make(chan Event, queued), free: make(chan struct{}, running), told: map[string]time.Time{}}
	w.rules.Store(&[]Rule{})
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.wg.Go(w.loop) // ends when Close has closed noted
	return w
}

// Configure puts rules in force.
func (w *Watch) Configure(rules []Rule) { w.rules.Store(&rules) }

// Open keeps a history in a directory from now on.
func (w *Watch) Open(dir string) error {
	h, err := openHistory(dir)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = h
	return nil
}

// Note tells of an event. It does not block: where too much happens at once it is dropped,
// and the log says so.
func (w *Watch) Note(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Second)
	for _, s := range []*string{&e.User, &e.Addr, &e.Client, &e.Detail} {
		*s = printable(*s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	select {
	case w.noted <- e:
	default:
		w.dropped.Add(1)
	}
}

// printable is one short line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > textSize {
		s = strings.ToValidUTF8(s[:textSize], "") + "..."
	}
	return s
}

// Close ends what runs, once what was noted is written down. Nothing may be noted after it.
func (w *Watch) Close() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.noted)
	}
	w.mu.Unlock()
	w.stop()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.history == nil {
		return nil
	}
	return w.history.close()
}

func (w *Watch) loop() {
	failed := false
	for e := range w.noted {
		if n := w.dropped.Swap(0); n > 0 {
			w.opt.Log.Warn("too much happened at once", "event", "events_dropped", "events", n)
		}
		if w.repeated(e) {
			continue
		}
		w.opt.Log.Warn("unusual: "+e.Detail, "event", e.Name, "user", e.User, "addr", e.Addr, "client", e.Client)
		w.mu.Lock()
		h := w.history
		w.mu.Unlock()
		if h != nil {
			err := h.add(e)
			if err != nil && !failed {
				w.opt.Log.Error("the history of events cannot be written", "event", "events_failed", "err", err)
			}
			failed = err != nil
		}
		for _, r := range *w.rules.Load() {
			if r.Name == e.Name {
				w.act(r, e)
			}
		}
	}
}

// repeated reports whether the same was told a short time ago.
func (w *Watch) repeated(e Event) bool {
	key := e.Name + "\x00" + e.User + "\x00" + e.Addr
	if last, ok := w.told[key]; ok && e.Time.Sub(last) < again {
		return true
	}
	if len(w.told) >= known {
		for k, at := range w.told {
			if e.Time.Sub(at) >= again || len(w.told) >= known {
				delete(w.told, k)
			}
		}
	}
	w.told[key] = e.Time
	return false
}

// act starts what a rule says, where that is not too much.
func (w *Watch) act(r Rule, e Event) {
	now := time.Now()
	w.begun = slices.DeleteFunc(w.begun, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	if len(w.begun) >= aMinute || w.waiting.Load() >= waiting {
		w.opt.Log.Warn("nothing is done about an event: too many at once", "event", "event_skipped", "name", e.Name, "user", e.User)
		return
	}
	w.begun = append(w.begun, now)
	w.waiting.Add(1)
	w.wg.Go(func() { // ends with the action, which ends with ctx
		defer w.waiting.Add(-1)
		select {
		case w.free <- struct{}{}:
			defer func() { <-w.free }()
		case <-w.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(w.ctx, runsFor)
		defer cancel()
		if err := w.perform(ctx, r, e); err != nil {
			w.opt.Log.Error("what is to be done about an event failed", "event", "event_failed", "name", e.Name, "user", e.User, "err", err)
		}
	})
}

func (w *Watch) perform(ctx context.Context, r Rule, e Event) error {
	if len(r.Run) > 0 {
		if err := run(ctx, r.Run, e); err != nil {
			return fmt.Errorf("%s: %w", r.Run[0], err)
		}
	}
	if r.Mail && e.User != "" && w.opt.Mail != nil {
		if err := w.opt.Mail(ctx, e); err != nil {
			return fmt.Errorf("mail to %s: %w", e.User, err)
		}
	}
	return nil
}

// Of gives the newest n events of a user, the oldest first; "" is everybody's. Nothing where
// no history is kept.
func (w *Watch) Of(user string, n int) ([]Event, error) {
	w.mu.Lock()
	h := w.history
	w.mu.Unlock()
	if h == nil {
		return nil, nil
	}
	return h.of(user, n)
}
