package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roost/server/control"
	"roost/server/trace"
)

const (
	traceTime  = 10 * time.Minute // unless somebody asks for another
	traceLines = 10_000
	maxTrace   = 24 * time.Hour
	maxTraces  = 4    // at one time
	traceQueue = 1000 // lines that wait for the reader; more are dropped
	heldLines  = 100  // of one connection, while it is not known whose it is
)

// tracer knows the traces that run. While one does, each connection that nobody is
// logged in on keeps its last lines, so that a login which fails is in the trace too.
//
// Locks: a Mask's, then presence.mu, then tracing.mu; tracer.mu is a leaf.
type tracer struct {
	running atomic.Int32 // len(list): what a connection asks first

	mu   sync.Mutex // guards list
	list []*tracing
}

// tracing is one trace that runs.
type tracing struct {
	user  string
	lines chan control.Line

	mu      sync.Mutex // guards dropped, and the order of lines
	dropped int
}

// send never waits: who traces does not slow who is traced.
func (t *tracing) send(l control.Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.Dropped = t.dropped
	select {
	case t.lines <- l:
		t.dropped = 0
	default:
		t.dropped++
	}
}

// lost counts the lines that were dropped at the end.
func (t *tracing) lost() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}

func (r *tracer) add(t *tracing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) >= maxTraces {
		return fmt.Errorf("%d traces run already", maxTraces)
	}
	r.list = append(r.list, t)
	r.running.Store(int32(len(r.list)))
	return nil
}

func (r *tracer) remove(t *tracing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(other *tracing) bool { return other == t })
	r.running.Store(int32(len(r.list)))
}

// of gives the traces of a user who goes by one of some names.
func (r *tracer) of(names []string) (list []*tracing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.list {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, t.user) }) {
			list = append(list, t)
		}
	}
	return list
}

// hold keeps what a connection says until it is known whose it is.
func (p *presence) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.user == "" {
		p.watchLocked()
	}
}

// watchLocked sets the tap.
func (p *presence) watchLocked() {
	if p.mask == nil {
		p.mask = trace.NewMask(p.said)
		p.tap.Set(p.mask)
	}
}

// unwatchLocked takes the tap away.
func (p *presence) unwatchLocked() {
	p.tap.Set(nil)
	p.mask, p.traces, p.held = nil, nil, nil
}

// said is what the mask calls.
func (p *presence) said(from trace.From, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mask != nil {
		p.tellLocked(string(from), text)
	}
}

// note puts an event into the traces of a connection.
func (p *presence) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mask != nil {
		p.tellLocked("-", trace.Printable(fmt.Sprintf(format, args...)))
	}
}

func (p *presence) tellLocked(from, text string) {
	l := control.Line{Time: time.Now(), Session: p.id, User: p.user, Addr: p.addr, From: from, Text: text}
	for _, t := range p.traces {
		t.send(l)
	}
	if len(p.traces) > 0 || p.user != "" {
		return
	}
	if len(p.held) == heldLines {
		p.held = append(p.held[:0], p.held[1:]...)
	}
	p.held = append(p.held, l)
}

// claims is told when somebody wants to log in on a connection, or did, by their
// names: whoever traces them hears what was said up to here and what follows.
func (r *tracer) claims(p *presence, names ...string) {
	if r == nil || r.running.Load() == 0 {
		return
	}
	list := r.of(names)
	if mask := p.claimed(list); mask != nil {
		mask.Decided()
	}
}

// claimed gives what was said to traces, and the mask that goes on.
func (p *presence) claimed(list []*tracing) *trace.Mask {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(list) > 0:
		p.watchLocked()
		for _, l := range p.held {
			for _, t := range list {
				t.send(l)
			}
		}
		p.traces, p.held = list, nil
	case p.user != "":
		p.unwatchLocked()
	default: // the next try may be by another
		p.traces, p.held = nil, nil
	}
	return p.mask
}

// attach lets a trace see a session that is there when it begins.
func (p *presence) attach(t *tracing) {
	about := p.describe()
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.traces, t) {
		return
	}
	p.watchLocked()
	p.traces = append(slices.Clone(p.traces), t)
	text := "session since " + about.Since.Format(time.DateTime) + ", " + about.State
	if about.Mailbox != "" {
		text += " in " + about.Mailbox
	}
	t.send(control.Line{Time: time.Now(), Session: p.id, User: p.user, Addr: p.addr, From: "-", Text: trace.Printable(text)})
}

// detach ends that; last: no trace runs any more.
func (p *presence) detach(t *tracing, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traces = slices.DeleteFunc(slices.Clone(p.traces), func(other *tracing) bool { return other == t })
	if len(p.traces) == 0 && (last || p.user != "") {
		p.unwatchLocked()
	}
}

// trace answers a request for one.
func (s *Server) trace(ctx context.Context, q control.Request, send func(control.Reply) error) (string, error) {
	if q.User == "" {
		return "", errors.New("whose sessions? a trace has a user")
	}
	limit, lines := time.Duration(q.Seconds)*time.Second, q.Lines
	if limit <= 0 {
		limit = traceTime
	}
	limit = min(limit, maxTrace)
	if lines <= 0 {
		lines = traceLines
	}
	t := &tracing{user: q.User, lines: make(chan control.Line, traceQueue)}
	if err := s.traces.add(t); err != nil {
		return "", err
	}
	log := s.now.Load().opt.Log
	log.Info("trace begins", "event", "trace", "user", q.User, "by", q.By)
	defer func() {
		s.traces.remove(t)
		last := s.traces.running.Load() == 0
		for _, p := range s.on.list() {
			p.detach(t, last)
		}
		log.Info("trace ended", "event", "trace_end", "user", q.User, "by", q.By)
	}()
	found := 0
	for _, p := range s.on.list() {
		if p.isUser(q.User) {
			p.attach(t)
			found++
		} else {
			p.hold()
		}
	}
	if err := send(control.Reply{Line: &control.Line{Time: time.Now(), User: q.User, From: "-",
		Text: trace.Printable(fmt.Sprintf("%s of %s now; waiting for more", plural(found, "session"), q.User))}}); err != nil {
		return "", err
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	for n := 0; n < lines; n++ {
		select {
		case l := <-t.lines:
			if err := send(control.Reply{Line: &l}); err != nil {
				return "", err
			}
		case <-end.C:
			return ended(fmt.Sprintf("%v are over", limit), t), nil
		case <-ctx.Done():
			return "", errors.New("the server stops")
		}
	}
	return ended(plural(lines, "line")+" are shown", t), nil
}

// ended is the last word of a trace.
func ended(why string, t *tracing) string {
	if n := t.lost() + len(t.lines); n > 0 {
		why += "; " + plural(n, "line") + " before that were not read in time"
	}
	return why
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
