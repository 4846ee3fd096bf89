package maildir

import (
	"errors"
	"sync"
	"time"

	"roost/maildir/fsys"
)

// Clients read big messages in pieces, FETCH BODY[]<0.65536> and so on, each a command of
// its own. What the first one finds out by reading the whole file (its line ends; of a
// packed one all of its text) the others need too: so a big message stays open for a
// while after its last use. It is known by its inode, which nobody else gets while it is
// open, its size and its mtime: a file that was written since is another content.

const (
	// keepSize is from what size on a message is worth a descriptor.
	keepSize = 256 << 10

	// maxKept is how many stay open that nobody uses, and keptFor for how long.
	maxKept = 32
	keptFor = time.Minute
)

// contentKey tells one state of one file from all others.
type contentKey struct {
	dev, ino    uint64
	size, mtime int64
}

// shelf holds the big messages that are open. Safe for concurrent use.
type shelf struct {
	mu     sync.Mutex // guards what follows, and what content says it does; above content.mu
	byKey  map[contentKey]*content
	idle   []*content // those of byKey that nobody uses, the longest first
	closed bool
}

// open makes a message of a file as it was opened, which it takes over unless it fails; see
// newContent. put must be called for each.
func (s *shelf) open(f fsys.File, st fsys.Stat, maxPacked int64) (*content, error) {
	c, err := newContent(f, st, maxPacked)
	if err != nil {
		return nil, err
	}
	c.refs = 1
	if !c.packed() && c.size < keepSize {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.byKey[c.key]; have != nil {
		if have.refs == 0 {
			s.unidleLocked(have)
		}
		have.refs++
		f.Close() // read only
		return have, nil
	}
	if s.byKey == nil {
		s.byKey = map[contentKey]*content{}
	}
	s.byKey[c.key] = c
	return c, nil
}

// put gives a message back.
func (s *shelf) put(c *content) error {
	s.mu.Lock()
	c.refs--
	if c.refs > 0 {
		s.mu.Unlock()
		return nil
	}
	var drop *content
	switch {
	case s.byKey[c.key] != c: // small
		drop = c
	case s.closed || !c.worthKeeping():
		delete(s.byKey, c.key)
		drop = c
	default:
		c.idle = time.Now()
		c.drop() // nobody reads
		s.idle = append(s.idle, c)
		if len(s.idle) > maxKept {
			drop = s.idle[0]
			s.unidleLocked(drop)
			delete(s.byKey, drop.key)
		}
	}
	s.mu.Unlock()
	if drop == nil {
		return nil
	}
	err := drop.close()
	if drop != c {
		return nil
	}
	return err
}

// worthKeeping: a small packed message is unpacked again as fast.
func (c *content) worthKeeping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil || c.table != nil && c.table.end.raw >= keepSize
}

func (s *shelf) unidleLocked(c *content) {
	for i, x := range s.idle {
		if x == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return
		}
	}
}

// sweep closes what nobody used since a while ago.
func (s *shelf) sweep(ago time.Duration) error {
	s.mu.Lock()
	n := 0
	for n < len(s.idle) && time.Since(s.idle[n].idle) >= ago {
		delete(s.byKey, s.idle[n].key)
		n++
	}
	old := append([]*content(nil), s.idle[:n]...)
	s.idle = append([]*content(nil), s.idle[n:]...)
	s.mu.Unlock()
	var errs []error
	for _, c := range old {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// close closes what nobody uses; what is in use goes when it is put back.
func (s *shelf) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.sweep(0)
}
