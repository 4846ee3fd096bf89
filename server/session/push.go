package session

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"roost/store"
)

// pusher tells an idling client what is new. While nothing is, it is a bit and a
// timer: the session's own goroutine is blocked in Read. A wake-up starts one
// short goroutine that pulls, writes, and ends; it is joined before the session
// does anything else. What can be told without waiting is told by whoever wakes, for
// to start a goroutine takes longer (pushNow).
type pusher struct {
	mu      sync.Mutex // guards all but wg
	idling  bool       // goroutines may be started
	woken   bool       // something may have happened after the last Advance
	news    bool       // something may have happened in other mailboxes (news.go)
	alive   bool       // a keepalive is due
	running bool       // the goroutine is there
	run     func()     // what it does
	timer   *time.Timer
	wg      sync.WaitGroup

	// Of who runs, or of the session's goroutine when nobody does.
	gathers bool  // between Prompt's Gather and Send
	left    bool  // by Send: it comes before all else
	bug     error // pushNow panicked; who waits for the client ends the session
}

// wake is what mailboxes call. It never blocks.
func (s *session) wake() {
	p := &s.push
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
	if s.prompt != nil && p.idling && !p.running && !p.news && !p.alive {
		p.running, p.woken = true, false
		p.wg.Add(1) // as Go does
		p.mu.Unlock()
		told := s.pushNow()
		p.mu.Lock()
		p.running = false
		p.woken = p.woken || !told
		p.wg.Done()
	}
	s.pushLocked()
}

// pushNow tells what is coming, where nothing else is to be told, and waits for nobody. It
// reports false where anything is left for pushAll.
func (s *session) pushNow() (told bool) {
	p := &s.push
	defer func() {
		if r := recover(); r != nil {
			p.left, p.gathers = p.left || p.gathers, false
			p.bug = fmt.Errorf("%v\n%s", r, debug.Stack())
		}
	}()
	if s.packed != nil || s.annotated != nil || !s.isForetold() || !s.prompt.Gather() {
		return false
	}
	p.gathers = true
	s.foretell()
	err := s.enc.Flush()
	p.gathers = false
	all, serr := s.prompt.Send()
	if err = errors.Join(err, serr); err != nil {
		s.enc.Fail(err)
		s.interrupt()
	}
	p.left = !all && err == nil
	return !p.left
}

// afterNow writes what pushNow left, and panics as it did. For who may wait for the client.
func (s *session) afterNow() (err error) {
	p := &s.push
	if p.left {
		p.left = false
		if err = s.stream.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout)); err == nil {
			err = s.prompt.Finish()
		}
		if err != nil {
			s.enc.Fail(err)
		}
	}
	if bug := p.bug; bug != nil {
		p.bug = nil
		panic(bug)
	}
	return err
}

// pushLocked starts the goroutine if it has something to do and is not there.
func (s *session) pushLocked() {
	p := &s.push
	if !p.idling || p.running || !p.woken && !p.news && !p.alive {
		return
	}
	p.running = true
	p.wg.Go(p.run) // ends when nothing is new, or the client does not read; joined in stop
}

// pushAll writes what is new until nothing is.
func (s *session) pushAll(ctx context.Context) {
	p := &s.push
	for {
		p.mu.Lock()
		woken, news, alive := p.woken, p.news, p.alive
		if !p.idling || !woken && !news && !alive {
			p.running = false
			p.mu.Unlock()
			return
		}
		p.woken, p.alive = false, false
		p.mu.Unlock()

		before := s.enc.Written()
		err := s.afterNow()
		if woken && err == nil {
			how := tellAll
			if s.listening && s.notify.selected.delayed {
				how = tellNoExpunge // RFC 5465 section 6.1.2
			}
			if err = s.tellChanges(ctx, how); errors.Is(err, store.ErrReplaced) {
				s.closing, s.reason = true, "selected mailbox was deleted or replaced"
				s.enc.Line("BYE Selected mailbox was deleted or replaced; connect again")
			} else if err != nil {
				s.log.Warn("selected mailbox fails", "event", "mailbox_failed", "mailbox", s.sel.name, "err", err)
				err = nil
			}
			if err == nil {
				s.foretell()
			}
			s.tellAnnotated(ctx)
		}
		if news && err == nil {
			s.tellNews(ctx)
		}
		if woken || news {
			if ferr := s.enc.Flush(); ferr != nil {
				err = ferr
			}
		}
		if alive && err == nil && s.enc.Written() == before {
			s.enc.Line("OK Still here")
			err = s.enc.Flush()
		}
		if err != nil {
			s.interrupt() // the Read of the session ends, and with it the session
		}
	}
}

// clear forgets wake-ups: an Advance follows.
func (p *pusher) clear() {
	p.mu.Lock()
	p.woken = false
	p.mu.Unlock()
}

// takeNews tells whether there may be news, and forgets that.
func (p *pusher) takeNews() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.news
	p.news = false
	return news
}

// startPush begins an idle, or what is like it under NOTIFY. From here to stop the encoder
// and the selected mailbox belong to the pusher.
func (s *session) startPush(ctx context.Context) {
	p := &s.push
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idling = true
	p.run = func() {
		defer func() {
			if r := recover(); r != nil {
				s.panicked(r)
				s.closing, s.reason = true, "panic"
				s.interrupt()
			}
		}()
		s.pushAll(ctx)
	}
	if every := s.opt.Keepalive; every > 0 {
		p.timer = time.AfterFunc(every, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if !p.idling {
				return
			}
			p.alive = true
			p.timer.Reset(every)
			s.pushLocked()
		})
	}
	s.pushLocked()
}

// stop ends the idle and waits for the goroutine, which may be writing to a slow
// client: no longer than one write deadline.
func (p *pusher) stop() {
	p.mu.Lock()
	p.idling, p.alive = false, false
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.run = nil
}
