package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/cache"
	"roost/maildir/fsys"
	"roost/store"
)

// A placeKey tells one mailbox directory from all others, whatever its path.
type placeKey struct{ dev, ino uint64 }

func (k placeKey) less(o placeKey) bool {
	return k.dev < o.dev || k.dev == o.dev && k.ino < o.ino
}

// A place is where a mailbox lies. The account side makes it from a name; the
// mailbox core opens it, unless the mailbox with this key is open already.
type place struct {
	key      placeKey
	name     store.Name // as this account calls it: for logs and errors
	user     string     // whose tree it is: for logs, and to spread the watches
	path     string     // absolute path of the mailbox directory
	readOnly bool       // nothing may be written, by the rules of the account

	// open opens the directories, making cur, new and tmp where they are missing and
	// that is possible. It is called only when the mailbox is not open yet.
	open func() (dirs, error)

	// unlisted opens what a mailbox is counted by that has no uidlist; errListed where there
	// is one. tmp may be nil.
	unlisted func() (dirs, error)

	// retain keeps open what the functions here need until what it gives is called; nil: the
	// place is good for one call only.
	retain func() func()

	// uidvalidity takes the next UIDVALIDITY of the tree, for a mailbox without one.
	uidvalidity func() (uint32, error)

	// lend gives one for a mailbox whose UIDs cannot be kept.
	lend func() uint32

	// hasTwin reports whether a mailbox with another key had this GUID first: guid.go.
	hasTwin func(guid string, key placeKey, oldest func() int64) bool
}

// dirs are the directories of an open mailbox. control and index may be box itself.
type dirs struct{ box, cur, new, tmp, control, index fsys.Dir }

// close closes each directory once.
func (d dirs) close() {
	for _, x := range []fsys.Dir{d.cur, d.new, d.tmp} {
		if x != nil {
			x.Close()
		}
	}
	if d.control != nil && d.control != d.box {
		d.control.Close()
	}
	if d.index != nil && d.index != d.box && d.index != d.control {
		d.index.Close()
	}
	if d.box != nil {
		d.box.Close()
	}
}

// of gives the directory in which a message's file lies.
func (d dirs) of(inNew bool) fsys.Dir {
	if inNew {
		return d.new
	}
	return d.cur
}

// mailbox is the one state of an open mailbox that all its holds share.
//
// Whoever changes files or the table holds files, for as long as that takes; mu is
// held for microseconds by whoever reads or changes what is in memory. So the table
// may be read under either lock, and is changed under both.
type mailbox struct {
	st   *Store
	key  placeKey
	user string
	log  *slog.Logger

	files    filesLock   // guards what is on disk, and everything down to mu
	long     atomic.Bool // who holds files will for long, and sees then what came
	dirs     dirs        // set under mu too
	list     uidState
	keywords keywordState
	index    indexState
	watch    watchState
	unread   unreadState
	loaded   bool                // the table is that of the files
	seen     dirStamps           // of the last complete look
	seenAt   int64               // when it began, nanoseconds since 1970
	metaAt   fileStamp           // of roost-metadata, when its mailbox got the last MODSEQ for it
	doubt    bool                // something may have been missed: look before the next use
	inNew    []imap.UID          // rows in new/, for tidyNew
	strange  map[string]struct{} // names that were logged as no messages
	warned   string              // the last warning
	closed   bool
	cleaned  bool      // of what deliveries left in tmp/
	owner    fsys.File // roost.lock; nil: another process's
	fileMode fs.FileMode
	wg       sync.WaitGroup // the worker and its short helpers

	promise        *promise // while it is loaded: what was told of it before; nil: nothing
	newUIDValidity func() (uint32, error)
	lendValidity   func() uint32
	hasTwin        func(guid string, key placeKey, oldest func() int64) bool

	mu       sync.Mutex // guards everything below: no file call, no callback under it
	name     store.Name // as the account that opened it last calls it
	table    *table
	versions *versions
	lastMod  store.ModSeq
	changed  changeLog // flags and keywords
	vanished changeLog // expunged
	recent   []imap.UID
	queue    []*arrival // added messages that are not shown yet, by UID
	coming   coming     // messages that were found and have no UID yet
	counts   counts
	unseen   imap.UID // no UID below it is without \Seen
	holds    map[*hold]struct{}
	writers  int      // holds that may write
	dead     error    // why no hold is of use any more
	known    []string // keywords, for FLAGS

	unreadable map[imap.UID]struct{}  // messages that the log was told of
	hot        map[imap.UID]time.Time // when messages were last seen to be written in place

	readOnly bool // immutable after load: nothing can be written
	sealed   bool // immutable after load: the rights or the mount said so
	noModSeq bool // immutable after load: no history of MODSEQs is kept
	orphan   bool // immutable after load: because another process owns the roost.* files

	notes *cache.Cache // immutable after load; nil: none are kept
	text  textIndex

	sentry atomic.Pointer[sentry] // those who watch it without a hold; nil: nobody

	// Guarded by Store.mu.
	refs    int
	visited bool          // somebody asked for it, and not only for its counts after an event
	idle    time.Time     // since when refs is 0
	ready   chan struct{} // closed when it was loaded, or loading failed with err
	err     error
	closing chan struct{} // closed when it is gone; nil before it goes
}

