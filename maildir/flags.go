package maildir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

const (
	// flagChunk is how many files are renamed or removed under one hold of mailbox.files, so
	// that nobody waits for a whole STORE or EXPUNGE: a few milliseconds.
	flagChunk = 256

	// flagLeast is how many at least, where somebody waits.
	flagLeast = 8

	// renameTries is how often a rename is repeated whose file another program renamed
	// meanwhile.
	renameTries = 10
)

// errNoRoom says that a file name is as long as the filesystem allows.
var errNoRoom error = &store.Explained{Err: store.ErrLimit, Text: "The name of the message's file has no room for flags; move the message and it gets a shorter one"}

// SetFlags implements store.Mailbox. Flags are renames within cur/, in the order of
// uids; where another program was faster, the change is applied to what it left.
func (h *hold) SetFlags(ctx context.Context, uids []imap.UID, op store.FlagOp) (rows []store.Row, modified []imap.UID, err error) {
	m := h.m
	if err := m.alive(); err != nil {
		return nil, nil, m.wrapped(h, "set flags", err)
	}
	if !h.write {
		return nil, nil, m.wrapped(h, "set flags", store.ErrReadOnly)
	}
	c := flagChange{FlagOp: op}
	var names []string
	c.sys, names, _ = store.SplitFlags(op.Flags)
	done := func() {}
	defer func() { done() }()
	for rest := uids; len(rest) > 0 && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		m.files.Lock()
		if c.places == nil {
			if err = c.find(m, names); err == nil {
				done = m.muffle(c.count(m, uids))
			}
		}
		var refused []imap.UID
		n := 0
		if err == nil {
			refused, n, err = m.setFlags(rest[:min(len(rest), flagChunk)], &c)
		}
		m.files.Unlock()
		modified = append(modified, refused...)
		rest = rest[n:]
	}
	if err != nil {
		err = m.wrapped(h, "set flags", err)
	}
	for part, rerr := range h.Rows(context.WithoutCancel(ctx), uids, 0) {
		if rerr != nil {
			return rows, modified, rerr
		}
		rows = append(rows, part...)
	}
	return rows, modified, err
}

// flagChange is a FlagOp in the mailbox's own terms.
type flagChange struct {
	store.FlagOp
	sys     store.Flags
	places  map[string]keywordPlace // nil: not looked up yet
	letters letterSet
	more    []string // keywords without a letter
}

// find looks the keywords up, and makes them where the change adds them.
func (c *flagChange) find(m *mailbox, names []string) (err error) {
	c.places = map[string]keywordPlace{}
	if c.Op == imap.StoreFlagsDel {
		for _, n := range names {
			if i := m.keywords.letters.find(n); i >= 0 {
				c.letters |= 1 << i
			}
			c.more = append(c.more, n)
		}
		return nil
	}
	if c.places, err = m.spell(names); err != nil {
		c.places = nil
		return err
	}
	for _, p := range c.places {
		if p.letter >= 0 {
			c.letters |= 1 << p.letter
		} else {
			c.more = append(c.more, p.name)
		}
	}
	slices.Sort(c.more)
	return nil
}

// apply gives the flags, letters and other keywords after the change.
func (c *flagChange) apply(sys store.Flags, letters letterSet, more []string) (store.Flags, letterSet, []string) {
	isMore := func(list []string) func(string) bool {
		return func(s string) bool {
			return slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, s) })
		}
	}
	switch c.Op {
	case imap.StoreFlagsAdd:
		return sys | c.sys, letters | c.letters, append(slices.DeleteFunc(slices.Clone(more), isMore(c.more)), c.more...)
	case imap.StoreFlagsDel:
		return sys &^ c.sys, letters &^ c.letters, slices.DeleteFunc(slices.Clone(more), isMore(c.more))
	default:
		return c.sys, c.letters, c.more
	}
}

// count is how many files the change renames, as far as that matters to muffle.
func (c *flagChange) count(m *mailbox, uids []imap.UID) (n int) {
	if !m.isMost(len(uids)) {
		return 0
	}
	at := -1
	for _, uid := range uids {
		i, ok := m.findNearLocked(at+1, uid)
		if at = i; !ok {
			continue
		}
		was, wasLetters := flagsOf(m.table.info(i))
		if sys, letters, _ := c.apply(was, wasLetters, nil); sys != was || letters != wasLetters {
			n++
		}
	}
	return n
}

