package session

import (
	"sync/atomic"
	"time"
)

// A FETCH that reads many messages may have all cores busy, and Go looks for what came from
// the network only where one is not: a NOOP beside it took three times as long as alone.
// While other sessions have commands it therefore leaves one core to them.

// crowdFor is how long another session's command is remembered: more than the pauses of a
// client that works through a list of commands.
const crowdFor = 100 * time.Millisecond

// begun counts the commands that began, of all sessions of the process.
var begun atomic.Uint64

// crowd is what one command knows of others. The zero value is of one that has not begun;
// one goroutine at a time.
type crowd struct {
	begun *atomic.Uint64
	seen  uint64
	last  time.Time // when others were seen to begin one
}

// newCrowd is for a command that was counted in begun.
func newCrowd(begun *atomic.Uint64) crowd { return crowd{begun: begun, seen: begun.Load()} }

// others tells whether another session began a command a short while ago.
func (c *crowd) others() bool { return c.othersAt(time.Now()) }

func (c *crowd) othersAt(now time.Time) bool {
	if n := c.begun.Load(); n != c.seen {
		c.seen, c.last = n, now
	}
	return !c.last.IsZero() && now.Sub(c.last) < crowdFor
}
