package events

import (
	"sync"
	"time"
)

// Burst finds who does more of something in a time than is usual. Safe for concurrent use.
type Burst struct {
	Many   int           // so much
	Within time.Duration // in this time

	mu sync.Mutex // guards all below
	by map[string]*spell
}

// spell is a time in which somebody did something.
type spell struct {
	begun  time.Time
	now    int // since begun
	before int // in the spell before
	told   bool
}

// Add counts n things of somebody. It reports, once a spell, that they are many.
func (b *Burst) Add(now time.Time, who string, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[string]*spell{}
	}
	s := b.by[who]
	if s == nil {
		if len(b.by) >= known {
			for k, other := range b.by {
				if now.Sub(other.begun) >= 2*b.Within || len(b.by) >= known {
					delete(b.by, k)
				}
			}
		}
		s = &spell{begun: now}
		b.by[who] = s
	}
	// Two halves that slide: what is counted is of between half the time and all of it.
	switch since := now.Sub(s.begun); {
	case since >= b.Within:
		*s = spell{begun: now}
	case since >= b.Within/2:
		*s = spell{begun: now, before: s.now, told: s.told}
	}
	s.now += n
	if s.told || s.now+s.before < b.Many {
		return false
	}
	s.told = true
	return true
}