// counts are what STATUS asks, kept with each change.
type counts struct{ unseen, deleted int }

func (c *counts) add(f store.Flags, n int) {
	if f&store.FlagSeen == 0 {
		c.unseen += n
	}
	if f&store.FlagDeleted != 0 {
		c.deleted += n
	}
}

// An arrival is messages with neighbouring UIDs that are shown together, once they
// are as durable as was promised and all with lower UIDs were shown.
type arrival struct {
	uids  []imap.UID
	ready bool
	shown chan struct{} // closed when shown, or dropped
}

// A step gathers what one command, one look or one handful of events changes in
// the table, so that it becomes visible at once.
type step struct {
	renamed []renamed
	gone    []imap.UID // ascending
}

// renamed is the state of a message's file after somebody gave it another name.
type renamed struct {
	uid      imap.UID
	info     string
	inNew    bool
	flags    store.Flags
	keywords store.Keywords
}

// nextModSeq gives the MODSEQ of a change that happens now. Called with mu held.
func (m *mailbox) nextModSeqLocked() store.ModSeq {
	m.lastMod = max(m.lastMod+1, store.ModSeq(m.st.opt.Clock().UnixMicro()))
	return m.lastMod
}

// apply shows a step to all. Called with files held.
func (m *mailbox) apply(s step) {
	if len(s.renamed)+len(s.gone) == 0 {
		return
	}
	m.unclean()
	m.mu.Lock()
	shown := m.changeLocked(s.renamed)
	shown = m.removeLocked(s.gone) || shown
	wakes := m.wakesLocked(shown)
	m.mu.Unlock()
	if m.table.wasteful() {
		m.compact()
	}
	if len(s.gone) > 0 && len(m.keywords.extra.byBase) > 0 {
		m.learnKeywords(nil) // perhaps nobody has some of them any more
	}
	wakeAll(wakes)
	m.record()
}

// compact takes removed rows out of the table. Readers are held up by none of it. Called with
// files held; row numbers change.
func (m *mailbox) compact() {
	t := m.table.compacted()
	m.mu.Lock()
	m.table = t
	m.mu.Unlock()
}

