package maildir

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/index"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/store"
)

const (
	// suspectFor is how long a file whose name is gone has to turn up under another,
	// before the directories are looked at for proof.
	suspectFor = 30 * time.Millisecond

	// astrayFor is how long a mailbox whose path leads elsewhere may yet be told where
	// it is.
	astrayFor = 500 * time.Millisecond

	// lateAfter is when is done what nobody waits for, behind the answer to SELECT: the rest of
	// the index is read, watches are set.
	lateAfter = 5 * time.Millisecond

	// doubtFor is how soon a look that could not be finished is tried again.
	doubtFor = time.Second

	// portion is how many events' names of a directory are looked at under one hold of
	// mailbox.files, and asked those that a client waits for, who asked for news.
	portion     = 512
	askedAtOnce = 128
)

// watchState is the mailbox's subscriptions, and the goroutine that serves them. An
// event's name says that something happened to it; what, is asked of the file.
type watchState struct {
	subs     [3]*watch.Sub // of subDirs
	paths    [3]fsys.Dir   // the directories by a path that they got later; nil: as opened
	polled   atomic.Bool   // events come seldom or never: who wants to know must look
	late     *index.Stamps // not nil: no watches are set yet, and this is what was there
	young    atomic.Bool   // late, and nobody asked since
	muffled  muffled
	suspects map[imap.UID]struct{}
	names    [3][]string     // told of and not looked at yet, of each of subs
	kinds    [3][]watch.Kind // of each of names
	written  []string
	astray   time.Time // since when the path leads elsewhere; zero: it does not

	kick chan struct{}
	stop chan struct{} // nil before the goroutine runs
}

// The directories watched, and their places in subs.
const (
	subNew = iota
	subCur
	subBox
)

// watchedFiles are the names in the mailbox's own directory that matter.
var watchedFiles = []string{uidlist.Name, lettersFile, extraFile, metadataFile}

// subscribe sets the watches; what was there before is looked for afterwards.
func (m *mailbox) subscribe() error {
	w := &m.watch
	m.unsubscribe()
	at := w.paths
	if at[subBox] == nil {
		at = [3]fsys.Dir{subNew: m.dirs.new, subCur: m.dirs.cur, subBox: m.dirs.box}
	}
	polled := false
	for i, dir := range at {
		var only []string // all
		if i == subBox {
			only = watchedFiles // not the dotlocks that come and go with each delivery
		}
		if isAbsent(dir) {
			w.subs[i] = watch.NewSub(m.wake, nil, true, func(*watch.Sub) {})
			polled = true // nothing will tell when it comes
			continue
		}
		sub, err := m.st.watch.Add(dir, m.user, m.wake, only...)
		if err != nil {
			return err
		}
		w.subs[i] = sub
		polled = polled || sub.Polled()
	}
	w.polled.Store(polled)
	return nil
}

func (m *mailbox) subscribeOrPoll() {
	if err := m.subscribe(); err != nil {
		m.warn("watches could not be set; the mailbox is looked at instead", err)
		m.watch.polled.Store(true)
	}
}

// isCalm reports whether a change of the directories that happens from now on can be told by
// their stamps, so that a look needs no watches.
func (m *mailbox) isCalm() bool {
	s, err := m.stamps()
	return err == nil && m.writable() && !m.dirs.cur.Remote() && m.st.wall().UnixNano()-s.newest() >= int64(remoteTick)
}

// leaveWatches leaves them to watchLate, where all is as the look has seen it. Called at the
// end of load.
func (m *mailbox) leaveWatches() {
	s, list, err := m.indexStamps()
	known, _ := m.list.file.Stat()
	k := &m.keywords
	if err == nil && !m.doubt && !m.list.volatile && m.unchanged(dirsIn(s)) && index.StampOf(list) == index.StampOf(known) &&
		k.letterAt == fileStampIn(s.Letters) && k.extraAt == fileStampIn(s.Extra) {
		m.watch.late = &s
		return
	}
	m.subscribeOrPoll()
	m.doubt = true
	m.wake()
}

