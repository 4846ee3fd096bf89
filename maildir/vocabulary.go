package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"roost/maildir/fsys"
	"roost/store"
)

const (
	lettersFile = "dovecot-keywords"
	extraFile   = "roost-keywords"

	// What a mailbox may make its readers hold. 26 keywords have letters; the others
	// cost a line a message.
	maxKeywords     = 200
	maxKeywordBytes = 64 << 20
)

// keywordState is what is known of the two files that give keywords their names.
// Guarded by mailbox.files.
type keywordState struct {
	letters   letterTable
	letterAt  fileStamp
	extra     extraKeywords
	extraAt   fileStamp
	extraTorn bool
	strays    map[string]struct{} // bases in the file that no message had when it was last written anew
	used      letterSet           // every letter seen in a file name
	waited    letterSet           // those without a name for whose writer the lock was waited for
	sets      map[letterSet]store.Keywords
	limit     int64 // bytes that the second file may have; 0: maxKeywordBytes
}

func (k *keywordState) most() int64 {
	if k.limit > 0 {
		return k.limit
	}
	return maxKeywordBytes
}

// errKeywordRoom says that the keywords without letters fill what is read of their file.
var errKeywordRoom error = &store.Explained{Err: store.ErrLimit, Text: "There is no room for more keywords on messages of this mailbox"}

// fileStamp tells whether a small file was replaced or written since.
type fileStamp struct {
	ino          uint64
	size         int64
	mtime, ctime int64
}

func fileStampOf(st fsys.Stat) fileStamp { return fileStamp{st.Ino, st.Size, st.Mtime, st.Ctime} }

// of is the set of keywords of a message.
func (k *keywordState) of(base string, set letterSet) store.Keywords {
	k.used |= set
	more := k.extra.byBase[base]
	if set == 0 && more == nil {
		return store.Keywords{}
	}
	if more != nil {
		return store.KeywordsOf(slices.Concat(k.letters.namesOf(set), more)...)
	}
	kw, ok := k.sets[set]
	if !ok {
		kw = store.KeywordsOf(k.letters.namesOf(set)...)
		if k.sets == nil || len(k.sets) > 4096 {
			k.sets = map[letterSet]store.Keywords{}
		}
		k.sets[set] = kw
	}
	return kw
}

