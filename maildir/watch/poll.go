package watch

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"roost/maildir/fsys"
)

// coarse is how far apart two changes must lie for every filesystem to give them
// different mtimes (spec: 2 s on FAT, 1 s on old NFS).
const coarse = 2 * time.Second

// poller looks at directories from time to time.
type poller struct {
	opt  Options
	quit chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	subs map[*Sub]*polled
	runs bool
	done bool
}

type polled struct {
	dir   fsys.Dir
	last  fsys.Stat
	dirty bool // it changed so lately that another change may hide behind the same mtime
}

func newPoller(opt Options) *poller {
	return &poller{opt: opt, quit: make(chan struct{}), subs: map[*Sub]*polled{}}
}

func (p *poller) add(dir fsys.Dir, wake func(), only []string) (*Sub, error) {
	st, err := dir.Self()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil, fsnotify.ErrClosed
	}
	sub := NewSub(wake, only, true, p.remove)
	p.subs[sub] = &polled{dir: dir, last: st, dirty: p.young(st)}
	if !p.runs {
		p.runs = true
		// Ends with stop, which joins it.
		p.wg.Go(p.run)
	}
	return sub, nil
}

func (p *poller) remove(s *Sub) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, s)
}

func (p *poller) stop() {
	p.mu.Lock()
	if !p.done {
		p.done = true
		close(p.quit)
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *poller) run() {
	t := time.NewTicker(p.opt.Interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.look()
		case <-p.quit:
			return
		}
	}
}

// look compares all once. No lock is held while a network filesystem thinks.
func (p *poller) look() {
	p.mu.Lock()
	all := maps.Clone(p.subs)
	p.mu.Unlock()
	for _, sub := range slices.Collect(maps.Keys(all)) {
		w := all[sub] // used by this goroutine only, once it is in the map
		st, err := w.dir.Self()
		if err != nil || st.Nlink == 0 {
			sub.Note(Report{Lost: true})
			continue
		}
		if st.Mtime != w.last.Mtime || st.Ctime != w.last.Ctime || w.dirty {
			sub.Note(Report{Look: true})
		}
		w.last, w.dirty = st, p.young(st)
	}
}

func (p *poller) young(st fsys.Stat) bool {
	return p.opt.Now().Sub(st.ModTime()) < coarse
}
