package workers

import (
	"errors"
	"os"
	"sync"
)

// A link is what the front and a worker tell each other of the sessions between them,
// beside the bytes of those. Nothing on it says who somebody is.
type link struct {
	ch   *channel
	out  chan linked
	last chan struct{} // closed when nothing more will be told
	sent chan struct{} // closed when nothing is sent any more
	gone chan struct{} // closed when nothing is received either
	wg   sync.WaitGroup
	once sync.Once
}

// newLink begins to send and to receive. heard is called by one goroutine; lost once, when
// the link is over.
func newLink(f *os.File, heard func(linked), lost func()) (*link, error) {
	ch, err := newChannel(f)
	if err != nil {
		return nil, err
	}
	l := &link{ch: ch, out: make(chan linked, 256), last: make(chan struct{}), sent: make(chan struct{}), gone: make(chan struct{})}
	// Sends. Ends with the link.
	l.wg.Go(func() {
		defer close(l.sent)
		for last := l.last; last != nil || len(l.out) > 0; {
			select {
			case m := <-l.out:
				if l.ch.send(m) != nil {
					l.end()
				}
			case <-l.gone:
				return
			case <-last:
				last = nil
			}
		}
	})
	// Receives. Ends with the link.
	l.wg.Go(func() {
		for {
			var m linked
			if _, err := l.ch.receive(&m, 0); err != nil {
				l.end()
				lost()
				return
			}
			heard(m)
		}
	})
	return l, nil
}

// post sends what may be lost where the other side is slow. It never waits.
func (l *link) post(m linked) bool {
	select {
	case l.out <- m:
		return true
	default:
		return false
	}
}

var errLost = errors.New("the other process is gone")

// tell sends what must come; errLost when it cannot.
func (l *link) tell(m linked) error {
	select {
	case l.out <- m:
		return nil
	case <-l.gone:
		return errLost
	}
}

// end ends the link from either side.
func (l *link) end() {
	l.once.Do(func() {
		close(l.gone)
		l.ch.close()
	})
}

// flush waits until all that was told is sent, and ends the link. Nothing may be told
// meanwhile.
func (l *link) flush() {
	close(l.last)
	<-l.sent
	l.end()
	l.wg.Wait()
}
