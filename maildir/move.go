package maildir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Copy implements store.Mailbox: by links, which share the bytes and cost no space;
// where the filesystem refuses those, by copies. Each gets a base name of its own.
func (h *hold) Copy(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	m := h.m
	m.whole()
	if err := m.alive(); err != nil {
		return store.Copied{}, m.wrapped(h, "copy", err)
	}
	dst, err := h.target(ctx, to)
	if err != nil {
		return store.Copied{}, err
	}
	defer m.st.release(dst)
	if err := h.account.room(ctx, int64(len(uids)), m.sizeOf(uids)); err != nil {
		return store.Copied{}, fmt.Errorf("copy to %q: %w", to, storageError(err))
	}
	added, err := m.linkTo(ctx, dst, uids)
	var list []staged
	if isNotExist(err) || cannotLink(err) {
		// Somebody renames them, or links are refused: each is brought to tmp/ first.
		if list, err = m.stage(ctx, dst, uids, true); err == nil {
			added, err = dst.commit(list, nil)
		}
	}
	if err != nil {
		dst.unstage(list)
		return store.Copied{}, fmt.Errorf("copy to %q: %w", to, storageError(err))
	}
	return store.Copied{UIDValidity: dst.list.validity, From: slices.Clone(uids), To: added}, nil
}

// linkTo copies messages by one link each, from the names that they have now: durable files,
// which need no tmp/. All or none; an error is that of a link, or ErrGone.
func (m *mailbox) linkTo(ctx context.Context, dst *mailbox, uids []imap.UID) ([]imap.UID, error) {
	measured, err := m.measureNow(ctx, uids)
	if err != nil {
		return nil, err
	}
	list := make([]staged, 0, len(uids))
	for part := range slices.Chunk(uids, flagChunk) {
		m.mu.Lock()
		for _, uid := range part {
			i, ok := m.findShownLocked(uid)
			if !ok {
				m.mu.Unlock()
				return nil, fmt.Errorf("UID %d: %w", uid, store.ErrGone)
			}
			s, at := m.stagedLocked(i, measured[uid])
			s.tmp, s.from = at.name, m.dirs.of(at.inNew)
			list = append(list, s)
		}
		m.mu.Unlock()
	}
	return dst.commit(list, nil)
}

// sizeOf sums the sizes that are known.
func (m *mailbox) sizeOf(uids []imap.UID) (total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range uids {
		if i, ok := m.findShownLocked(u); ok {
			total += max(m.table.rows.at(i).size(), 0)
		}
	}
	return total
}

// target opens the mailbox that messages go to.
func (h *hold) target(ctx context.Context, to store.Name) (*mailbox, error) {
	p, err := h.account.place(to)
	if err != nil {
		return nil, err
	}
	return h.m.st.toWrite(ctx, p)
}

// stage links or copies messages to dst's tmp/. Those that are gone are ErrGone, or
// left out without all; the staged ones are given back in every case.
func (m *mailbox) stage(ctx context.Context, dst *mailbox, uids []imap.UID, all bool) (list []staged, err error) {
	measured, err := m.measureNow(ctx, uids)
	if err != nil {
		return nil, err
	}
	for _, uid := range uids {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		s, err := m.stageOne(dst, uid, measured[uid])
		if errors.Is(err, store.ErrGone) && !all {
			continue
		}
		if err != nil {
			return list, fmt.Errorf("UID %d: %w", uid, err)
		}
		list = append(list, s)
		if err := dst.syncFull(list); err != nil {
			return list, err
		}
	}
	return list, nil
}

func (m *mailbox) stageOne(dst *mailbox, uid imap.UID, measured *measurement) (staged, error) {
	for range renameTries {
		m.mu.Lock()
		i, ok := m.findShownLocked(uid)
		if !ok {
			m.mu.Unlock()
			return staged{}, store.ErrGone
		}
		s, at := m.stagedLocked(i, measured)
		m.mu.Unlock()
		err := m.dirs.of(at.inNew).Link(at.name, dst.dirs.tmp, s.tmp)
		switch {
		case err == nil:
			return s, nil
		case isNotExist(err):
			m.files.Lock()
			_, ok := m.locate(uid)
			m.files.Unlock()
			if !ok {
				return staged{}, store.ErrGone
			}
		case cannotLink(err):
			return s, m.copyFile(dst, uid, &s)
		default:
			return staged{}, err
		}
	}
	return staged{}, fmt.Errorf("%w: another program renames it all the time", store.ErrInUse)
}