// knownKeywords are those that have a letter, and those of the messages that are there or
// in also, for FLAGS. Called with files held.
func (m *mailbox) knownKeywords(also map[string][]string) []string {
	k := &m.keywords
	out := k.letters.all()
	seen := map[string]bool{}
	for _, s := range out {
		seen[strings.ToLower(s)] = true
	}
	for base, list := range k.extra.byBase {
		if _, ok := also[base]; !ok && m.table != nil {
			if _, there := m.table.byBase(base); !there {
				continue
			}
		}
		for _, s := range list {
			if l := strings.ToLower(s); !seen[l] {
				seen[l] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// readKeywords reads the two files again where they changed. changed is true when
// rows must be read anew. Called with files held.
func (m *mailbox) readKeywords() (changed bool, err error) {
	k := &m.keywords
	read := func(name string, at *fileStamp) ([]byte, bool, error) {
		st, err := m.dirs.control.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			gone := *at != fileStamp{}
			*at = fileStamp{}
			return nil, gone, nil
		}
		if err != nil || fileStampOf(st) == *at {
			return nil, false, err
		}
		b, err := fsys.ReadFile(m.dirs.control, name, maxKeywordBytes)
		if err != nil {
			return nil, false, err
		}
		*at = fileStampOf(st)
		return b, true, nil
	}
	b, fresh, err := read(lettersFile, &k.letterAt)
	if err != nil {
		return false, err
	}
	if fresh {
		// When the file is gone its letters are still in file names, and still known here.
		if b != nil {
			k.letters = parseLetters(b)
		}
		k.sets = nil
		changed = true
	}
	b, fresh, err = read(extraFile, &k.extraAt)
	if err != nil {
		return changed, err
	}
	if fresh {
		k.extra, k.extraTorn = parseExtra(b)
		changed = true
	}
	if k.extra.byBase == nil {
		k.extra, k.extraTorn = parseExtra(nil)
	}
	if changed {
		m.learnKeywords(nil)
	}
	return changed, nil
}

// learnKeywords finds anew what FLAGS tells. Called with files held.
func (m *mailbox) learnKeywords(also map[string][]string) {
	known := m.knownKeywords(also)
	m.mu.Lock()
	m.known = known
	m.mu.Unlock()
}

// refreshKeywords gives all rows the keywords by the newest names.
func (m *mailbox) refreshKeywords() error {
	changed, err := m.readKeywords()
	if err != nil || !changed || m.table == nil {
		return err
	}
	var s step
	for i := range m.table.rows.len() {
		if m.table.rows.at(i).state&rowDead == 0 {
			if c := m.renamedTo(i, m.table.info(i), m.table.rows.at(i).inNew()); c.keywords != m.table.keywords(i) {
				s.renamed = append(s.renamed, c)
			}
		}
	}
	m.apply(s)
	return nil
}

// learnLetters reads the names of letters that stand in file names and have none yet.
// Dovecot writes them behind the files, under the uidlist's lock, and the event that tells
// of it is on its way: clients should not be told "unknown-0" meanwhile. Called with files
// held; row numbers are not good afterwards.
func (m *mailbox) learnLetters(set letterSet) {
	k := &m.keywords
	nameless := func() letterSet { return set &^ k.letters.given() }
	if nameless() == 0 {
		return
	}
	beside := m.list.locked || m.meets() || m.list.beside // before it is read: who is gone by then has written
	err := m.refreshKeywords()
	if left := nameless() &^ k.waited; err == nil && left != 0 && beside && !m.list.volatile {
		k.waited |= left // once: the names of some are lost for ever
		err = m.withListLock(m.refreshKeywords)
	}
	if err != nil && !errors.Is(err, store.ErrReplaced) {
		m.warn("keywords could not be read", err)
	}
}

// callByName gives newcomers their keywords.
func (m *mailbox) callByName(list []newcomer) {
	letters := make([]letterSet, len(list))
	var all letterSet
	for i := range list {
		_, letters[i] = flagsOf(list[i].info)
		all |= letters[i]
	}
	m.learnLetters(all)
	for i := range list {
		list[i].keywords = m.keywords.of(list[i].baseName, letters[i])
	}
}

// spell gives each keyword the spelling that the mailbox saw first, and a letter
// where one is left; the others go to roost-keywords. New letters are written and
// synced before any file name uses them. Called with files held, without the dotlock.
func (m *mailbox) spell(names []string) (map[string]keywordPlace, error) {
	k := &m.keywords
	out := map[string]keywordPlace{}
	var unknown []string
	for _, n := range names {
		if !isKeyword(n) {
			return nil, fmt.Errorf("keyword %q: %w", n, store.ErrLimit)
		}
		if i := k.letters.find(n); i >= 0 {
			out[strings.ToLower(n)] = keywordPlace{k.letters.name(i), i}
			continue
		}
		unknown = append(unknown, n)
	}
	if len(unknown) == 0 {
		return out, nil
	}
	err := m.withListLock(func() error {
		if err := m.refreshKeywords(); err != nil { // Dovecot may have given letters
			return err
		}
		fresh := false
		before := k.letters
		known := m.knownKeywords(nil)
		for _, n := range unknown {
			i, isNew := k.letters.add(n, k.used)
			if i >= 0 {
				if isNew {
					fresh, known = true, append(known, n)
				}
				out[strings.ToLower(n)] = keywordPlace{k.letters.name(i), i}
				continue
			}
			at := slices.IndexFunc(known, func(s string) bool { return strings.EqualFold(s, n) })
			if at < 0 {
				if at = len(known); at >= maxKeywords {
					k.letters = before
					return fmt.Errorf("a mailbox holds at most %d keywords: %w", maxKeywords, store.ErrLimit)
				}
				known = append(known, n)
			}
			out[strings.ToLower(n)] = keywordPlace{known[at], -1}
		}
		if !fresh {
			return nil
		}
		if err := m.writeLetters(); err != nil {
			k.letters = before
			return err
		}
		return nil
	})
	return out, err
}

// keywordPlace is how a mailbox writes a keyword: by a letter, or by a line (-1).
type keywordPlace struct {
	name   string
	letter int
}

// writeLetters replaces dovecot-keywords. Called with the dotlock held.
func (m *mailbox) writeLetters() error {
	k := &m.keywords
	old := k.letterAt
	const tmp = lettersFile + ".lock" // Dovecot writes it under this name too
	if err := fsys.Replace(m.dirs.control, lettersFile, tmp, k.letters.encode(), m.fileMode, true); err != nil {
		return err
	}
	st, err := m.dirs.control.Stat(lettersFile)
	if err != nil {
		return err
	}
	// Readers compare whole seconds.
	if t, was := st.ModTime(), unixSeconds(old.mtime); t.Unix() <= was {
		if err := m.dirs.control.SetTime(lettersFile, time.Unix(was+1, 0)); err == nil {
			st, err = m.dirs.control.Stat(lettersFile)
			if err != nil {
				return err
			}
		}
	}
	k.letterAt = fileStampOf(st)
	k.sets = nil
	m.learnKeywords(nil)
	return nil
}

// changeExtra keeps the keywords without letters of some bases, as change gives them by
// what is known then. The file is read and written under the uidlist's lock: another
// process may do the same. Called with files held.
func (m *mailbox) changeExtra(durable bool, change func() map[string][]string) error {
	if len(change()) == 0 {
		return nil
	}
	edit := func() error {
		if err := m.refreshKeywords(); err != nil {
			return err
		}
		return m.saveExtra(change(), durable)
	}
	if m.list.volatile {
		return edit() // there is no lock, and nothing that is kept
	}
	return m.withListLock(edit)
}

// saveExtra keeps the keywords without letters of some bases. It is written before
// the file names are, and unsynced as those are unless durable. Called with files held.
func (m *mailbox) saveExtra(set map[string][]string, durable bool) error {
	k := &m.keywords
	var lines []byte
	before := map[string][]string{}
	for base, names := range set {
		if slices.Equal(k.extra.byBase[base], names) {
			continue
		}
		before[base] = k.extra.byBase[base]
		lines = append(lines, extraLine(base, names)...)
		k.extra.set(base, names)
	}
	if len(lines) == 0 {
		return nil
	}
	if k.extra.wasteful() {
		// Another process may have written the line of a message that is still on its way:
		// only what nobody had the last time either goes.
		strays := map[string]struct{}{}
		for base := range k.extra.byBase {
			_, isNew := set[base]
			if _, ok := m.table.byBase(base); ok || isNew {
				continue
			}
			if _, stayed := k.strays[base]; stayed {
				delete(k.extra.byBase, base)
			} else {
				strays[base] = struct{}{}
			}
		}
		k.strays = strays
	}
	write := func() error {
		most := k.most()
		if !k.extraTorn && !k.extra.wasteful() && k.extraAt.size+int64(len(lines)) <= most {
			f, err := m.dirs.control.Append(extraFile)
			if err == nil {
				_, err = f.Write(lines)
				if err == nil && durable {
					err = f.Datasync()
				}
				if cerr := f.Close(); err == nil {
					err = cerr
				}
				return err
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		b := k.extra.encode()
		if int64(len(b)) > most { // it could not be read again
			return errKeywordRoom
		}
		return fsys.Replace(m.dirs.control, extraFile, extraFile+".tmp", b, m.fileMode, true)
	}
	err := write()
	if err != nil { // the end of the file is not known then, unless nothing was written
		k.extraTorn = k.extraTorn || err != errKeywordRoom
		for base, names := range before {
			k.extra.set(base, names)
		}
	} else if k.extraTorn = false; k.extra.wasteful() {
		k.extra.lines = len(k.extra.byBase)
	}
	if st, serr := m.dirs.control.Stat(extraFile); serr == nil {
		k.extraAt = fileStampOf(st)
	}
	m.learnKeywords(set)
	return err
}

// Letterless are the keywords of a mailbox of this package that have no letter in
// dovecot-keywords, and that only roost-keywords knows.
func Letterless(box store.Mailbox) []string {
	h, ok := box.(*hold)
	if !ok {
		return nil
	}
	h.m.files.Lock()
	defer h.m.files.Unlock()
	return h.m.knownKeywords(nil)[len(h.m.keywords.letters.all()):]
}