// setFlags changes some messages and shows it: all, or the first n where somebody waits for
// the files. Called with files held.
func (m *mailbox) setFlags(uids []imap.UID, c *flagChange) (refused []imap.UID, n int, err error) {
	m.ensureMark()
	if err := m.refreshKeywords(); err != nil {
		return nil, 0, err
	}
	var s step
	var todo []imap.UID
	var turns []flagTurn // of todo
	conditional := c.HasUnchangedSince || c.UnchangedSince > 0
	for at, uid := range uids {
		i, ok := m.findShownLocked(uid)
		if !ok {
			continue
		}
		if conditional && m.table.rows.at(i).modSeq > c.UnchangedSince {
			refused = append(refused, uid)
			continue
		}
		todo = append(todo, uid)
		turns = append(turns, flagTurn{at, len(refused)})
	}
	if err := m.changeExtra(false, func() map[string][]string {
		extra := map[string][]string{}
		for _, uid := range todo {
			i, ok := m.table.find(uid)
			if !ok {
				continue
			}
			base := m.table.base(i)
			if _, _, more := c.apply(0, 0, m.keywords.extra.byBase[base]); len(more) > 0 || m.keywords.extra.byBase[base] != nil {
				extra[base] = more
			}
		}
		return extra
	}); err != nil {
		return refused, 0, err
	}
	n = len(uids)
	done := 0
	s.renamed, done, err = m.setEach(todo, c)
	if done < len(todo) {
		n, refused = turns[done].at, refused[:turns[done].refused]
	}
	if errors.Is(err, store.ErrReplaced) {
		return refused, n, err
	}
	m.apply(s)
	return refused, n, err
}

// flagTurn is where a message stands among those of a command, and how many before it
// were refused.
type flagTurn struct{ at, refused int }

// setEach renames the files of messages, and gives what is to be shown, how many had their
// turn, and the first failure.
func (m *mailbox) setEach(uids []imap.UID, c *flagChange) (done []renamed, n int, err error) {
	fail := func(e error) {
		if err == nil {
			err = e
		}
	}
	if gone := m.renaming(func() {
		for i, uid := range uids {
			if m.meets() {
				more, k, merr := m.setEach(uids[i:], c)
				done = append(done, more...)
				n += k
				fail(merr)
				return
			}
			if i >= flagLeast && m.files.Wanted() {
				return
			}
			n++
			r, ok, ferr := m.setOne(uid, c)
			if ferr != nil {
				fail(fmt.Errorf("UID %d: %w", uid, ferr))
				if !errors.Is(ferr, errNoRoom) {
					return
				} // else the others are not to blame
			}
			if ok {
				done = append(done, r)
			}
		}
	}); gone != nil {
		fail(gone)
	}
	return done, n, err
}

// setOne renames the file of one message; ok is false when nothing is to be shown.
func (m *mailbox) setOne(uid imap.UID, c *flagChange) (r renamed, ok bool, err error) {
	for range renameTries {
		i, ok := m.table.find(uid)
		if !ok {
			return r, false, nil
		}
		at := sighting{m.table.fileName(i), m.table.rows.at(i).inNew()}
		base := m.table.base(i)
		sys, letters := flagsOf(at.name)
		sys, letters, _ = c.apply(sys, letters, nil)
		to := sighting{withFlags(at.name, sys, letters), false}
		if oldSys, oldLetters := flagsOf(at.name); oldSys == sys && oldLetters == letters {
			to = at // a message in new/ stays there
		}
		if to == at {
			return m.renamedTo(i, at.name[len(base):], at.inNew), true, nil
		}
		err = m.dirs.of(at.inNew).Move(at.name, m.dirs.cur, to.name)
		switch {
		case err == nil:
			// A name without info, or with a bad one, ended at another colon.
			if baseOf(to.name) != base {
				return r, false, fmt.Errorf("the name %q cannot carry flags", at.name)
			}
			return m.renamedTo(i, to.name[len(base):], false), true, nil
		case errors.Is(err, syscall.ENAMETOOLONG):
			return r, false, errNoRoom
		case isNotExist(err):
			if _, ok := m.locate(uid); !ok {
				return r, false, nil
			}
		case isExist(err):
			if err := m.look(); err != nil {
				return r, false, err
			}
		default:
			return r, false, err
		}
	}
	return r, false, fmt.Errorf("%w: another program renames it all the time", store.ErrInUse)
}

// sameFilesystem reports whether renames between two directories can work.
func sameFilesystem(a, b fsys.Dir) bool {
	x, err := a.Self()
	if err != nil {
		return false
	}
	y, err := b.Self()
	return err == nil && x.Dev == y.Dev
}