// changeLocked notes new names, and the flags that they carry.
func (m *mailbox) changeLocked(list []renamed) (shown bool) {
	var mod store.ModSeq
	for _, c := range list {
		i, ok := m.table.find(c.uid)
		if !ok {
			continue
		}
		r := m.table.rows.at(i)
		m.table.setInfo(i, c.info)
		r.state &^= rowInNew
		if c.inNew {
			r.state |= rowInNew
			m.inNew = append(m.inNew, c.uid)
		}
		hidden := m.hiddenLocked(c.uid)
		if !hidden {
			m.index.changed = append(m.index.changed, c.uid)
		}
		if r.flags == c.flags && m.table.keywords(i) == c.keywords {
			continue
		}
		if r.state&rowListed != 0 { // seen for the first time
			r.flags = c.flags
			m.table.setKeywords(i, c.keywords)
			continue
		}
		if c.flags&store.FlagSeen == 0 {
			m.unseen = min(m.unseen, c.uid)
		}
		if !hidden {
			m.counts.add(r.flags, -1)
			m.counts.add(c.flags, 1)
		}
		r.flags = c.flags
		m.table.setKeywords(i, c.keywords)
		if hidden {
			continue // it gets its MODSEQ when it is shown
		}
		// One for each: a client that is cut off between two lines of one STORE keeps the
		// MODSEQ of the first, and the second must lie above it (RFC 7162 section 3.2).
		mod = m.nextModSeqLocked()
		r.modSeq = mod
		m.changed.add(mod, c.uid)
	}
	if mod != 0 {
		m.versions.touch(mod)
	}
	return mod != 0
}

// removeLocked expunges.
func (m *mailbox) removeLocked(gone []imap.UID) (shown bool) {
	var told []imap.UID
	for _, uid := range gone {
		i, ok := m.table.find(uid)
		if !ok {
			continue
		}
		m.table.remove(i)
		if m.hiddenLocked(uid) {
			continue
		}
		m.counts.add(m.table.rows.at(i).flags, -1)
		told = append(told, uid)
	}
	if len(told) == 0 {
		return false
	}
	mod := m.nextModSeqLocked()
	m.vanished.add(mod, told...)
	for _, uid := range told {
		m.index.gone = append(m.index.gone, change{mod, uid})
	}
	m.versions.shrink(told, mod)
	m.recent = slices.DeleteFunc(m.recent, func(u imap.UID) bool {
		_, ok := slices.BinarySearch(told, u)
		return ok
	})
	return true
}

// A newcomer is a message that gets its row.
type newcomer struct {
	row
	baseName, info string
	keywords       store.Keywords
}

// sortNewcomers puts messages in the order in which they get their UIDs.
func sortNewcomers(list []newcomer) {
	orders := make([]order, len(list))
	at := make([]int, len(list))
	for i := range list {
		orders[i], at[i] = orderOf(list[i].baseName), i
	}
	slices.SortFunc(at, func(a, b int) int { return orders[a].compare(orders[b]) })
	sorted := make([]newcomer, len(list))
	for i, from := range at {
		sorted[i] = list[from]
	}
	copy(list, sorted)
}

// enqueue gives messages their rows, out of sight. Their UIDs ascend and are above
// all others. Called with files held.
func (m *mailbox) enqueue(list []newcomer) *arrival {
	a := &arrival{shown: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range list {
		m.table.add(n.row, n.baseName, n.info, n.keywords)
		a.uids = append(a.uids, n.uid)
		if n.inNew() {
			m.inNew = append(m.inNew, n.uid)
		}
	}
	m.queue = append(m.queue, a)
	return a
}

// hiddenLocked reports whether a row was shown to nobody yet: it is in the queue. Rows are
// queued in the order of their UIDs.
func (m *mailbox) hiddenLocked(uid imap.UID) bool {
	for _, a := range m.queue {
		if len(a.uids) > 0 {
			return uid >= a.uids[0]
		}
	}
	return false
}

// show lets an arrival be seen as soon as all before it are. Called with files held.
func (m *mailbox) show(a *arrival) {
	m.unclean()
	m.mu.Lock()
	a.ready = true
	wakes := m.wakesLocked(m.showLocked())
	m.mu.Unlock()
	wakeAll(wakes)
	m.record()
	m.indexArrived(len(a.uids))
}

func (m *mailbox) showLocked() (shown bool) {
	var mod store.ModSeq
	for len(m.queue) > 0 && m.queue[0].ready {
		a := m.queue[0]
		m.queue = slices.Delete(m.queue, 0, 1)
		m.coming.less(len(a.uids))
		for _, uid := range a.uids {
			i, ok := m.table.find(uid)
			if !ok {
				continue // gone before it was seen
			}
			if mod == 0 {
				mod = m.nextModSeqLocked()
			}
			r := m.table.rows.at(i)
			r.modSeq = mod
			m.index.changed = append(m.index.changed, uid)
			if !m.loaded {
				continue // all is counted in the end
			}
			m.counts.add(r.flags, 1)
			m.versions.grow(uid, mod)
			m.recent = append(m.recent, uid)
		}
		close(a.shown)
	}
	return mod != 0
}

// drop takes an arrival back: it was not made durable.
func (m *mailbox) drop(a *arrival) {
	m.unclean()
	m.mu.Lock()
	for _, uid := range a.uids {
		if i, ok := m.table.find(uid); ok {
			m.table.remove(i)
		}
	}
	a.ready = true
	wakes := m.wakesLocked(m.showLocked())
	m.mu.Unlock()
	wakeAll(wakes)
	m.record()
}

// firstUnseen is the lowest UID without \Seen. The scan goes on where the last one
// ended, so that it costs each message once.
func (m *mailbox) firstUnseen() imap.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts.unseen == 0 {
		return 0
	}
	if m.unread.pending.Load() {
		return m.unseen
	}
	i, _ := m.table.find(m.unseen)
	for ; i < m.table.rows.len(); i++ {
		r := m.table.rows.at(i)
		if r.state&rowDead == 0 && r.flags&store.FlagSeen == 0 && !m.hiddenLocked(r.uid) {
			m.unseen = r.uid
			return r.uid
		}
	}
	return 0
}