// watchLate sets the watches of a mailbox behind the answer: the kernel goes through all files
// of a directory that it remembers, which takes longer than to open a mailbox of 100,000 by its
// index. What changed since is told by the stamps, for they were old when the index was believed,
// or the directories looked at; then a look is due. Called with files held, before any change
// of our own.
func (m *mailbox) watchLate() {
	if m.watch.late == nil {
		return
	}
	was := *m.watch.late
	m.watch.late = nil
	m.watch.young.Store(false)
	if m.watch.subs[subNew] == nil { // else set by movedTo
		m.subscribeOrPoll()
	}
	now, _, err := m.indexStamps()
	m.doubt = m.doubt || err != nil || now != was
}

// closePaths lets the directories go that were opened to watch them by a new path.
func (w *watchState) closePaths() {
	for i, d := range w.paths {
		if d != nil {
			d.Close()
		}
		w.paths[i] = nil
	}
}

// path is where the mailbox is, as far as is known.
func (m *mailbox) path() string {
	if d := m.watch.paths[subBox]; d != nil {
		return d.Path()
	}
	return m.dirs.box.Path()
}

func (m *mailbox) unsubscribe() {
	for i, sub := range m.watch.subs {
		if sub != nil {
			sub.Close()
			m.watch.subs[i] = nil
		}
	}
}

// wake lets the worker run. It never blocks.
func (m *mailbox) wake() {
	select {
	case m.watch.kick <- struct{}{}:
	default:
	}
}

// work serves events. Ends by stop; joined in close.
func (m *mailbox) work() {
	var (
		suspect, doubt, sync *time.Timer

		synced struct { // what the lines were when sync was set
			lines int
			since time.Time
		}
		c = func(t *time.Timer) <-chan time.Time {
			if t == nil {
				return nil
			}
			return t.C
		}
	)
	for {
		select {
		case <-m.watch.stop:
			for _, t := range []*time.Timer{suspect, doubt, sync} {
				if t != nil {
					t.Stop()
				}
			}
			return
		case <-m.watch.kick:
		case <-c(suspect):
			suspect = nil
			m.files.Lock()
			if !m.watch.behind() { // else the other name may be among those
				m.convict()
			}
			m.files.Unlock()
		case <-c(doubt):
			doubt = nil
		case <-c(sync):
			sync = nil
			m.files.Lock()
			if n := m.list.file.Lines(); n != synced.lines && time.Since(synced.since) < syncLatest {
				synced.lines = n
				sync = time.NewTimer(syncLater) // deliveries go on
			} else {
				m.wg.Go(m.syncLines) // short; joined in close
			}
			m.files.Unlock()
		}
		m.files.Lock()
		m.take(portion)
		if m.alive() == nil && m.checkWritten(portion) {
			m.wake()
		}
		m.tend()
		if suspect == nil && len(m.watch.suspects) > 0 {
			suspect = time.NewTimer(suspectFor)
		}
		if doubt == nil && (m.doubt || m.list.volatile || m.list.left) {
			doubt = time.NewTimer(doubtFor)
		}
		if sync == nil && m.list.unsynced {
			synced.lines, synced.since = m.list.file.Lines(), time.Now()
			sync = time.NewTimer(syncLater)
		}
		m.files.Unlock()
	}
}

// syncLines makes lines durable that only announced deliveries.
func (m *mailbox) syncLines() {
	m.files.Lock()
	due := m.list.unsynced && m.alive() == nil // of a mailbox that was replaced nobody asks
	m.list.unsynced = false
	m.files.Unlock()
	if !due {
		return
	}
	if err := m.list.file.Sync(); err != nil {
		m.files.Lock()
		m.list.unsynced = true
		m.files.Unlock()
		m.log.Error("UIDs that were shown are not durable yet; the file is synced again", "event", "sync", "path", m.dirs.control.Path(), "err", err)
	}
}

