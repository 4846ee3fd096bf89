package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"roost/maildir/courier"
	"roost/maildir/fsys"
	"roost/store"
)

// subscriptionList is the content of the subscriptions file, which Dovecot shares.
//
//	version 2                                  version 1
//	V TAB 2 LF
//	LF
//	Archive TAB 2024 LF      one name a line   Archive.2024 LF     ('/' in the fs layout)
//
// The levels of a name stand as on disk; in version 2 they are escaped (0x01 then 1,
// t, n, r, 0). The version that is there stays, a new file is of version 2. Names are
// appended, never sorted; lines of mailboxes that do not exist, or that cannot be
// read as a name, are kept as they are.
type subscriptionList struct {
	version1 bool
	lines    []string // without LF

	courier  bool     // there is no such file yet: the lines are those of Courier's
	unspoken []string // Courier's lines that have no place here
}

const (
	subscriptionsHeader = "V\t2\n\n"
	subscriptionsLimit  = 16 << 20
)

// tabEscapes are Dovecot's, for values in files of lines and tabs.
var (
	tabEscapes   = strings.NewReplacer("\x01", "\x011", "\t", "\x01t", "\n", "\x01n", "\r", "\x01r", "\x00", "\x010")
	tabUnescapes = strings.NewReplacer("\x011", "\x01", "\x01t", "\t", "\x01n", "\n", "\x01r", "\r", "\x010", "\x00")
)

func tabEscape(s string) string   { return tabEscapes.Replace(s) }
func tabUnescape(s string) string { return tabUnescapes.Replace(s) }

func parseSubscriptions(b []byte) subscriptionList {
	rest, ok := bytes.CutPrefix(b, []byte(subscriptionsHeader))
	l := subscriptionList{version1: !ok && len(b) > 0}
	for line := range bytes.Lines(rest) {
		if s := strings.TrimSuffix(string(line), "\n"); s != "" {
			l.lines = append(l.lines, s)
		}
	}
	return l
}

func (l subscriptionList) encode() []byte {
	var out []byte
	if !l.version1 {
		out = append(out, subscriptionsHeader...)
	}
	for _, line := range l.lines {
		out = append(append(out, line...), '\n')
	}
	return out
}

// levels reads one line; false when it is no name.
func (l subscriptionList) levels(s spelling, line string) ([]string, bool) {
	var disk []string
	if l.version1 {
		disk = strings.Split(strings.TrimSuffix(line, "\r"), string(s.storageSep()))
	} else {
		disk = strings.Split(line, "\t")
	}
	out := make([]string, len(disk))
	for i, d := range disk {
		if !l.version1 {
			d = tabUnescape(d)
		}
		out[i], _ = s.decode(d, i)
		if out[i] == "" || len(disk) > maxLevels {
			return nil, false
		}
	}
	return out, true
}

// line spells a name. ErrCannot.
func (l subscriptionList) line(s spelling, levels []string) (string, error) {
	disk := make([]string, len(levels))
	for i, level := range levels {
		d, err := s.encode(level, i)
		if err == nil && l.version1 && strings.ContainsAny(d, "\r\n") {
			err = fmt.Errorf("mailbox name %q cannot be written: %w", level, store.ErrCannot)
		}
		if err != nil {
			return "", err
		}
		if !l.version1 {
			d = tabEscape(d)
		}
		disk[i] = d
	}
	if l.version1 {
		return strings.Join(disk, string(s.storageSep())), nil
	}
	return strings.Join(disk, "\t"), nil
}

// subscribed reads the names of the tree's subscriptions, doubles and all.
func (t *tree) subscribed() ([]store.Name, error) {
	l, err := t.readSubscriptions()
	if err != nil {
		return nil, err
	}
	var out []store.Name
	for _, line := range l.lines {
		if n, ok := t.subscriptionName(l, line); ok {
			out = append(out, n)
		}
	}
	return out, nil
}

func (t *tree) readSubscriptions() (subscriptionList, error) {
	b, err := fsys.ReadFile(t.controlRoot(), t.root.SubsFile, subscriptionsLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.courierSubscriptions()
	case err != nil:
		return subscriptionList{}, err
	}
	return parseSubscriptions(b), nil
}

// courierSubscriptions are those that Courier keeps in the root; they hold until there
// is a file of our own, which begins with them.
func (t *tree) courierSubscriptions() (l subscriptionList, err error) {
	b, err := fsys.ReadFile(t.mail, courier.SubscribedName, courier.SmallLimits.Bytes)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fsys.ErrNotRegular):
		return l, nil
	case err != nil:
		return l, err
	}
	l.courier = true
	s := courier.ParseSubscribed(b, func(level string) (string, bool) {
		name, ok := decodeMUTF7(level, courierCoded)
		if !ok {
			name, ok = decodeMUTF7(level, "")
		}
		return name, ok
	}, courier.SmallLimits)
	l.unspoken = s.Shared
	for _, levels := range s.Names {
		line, err := string(store.Inbox), error(nil)
		if len(levels) > 0 {
			line, err = l.line(t.spell, levels)
		}
		if err != nil || len(levels) == 1 && strings.EqualFold(line, string(store.Inbox)) { // INBOX.INBOX
			l.unspoken = append(l.unspoken, courier.Inbox+"."+strings.Join(levels, "."))
			continue
		}
		l.lines = append(l.lines, line)
	}
	return l, nil
}

