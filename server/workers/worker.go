package workers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"roost/server/session"
	"roost/server/wire"
	"roost/store"
)

// A Worker is the process that has the mail of one uid open.
type Worker struct {
	Log *slog.Logger

	// Open confines the process to its directories and gives the store. Called once, before
	// anything that a client sent is looked at.
	Open func(b Begin, settings json.RawMessage) (store.Store, error)

	// Options makes settings what sessions work with. Called again when they have changed.
	Options func(settings json.RawMessage) (*session.Options, error)

	// Deliver puts a text into somebody's INBOX.
	Deliver func(ctx context.Context, st store.Store, who store.Identity, text []byte) error

	// Deeds says which deeds are told of; nil: all.
	Deeds func(d session.Deed) bool

	parent  *channel
	store   store.Store
	reports reports

	mu       sync.Mutex // guards what follows; a map operation at a time
	settings []byte
	options  *session.Options
	link     *link
	running  map[string]*work
}

// work is one session.
type work struct {
	link   *link
	cancel context.CancelCauseFunc
	tap    wire.Tap
}

// Serve works until the parent closes the channel or ctx ends, and until all sessions are
// over then. The store is closed on return.
func (w *Worker) Serve(ctx context.Context, parent *os.File) (err error) {
	w.running = map[string]*work{}
	if w.parent, err = newChannel(parent); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { w.parent.close() })
	defer stop()
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		w.mu.Lock()
		l := w.link
		w.mu.Unlock()
		if l != nil {
			l.flush()
		}
		w.reports.close()
		if w.store != nil {
			err = errors.Join(err, w.store.Close(context.Background()))
		}
	}()
	var begin *Begin
	for {
		var m toWorker
		files, err := w.parent.receive(&m, 2)
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if m.Begin != nil {
			closeAll(files)
			begin = m.Begin
			continue
		}
		if m.Desk {
			if len(files) != 1 {
				closeAll(files)
				return errors.New("word of a desk without its channel")
			}
			ch, err := newChannel(files[0])
			if err != nil {
				return err
			}
			w.reports.renew(ch)
			continue
		}
		if len(files) == 0 || m.Link != (len(files) == 2) {
			closeAll(files)
			return errors.New("a job without its streams")
		}
		if m.Link {
			if err := w.linked(files[1]); err != nil {
				files[0].Close()
				return err
			}
		}
		var job Job
		if err := json.Unmarshal(m.Job, &job); err != nil {
			files[0].Close()
			return fmt.Errorf("a job: %w", err)
		}
		if begin == nil || w.link == nil && job.Note == nil {
			files[0].Close()
			return errors.New("a job before the beginning")
		}
		if w.store == nil {
			if w.store, err = w.Open(*begin, job.Settings); err != nil {
				files[0].Close()
				return err
			}
		}
		sock, err := socket(files[0])
		if err != nil {
			return err
		}
		s, err := newStream(sock)
		if err != nil {
			return err
		}
		if job.Note != nil {
			// Ends with its answer; delivery ends when ctx does.
			wg.Go(func() {
				w.note(ctx, s, &job)
				w.parent.send(fromWorker{Ended: 1})
			})
			continue
		}
		// Ends with the session, which ends when ctx does.
		wg.Add(1)
		w.mu.Lock()
		job, l := job, w.link
		one, end := context.WithCancelCause(ctx)
		run := &work{link: l, cancel: end}
		w.running[job.Login.ID] = run
		w.mu.Unlock()
		go func() {
			defer wg.Done()
			w.run(one, s, &job, run)
			end(nil)
			w.parent.send(fromWorker{Ended: 1})
		}()
	}
}

// linked takes the link to a front in place of that to the one before.
func (w *Worker) linked(f *os.File) error {
	var l *link
	ready := make(chan struct{})
	l, err := newLink(f, func(m linked) { <-ready; w.heard(l, m) }, func() {})
	if err != nil {
		return err
	}
	close(ready)
	w.mu.Lock()
	old := w.link
	w.link = l
	w.mu.Unlock()
	if old != nil {
		old.end()
	}
	return nil
}

// heard does what the front says of one of its sessions.
func (w *Worker) heard(l *link, m linked) {
	w.mu.Lock()
	run := w.running[m.ID]
	w.mu.Unlock()
	switch {
	case run == nil || run.link != l:
	case m.Bye != nil && *m.Bye == "":
		run.cancel(nil)
	case m.Bye != nil:
		run.cancel(session.Goodbye(*m.Bye))
	case m.Watch != nil && *m.Watch:
		run.tap.Set(teller{l, m.ID})
	case m.Watch != nil:
		run.tap.Set(nil)
	}
}

// run carries one session and tells the front how it ended.
func (w *Worker) run(ctx context.Context, s *stream, job *Job, run *work) {
	defer s.Close()
	id := job.Login.ID
	out, err := w.session(ctx, s, job)
	o := &outcome{Unauthenticated: out.Unauthenticated, Output: out.Output, Client: out.Client, Reason: out.Reason, In: out.In, Out: out.Out}
	if err != nil {
		o.Failed = err.Error()
	}
	if out.Unauthenticated {
		// What the front has passed on by the time that it hears of it comes back to it.
		s.CloseWrite()
		s.SetReadDeadline(time.Now().Add(sendTime))
		rest, err := io.ReadAll(io.LimitReader(s, maxLeft))
		if err != nil {
			o.Unauthenticated, o.Failed = false, fmt.Sprintf("what was sent behind the session: %v", err)
		}
		for input := range chunks(append(out.Input, rest...), 64<<10) {
			run.link.tell(linked{ID: id, Input: input})
		}
	} else {
		s.Close()
	}
	w.mu.Lock()
	delete(w.running, id)
	w.mu.Unlock()
	run.link.tell(linked{ID: id, Outcome: o})
}

// chunks gives b in pieces of n bytes.
func chunks(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// session is session.Serve. A bug in it ends this session alone.
func (w *Worker) session(ctx context.Context, s *stream, job *Job) (out *session.Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("session panicked", "event", "panic", "sess", job.Login.ID, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			out, err = &session.Outcome{Reason: "panic"}, errors.New("session panicked")
		}
	}()
	opt, err := w.optionsFor(job.Settings)
	if err != nil {
		return &session.Outcome{Reason: "settings"}, err
	}
	return session.Serve(ctx, s, &job.Login, w.store, opt)
}

// optionsFor gives the options for settings; those of the last time where they are the same.
func (w *Worker) optionsFor(settings []byte) (*session.Options, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.options != nil && bytes.Equal(w.settings, settings) {
		return w.options, nil
	}
	opt, err := w.Options(settings)
	if err != nil {
		return nil, err
	}
	opt.Notice, opt.Tap, opt.Audit = w.notice, w.tap, w.deed
	w.settings, w.options = bytes.Clone(settings), opt.WithDefaults()
	return w.options, nil
}

func (w *Worker) find(id string) *work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[id]
}

func (w *Worker) notice(id string, doing session.Activity) {
	if run := w.find(id); run != nil {
		run.link.post(linked{ID: id, Notice: &doing})
	}
}

func (w *Worker) tap(id string) *wire.Tap {
	if run := w.find(id); run != nil {
		return &run.tap
	}
	return nil
}