// later has the worker see to what can wait: lines to sync, a lock that stayed.
func (m *mailbox) later() { m.wake() }

// behind reports whether there are names that were not looked at yet.
func (w *watchState) behind() bool { return len(w.names[subNew])+len(w.names[subCur]) > 0 }

// first gives the first names of a directory, limit at most.
func (w *watchState) first(of, limit int) []string { return w.names[of][:min(len(w.names[of]), limit)] }

// done says that the first n names of a directory were looked at.
func (w *watchState) done(of, n int) {
	w.names[of], w.kinds[of] = w.names[of][n:], w.kinds[of][n:]
	if len(w.names[of]) == 0 {
		w.names[of], w.kinds[of] = nil, nil
	}
}

// pull takes in all that the watches told. Called with files held.
func (m *mailbox) pull() {
	for m.take(portion); m.watch.behind() && m.alive() == nil; {
		m.take(portion)
	}
}

// take takes in what the watches told, of the messages the first limit in either
// directory, and fewer where somebody waits for files; the worker takes the rest. Called
// with files held.
func (m *mailbox) take(limit int) {
	if m.alive() != nil || !m.loaded {
		return
	}
	w := &m.watch
	m.watchLate()
	// Who held it when new mail was shown may have left since, and took \Recent along.
	writer := m.hasWriter()
	look := m.doubt
	lost := false
	for i, sub := range w.subs {
		if sub == nil {
			lost = lost || i != subCur || w.muffled.commands.Load() == 0
			continue
		}
		r := sub.Pull()
		w.names[i] = append(w.names[i], r.Names...)
		for k := range r.Names {
			w.kinds[i] = append(w.kinds[i], r.Kind(k))
		}
		w.written = append(w.written, r.Written...)
		look = look || r.Look
		lost = lost || r.Lost
	}
	if lost {
		if m.rewatch(); m.alive() != nil {
			return
		}
		look = true
	}
	if m.list.volatile && !m.readOnly {
		m.tryToRecord()
	}
	if m.list.left {
		if err := m.withListLock(func() error { return nil }); err != nil && !errors.Is(err, store.ErrReplaced) {
			m.warn("the uidlist's lock could not be released", err)
		}
	}
	inBox := w.names[subBox]
	w.names[subBox], w.kinds[subBox] = nil, nil
	for _, name := range inBox {
		switch name {
		case uidlist.Name:
			m.checkList()
		case lettersFile, extraFile:
			if err := m.refreshKeywords(); err != nil {
				m.warn("keywords could not be read", err)
			}
		case metadataFile:
			m.checkAnnotations()
		}
	}
	if m.alive() != nil {
		return
	}
	var err error
	if look {
		w.names, w.kinds = [3][]string{}, [3][]watch.Kind{} // all of them are found
		err = m.lookAll()
	} else if w.behind() {
		err = m.events(limit)
	}
	if err != nil {
		m.doubt = true
		m.warn("new mail cannot be shown; it is tried again", err)
	}
	if !w.behind() {
		m.rewritten(w.written)
		w.written = nil
	}
	switch {
	case w.behind():
		m.wake()
	case writer:
		m.tidyNew(limit / 4) // a rename costs as much as to look at four
	}
	if !m.watch.astray.IsZero() {
		m.doubt = true // until it is clear where the mailbox is
	}
	if m.list.reserve != 0 && m.list.reserve-m.list.nextUID() < reserveUIDs/5 && !m.list.foreign {
		if err := m.ensureReserve(m.list.reserve + 1); err != nil {
			m.warn("UIDs could not be set aside", err)
		}
	}
}

// lookAll is look, and what else is looked at when no events told of it.
func (m *mailbox) lookAll() error {
	if err := m.refreshKeywords(); err != nil {
		return err
	}
	m.checkList()
	if err := m.alive(); err != nil {
		return err
	}
	m.checkAnnotations()
	return m.look()
}

