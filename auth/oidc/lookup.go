package oidc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxAge is after which what the issuer said is asked for again. A key that it has
	// withdrawn counts no longer than that.
	maxAge = time.Hour

	// pause is between two questions, whatever is asked of us: tokens of unknown keys do
	// not make us hammer at the issuer.
	pause = 30 * time.Second

	// firstPause is it while nothing is known.
	firstPause = 5 * time.Second
)

// lookup is something that the issuer says and that is kept: it goes on with what it has
// when the issuer does not answer. Safe for concurrent use.
type lookup[T any] struct {
	what  string // for the log
	fetch func(ctx context.Context) (T, error)
	now   func() time.Time
	log   *slog.Logger

	ctx context.Context // of all fetches; ends with close
	end context.CancelFunc
	wg  sync.WaitGroup

	mu      sync.Mutex // guards all below
	have    bool
	value   T
	fetched time.Time
	tried   time.Time
	err     error         // of the last try
	flight  chan struct{} // closed when the fetch that runs is over; nil: none does
}

func newLookup[T any](what string, log *slog.Logger, now func() time.Time, fetch func(ctx context.Context) (T, error)) *lookup[T] {
	l := &lookup[T]{what: what, fetch: fetch, now: now, log: log}
	l.ctx, l.end = context.WithCancel(context.Background()) // #nosec G118 -- stop calls it
	return l
}

func (l *lookup[T]) close() {
	l.end()
	l.wg.Wait()
}

var errSilent = errors.New("the issuer was not asked yet")

// get gives what is known. newer wants it asked for again, which is done at most once in a
// pause. The error is why nothing is known, or that of ctx.
func (l *lookup[T]) get(ctx context.Context, newer bool) (T, error) {
	l.mu.Lock()
	now := l.now()
	rested := now.Sub(l.tried) >= pause
	if !l.have {
		rested = now.Sub(l.tried) >= firstPause
	}
	if rested && l.flight == nil && (newer || !l.have || now.Sub(l.fetched) >= maxAge) {
		l.startLocked(now)
	}
	flight := l.flight
	if l.have && !newer || flight == nil {
		defer l.mu.Unlock()
		return l.resultLocked()
	}
	l.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resultLocked()
}

func (l *lookup[T]) resultLocked() (T, error) {
	switch {
	case l.have:
		return l.value, nil
	case l.err != nil:
		return l.value, l.err
	}
	return l.value, errSilent
}

// startLocked asks the issuer.
func (l *lookup[T]) startLocked(now time.Time) {
	flight := make(chan struct{})
	l.flight, l.tried = flight, now
	l.wg.Go(func() { // ends with the answer, requestTime or close
		value, err := l.fetch(l.ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		defer close(flight)
		l.flight = nil
		switch {
		case err != nil && l.ctx.Err() == nil && l.err == nil:
			l.log.Warn("the issuer of tokens does not answer as it should", "event", "oauth2_issuer", "what", l.what, "kept", l.have, "err", shortened(err))
		case err == nil && l.err != nil:
			l.log.Info("the issuer of tokens answers again", "event", "oauth2_issuer", "what", l.what)
		}
		if l.err = err; err == nil {
			l.have, l.value, l.fetched = true, value, l.now()
		}
	})
}

// age is how long ago the issuer said what is known.
func (l *lookup[T]) age() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now().Sub(l.fetched).Round(time.Second)
}
