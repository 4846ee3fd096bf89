package maildir

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

// A look compares the directories with the table. The trouble is that readdir may
// miss a file that is renamed meanwhile, or give it under both names (maildir
// specification: a program that sets flags on thousands of files does that for
// seconds). So what is seen is believed at once, what is not seen only after a pass
// during which nobody changed the directories: their mtimes were the same before
// and after it, and old enough that a second change within the clock's tick would
// have shown. Until then passes are repeated, and what one of them saw is there.

const (
	lookPasses = 10

	// Within one tick of the kernel's clock two changes have one mtime. Servers of
	// network filesystems may count in seconds.
	localTick  = 20 * time.Millisecond
	remoteTick = 2 * time.Second
)

// dirStamps tell whether anybody changed the directories since.
type dirStamps struct{ cur, new dirStamp }

type dirStamp struct {
	ino          uint64
	mtime, ctime int64
}

func stampOf(st fsys.Stat) dirStamp { return dirStamp{st.Ino, st.Mtime, st.Ctime} }

func (s dirStamps) newest() int64 {
	return max(s.cur.mtime, s.cur.ctime, s.new.mtime, s.new.ctime)
}

// tick is how long two changes may share these stamps, for all that they show: where they have
// fractions of a second the filesystem does not count in seconds.
func (s dirStamps) tick() time.Duration {
	if s.newest()%int64(time.Second) == 0 {
		return remoteTick
	}
	return localTick
}

// unchanged reports whether nobody changed the directories since the last look. One that
// began soon after a change proves nothing, for the next may have had the same mtime.
func (m *mailbox) unchanged(s dirStamps) bool {
	return s == m.seen && m.seenAt-s.newest() >= int64(remoteTick)
}

func (m *mailbox) stamps() (dirStamps, error) { return m.dirs.stamps() }

func (d dirs) stamps() (s dirStamps, err error) {
	cur, err := d.cur.Self()
	if err != nil {
		return s, err
	}
	new, err := d.new.Self()
	if err != nil {
		return s, err
	}
	return dirStamps{stampOf(cur), stampOf(new)}, nil
}

// tick is how long two changes may share one mtime.
func (m *mailbox) tick() time.Duration {
	if m.dirs.cur.Remote() {
		return remoteTick
	}
	return localTick
}

// sighting is one name in cur/ or new/.
type sighting struct {
	name  string
	inNew bool
}

// unlisted is a name whose base has no row; regular, that the directory calls it a file.
type unlisted struct {
	sighting
	regular bool
	baseLen int32
}

func (u *unlisted) base() string { return u.name[:u.baseLen] }

// survey is what the passes of one look saw.
type survey struct {
	m     *mailbox
	infos interner
	saw   []uint32           // by row: 0 never, else the info's number+1, shifted, and whether in new/
	pass  []bool             // by row: in this pass
	twice map[int][]sighting // rows with more than one name in this pass
	fresh []unlisted         // names whose base has no row, in this pass

	claims claims // what became of others' messages, in all passes
}

func (v *survey) encode(s sighting, base string) uint32 {
	code := (v.infos.put(s.name[len(base):]) + 1) << 1
	if s.inNew {
		code |= 1
	}
	return code
}

func (v *survey) decode(i int) (info string, inNew bool) {
	return v.infos.get(v.saw[i]>>1 - 1), v.saw[i]&1 != 0
}

// nameless reports whether letters were seen whose keywords are not known.
func (v *survey) nameless() bool {
	given := v.m.keywords.letters.given()
	for _, info := range v.infos.all {
		if _, letters := flagsOf(info); letters&^given != 0 {
			return true
		}
	}
	return false
}

// note takes one directory entry.
func (v *survey) note(name string, kind fs.FileMode, inNew bool) {
	m := v.m
	if kind.Type() != 0 && kind != fs.ModeIrregular {
		if isMessageName(name) {
			m.logStrange(name, kindOf(kind))
		}
		return
	}
	if !isMessageName(name) {
		if name != "" && name[0] != '.' {
			m.logStrange(name, "has a line end in its name")
		}
		return
	}
	base := baseOf(name)
	s := sighting{name, inNew}
	i, ok := m.table.byBase(base)
	if !ok || base == "" {
		v.fresh = append(v.fresh, unlisted{s, kind == 0, int32(len(base))})
		return
	}
	code := v.encode(s, base)
	if v.pass[i] && v.saw[i] != code {
		if v.twice[i] == nil {
			info, inNew := v.decode(i)
			v.twice[i] = []sighting{{base + info, inNew}}
		}
		v.twice[i] = append(v.twice[i], s)
		return
	}
	v.saw[i], v.pass[i] = code, true
}

