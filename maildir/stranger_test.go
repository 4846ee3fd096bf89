package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
	"roost/store/storetest"
)

// stranger is another program that works on a Maildir++ tree and knows nothing of the
// store: an MTA, a mail reader that opens the files itself, a restore from a backup.
// It goes by the files alone, in the many ways that such programs have.
type stranger struct {
	fs   func() fsys.FS // as it is now
	root string

	// aside runs do while no store looks at a mailbox, so that all of it is seen at once;
	// nil: they look when they like.
	aside func(box fsys.Dir, do func() error) error
	// between is called between two deliveries, which then get their UIDs in that order;
	// nil: those of one call get them in the order of their names.
	between func()

	seconds int64             // of the next delivery; later ones have later names
	graves  map[string]*grave // the last one of each mailbox
	strange map[string]string // by base: what must stay in the name
}

// grave is a message that was deleted and may come back.
type grave struct {
	name  string
	inNew bool
	text  string
	l     storetest.Letter
}

func newStranger(fs func() fsys.FS, root string) *stranger {
	return &stranger{fs: fs, root: root, seconds: 1_700_000_000, graves: map[string]*grave{}, strange: map[string]string{}}
}

func (o *stranger) path(n store.Name) string {
	if n == store.Inbox {
		return o.root
	}
	return o.root + "/." + strings.ReplaceAll(string(n), "/", ".")
}

// dir is a mailbox's directories.
func (o *stranger) dirs(n store.Name) (d dirs, err error) {
	f := o.fs()
	for _, x := range []struct {
		to  *fsys.Dir
		sub string
	}{{&d.box, ""}, {&d.cur, "cur"}, {&d.new, "new"}, {&d.tmp, "tmp"}} {
		if *x.to, err = f.Root(path.Join(o.path(n), x.sub)); err != nil {
			d.close()
			return d, err
		}
	}
	d.control = d.box
	return d, nil
}

// in does something in a mailbox.
func (o *stranger) in(n store.Name, do func(d dirs) error) error {
	d, err := o.dirs(n)
	if err != nil {
		return err
	}
	defer d.close()
	if o.aside == nil {
		return do(d)
	}
	return o.aside(d.box, func() error { return do(d) })
}

// Spells implements storetest.Outside: only keywords with a letter can be written.
func (o *stranger) Spells(n store.Name) []string {
	var out []string
	o.in(n, func(d dirs) error {
		for _, line := range o.letters(d) {
			_, name, _ := strings.Cut(line, " ")
			out = append(out, name)
		}
		return nil
	})
	return out
}