// wakesLocked gathers the wake-ups of all holds. While a mailbox is read anew they are left
// alone: they could see nothing whole.
func (m *mailbox) wakesLocked(shown bool) []func() {
	if !shown || m.unread.pending.Load() {
		return nil
	}
	wakes := m.wakesOfHoldsLocked()
	if y := m.sentry.Load(); y != nil {
		wakes = append(wakes, y.hear)
	}
	return wakes
}

func (m *mailbox) wakesOfHoldsLocked() []func() {
	wakes := make([]func(), 0, len(m.holds)+1)
	for h := range m.holds {
		if h.wake != nil {
			wakes = append(wakes, h.wake)
		}
	}
	return wakes
}

func wakeAll(wakes []func()) {
	for _, wake := range wakes {
		wake()
	}
}

// kill ends all holds: nothing but Close is useful from now on.
func (m *mailbox) kill(why error) {
	m.mu.Lock()
	if m.dead == nil {
		m.dead = why
	}
	wakes := m.wakesLocked(true)
	m.mu.Unlock()
	wakeAll(wakes)
}

// alive fails when the mailbox was replaced.
func (m *mailbox) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// newest is the newest View.
func (m *mailbox) newest() store.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.versions.now
}

// status counts. Called after a look.
func (m *mailbox) status() (store.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead != nil {
		return store.Status{}, m.dead
	}
	v := m.versions.now
	highest := v.ModSeq
	if m.noModSeq {
		highest = 0
	}
	return store.Status{
		Messages: uint32(v.UIDs.Len()), Unseen: uint32(m.counts.unseen), Deleted: uint32(m.counts.deleted),
		Recent: uint32(len(m.recent)), UIDValidity: m.list.validity, UIDNext: v.UIDNext,
		HighestModSeq: highest, ID: m.list.id(),
	}, nil
}

// wrap says of which mailbox an error is, and gives what the protocol decides on.
func (m *mailbox) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	m.mu.Lock()
	name := m.name
	m.mu.Unlock()
	return fmt.Errorf("%s %q: %w", op, name, storageError(err))
}

// isKnown reports whether an error carries a decision already.
func isKnown(err error) bool {
	for _, known := range []error{
		store.ErrNotFound, store.ErrNoPermission, store.ErrReadOnly, store.ErrOverQuota, store.ErrTooBig, store.ErrGone,
		store.ErrReplaced, store.ErrUnreadable, store.ErrDamaged, store.ErrUnsupported, store.ErrInUse, store.ErrLimit, store.ErrUnavailable,
		store.ErrExists, store.ErrCannot, store.ErrNoSelect, store.ErrHasChildren, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