// warn logs a failure that repeats itself, once until another comes.
func (m *mailbox) warn(what string, err error) {
	text := what + ": " + err.Error()
	if m.warned == text {
		return
	}
	m.warned = text
	m.log.Warn(what, "event", "mailbox_trouble", "path", m.dirs.box.Path(), "err", err)
}

// checkList takes in what another program wrote to the uidlist.
func (m *mailbox) checkList() {
	if m.list.volatile {
		return
	}
	st, err := m.dirs.control.Stat(uidlist.Name)
	known, ok := m.list.file.Stat()
	if err == nil && ok && st.SameFile(known) && st.Size == known.Size && st.Mtime == known.Mtime {
		return
	}
	if err := m.withListLock(func() error { return nil }); err != nil && !errors.Is(err, store.ErrReplaced) {
		m.doubt = true
		m.warn("the uidlist could not be read", err)
	}
}

// events looks at the files that events named, as take says. Called with files held.
func (m *mailbox) events(limit int) error {
	var (
		s        step
		arrivals []newcomer
		fresh    = map[string]bool{}
		letters  letterSet
		looked   int
	)
	w := &m.watch
	for _, sub := range []int{subNew, subCur} {
		for _, name := range w.first(sub, limit) {
			_, more := flagsOf(name)
			letters |= more
		}
	}
	if m.learnLetters(letters); m.alive() != nil {
		return m.alive()
	}
	for _, sub := range []int{subNew, subCur} {
		n := 0
		for _, name := range w.first(sub, limit) {
			if looked >= flagLeast && m.files.Wanted() {
				break
			}
			kind := w.kinds[sub][n]
			n, looked = n+1, looked+1
			if !isMessageName(name) {
				if name != "" && name[0] != '.' {
					m.logStrange(name, "has a line end in its name")
				}
				continue
			}
			at := sighting{name, sub == subNew}
			base := baseOf(name)
			i, ok := m.table.byBase(base)
			if !ok {
				if _, yes := needsName(base); yes {
					m.doubt = true // a look renames it
					continue
				}
				if fresh[base] {
					continue
				}
				n, err := m.newcomer(at)
				if err != nil {
					if !isNotExist(err) {
						m.logStrange(name, err.Error())
					}
					continue
				}
				fresh[base] = true
				arrivals = append(arrivals, n)
				continue
			}
			known := sighting{m.table.fileName(i), m.table.rows.at(i).inNew()}
			uid := m.table.rows.at(i).uid
			// Of our own renames nothing is to be learned, and a STORE of all makes many.
			if at == known && kind == watch.Came || at != known && kind == watch.Gone {
				continue
			}
			_, err := m.dirs.of(at.inNew).Stat(name)
			switch {
			case err != nil && at == known:
				if m.watch.suspects == nil {
					m.watch.suspects = map[imap.UID]struct{}{}
				}
				m.watch.suspects[uid] = struct{}{}
			case err == nil && at != known:
				if _, err := m.dirs.of(known.inNew).Stat(known.name); err == nil {
					m.doubt = true // two names at once: a look decides
					continue
				}
				s.renamed = append(s.renamed, m.renamedTo(i, name[len(base):], at.inNew))
			}
		}
		w.done(sub, n)
	}
	defer m.foretell(len(arrivals))()
	for _, r := range s.renamed {
		delete(m.watch.suspects, r.uid)
	}
	if len(s.renamed) > 0 {
		m.ensureMark()
		m.apply(s)
	}
	if len(arrivals) > 0 {
		sortNewcomers(arrivals)
		m.ensureMark()
		if err := m.adopt(arrivals); err != nil {
			return err
		}
	}
	if m.doubt {
		return m.look()
	}
	return nil
}

