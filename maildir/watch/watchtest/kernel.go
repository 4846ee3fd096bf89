package watchtest

import (
	"sync"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/maildir/watch"
)

// Kernel is a watch.Watcher that a faultfs.Mem tells of all its changes, as inotify and
// fsnotify would. The zero value is ready.
type Kernel struct {
	mu   sync.Mutex // guards subs
	subs map[uint64][]*watch.Sub
}

// Add subscribes to a directory by its inode.
func (k *Kernel) Add(dir fsys.Dir, _ string, wake func(), only ...string) (*watch.Sub, error) {
	st, err := dir.Self()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.subs == nil {
		k.subs = map[uint64][]*watch.Sub{}
	}
	s := watch.NewSub(wake, only, false, func(s *watch.Sub) { k.remove(st.Ino, s) })
	k.subs[st.Ino] = append(k.subs[st.Ino], s)
	return s, nil
}

func (k *Kernel) remove(ino uint64, s *watch.Sub) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var rest []*watch.Sub
	for _, x := range k.subs[ino] {
		if x != s {
			rest = append(rest, x)
		}
	}
	k.subs[ino] = rest
}

// Close does nothing.
func (k *Kernel) Close() error { return nil }

// Changed tells of a change. Of a directory that was removed the kernel tells by way of
// its parent only.
func (k *Kernel) Changed(c faultfs.Change) {
	k.mu.Lock()
	subs := k.subs[c.Dir]
	var lost []*watch.Sub
	if c.Self != 0 && (!c.Gone || len(subs) > 0) {
		lost = k.subs[c.Self]
		delete(k.subs, c.Self)
	}
	k.mu.Unlock()
	r := watch.Report{Names: []string{c.Name}, Kinds: []watch.Kind{watch.Gone}}
	switch {
	case c.Written:
		r.Written, r.Kinds[0] = r.Names, watch.Unknown
	case c.Made:
		r.Kinds[0] = watch.Came
	}
	for _, s := range subs {
		s.Note(r)
	}
	for _, s := range lost {
		s.Note(watch.Report{Lost: true})
	}
}
