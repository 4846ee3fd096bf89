package faultfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roost/maildir/fsys"
)

// Mem is a tree in memory that knows what was synced. It has no links (symbolic
// ones), and its root "/" is there from the start. Safe for concurrent use.
//
// What a power cut may leave follows the weakest filesystem that Roost is meant for.
// A name is durable once its directory was synced, bytes once their file was. Until
// then any part may be there: each change of names on its own, but never without an
// earlier one to the same name; a rename as a whole; of the bytes written since the
// last sync any prefix. The times of what was changed are those of the last change that
// is there, or for all of the tree those of the last one that was made.
type Mem struct {
	Now func() time.Time // of mtimes and ctimes; nil is time.Now

	// Changed is called after each change of a name or of a file's bytes, with the tree
	// locked: for a watch that is told what a kernel tells. nil: nobody is.
	Changed func(Change)

	mu      sync.Mutex // guards the whole tree
	dev     uint64
	inodes  uint64
	root    *inode
	journal []change
}

// Change is what happened to one name.
type Change struct {
	Dir  uint64 // inode of the directory
	Name string // in it
	Made bool   // it is there now
	Self uint64 // inode of the directory that lost this name; 0: it is none
	Gone bool   // and that it is no longer anywhere

	Written bool // the bytes of the file changed, not its name
}

type inode struct {
	id           uint64
	mode         fs.FileMode
	mtime, ctime time.Time
	nlink        uint64

	data, synced []byte // of a file

	names, durable map[string]*inode // of a directory: as seen, as synced
	settled        times             // without the changes in the journal
	version        uint64            // counts the changes of names

	locked *memFile // who has the flock
}

// change is what one call did to names, all or none.
type change []edit

type edit struct {
	dir  *inode
	name string
	to   *inode // nil: removed
	old  *inode // what had the name before; nil: nothing
	at   time.Time
}

type times struct{ mtime, ctime time.Time }

// touch tells the inodes whose times an edit sets.
func (e edit) touch(set func(n *inode, dir bool)) {
	set(e.dir, true)
	for _, n := range []*inode{e.old, e.to} {
		if n != nil {
			set(n, false)
		}
	}
}

var devices atomic.Uint64

// NewMem makes an empty tree.
func NewMem() *Mem {
	m := &Mem{dev: 1<<32 + devices.Add(1)}
	m.root = m.node(fs.ModeDir | 0o700)
	return m
}

