package watch

import (
	"errors"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"roost/maildir/fsys"
)

// System is the Watcher over fsnotify. NewSystem makes one.
type System struct {
	opt    Options
	poller *poller
	shards []shard

	logged [2]sync.Once // by limit: watches, instances
}

// NewSystem makes a Watcher; inotify instances are opened when first needed.
func NewSystem(opt Options) *System {
	if opt.Shards == 0 {
		opt.Shards = 8
	}
	if opt.Interval == 0 {
		opt.Interval = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &System{opt: opt, shards: make([]shard, opt.Shards), poller: newPoller(opt)}
	for i := range s.shards {
		s.shards[i] = shard{
			log:    opt.Log,
			byPath: map[string]*watched{},
			byID:   map[inode]*watched{},
		}
	}
	return s
}

// Add subscribes; it falls back to polling, which it logs once, where the kernel has
// no room for another watch.
func (s *System) Add(dir fsys.Dir, key string, wake func(), only ...string) (*Sub, error) {
	if s.opt.Poll || dir.Remote() {
		return s.poller.add(dir, wake, only)
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	sub, err := s.shards[h.Sum32()%uint32(len(s.shards))].add(dir, wake, only)
	if err == nil || errors.Is(err, ErrMoved) {
		return sub, err
	}
	limit, sysctl := 0, "fs.inotify.max_user_watches"
	switch {
	case errors.Is(err, syscall.ENOSPC):
	case errors.Is(err, syscall.EMFILE):
		limit, sysctl = 1, "fs.inotify.max_user_instances"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, errors.Join(ErrMoved, err)
	default:
		sysctl = ""
	}
	warn := func() {
		s.opt.Log.Warn("directories are polled: no watch could be set; raise the sysctl and restart",
			"event", "watch_limit", "path", dir.Path(), "sysctl", sysctl, "err", err)
	}
	if sysctl == "" {
		warn()
	} else {
		s.logged[limit].Do(warn)
	}
	return s.poller.add(dir, wake, only)
}

// Close ends all subscriptions and waits for the goroutines.
func (s *System) Close() error {
	s.poller.stop()
	var errs []error
	for i := range s.shards {
		errs = append(errs, s.shards[i].stop())
	}
	return errors.Join(errs...)
}

// shard is one inotify instance.
type shard struct {
	log *slog.Logger

	// setup orders what is asked of fsnotify. It is never taken by the draining
	// goroutine: fsnotify may hold its own lock while it waits for that one.
	setup   sync.Mutex
	watcher *fsnotify.Watcher
	done    bool
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the maps and the subs in them; taken after setup
	byPath map[string]*watched
	byID   map[inode]*watched

	// stale are paths that left the maps while fsnotify may still watch what was there. It
	// must forget them before it hears of another: told of one directory by two paths it
	// mixes up its tables, loses events, and panics.
	stale  map[string]struct{}
	marker marker
}

type inode struct{ dev, ino uint64 }

// watched is one directory. The kernel has one watch an inode, and fsnotify reports
// it under the path by which it was first added.
type watched struct {
	path string
	id   inode
	subs []*Sub
}

func (sh *shard) add(dir fsys.Dir, wake func(), only []string) (*Sub, error) {
	self, err := dir.Self()
	if err != nil {
		return nil, err
	}
	id, path := inode{self.Dev, self.Ino}, dir.Path()

	sh.setup.Lock()
	defer sh.setup.Unlock()
	if sh.done {
		return nil, fsnotify.ErrClosed
	}
	if sh.watcher == nil {
		w, err := fsnotify.NewBufferedWatcher(512)
		if err != nil {
			return nil, err
		}
		sh.watcher = w
		// Ends when the watcher is closed; joined in stop.
		sh.wg.Go(func() { sh.drain(w) })
	}

	sh.mu.Lock()
	w, fresh := sh.byID[id], false
	if w == nil {
		// In the maps before the kernel is asked, or its first events find nobody.
		w, fresh = &watched{path: path, id: id}, true
		if old := sh.byPath[path]; old != nil {
			sh.dropLocked(old)
			defer noteAll(old.subs, Report{Lost: true})
		}
		sh.byPath[path], sh.byID[id] = w, w
	}
	sub := NewSub(wake, only, false, func(s *Sub) { sh.remove(w, s) })
	sub.OnSettle(sh.settle)
	w.subs = append(w.subs, sub)
	var stale map[string]struct{}
	if fresh {
		stale, sh.stale = sh.stale, nil
	}
	sh.mu.Unlock()

	if !fresh {
		return sub, nil
	}
	for path := range stale {
		sh.watcher.Remove(path) // best effort: mostly it went with the directory
	}
	err = sh.watcher.Add(path)
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(path); err == nil {
			if sys := st.Sys().(*syscall.Stat_t); (inode{uint64(sys.Dev), uint64(sys.Ino)}) != id {
				err = ErrMoved
			}
		}
	}
	if err != nil {
		sh.watcher.Remove(path) // best effort: it may not be there
		sh.mu.Lock()
		sh.dropLocked(w)
		sh.mu.Unlock()
		return nil, err
	}
	return sub, nil
}

// dropLocked takes a directory out of the maps.
func (sh *shard) dropLocked(w *watched) {
	if sh.byPath[w.path] == w {
		delete(sh.byPath, w.path)
		sh.staleLocked(w.path)
	}
	if sh.byID[w.id] == w {
		delete(sh.byID, w.id)
	}
}

func (sh *shard) staleLocked(path string) {
	if sh.stale == nil {
		sh.stale = map[string]struct{}{}
	}
	sh.stale[path] = struct{}{}
}

func (sh *shard) remove(w *watched, s *Sub) {
	sh.setup.Lock()
	defer sh.setup.Unlock()
	sh.mu.Lock()
	w.subs = slices.DeleteFunc(slices.Clone(w.subs), func(x *Sub) bool { return x == s }) // others may be walking it
	last := len(w.subs) == 0
	if last {
		sh.dropLocked(w)
		if last = sh.byPath[w.path] == nil; last { // else the path is another's now
			delete(sh.stale, w.path)
		}
	}
	sh.mu.Unlock()
	if last && !sh.done {
		sh.watcher.Remove(w.path) // an error says that the kernel was faster
	}
}

func (sh *shard) stop() error {
	sh.setup.Lock()
	sh.done = true
	w := sh.watcher
	sh.setup.Unlock()
	if w == nil {
		return nil
	}
	err := w.Close()
	sh.wg.Wait()
	return errors.Join(err, sh.marker.close())
}

// drain notes events and does nothing else: the kernel's queue is short.
func (sh *shard) drain(w *fsnotify.Watcher) {
	for {
		select {
		case ev, ok := <-w.Events:
			if !ok {
				return
			}
			switch {
			case sh.marker.passed(ev.Name):
			case ev.Op&^fsnotify.Chmod != 0: // ATTRIB alone: link counts, times
				sh.event(ev)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			sh.overflow(err)
		}
	}
}

func (sh *shard) event(ev fsnotify.Event) {
	i := strings.LastIndexByte(ev.Name, filepath.Separator)
	if i < 0 {
		return
	}
	sh.mu.Lock()
	var lost []*Sub
	if self := sh.byPath[ev.Name]; self != nil && ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
		sh.dropLocked(self)
		lost = self.subs
	}
	var subs []*Sub
	if parent := sh.byPath[ev.Name[:i]]; parent != nil {
		subs = parent.subs
	}
	sh.mu.Unlock()
	r := Report{Names: []string{ev.Name[i+1:]}, Kinds: []Kind{kindOf(ev.Op)}}
	if ev.Has(fsnotify.Write) {
		r.Written = r.Names
	}
	noteAll(subs, r)
	noteAll(lost, Report{Lost: true})
}

func kindOf(op fsnotify.Op) Kind {
	switch op {
	case fsnotify.Create:
		return Came
	case fsnotify.Remove, fsnotify.Rename:
		return Gone
	}
	return Unknown
}

// overflow says Lost to all: among the events that are gone may be those of moved
// and removed directories, whose watches ended with them.
func (sh *shard) overflow(err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		sh.log.Warn("watch failed; directories are scanned", "event", "watch_error", "err", err)
	}
	var all []*Sub
	sh.mu.Lock()
	for _, w := range sh.byID {
		all = append(all, w.subs...)
	}
	for path := range sh.byPath {
		sh.staleLocked(path)
	}
	clear(sh.byPath)
	clear(sh.byID)
	sh.mu.Unlock()
	noteAll(all, Report{Lost: true})
	sh.marker.lost()
}

func noteAll(subs []*Sub, r Report) {
	for _, s := range subs {
		s.Note(r)
	}
}
