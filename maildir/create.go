package maildir

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/store"
)

// maildirFolder is the empty file by which maildrop and Courier know a Maildir++
// subfolder from a Maildir of its own.
const maildirFolder = "maildirfolder"

// create makes a mailbox and the parents that it lacks; durable. ErrExists, ErrCannot.
// t.mu is held.
func (t *tree) create(n store.Name, uses []imap.MailboxAttr) error {
	if n == store.Inbox {
		return store.ErrExists
	}
	if err := t.checkNew(n); err != nil {
		return err
	}
	if _, err := t.find(n); err == nil {
		return store.ErrExists
	} else if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrNoSelect) {
		return err
	}
	if err := t.createParents(n); err != nil {
		return err
	}
	return t.makeMailbox(n, uses)
}

// createParents makes those that are missing, from the top: a client that made a/b
// expects to be able to select a. The prefix of the root is none of them.
func (t *tree) createParents(n store.Name) error {
	levels, err := t.levels(n)
	if err != nil {
		return err
	}
	for i := 1; i < len(levels); i++ {
		p, ok := t.nameOf(levels[:i])
		if !ok {
			continue // INBOX
		}
		_, err := t.find(p)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoSelect) {
			err = t.makeMailbox(p, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeMailbox makes one mailbox of a name that is free. A crash leaves nothing of it,
// or one without messages that the next opening completes.
func (t *tree) makeMailbox(n store.Name, uses []imap.MailboxAttr) error {
	comps, err := t.components(n)
	if err != nil {
		return err
	}
	// Where control and index files are apart, those of an earlier mailbox may have
	// been left by a crash: its UIDVALIDITY must not come back.
	for _, d := range []fsys.Dir{t.control, t.index} {
		if d != nil {
			if err := t.removeMeta(d, comps); err != nil {
				return err
			}
		}
	}
	s := spot{tree: t, name: n, rel: comps, meta: comps}
	if t.root.MailDir != "" {
		s.rel = append(comps[:len(comps):len(comps)], t.root.MailDir)
	}
	box, err := descend(t.mail, s.rel, true)
	if err != nil {
		return err
	}
	defer box.Close()
	st, err := box.Self()
	if err != nil {
		return err
	}
	_, mode := st.Modes()
	if t.root.Layout == store.LayoutMaildirPP {
		f, err := box.Create(maildirFolder, mode)
		if err == nil {
			f.Close()
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if len(uses) > 0 {
		if err := t.keepUses(s, box, uses); err != nil {
			return err
		}
	}
	d, err := s.open()
	if err != nil {
		return err
	}
	d.close()
	if err := box.Sync(); err != nil {
		return err
	}
	t.uses.forget()
	return t.syncPath(s.rel)
}

// keepUses writes the special uses beside the uidlist.
func (t *tree) keepUses(s spot, box fsys.Dir, uses []imap.MailboxAttr) error {
	control := box
	switch {
	case t.control != nil:
		var err error
		if control, err = descend(t.control, s.meta, true); err != nil {
			return err
		}
		defer control.Close()
	case t.root.MailDir != "":
		// usesOf looks into the directory of the name, one above the mail.
		var err error
		if control, err = descend(t.mail, s.meta, false); err != nil {
			return err
		}
		defer control.Close()
	}
	if err := t.saveUses(control, uses); err != nil {
		return fmt.Errorf("keep the special use: %w", err)
	}
	return nil
}

// syncPath makes durable that the directories of rel are in each other.
func (t *tree) syncPath(rel []string) error {
	if err := t.mail.Sync(); err != nil {
		return err
	}
	at := t.mail
	for _, name := range rel[:max(len(rel)-1, 0)] {
		sub, err := at.Sub(name)
		if at != t.mail {
			at.Close()
		}
		if err != nil {
			return err
		}
		at = sub
		if err := at.Sync(); err != nil {
			at.Close()
			return err
		}
	}
	if at != t.mail {
		at.Close()
	}
	return nil
}