// kindOf says what lies there instead of a file.
func kindOf(kind fs.FileMode) string {
	switch {
	case kind&fs.ModeSymlink != 0:
		return "is a symbolic link, which is not followed"
	case kind&fs.ModeDir != 0:
		return "is a directory"
	}
	return "is no regular file"
}

// once goes through new/ and then cur/: the way in which messages go.
func (v *survey) once() error {
	clear(v.pass)
	v.twice = map[int][]sighting{}
	v.fresh = v.fresh[:0]
	for _, inNew := range []bool{true, false} {
		if err := v.m.dirs.of(inNew).Names(func(name string, kind fs.FileMode) bool {
			v.note(name, kind, inNew)
			return true
		}); err != nil {
			return err
		}
	}
	return nil
}

// look makes the table agree with the files. Called with files held.
func (m *mailbox) look() error {
	m.doubt = false
	v := &survey{m: m, saw: make([]uint32, m.table.rows.len()), pass: make([]bool, m.table.rows.len())}
	var (
		unseen   []int
		proven   bool
		arrivals []newcomer
		before   dirStamps
		began    int64
		err      error
	)
	for n := 1; ; n++ {
		if before, err = m.stamps(); err != nil {
			m.doubt = true
			return err
		}
		age := time.Duration(m.st.wall().UnixNano() - before.newest())
		if n > 1 && age < m.tick() {
			m.st.pause(m.tick() - max(age, 0))
		}
		began = m.st.wall().UnixNano()
		if err = v.once(); err != nil {
			m.doubt = true
			return err
		}
		after, err := m.stamps()
		if err != nil {
			m.doubt = true
			return err
		}
		still := before == after
		quiet := still && began-before.newest() > int64(m.tick())
		again := v.settle()
		var more bool
		if arrivals, more = v.newcomers(still); more {
			again = true
		}
		unseen = unseen[:0]
		for i := range m.table.rows.len() {
			if v.saw[i] == 0 && m.table.rows.at(i).state&rowDead == 0 {
				unseen = append(unseen, i)
			}
		}
		proven = quiet && !again
		if proven || len(unseen) == 0 && !again && !v.claims.missing(m) {
			break
		}
		if n == lookPasses {
			m.doubt = true // somebody is busy here; what is missing is believed another time
			break
		}
	}
	if v.nameless() {
		if err := m.refreshKeywords(); err != nil { // without the lock: row numbers must stay
			m.warn("keywords could not be read", err)
		}
	}
	var s step
	for i := range m.table.rows.len() {
		if m.table.rows.at(i).state&rowDead != 0 || v.saw[i] == 0 {
			continue
		}
		info, inNew := v.decode(i)
		if inNew != m.table.rows.at(i).inNew() || info != m.table.info(i) {
			s.renamed = append(s.renamed, m.renamedTo(i, info, inNew))
		}
	}
	for _, i := range unseen {
		// What only the uidlist knows was shown to nobody yet, but where a mailbox is read anew.
		r := m.table.rows.at(i)
		if proven || r.state&rowListed != 0 && r.uid >= m.versions.now.UIDNext {
			s.gone = append(s.gone, r.uid)
		}
	}
	m.apply(s)
	if !proven {
		var more bool
		if arrivals, more, err = v.claims.join(arrivals); more {
			m.doubt = true
		}
		if err != nil {
			return err
		}
	}
	m.seen = dirStamps{}
	if !m.doubt {
		m.seen, m.seenAt = before, began
	}
	if len(arrivals) == 0 {
		return nil
	}
	return m.adopt(arrivals)
}

// renamedTo reads the flags from a name that a file has now.
func (m *mailbox) renamedTo(i int, info string, inNew bool) renamed {
	base := m.table.base(i)
	flags, letters := flagsOf(base + info)
	return renamed{m.table.rows.at(i).uid, info, inNew, flags, m.keywords.of(base, letters)}
}