// letters are the lines of dovecot-keywords.
func (o *stranger) letters(d dirs) []string {
	b, err := fsys.ReadFile(d.box, lettersFile, 1<<20)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// info writes flags as some program might.
func (o *stranger) info(d dirs, flags store.Flags, keywords []string, r *rand.Rand) (string, error) {
	var all []byte
	for _, f := range []struct {
		flag   store.Flags
		letter byte
	}{{store.FlagDraft, 'D'}, {store.FlagFlagged, 'F'}, {store.FlagAnswered, 'R'}, {store.FlagSeen, 'S'}, {store.FlagDeleted, 'T'}} {
		if flags&f.flag != 0 {
			all = append(all, f.letter)
		}
	}
	for _, k := range keywords {
		i := slices.IndexFunc(o.letters(d), func(line string) bool { return strings.HasSuffix(line, " "+k) })
		if i < 0 {
			return "", fmt.Errorf("the keyword %s has no letter", k)
		}
		var number int
		fmt.Sscanf(o.letters(d)[i], "%d", &number)
		all = append(all, byte('a'+number))
	}
	if len(all) == 0 {
		return []string{":2,", ":2,", "", ":1,x", ":2", ":2,,later"}[r.IntN(6)], nil
	}
	switch r.IntN(5) {
	case 0:
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	case 1:
		all = append(all, all[0])
	case 2:
		all = append(all, 'P', 'X')
	}
	slices.Sort(all)
	out := ":2," + string(all)
	if r.IntN(8) == 0 {
		out += ",ext=1"
	}
	return out, nil
}

func (o *stranger) write(d fsys.Dir, name, text string) error {
	f, err := d.Create(name, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Sync(), f.Close())
}

// Deliver implements storetest.Outside.
func (o *stranger) Deliver(n store.Name, list []storetest.Letter) (ordered []storetest.Letter, err error) {
	type named struct {
		storetest.Letter
		sec, usec int64
	}
	var all []named
	if o.between != nil && len(list) > 1 {
		for _, l := range list {
			if _, err := o.Deliver(n, []storetest.Letter{l}); err != nil {
				return nil, err
			}
			o.between()
		}
		return list, nil
	}
	err = o.in(n, func(d dirs) error {
		for i, l := range list {
			r := rand.New(rand.NewPCG(l.Way, 0))
			x := named{l, o.seconds + r.Int64N(2), 10*r.Int64N(99999) + int64(i)}
			base := fmt.Sprintf("%d.M%dP%d.mta", x.sec, x.usec, r.IntN(99))
			switch r.IntN(4) {
			case 0:
				base = fmt.Sprintf("%d.Vfe00Ia%dM%d.mta", x.sec, r.IntN(9999), x.usec)
			case 1:
				base += fmt.Sprintf(",S=%d,W=%d", len(l.Text), len(l.Text)+strings.Count(l.Text, "\n")-strings.Count(l.Text, "\r\n"))
			}
			if err := o.deliver(d, base, l, r); err != nil {
				return err
			}
			all = append(all, x)
		}
		o.seconds += 2
		return nil
	})
	slices.SortFunc(all, func(a, b named) int { return int(a.sec-b.sec)*1_000_000_000 + int(a.usec-b.usec) })
	for _, x := range all {
		ordered = append(ordered, x.Letter)
	}
	return ordered, err
}

func (o *stranger) deliver(d dirs, base string, l storetest.Letter, r *rand.Rand) error {
	if err := o.write(d.tmp, base, l.Text); err != nil {
		return err
	}
	if err := d.tmp.SetTime(base, l.Time); err != nil {
		return err
	}
	to, name := d.new, base
	if l.Flags != 0 || len(l.Keywords) > 0 || r.IntN(4) == 0 {
		info, err := o.info(d, l.Flags, l.Keywords, r)
		if err != nil {
			return err
		}
		name += info
		if r.IntN(4) > 0 {
			to = d.cur
		}
	}
	if r.IntN(2) == 0 {
		return d.tmp.Rename(base, to, name)
	}
	return errors.Join(d.tmp.Link(base, to, name), d.tmp.Remove(base))
}

// find is the file of a message, by what the uidlist says of its UID.
func (o *stranger) find(d dirs, uid imap.UID) (sighting, error) {
	b, err := fsys.ReadFile(d.box, uidlist.Name, 1<<20)
	if err != nil {
		return sighting{}, err
	}
	base := ""
	for line := range strings.Lines(string(b)) {
		if head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " :"); ok && head == fmt.Sprint(uid) {
			base = tail
		}
	}
	if base == "" {
		return sighting{}, fmt.Errorf("UID %d is not in the uidlist", uid)
	}
	for _, inNew := range []bool{false, true} {
		var found string
		if err := d.of(inNew).Names(func(name string, _ fs.FileMode) bool {
			if b, _, _ := strings.Cut(name, ":"); b == base {
				found = name
			}
			return found == ""
		}); err != nil {
			return sighting{}, err
		}
		if found != "" {
			if want := o.strange[base]; !keeps(found, want) {
				return sighting{}, fmt.Errorf("%s lost its %q", found, want)
			}
			return sighting{found, inNew}, nil
		}
	}
	return sighting{}, fs.ErrNotExist
}

// keeps reports whether a name still has the letters, between which others may stand, or
// what follows a comma.
func keeps(name, want string) bool {
	if strings.HasPrefix(want, ",") {
		return strings.Contains(name, want)
	}
	_, info, _ := strings.Cut(name, ":")
	for _, letter := range want {
		if !strings.ContainsRune(info, letter) {
			return false
		}
	}
	return true
}