// takeSubscriptions makes Courier's subscriptions those of a tree that has none yet.
func (t *tree) takeSubscriptions(ctx context.Context, log *slog.Logger) {
	if _, err := t.controlRoot().Stat(t.root.SubsFile); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l, err := t.readSubscriptions()
	if err == nil && l.courier {
		err = t.editSubscriptions(ctx, keepNames)
	}
	log = log.With("user", t.user, "path", t.mail.Path()+"/"+courier.SubscribedName)
	switch {
	case err != nil: // they are seen even so, and the next change tries again
		log.Warn("Courier's subscriptions cannot be taken over", "event", "courier_subscriptions", "err", err)
	case l.courier:
		log.Info("Courier's subscriptions were taken over", "event", "courier_subscriptions", "names", len(l.lines), "left_out", l.unspoken)
	}
}

func (t *tree) subscriptionName(l subscriptionList, line string) (store.Name, bool) {
	if line == string(store.Inbox) {
		return store.Inbox, true
	}
	levels, ok := l.levels(t.spell, line)
	if !ok {
		return "", false
	}
	n, ok := t.nameOf(levels)
	return n, ok || n == store.Inbox
}

// editSubscriptions changes the file under its lock; durable. change gives the new
// name of each that is subscribed, "" for none; add are those to put at the end,
// unless they are there.
func (t *tree) editSubscriptions(ctx context.Context, change func(store.Name) store.Name, add ...store.Name) error {
	return t.editFile(ctx, t.controlRoot(), t.root.SubsFile, func() ([]byte, bool, error) {
		return t.changedSubscriptions(change, add)
	})
}

// changedSubscriptions is the file after an edit; false where nothing changes.
func (t *tree) changedSubscriptions(change func(store.Name) store.Name, add []store.Name) ([]byte, bool, error) {
	l, err := t.readSubscriptions()
	if err != nil {
		return nil, false, err
	}
	changed := l.courier
	have := map[store.Name]bool{}
	kept := l.lines[:0:0]
	for _, line := range l.lines {
		n, ok := t.subscriptionName(l, line)
		if ok {
			next := change(n)
			if next != n {
				changed = true
				if next == "" || have[next] {
					continue
				}
				if line, err = t.subscriptionLine(l, next); err != nil {
					return nil, false, err
				}
			}
			have[next] = true
		}
		kept = append(kept, line)
	}
	for _, n := range add {
		if have[n] {
			continue
		}
		line, err := t.subscriptionLine(l, n)
		if err != nil {
			return nil, false, err
		}
		kept, changed = append(kept, line), true
	}
	if !changed {
		return nil, false, nil
	}
	l.lines = kept
	return l.encode(), true, nil
}

func (t *tree) subscriptionLine(l subscriptionList, n store.Name) (string, error) {
	levels, err := t.levels(n)
	if err != nil {
		return "", err
	}
	if len(levels) == 0 {
		return string(store.Inbox), nil
	}
	return l.line(t.spell, levels)
}

// editFile replaces a small file as a whole, under its lock; durable. edit gives the new
// content by what it reads meanwhile; where it says false the file stays as edit left it.
func (t *tree) editFile(ctx context.Context, d fsys.Dir, name string, edit func() (content []byte, changed bool, err error)) error {
	lock, err := t.lockFile(ctx, d, name)
	if err != nil {
		return err
	}
	defer func() {
		if lock != nil {
			lock.Close()
			d.Remove(name + ".lock")
		}
	}()
	content, changed, err := edit()
	if err != nil || !changed {
		return err
	}
	if _, err := lock.Write(content); err != nil {
		return err
	}
	if err := lock.Sync(); err != nil {
		return err
	}
	// The new content is in the lock file: this rename publishes it and unlocks.
	if err := d.Rename(name+".lock", d, name); err != nil {
		return err
	}
	lock.Close()
	lock = nil
	return d.Sync()
}

// lockFile makes the lock file of a small file. It holds the new content and so names
// nobody: one that did not change for 5 seconds was left behind by a process that was
// killed; on a network filesystem, whose server has a clock of its own, for 30, as Dovecot
// has it. ErrInUse after 10 seconds of waiting.
func (t *tree) lockFile(ctx context.Context, d fsys.Dir, name string) (fsys.File, error) {
	const wait = 10 * time.Second
	stale := 5 * time.Second
	if d.Remote() {
		stale = 30 * time.Second
	}
	name += ".lock"
	st, err := d.Self()
	if err != nil {
		return nil, err
	}
	_, mode := st.Modes()
	pause := time.Millisecond
	var seen fsys.Stat      // the lock, and how long it has been that by our own count:
	var still time.Duration // the clock may have been set back since it was made
	for waited := time.Duration(0); ; waited, still = waited+pause, still+pause {
		f, err := d.Create(name, mode)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		st, err := d.Stat(name)
		if st != seen {
			seen, still = st, 0
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case still >= stale, t.clock().Sub(st.ModTime()) > stale:
			if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		case waited >= wait:
			return nil, fmt.Errorf("%s/%s is held by another program: %w", d.Path(), name, store.ErrInUse)
		}
		pause = min(2*pause, 100*time.Millisecond)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// removeNames is a change of editSubscriptions.
func removeNames(names ...store.Name) func(store.Name) store.Name {
	return func(n store.Name) store.Name {
		if slices.Contains(names, n) {
			return ""
		}
		return n
	}
}

// keepNames is a change of editSubscriptions.
func keepNames(n store.Name) store.Name { return n }
