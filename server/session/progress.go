package session

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roost/server/search"
)

// INPROGRESS: RFC 9585. A client whose command takes long is told every ten seconds that
// it is still worked on, and how far, so that neither it nor a NAT takes the connection
// for dead.

// noticeEvery is the time between two such lines.
const noticeEvery = 10 * time.Second

// progress is how far one command is. While the session waits for the store, and so
// writes nothing, the timer's goroutine may: the encoder is its own while it holds mu.
type progress struct {
	s       *session
	counted search.Progress

	mu      sync.Mutex // guards stopped, and the encoder while apart
	apart   bool       // the timer writes; else it sets due, for step; immutable
	stopped bool
	timer   *time.Timer
	due     atomic.Bool
}

// waiting begins something that may take long and during which the session's goroutine
// writes nothing; what it wrote before are whole lines. It goes on after stop.
func (s *session) waiting() *progress { return s.working(true) }

// working begins something that may take long and during which step is called between
// complete responses, until stop.
func (s *session) working(apart bool) *progress {
	p := &progress{s: s, apart: apart}
	p.mu.Lock() // until there is a timer
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(noticeEvery, p.tick) // ends in stop
	s.progress = p
	return p
}

func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	if p.apart {
		p.write()
	} else {
		p.due.Store(true)
	}
	p.timer.Reset(noticeEvery)
}

// between lets the session write whole lines while it is waiting.
func (p *progress) between(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	write()
}

// stop ends the notices. It waits for one that is being written, no longer than for one
// write.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
	p.s.progress = nil
}

// step tells how far the command is, where it is time to. done counts messages.
func (p *progress) step(done int) {
	if p == nil {
		return // no command is at hand: NOTIFY tells of new messages
	}
	p.counted.At(done)
	p.tellIfDue()
}

// tellIfDue is step where nothing is counted.
func (p *progress) tellIfDue() {
	if p.due.Load() {
		p.due.Store(false)
		p.write()
	}
}

// write writes one notice and flushes, so that what the client cannot take ends the
// command by the encoder's error. RFC 9585 section 4: a goal is above what is done.
func (p *progress) write() {
	if p.s.hiding.hides("INPROGRESS") {
		return
	}
	enc := p.s.enc
	enc.Raw("* OK [INPROGRESS (")
	if strings.Contains(p.s.tag, "]") {
		enc.Raw("NIL")
	} else {
		enc.String(p.s.tag)
	}
	done, goal, counts := p.counted.Now()
	if counts {
		enc.SP().Number(uint64(done)).SP()
	} else {
		enc.Raw(" NIL ")
	}
	if counts && goal > done {
		enc.Number(uint64(goal))
	} else {
		enc.Raw("NIL")
	}
	enc.Raw(")] Still at it\r\n").Flush()
}