// settle decides for bases that were seen under several names; true asks for
// another pass.
func (v *survey) settle() (again bool) {
	m := v.m
	for i, names := range v.twice {
		known := sighting{m.table.fileName(i), m.table.rows.at(i).inNew()}
		kept, more := m.oneOf(names, known)
		again = again || more
		if kept.name == "" {
			v.saw[i] = 0
			again = true
			continue
		}
		v.saw[i] = v.encode(kept, m.table.base(i))
	}
	return again
}

// oneOf says which of several names of one base is the message. The others are
// names that a file had a moment ago, second links to it, or other messages that
// somebody gave the same base: these get a name of their own (maildir: section 7).
// again is true where something was renamed.
func (m *mailbox) oneOf(names []sighting, known sighting) (kept sighting, again bool) {
	var keptStat fsys.Stat
	if i := slices.Index(names, known); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	for _, s := range names {
		st, err := m.dirs.of(s.inNew).Stat(s.name)
		if err != nil {
			continue // renamed meanwhile
		}
		if kept.name == "" {
			kept, keptStat = s, st
			continue
		}
		if st.SameFile(keptStat) {
			drop := s
			if kept.inNew && !s.inNew {
				kept, drop = s, kept
			}
			// A program that links and then unlinks is given time to do so.
			if m.st.wall().Sub(time.Unix(0, st.Ctime)) > 30*time.Second && m.writable() {
				if err := m.dirs.of(drop.inNew).Remove(drop.name); err == nil {
					m.log.Warn("a message had two names, one was removed", "event", "second_name", "path", m.dirs.of(drop.inNew).Path()+"/"+drop.name)
				}
			}
			continue
		}
		if m.freshName(s, "another message has the same base name") {
			again = true
		}
	}
	return kept, again
}

// freshName gives a file that cannot be known by its name another base. Its flags stay.
func (m *mailbox) freshName(s sighting, why string) bool {
	if !m.writable() {
		m.logStrange(s.name, why+", and it cannot be renamed")
		return false
	}
	dir := m.dirs.of(s.inNew)
	name := m.st.names.next(m.st.opt.Clock()) + s.name[len(baseOf(s.name)):]
	if err := dir.Move(s.name, dir, name); err != nil {
		m.logStrange(s.name, why+", and renaming it failed: "+err.Error())
		return false
	}
	m.log.Warn("a message got a new name: "+why, "event", "renamed", "path", dir.Path()+"/"+s.name, "to", name)
	return true
}

// newcomers are the files without a row, in the order in which they get UIDs; again is
// true when one has gone elsewhere meanwhile. Where the directories stood still their names are
// enough for a mailbox that is being opened: what was seen is believed, and a change within the
// same tick is told by an event, or by the next look where none come. For dates see measure.
func (v *survey) newcomers(still bool) (list []newcomer, again bool) {
	m := v.m
	list = make([]newcomer, 0, len(v.fresh))
	at := v.sorted() // names of one base stand together
	var names []sighting
	for first, next := 0, 0; first < len(at); first = next {
		one := &v.fresh[at[first].number]
		base := one.base()
		names = append(names[:0], one.sighting)
		for next = first + 1; next < len(at) && at[next].sameTime(at[first]) && v.fresh[at[next].number].base() == base; next++ {
			names = append(names, v.fresh[at[next].number].sighting)
		}
		if why, yes := needsName(base); yes && m.list.claims[base] == 0 {
			renamed := false
			for _, s := range names {
				renamed = m.freshName(s, why) || renamed
			}
			if again = again || renamed; renamed || base == "" {
				continue
			}
		}
		s := names[0]
		if len(names) > 1 {
			var more bool
			s, more = m.oneOf(names, sighting{})
			again = again || more
		}
		var n newcomer
		err := fs.ErrNotExist
		switch {
		case s.name == "":
		case still && !m.loaded && one.regular && len(names) == 1:
			n, err = unmeasured(s, base), nil
		default:
			n, err = m.newcomer(s)
		}
		if _, yes := m.claimed(base); yes {
			v.claims.note(base, n, err)
		}
		switch {
		case err == nil:
			list = append(list, n)
		case errors.Is(err, fs.ErrNotExist):
			again = true
		case errors.Is(err, fsys.ErrNotRegular):
			m.logStrange(s.name, "is no regular file")
		default:
			m.logStrange(s.name, err.Error())
		}
	}
	return list, again
}

// turn is a name's number in survey.fresh, with what decides nearly always when it comes.
type turn struct {
	sec, usec uint64
	number    int32
}