func (m *Mem) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (m *Mem) node(mode fs.FileMode) *inode {
	m.inodes++
	n := &inode{id: m.inodes, mode: mode, mtime: m.now(), ctime: m.now()}
	n.settled = times{n.mtime, n.ctime}
	if mode.IsDir() {
		n.names, n.durable = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// edit changes names and notes it.
func (m *Mem) edit(c change) {
	defer m.tell(c)
	for i := range c {
		e := &c[i]
		e.at, e.old = m.now(), e.dir.names[e.name]
		if e.old != nil {
			e.old.nlink--
		}
		if e.to != nil {
			e.dir.names[e.name] = e.to
			e.to.nlink++
		} else {
			delete(e.dir.names, e.name)
		}
		e.dir.version++
		e.touch(func(n *inode, dir bool) {
			n.ctime = e.at
			if dir {
				n.mtime = e.at
			}
		})
	}
	m.journal = append(m.journal, c)
}

// tell reports edits.
func (m *Mem) tell(c change) {
	if m.Changed == nil {
		return
	}
	for _, e := range c {
		ev := Change{Dir: e.dir.id, Name: e.name, Made: e.to != nil}
		if e.old != nil && e.old.mode.IsDir() {
			ev.Self, ev.Gone = e.old.id, e.old.nlink == 0
		}
		m.Changed(ev)
	}
}

func (c change) apply() {
	for _, e := range c {
		if e.to != nil {
			e.dir.durable[e.name] = e.to
		} else {
			delete(e.dir.durable, e.name)
		}
		e.touch(func(n *inode, dir bool) {
			n.settled.ctime = e.at
			if dir {
				n.settled.mtime = e.at
			}
		})
	}
}

// syncDir makes durable what was changed in d, and the earlier changes that those
// build upon.
func (m *Mem) syncDir(d *inode) {
	type key struct {
		dir  *inode
		name string
	}
	needed := map[key]bool{}
	take := make([]bool, len(m.journal))
	for i, c := range slices.Backward(m.journal) {
		for _, e := range c {
			take[i] = take[i] || e.dir == d || needed[key{e.dir, e.name}]
		}
		if take[i] {
			for _, e := range c {
				needed[key{e.dir, e.name}] = true
			}
		}
	}
	rest := m.journal[:0:0]
	for i, c := range m.journal {
		if take[i] {
			c.apply()
		} else {
			rest = append(rest, c)
		}
	}
	m.journal = rest
}

// Clone is the tree as a killed process leaves it.
func (m *Mem) Clone() *Mem { return m.after(func(int) int { return 0 }, true) }

// Crash is the tree as a power cut may leave it: r chooses; nil: only what was
// synced.
func (m *Mem) Crash(r *rand.Rand) *Mem {
	if r == nil {
		return m.after(func(int) int { return 0 }, false)
	}
	return m.after(r.IntN, false)
}

// after copies the tree. choose(n) picks of n possibilities, of which 0 is that
// nothing but what was synced is there.
func (m *Mem) after(choose func(n int) int, all bool) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &Mem{Now: m.Now, dev: 1<<32 + devices.Add(1), inodes: m.inodes}
	names := map[*inode]map[string]*inode{} // after the crash
	of := func(d *inode) map[string]*inode {
		if names[d] == nil {
			names[d] = map[string]*inode{}
			for n, to := range d.durable {
				names[d][n] = to
			}
		}
		return names[d]
	}
	type key struct {
		dir  *inode
		name string
	}
	missing := map[key]bool{} // names with a change that was lost
	newest := all || choose(2) == 1
	at := map[*inode]times{} // after the crash
	set := func(e edit) {
		e.touch(func(n *inode, dir bool) {
			t, ok := at[n]
			if !ok {
				t = n.settled
			}
			t.ctime = e.at
			if dir {
				t.mtime = e.at
			}
			at[n] = t
		})
	}
	for _, c := range m.journal {
		keep := all || choose(2) == 1
		for _, e := range c {
			keep = keep && !missing[key{e.dir, e.name}]
		}
		for _, e := range c {
			if keep {
				set(e)
			}
			switch {
			case !keep:
				missing[key{e.dir, e.name}] = true
			case e.to != nil:
				of(e.dir)[e.name] = e.to
			default:
				delete(of(e.dir), e.name)
			}
		}
	}
	copies := map[*inode]*inode{}
	var copyNode func(n *inode) *inode
	copyNode = func(n *inode) *inode {
		if c := copies[n]; c != nil {
			return c
		}
		c := &inode{id: n.id, mode: n.mode, mtime: n.mtime, ctime: n.ctime}
		if !newest {
			t, ok := at[n]
			if !ok {
				t = n.settled
			}
			if c.ctime = t.ctime; n.mode.IsDir() {
				c.mtime = t.mtime
			}
		}
		c.settled = times{c.mtime, c.ctime}
		copies[n] = c
		if !n.mode.IsDir() {
			c.data = slices.Clone(n.data)
			if !all {
				c.data = torn(n, choose)
			}
			c.synced = slices.Clone(c.data)
			return c
		}
		c.names, c.durable = map[string]*inode{}, map[string]*inode{}
		for name, to := range of(n) {
			k := copyNode(to)
			k.nlink++
			c.names[name], c.durable[name] = k, k
		}
		return c
	}
	out.root = copyNode(m.root)
	return out
}

// torn is what is left of a file's bytes.
func torn(n *inode, choose func(int) int) []byte {
	same := 0
	for same < min(len(n.data), len(n.synced)) && n.data[same] == n.synced[same] {
		same++
	}
	if same == len(n.data) && same == len(n.synced) {
		return slices.Clone(n.synced)
	}
	switch choose(3) {
	case 0:
		return slices.Clone(n.synced)
	case 1:
		return slices.Clone(n.data)
	}
	return slices.Clone(n.data[:same+choose(len(n.data)-same+1)])
}

// find goes down from the root; links do not exist.
func (m *Mem) find(p string) (*inode, error) {
	n := m.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if part == "" {
			continue
		}
		next := n.names[part]
		switch {
		case next == nil:
			return nil, syscall.ENOENT
		case !next.mode.IsDir():
			return nil, syscall.ENOTDIR
		}
		n = next
	}
	return n, nil
}

// Root, Make and Under are those of fsys.FS. What Make makes is durable.
func (m *Mem) Root(p string) (fsys.Dir, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(p)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return &memDir{m: m, n: n, path: path.Clean(p)}, nil
}

func (m *Mem) Make(p string, mode fs.FileMode) (fsys.Dir, error) {
	if d, err := m.Root(p); !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	parent, name := path.Split(path.Clean(p))
	d, err := m.Make(path.Clean(parent), mode)
	if err != nil {
		return nil, err
	}
	if err := d.Mkdir(name, mode); err != nil {
		return nil, err
	}
	if err := d.Sync(); err != nil {
		return nil, err
	}
	return m.Root(p)
}

func (m *Mem) Under(base, rel string) (fsys.Dir, error) {
	if clean := path.Clean(rel); clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(rel) {
		return nil, &fs.PathError{Op: "open", Path: rel, Err: fs.ErrInvalid}
	}
	return m.Root(path.Join(base, rel))
}

// Tree lists all files and what they hold, by path: for a test to compare.
func (m *Mem) Tree() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]string{}
	var walk func(p string, n *inode)
	walk = func(p string, n *inode) {
		for name, to := range n.names {
			if to.mode.IsDir() {
				walk(p+"/"+name, to)
			} else {
				out[p+"/"+name] = string(to.data)
			}
		}
	}
	walk("", m.root)
	return out
}
