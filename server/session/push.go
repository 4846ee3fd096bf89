package session

import (
	"errors"
	"sync"
	"time"

	"roost/store"
)

// pusher tells an idling client what is new. While nothing is, it is a bit and a
// timer: the session's own goroutine is blocked in Read. A wake-up starts one
// short goroutine that pulls, writes, and ends; it is joined before the session
// does anything else.
type pusher struct {
	mu      sync.Mutex // guards all but wg
	idling  bool       // goroutines may be started
	woken   bool       // something may have happened after the last Advance
	alive   bool       // a keepalive is due
	running bool       // the goroutine is there
	timer   *time.Timer
	wg      sync.WaitGroup
}

// wake is what mailboxes call. It never blocks.
func (s *session) wake() {
	s.push.mu.Lock()
	defer s.push.mu.Unlock()
	s.push.woken = true
	s.pushLocked()
}

// pushLocked starts the goroutine if it has something to do and is not there.
func (s *session) pushLocked() {
	p := &s.push
	if !p.idling || p.running || !p.woken && !p.alive {
		return
	}
	p.running = true
	p.wg.Go(s.pushAll) // ends when nothing is new, or the client does not read; joined in stop
}

// pushAll writes what is new until nothing is.
func (s *session) pushAll() {
	p := &s.push
	for {
		p.mu.Lock()
		woken, alive := p.woken, p.alive
		if !p.idling || !woken && !alive {
			p.running = false
			p.mu.Unlock()
			return
		}
		p.woken, p.alive = false, false
		p.mu.Unlock()

		before := s.enc.Written()
		var err error
		if woken {
			if err = s.tellChanges(tellAll); errors.Is(err, store.ErrReplaced) {
				s.closing, s.reason = true, "selected mailbox was deleted or replaced"
				s.enc.Line("BYE Selected mailbox was deleted or replaced; connect again")
			} else if err != nil {
				s.log.Warn("selected mailbox fails", "event", "mailbox_failed", "mailbox", s.sel.name, "err", err)
				err = nil
			}
			s.tellAnnotated()
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

// startPush begins an idle. From here to stop the encoder and the selected
// mailbox belong to the pusher.
func (s *session) startPush() {
	p := &s.push
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idling = true
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
}