func (t turn) sameTime(o turn) bool { return t.sec == o.sec && t.usec == o.usec }

// sorted gives the names of v.fresh in the order in which messages get their UIDs.
func (v *survey) sorted() []turn {
	turns := make([]turn, len(v.fresh))
	for i := range v.fresh {
		o := orderOf(v.fresh[i].base())
		turns[i] = turn{o.sec, o.usec, int32(i)}
	}
	slices.SortFunc(turns, func(a, b turn) int {
		if a.sec != b.sec {
			return cmp.Compare(a.sec, b.sec)
		}
		if a.usec != b.usec {
			return cmp.Compare(a.usec, b.usec)
		}
		return compareNew(v.fresh[a.number].base(), v.fresh[b.number].base())
	})
	return turns
}

// newcomer makes the row of a file, its UID and keywords apart.
func (m *mailbox) newcomer(s sighting) (newcomer, error) {
	st, err := m.statMessage(s)
	if err != nil {
		return newcomer{}, err
	}
	n := unmeasured(s, baseOf(s.name))
	n.internal = unixSeconds(st.Mtime)
	n.setSize(believedSize(s.name, st.Size))
	return n, nil
}

// unmeasured is newcomer by the name alone.
func unmeasured(s sighting, base string) newcomer {
	n := newcomer{baseName: base, info: s.name[len(base):]}
	if s.inNew {
		n.state |= rowInNew
	}
	n.flags, _ = flagsOf(n.info)
	n.internal, n.bytes = unknownTime, unknownSize
	return n
}

func (m *mailbox) statMessage(s sighting) (fsys.Stat, error) {
	st, err := m.dirs.of(s.inNew).Stat(s.name)
	if err == nil && !st.Mode.IsRegular() {
		err = fsys.ErrNotRegular
	}
	return st, err
}

func unixSeconds(nanoseconds int64) int64 { return time.Unix(0, nanoseconds).Unix() }

// believedSize is the size with CRLF by a file's name, where nothing speaks against
// it; -1 otherwise: the first read finds it.
func believedSize(name string, fileSize int64) int64 {
	s, w := sizeHints(name)
	if w >= fileSize && w <= 2*fileSize && (s == fileSize || s < 0) {
		return w
	}
	return -1
}

// savedAt is SAVEDATE: when the message came into this mailbox. Names that Roost and
// MTAs give begin with that second.
func (m *mailbox) savedAt(base string, internal int64, now time.Time) int64 {
	if sec, ok := deliverySeconds(base, now); ok {
		return sec
	}
	return internal
}

// logStrange says once what lies among the messages and is none.
func (m *mailbox) logStrange(name, why string) {
	const limit = 1000
	if _, ok := m.strange[name]; ok || len(m.strange) >= limit {
		return
	}
	if m.strange == nil {
		m.strange = map[string]struct{}{}
	}
	m.strange[strings.Clone(name)] = struct{}{} // it may be part of a long string
	m.log.Warn("a file in the mailbox is no message: it "+why, "event", "strange_file", "path", m.dirs.box.Path(), "name", name)
}

// rowOf is a row as the protocol sees it. Called with mu held.
func (m *mailbox) rowOfLocked(i int) store.Row {
	r := m.table.rows.at(i)
	return store.Row{
		UID: r.uid, ModSeq: r.modSeq, Flags: r.flags, Keywords: m.table.keywords(i), Internal: r.internal, Size: r.size(),
	}
}

// locate looks again for the file of a message, after a call on the name known for
// it found nothing; false when the message is gone. Called with files held.
func (m *mailbox) locate(uid imap.UID) (sighting, bool) {
	if i, ok := m.table.find(uid); ok {
		s := sighting{m.table.fileName(i), m.table.rows.at(i).inNew()}
		if _, err := m.dirs.of(s.inNew).Stat(s.name); err == nil {
			return s, true // known better by now
		}
		if m.look() != nil {
			return s, true
		}
	}
	return m.whereIs(uid)
}

// whereIs is the name of a message's file, as far as is known.
func (m *mailbox) whereIs(uid imap.UID) (sighting, bool) {
	i, ok := m.table.find(uid)
	if !ok {
		return sighting{}, false
	}
	return sighting{m.table.fileName(i), m.table.rows.at(i).inNew()}, true
}