// convict decides on files whose names are gone: a look proves it.
func (m *mailbox) convict() {
	suspects := m.watch.suspects
	m.watch.suspects = nil
	for uid := range suspects {
		s, ok := m.whereIs(uid)
		if !ok {
			continue
		}
		if _, err := m.dirs.of(s.inNew).Stat(s.name); err != nil {
			m.doubt = true
			return // the look of the pull that follows covers all of them
		}
	}
}

// rewatch sets the watches anew after they were lost, by an overflow or because the
// directory went elsewhere. What cannot be found any more was replaced.
func (m *mailbox) rewatch() {
	same := func() bool {
		d, err := m.st.opt.FS.Root(m.path())
		if err != nil {
			return false
		}
		defer d.Close()
		st, err := d.Self()
		return err == nil && placeKey{st.Dev, st.Ino} == m.key
	}
	st, err := m.dirs.cur.Self()
	if !same() || err == nil && st.Nlink == 0 {
		// A RENAME of our own is told of by movedTo, which may come after the event.
		if elsewhere := err == nil && st.Nlink > 0; elsewhere && m.watch.astray.IsZero() {
			m.watch.astray = time.Now()
		}
		if !m.watch.astray.IsZero() && time.Since(m.watch.astray) < astrayFor {
			m.doubt = true
			return
		}
		m.log.Info("the mailbox was deleted or replaced by another program", "event", "replaced", "path", m.path())
		m.abandon()
		return
	}
	m.watch.astray = time.Time{}
	if m.replacedWithin() {
		return
	}
	if err := m.subscribe(); err != nil {
		m.warn("watches could not be set; the mailbox is looked at instead", err)
		m.watch.polled.Store(true)
		m.doubt = true
	}
}

// replacedWithin gives the mailbox up when cur or new is not the directory any more that
// was opened: then its files are others.
func (m *mailbox) replacedWithin() bool {
	for _, inNew := range []bool{true, false} {
		name, dir := "cur", m.dirs.cur
		if inNew {
			name, dir = "new", m.dirs.new
		}
		there, err := m.dirs.box.Stat(name)
		have, herr := dir.Self()
		if isAbsent(dir) && isNotExist(err) || err == nil && herr == nil && there.SameFile(have) {
			continue
		}
		m.log.Info("a directory of the mailbox was replaced by another program", "event", "replaced", "path", dir.Path())
		m.abandon()
		return true
	}
	return false
}

// tidyNew moves messages from new/ to cur/, for somebody who holds the mailbox for
// writing: limit at most, and fewer where somebody waits for files. A failure leaves them
// in new/, where they are served as well.
func (m *mailbox) tidyNew(limit int) {
	if !m.writable() || len(m.inNew) == 0 {
		return
	}
	m.watchLate()
	var s step
	var left []imap.UID
	for n, uid := range m.inNew {
		if n >= limit || n >= flagLeast && m.files.Wanted() {
			left = append(left, m.inNew[n:]...)
			m.later()
			break
		}
		i, ok := m.table.find(uid)
		if !ok || !m.table.rows.at(i).inNew() {
			continue
		}
		if m.hiddenLocked(uid) {
			left = append(left, uid)
			continue
		}
		name := m.table.fileName(i)
		to := name
		if _, _, _, ok := splitInfo(name); !ok {
			to = m.table.base(i) + infoMark
		}
		err := m.dirs.new.Move(name, m.dirs.cur, to)
		if errors.Is(err, syscall.ENAMETOOLONG) { // without flags a name needs no info
			to = name
			err = m.dirs.new.Move(name, m.dirs.cur, to)
		}
		if err != nil {
			if !isNotExist(err) {
				m.warn("new messages stay in new/", err)
				left = append(left, m.inNew[n:]...)
				break
			}
			continue // an event tells where it went
		}
		s.renamed = append(s.renamed, m.renamedTo(i, to[len(m.table.base(i)):], false))
	}
	m.inNew = left
	m.apply(s)
}

// hasWriter reports whether a hold may write.
func (m *mailbox) hasWriter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writers > 0
}

func (m *mailbox) writable() bool { return !m.readOnly }