// stagedLocked is a row on its way to another mailbox, under a new base name. measured (nil:
// none) is what its file says where the row does not.
func (m *mailbox) stagedLocked(i int, measured *measurement) (staged, sighting) {
	r := m.table.rows.at(i)
	at := sighting{m.table.fileName(i), r.inNew()}
	s := staged{
		tmp: m.st.names.next(m.st.opt.Clock()), flags: r.flags, keywords: m.table.keywords(i).Names(), internal: r.internal, size: r.size(),
	}
	if s.internal == unknownTime && measured != nil {
		s.internal = unixSeconds(measured.st.Mtime)
		if s.size < 0 {
			s.size = believedSize(at.name, measured.st.Size)
		}
	}
	s.base = s.tmp
	// The sizes in the name go along when nothing speaks against them.
	if size, crlf := sizeHints(at.name); size >= 0 && crlf == s.size {
		s.base = withSizes(s.tmp, size, crlf)
	}
	return s, at
}

// cannotLink reports whether a link failed for a reason that a copy does not have.
func cannotLink(err error) bool {
	for _, e := range []error{syscall.EXDEV, syscall.EMLINK, syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// copyFile stages a message by its bytes, as they lie on disk.
func (m *mailbox) copyFile(dst *mailbox, uid imap.UID, s *staged) error {
	f, st, err := m.openFile(uid)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.internal == unknownTime {
		s.internal = unixSeconds(st.Mtime)
	}
	s.file, _, _, err = writeStaged(dst.dirs.tmp, s.tmp, dst, f, time.Unix(s.internal, 0))
	return err
}

// Move implements store.Mailbox. Within a filesystem each message is renamed, so that
// it is in exactly one of the two at every instant; across, it is copied, made
// durable, and then removed.
func (h *hold) Move(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	m := h.m
	m.whole()
	if err := m.alive(); err != nil {
		return store.Copied{}, m.wrapped(h, "move", err)
	}
	if !h.write {
		return store.Copied{}, m.wrapped(h, "move", store.ErrReadOnly)
	}
	dst, err := h.target(ctx, to)
	if err != nil {
		return store.Copied{}, err
	}
	defer m.st.release(dst)
	c, err := m.moveTo(ctx, dst, uids)
	if err != nil {
		return c, fmt.Errorf("move to %q: %w", to, storageError(err))
	}
	return c, nil
}

// moveAll moves every message of one mailbox to another, as RENAME of INBOX does.
func (s *Store) moveAll(ctx context.Context, from, to place) error {
	src, err := s.acquire(ctx, from)
	if err != nil {
		return err
	}
	defer s.release(src)
	dst, err := s.acquire(ctx, to)
	if err != nil {
		return err
	}
	defer s.release(dst)
	if err := src.refresh(time.Now()); err != nil {
		return src.wrap("move from", err)
	}
	v := src.newest()
	_, err = src.moveTo(ctx, dst, v.UIDs.Slice(0, v.UIDs.Len()))
	return src.wrap("move from", err)
}

func (m *mailbox) moveTo(ctx context.Context, dst *mailbox, uids []imap.UID) (store.Copied, error) {
	measured, err := m.measureNow(ctx, uids)
	if err != nil {
		return store.Copied{}, err
	}
	if sameFilesystem(m.dirs.cur, dst.dirs.cur) {
		c, err := m.renameTo(dst, uids, measured)
		if !errors.Is(err, syscall.EXDEV) { // a bind mount has one device and still refuses
			return c, err
		}
	}
	return m.copyAway(ctx, dst, uids, measured)
}

// lockBoth takes files of two mailboxes, in the one order that all keep.
func lockBoth(a, b *mailbox) (unlock func()) {
	if a == b {
		a.files.Lock()
		return a.files.Unlock
	}
	if b.key.less(a.key) {
		a, b = b, a
	}
	a.files.Lock()
	b.files.Lock()
	return func() { b.files.Unlock(); a.files.Unlock() }
}

// renameTo moves by rename, under the locks of both uidlists, so that no other program
// gives a message a UID while it is on its way.
func (m *mailbox) renameTo(dst *mailbox, uids []imap.UID, measured measurements) (c store.Copied, err error) {
	c.UIDValidity = dst.list.validity
	release := lockBoth(m, dst)
	doneHere, doneThere := m.takesLong(len(uids)), dst.takesLong(len(uids))
	unlock := func() {
		doneHere()
		doneThere()
		release()
	}
	locked := true
	defer func() {
		if locked {
			unlock()
		}
	}()
	for _, x := range []*mailbox{m, dst} {
		if err := x.alive(); err != nil {
			if x == dst {
				err = fmt.Errorf("%w: it was deleted", store.ErrNotFound)
			}
			return c, err
		}
		if x.list.volatile {
			return c, fmt.Errorf("%w: its UIDs cannot be recorded", store.ErrUnavailable)
		}
		x.ensureMark()
	}
	var list []staged
	var from []imap.UID
	for _, uid := range uids {
		if i, ok := m.findShownLocked(uid); ok {
			s, _ := m.stagedLocked(i, measured[uid])
			list = append(list, s)
			from = append(from, uid)
		}
	}
	if len(list) == 0 {
		return c, nil
	}
	arrivals, err := dst.describe(list)
	if err != nil {
		return c, err
	}
	first, second := m, dst
	if dst.key.less(m.key) {
		first, second = dst, m
	}
	var moved []newcomer
	var a *arrival
	err = first.withListLock(func() error {
		return second.withListLock(func() (err error) {
			if err := dst.adoptClaimed(); err != nil {
				return err
			}
			for i, uid := range from {
				ok, rerr := m.renameOne(dst, uid, &arrivals[i])
				if rerr != nil {
					err = fmt.Errorf("UID %d: %w", uid, rerr)
					break
				}
				if ok {
					moved = append(moved, arrivals[i])
					c.From = append(c.From, uid)
				}
			}
			if len(moved) == 0 {
				return err
			}
			var aerr error
			if a, aerr = dst.assign(moved, true); aerr != nil {
				dst.doubt = true // they are there, and get their UIDs at the next look
			}
			m.apply(step{gone: sorted(slices.Clone(c.From))})
			return errors.Join(err, aerr)
		})
	})
	if a == nil {
		dst.wake()
		c.From = nil
		return c, err
	}
	steps := append(dst.syncSteps(moved),
		syncStep{"from cur " + m.dirs.cur.Path(), m.dirs.cur.Sync}, syncStep{"from new " + m.dirs.new.Path(), m.dirs.new.Sync})
	unlock()
	locked = false
	if serr := dst.list.commits.run(dst.dirs.cur, steps...); serr != nil {
		err = errors.Join(err, serr)
		// They were moved all the same, and are to be seen: under these UIDs if those can
		// be kept, else under the next ones.
		dst.files.Lock()
		dst.list.unsynced = true
		kept := dst.settleLines()
		if kept != nil {
			dst.drop(a)
			dst.doubt = true
		}
		dst.files.Unlock()
		if kept != nil {
			dst.wake()
			c.From = nil
			return c, err
		}
	}
	dst.files.Lock()
	dst.show(a)
	dst.files.Unlock()
	<-a.shown
	if dst.hasWriter() {
		dst.wake()
	}
	c.To = a.uids
	return c, err
}

// renameOne moves one file; false when the message is gone. Where another program gave it
// other flags meanwhile, n has them then.
func (m *mailbox) renameOne(dst *mailbox, uid imap.UID, n *newcomer) (bool, error) {
	for range renameTries {
		at, ok := m.whereIs(uid)
		if !ok {
			return false, nil
		}
		err := m.dirs.of(at.inNew).Move(at.name, dst.dirs.of(n.inNew()), n.baseName+n.info)
		if !isNotExist(err) {
			return err == nil, err
		}
		m.locate(uid)
		if i, ok := m.table.find(uid); ok {
			s, _ := m.stagedLocked(i, nil)
			s.base, s.internal, s.size = n.baseName, n.internal, n.size()
			now, err := dst.describe([]staged{s})
			if err != nil {
				return false, err
			}
			*n = now[0]
		}
	}
	return false, fmt.Errorf("%w: another program renames it all the time", store.ErrInUse)
}

// copyAway moves to another filesystem.
func (m *mailbox) copyAway(ctx context.Context, dst *mailbox, uids []imap.UID, measured measurements) (c store.Copied, err error) {
	c.UIDValidity = dst.list.validity
	var list []staged
	for _, uid := range uids {
		if err = ctx.Err(); err != nil {
			break
		}
		var s staged
		if s, err = m.stageOne(dst, uid, measured[uid]); errors.Is(err, store.ErrGone) {
			err = nil
			continue
		}
		if err != nil {
			err = fmt.Errorf("UID %d: %w", uid, err)
			break
		}
		list = append(list, s)
		c.From = append(c.From, uid)
		if err = dst.syncFull(list); err != nil {
			break
		}
	}
	if err == nil {
		c.To, err = dst.commit(list, nil)
	}
	if err != nil {
		dst.unstage(list)
		return store.Copied{}, err
	}
	m.files.Lock()
	defer m.files.Unlock()
	if _, err := m.unlinkAll(c.From, func(int) bool { return true }); err != nil {
		return c, err
	}
	return c, errors.Join(m.dirs.cur.Sync(), m.dirs.new.Sync())
}

// sorted sorts in place, for callers that want it in one breath.
func sorted(uids []imap.UID) []imap.UID {
	slices.Sort(uids)
	return uids
}
