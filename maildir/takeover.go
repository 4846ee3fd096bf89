package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/courier"
	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// A mailbox that Courier-IMAP served is taken over when it is first opened, under the
// uidlist's lock, in steps that each leave a whole state behind:
//
//	roost-keywords     gets the keywords of all messages: nobody looks at it yet
//	dovecot-uidlist    gets UIDVALIDITY, UIDNEXT and UIDs: now the mailbox is ours
//	roost-courier      says that this was done, before any further UID is given
//	file names         get the keywords' letters, one message after the other, and when
//	                   they are durable roost-keywords keeps what has no letter
//
// Cut off before the uidlist is there, it is done again from the start. Cut off later,
// the rest is done at the next opening; each message has all its keywords meanwhile.
// Courier's own files are read and left as they are: they are the way back.
//
// It may happen that Courier serves the mailbox again for a while. It knows nothing of
// the UIDs that were given here, and goes on from its own UIDNEXT; roost-courier tells
// how far that was known. See catchUp.

// takenFile is roost-courier, in the control directory of a mailbox: how far Courier's
// UIDs are known in the uidlist.
//
//	roost-courier 1
//	uidvalidity 795465324
//	uidnext 52
//
// It is kept. Where it is and no uidlist is, that was lost: Courier's database does
// not know the UIDs that were given since, so it is not taken over a second time.
const (
	takenFile = "roost-courier"
	takenTmp  = takenFile + ".tmp"
	takenMax  = 4 << 10
)

// taken is what roost-courier says; zero where that cannot be read.
type taken struct{ validity, next uint32 }

// readTaken reads roost-courier; found is false when there is none.
func readTaken(d fsys.Dir) (t taken, found bool, err error) {
	b, err := fsys.ReadFile(d, takenFile, takenMax)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	} else if err != nil {
		return t, false, err
	}
	for line := range strings.Lines(string(b)) {
		key, digits, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseUint(digits, 10, 32)
		switch {
		case err != nil:
		case key == "uidvalidity":
			t.validity = uint32(n)
		case key == "uidnext":
			t.next = uint32(n)
		}
	}
	return t, true, nil
}

func (m *mailbox) writeTaken(t taken) error {
	text := fmt.Sprintf("roost-courier 1\nuidvalidity %d\nuidnext %d\n", t.validity, t.next)
	return fsys.Replace(m.dirs.control, takenFile, takenTmp, []byte(text), m.fileMode, true)
}

// meetCourier brings what Courier knows of the mailbox into the uidlist, where that
// does not know it. c is what the uidlist said, and is changed to what it says now.
// snapshot says that roost.index knows the mailbox; locked, that the uidlist's lock is
// held. With an error the mailbox must not be opened, for a UID could be given twice.
func (m *mailbox) meetCourier(c *uidlist.Change, snapshot, locked bool) error {
	f, err := m.dirs.box.Open(courier.UIDsName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fsys.ErrNotRegular):
		m.logStrange(courier.UIDsName, "is no regular file")
		return nil
	case err != nil:
		return fmt.Errorf("read Courier's UIDs: %w", err)
	}
	defer f.Close()
	if c.Missing {
		if snapshot {
			return nil // which knows more, and writes the uidlist anew
		}
		return m.takeOver(f, c, locked)
	}
	var first [courier.HeaderBytes]byte
	n, _ := f.ReadAt(first[:], 0) // what cannot be read is no header
	validity, next, err := courier.ParseHeader(first[:n])
	if err != nil || validity != m.list.file.Header().Validity {
		return nil // UIDs that nobody knows under this UIDVALIDITY
	}
	return m.catchUp(f, taken{validity, next}, c, locked)
}