// Mark implements storetest.Outside.
func (o *stranger) Mark(n store.Name, uid imap.UID, flags store.Flags, keywords []string, way uint64) error {
	r := rand.New(rand.NewPCG(way, 0))
	return o.in(n, func(d dirs) error {
		at, err := o.find(d, uid)
		if err != nil {
			return err
		}
		base, _, _ := strings.Cut(at.name, ":")
		info, err := o.info(d, flags, slices.DeleteFunc(slices.Clone(keywords), func(k string) bool { return o.hasLine(d, base, k) }), r)
		if err != nil {
			return err
		}
		to := sighting{base + info, r.IntN(6) == 0}
		if to == at {
			return nil
		}
		from, dst := d.of(at.inNew), d.of(to.inNew)
		switch r.IntN(6) {
		case 0: // by a link, for a moment both names are there
			err = errors.Join(from.Link(at.name, dst, to.name), from.Remove(at.name))
		case 1: // out of sight for a moment
			err = errors.Join(from.Rename(at.name, d.tmp, base), d.tmp.Rename(base, dst, to.name))
		case 2: // in two steps
			err = errors.Join(from.Rename(at.name, d.cur, base+":2,FR"), d.cur.Rename(base+":2,FR", dst, to.name))
		default:
			err = from.Rename(at.name, dst, to.name)
		}
		delete(o.strange, base)
		for _, s := range []string{"PX", "PXa", ",ext=1"} {
			if strings.Contains(info, s) {
				o.strange[base] = strings.TrimSuffix(s, "a")
			}
		}
		return err
	})
}

// hasLine reports whether a keyword of a message stands in roost-keywords, which is no
// stranger's business.
func (o *stranger) hasLine(d dirs, base, keyword string) bool {
	b, _ := fsys.ReadFile(d.box, extraFile, 1<<20)
	has := false
	for line := range strings.Lines(string(b)) {
		if words, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " :"); ok && name == base {
			has = slices.Contains(strings.Fields(words), keyword)
		}
	}
	return has
}

// Delete implements storetest.Outside.
func (o *stranger) Delete(n store.Name, uids []imap.UID, way uint64) error {
	r := rand.New(rand.NewPCG(way, 0))
	return o.in(n, func(d dirs) error {
		for _, uid := range uids {
			at, err := o.find(d, uid)
			if err != nil {
				return err
			}
			if err := o.bury(n, d, at); err != nil {
				return err
			}
			if r.IntN(3) > 0 {
				err = d.of(at.inNew).Remove(at.name)
			} else {
				err = errors.Join(d.of(at.inNew).Rename(at.name, d.tmp, "dying"), d.tmp.Remove("dying"))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// bury keeps what a message was.
func (o *stranger) bury(n store.Name, d dirs, at sighting) error {
	f, err := d.of(at.inNew).Open(at.name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := fsys.ReadAll(f, 1<<20)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	o.graves[d.box.Path()] = &grave{name: at.name, inNew: at.inNew, text: string(b), l: storetest.Letter{Text: string(b), Time: st.ModTime()}}
	return nil
}

// Return implements storetest.Outside.
func (o *stranger) Return(n store.Name) (l storetest.Letter, ok bool, err error) {
	err = o.in(n, func(d dirs) error {
		g := o.graves[d.box.Path()]
		if g == nil {
			return nil
		}
		delete(o.graves, d.box.Path())
		base, info, _ := strings.Cut(g.name, ":")
		if b, _ := fsys.ReadFile(d.box, extraFile, 1<<20); strings.Contains(string(b), " :"+base+"\n") {
			return nil // its keywords may come back with it, or not
		}
		if err := o.write(d.tmp, base, g.text); err != nil {
			return err
		}
		if err := errors.Join(d.tmp.SetTime(base, g.l.Time), d.tmp.Rename(base, d.of(g.inNew), g.name)); err != nil {
			return err
		}
		l, ok = g.l, true
		flags, plain := strings.CutPrefix(info, "2,")
		flags, _, _ = strings.Cut(flags, ",")
		for i := 0; plain && i < len(flags); i++ {
			switch c := flags[i]; {
			case 'a' <= c && c <= 'z':
				for _, line := range o.letters(d) {
					if name, ok := strings.CutPrefix(line, fmt.Sprintf("%d ", c-'a')); ok && !slices.Contains(l.Keywords, name) {
						l.Keywords = append(l.Keywords, name)
					}
				}
			default:
				l.Flags |= map[byte]store.Flags{'D': store.FlagDraft, 'F': store.FlagFlagged, 'R': store.FlagAnswered, 'S': store.FlagSeen, 'T': store.FlagDeleted}[c]
			}
		}
		return nil
	})
	return l, ok, err
}