// takeOver makes Courier's UIDs and keywords those of a mailbox without a uidlist.
func (m *mailbox) takeOver(f fsys.File, c *uidlist.Change, locked bool) error {
	_, done, err := readTaken(m.dirs.control)
	if err != nil {
		return fmt.Errorf("read %s: %w", takenFile, err)
	}
	if done {
		m.log.Warn("the uidlist was lost; Courier's older one is not taken, all messages get new UIDs", "event", "uidlist_lost", "path", m.dirs.control.Path())
		return nil
	}
	u, err := readUIDs(f)
	if errors.Is(err, courier.ErrUIDs) {
		m.log.Warn("Courier's UIDs cannot be taken over, all messages get new ones", "event", "courier_damaged", "path", m.dirs.box.Path(), "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	keywords, err := m.courierKeywords(u.Records)
	if err != nil {
		return fmt.Errorf("read Courier's keywords: %w", err)
	}
	if m.readOnly {
		// To be seen as they are, under a UIDVALIDITY that ends with this opening.
		c.Records = u.Records
		maps.Copy(m.keywords.extra.byBase, keywords)
		m.mu.Lock()
		m.known = m.knownKeywords(nil)
		m.mu.Unlock()
		return nil
	}
	if !locked {
		return fmt.Errorf("take over Courier's UIDs: %w: the uidlist is locked", store.ErrInUse)
	}
	if err := m.saveExtra(keywords, true); err != nil {
		return fmt.Errorf("take over Courier's keywords: %w", err)
	}
	if err := m.list.file.Restore(uidlist.Header{Validity: u.Validity, Next: u.Next}, u.Records); err != nil {
		return fmt.Errorf("take over Courier's UIDs: %w", err)
	}
	if err := m.writeTaken(taken{u.Validity, u.Next}); err != nil {
		return fmt.Errorf("write %s: %w", takenFile, err)
	}
	*c = uidlist.Change{Whole: true, Records: u.Records}
	m.log.Info("Courier's UIDs and keywords were taken over", "event", "courier_taken_over", "path", m.dirs.box.Path(),
		"messages", len(u.Records), "uidvalidity", u.Validity, "uidnext", u.Next, "damaged", u.Bad)
	m.mentionACL()
	return nil
}

// catchUp meets a database in which Courier may have given UIDs since its last ones were
// taken: from known.next on, where roost-courier says so. These are taken too. But where
// UIDs were given here as well, and one of them means another message to Courier, clients
// have seen both: only a new UIDVALIDITY makes them forget.
func (m *mailbox) catchUp(f fsys.File, now taken, c *uidlist.Change, locked bool) error {
	known, found, err := readTaken(m.dirs.control)
	if err != nil {
		return fmt.Errorf("read %s: %w", takenFile, err)
	}
	list := m.list.file
	switch {
	case found && known.validity == now.validity:
		if now.next <= known.next {
			return nil
		}
	case now.next <= list.Next(): // taken by us, just before we were cut off, or by another program
		if locked && !m.readOnly {
			if err := m.writeTaken(now); err != nil {
				m.warn("it cannot be noted that Courier's UIDs are known", err)
			}
		}
		return nil
	default:
		known = taken{now.validity, list.Next()}
	}
	if m.readOnly {
		return nil // no UID can be given, so none twice
	}
	if !locked {
		return fmt.Errorf("take over Courier's newer UIDs: %w: the uidlist is locked", store.ErrInUse)
	}
	u, err := readUIDs(f)
	if err != nil {
		return err
	}
	header := list.Header()
	header.Next = max(list.Next(), u.Next)
	if uid, ok := disagree(c.Records, u, known.next); ok {
		if header.Validity, err = m.newUIDValidity(); err != nil {
			return err
		}
		if err := list.Restore(header, c.Records); err != nil {
			return err
		}
		m.log.Warn("Courier and Roost gave one UID to two messages; the mailbox has a new UIDVALIDITY", "event", "uidvalidity",
			"path", m.dirs.control.Path(), "uid", uid, "from", u.Validity, "to", header.Validity)
		return nil
	}
	fresh := u.Records
	if i := slices.IndexFunc(fresh, func(r uidlist.Record) bool { return r.UID >= list.Next() }); i >= 0 {
		fresh = fresh[i:]
	} else {
		fresh = nil
	}
	ours := make(map[string]bool, len(c.Records))
	for _, r := range c.Records {
		ours[r.Base] = true
	}
	fresh = slices.DeleteFunc(slices.Clone(fresh), func(r uidlist.Record) bool { return ours[r.Base] })
	keywords, err := m.courierKeywords(fresh)
	if err != nil {
		return fmt.Errorf("read Courier's keywords: %w", err)
	}
	if err := m.saveExtra(keywords, true); err != nil {
		return fmt.Errorf("take over Courier's keywords: %w", err)
	}
	all := append(c.Records[:len(c.Records):len(c.Records)], fresh...)
	if err := list.Restore(header, all); err != nil {
		return fmt.Errorf("take over Courier's newer UIDs: %w", err)
	}
	if err := m.writeTaken(taken{u.Validity, u.Next}); err != nil {
		return fmt.Errorf("write %s: %w", takenFile, err)
	}
	*c = uidlist.Change{Whole: true, Records: all}
	m.log.Info("UIDs that Courier gave since were taken over", "event", "courier_caught_up", "path", m.dirs.box.Path(), "messages", len(fresh), "uidnext", u.Next)
	return nil
}

// disagree looks for a UID that was given here, and is of another message to Courier,
// among those that both gave: from a UID on up to Courier's UIDNEXT.
func disagree(ours []uidlist.Record, u courier.UIDs, from uint32) (uid uint32, yes bool) {
	theirs := map[uint32]string{}
	for _, r := range u.Records {
		if r.UID >= from {
			theirs[r.UID] = r.Base
		}
	}
	for _, r := range ours {
		if r.UID >= from && r.UID < u.Next && theirs[r.UID] != r.Base {
			return r.UID, true
		}
	}
	return 0, false
}

func readUIDs(f fsys.File) (courier.UIDs, error) {
	b, err := fsys.ReadAll(f, uidlist.DefaultLimits.Bytes)
	if err != nil {
		return courier.UIDs{}, fmt.Errorf("read Courier's UIDs: %w", err)
	}
	u, err := courier.ParseUIDs(b, uidlist.DefaultLimits)
	if err != nil {
		err = fmt.Errorf("read Courier's UIDs: %w", err)
	}
	return u, err
}

// courierKeywords reads the keywords of these messages, each in the spelling that
// comes first. Those without any have an entry where roost-keywords says otherwise.
func (m *mailbox) courierKeywords(records []uidlist.Record) (map[string][]string, error) {
	byBase := map[string][]string{}
	if err := m.readCourierKeywords(byBase, records); err != nil {
		return nil, err
	}
	spelled := map[string]string{}
	refused := 0
	out := map[string][]string{}
	for _, r := range records {
		var names []string
		for _, name := range byBase[r.Base] {
			if !isKeyword(name) {
				refused++
				continue
			}
			lower := strings.ToLower(name)
			if spelled[lower] == "" {
				spelled[lower] = name
				if i := m.keywords.letters.find(name); i >= 0 {
					spelled[lower] = m.keywords.letters.name(i)
				}
			}
			if !slices.Contains(names, spelled[lower]) {
				names = append(names, spelled[lower])
			}
		}
		if len(names) > 0 || m.keywords.extra.byBase[r.Base] != nil {
			out[r.Base] = names
		}
	}
	if refused > 0 {
		m.log.Warn("keywords of Courier's that no client could be told are left out", "event", "courier_keywords", "path", m.dirs.box.Path(), "count", refused)
	}
	return out, nil
}

// readCourierKeywords reads courierimapkeywords.
func (m *mailbox) readCourierKeywords(byBase map[string][]string, records []uidlist.Record) error {
	d, err := m.dirs.box.Sub(courier.KeywordsDir)
	if isGone(err) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	b, err := fsys.ReadFile(d, courier.ListName, courier.DefaultLimits.Bytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list := courier.ParseKeywordList(b, courier.DefaultLimits)
	for _, tagged := range list.Messages {
		names := make([]string, len(tagged.Keywords))
		for i, k := range tagged.Keywords {
			names[i] = list.Keywords[k]
		}
		byBase[tagged.Base] = names
	}
	newest := map[string]courier.State{}
	if err := d.Names(func(name string, _ fs.FileMode) bool {
		if s, ok := courier.StateOf(name); ok && s.Newer(newest[s.Base]) {
			newest[s.Base] = s
		}
		return true
	}); err != nil {
		return err
	}
	for _, r := range records {
		s, ok := newest[r.Base]
		if !ok {
			continue
		}
		b, err := fsys.ReadFile(d, s.Name, courier.SmallLimits.Bytes)
		if errors.Is(err, fsys.ErrNotRegular) {
			continue
		} else if err != nil {
			return err
		}
		byBase[r.Base], _ = courier.ParseKeywords(b, courier.SmallLimits)
	}
	return nil
}

// mentionACL tells the log of rights that Courier gave, and that do not hold here.
func (m *mailbox) mentionACL() {
	b, err := fsys.ReadFile(m.dirs.box, courier.ACLName, courier.SmallLimits.Bytes)
	if err != nil {
		return
	}
	if list, _ := courier.ParseACL(b, courier.SmallLimits); !courier.Plain(list) {
		m.log.Warn("the rights that Courier gave to others are kept in their file, and not applied", "event", "courier_acl", "path", m.dirs.box.Path()+"/"+courier.ACLName)
	}
}

// letterKeywords gives letters, as long as there are some, to keywords that stand in
// roost-keywords, and moves them into the file names. Called with files held, when the
// mailbox was loaded from its files.
func (m *mailbox) letterKeywords() error {
	k := &m.keywords
	if len(k.extra.byBase) == 0 {
		return nil
	}
	free := 0
	for i := range maxLetters {
		if k.letters.names[i] == "" && !k.used.has(i) {
			free++
		}
	}
	letter := map[string]int{} // of each keyword in a line; -1 for none
	var want []string
	for i := range m.table.rows.len() {
		if r := m.table.rows.at(i); r.state&rowDead != 0 || r.inNew() {
			continue
		}
		for _, name := range k.extra.byBase[m.table.base(i)] {
			if _, ok := letter[name]; ok {
				continue
			}
			if letter[name] = k.letters.find(name); letter[name] < 0 && len(want) < free {
				want = append(want, name)
			}
		}
	}
	places, err := m.spell(want)
	if err != nil {
		return err
	}
	for _, name := range want {
		letter[name] = places[strings.ToLower(name)].letter
	}
	var s step
	var lettered []string // bases of messages that got letters
	for i := range m.table.rows.len() {
		if r := m.table.rows.at(i); r.state&rowDead != 0 || r.inNew() {
			continue
		}
		base := m.table.base(i)
		change := flagChange{FlagOp: store.FlagOp{Op: imap.StoreFlagsAdd}}
		for _, name := range k.extra.byBase[base] {
			if at := letter[name]; at >= 0 {
				change.letters |= 1 << at
			}
		}
		if change.letters == 0 {
			continue
		}
		r, ok, err := m.setOne(m.table.rows.at(i).uid, &change)
		if err != nil {
			m.apply(s)
			return err
		}
		if ok {
			s.renamed = append(s.renamed, r)
			lettered = append(lettered, base)
		}
	}
	m.apply(s)
	if len(lettered) == 0 {
		return nil
	}
	if err := m.dirs.cur.Sync(); err != nil {
		return err
	}
	return m.changeExtra(true, func() map[string][]string {
		left := map[string][]string{}
		for _, base := range lettered {
			left[base] = nil
			for _, name := range k.extra.byBase[base] {
				if at, ok := letter[name]; !ok || at < 0 {
					left[base] = append(left[base], name)
				}
			}
		}
		return left
	})
}
