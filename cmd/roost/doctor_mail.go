package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/maildir"
	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
	"roost/sysuser"
)

// mail looks at the mail of each user with the rights of whom it belongs to.
func (d *doctor) mail(ctx context.Context) {
	users, missing, err := d.everybody()
	if err != nil {
		d.add("mail-unseen", finding{Where: d.path, What: "the users are not known: " + bottom(err).Error(), Do: "run this as root"})
		return
	}
	for _, name := range missing {
		d.add("mail-place", finding{User: name, Where: d.whereUsers(), What: "there is no such user"})
	}
	identity, err := identities(d.config)
	if err != nil {
		return // a mistake of the configuration
	}
	if d.config.Isolation.Workers() {
		d.mailOfOwners(ctx, users, identity)
		return
	}
	k, known := d.keeper()
	if !known {
		d.add("mail-unseen", finding{Where: d.path, What: fmt.Sprintf("the mail belongs to %s, and %s cannot say what that user may", cmp.Or(d.config.Mail.User, "another user"), k.name), Do: "run this as root"})
		return
	}
	held := d.locks()
	if err := asUser(k.uid, k.gid, k.groups, func() {
		for _, u := range users {
			if ctx.Err() != nil || d.files.over() {
				break
			}
			d.users++
			d.mailOf(ctx, k, u, identity, held)
		}
	}); err != nil {
		d.add("mail-unseen", finding{Where: d.path, What: "the rights of " + k.name + " cannot be had: " + err.Error()})
	}
	if d.files.over() {
		d.add("mail-unseen", finding{What: fmt.Sprintf("not all mail was looked at, but that of %s of %d", count(d.users, "user"), len(users)), Do: "roost doctor --files 0 looks at all"})
	}
}

// mailOfOwners looks at mail that belongs to its users, as each of them.
func (d *doctor) mailOfOwners(ctx context.Context, users []auth.User, identity func(auth.User) (store.Identity, error)) {
	p, err := newPlacer(d.config, new(sysuser.Cache))
	if err != nil {
		return // a mistake of the configuration
	}
	held, least := d.locks(), d.config.Isolation
	for _, u := range users {
		if ctx.Err() != nil || d.files.over() {
			break
		}
		d.users++
		u, groups, err := p.owner(ctx, u)
		if err == nil && (int(u.UID) < least.MinUID || int(u.GID) < least.MinGID) {
			err = fmt.Errorf("uid %d and gid %d are not served: isolation.min_uid is %d, isolation.min_gid %d", u.UID, u.GID, least.MinUID, least.MinGID)
		}
		if err != nil {
			d.add("mail-place", finding{User: u.Name, Where: d.path, What: err.Error()})
			continue
		}
		k := keeper{uid: int(u.UID), gid: int(u.GID), name: userName(int(u.UID))}
		k.owner = k.name + ":" + groupName(k.gid)
		for _, g := range groups {
			k.groups = append(k.groups, int(g))
		}
		if os.Geteuid() != 0 && k.uid != os.Geteuid() {
			d.add("mail-unseen", finding{User: u.Name, Where: d.path, What: "the mail belongs to " + k.name + ", and another user cannot look at it", Do: "run this as root"})
			continue
		}
		if err := asUser(k.uid, k.gid, k.groups, func() { d.mailOf(ctx, k, u, identity, held) }); err != nil {
			d.add("mail-unseen", finding{User: u.Name, What: "the rights of " + k.name + " cannot be had: " + err.Error()})
		}
	}
}

// mailOf looks at the mail of one user.
func (d *doctor) mailOf(ctx context.Context, k keeper, u auth.User, identity func(auth.User) (store.Identity, error), held func(fsys.Stat) int) {
	add := func(kind string, f finding) {
		f.User = u.Name
		d.add(kind, f)
	}
	who, err := identity(u)
	if err != nil {
		add("mail-place", finding{Where: d.path, What: err.Error()})
		return
	}
	root := who.Roots[0]
	if kind, f, at := k.way(root.Mail); kind != "" {
		if kind == "mail-missing" && d.config.Mail.Create {
			f.Weight, f.Do, f.Run = remark, "the first login makes it (mail.create)", ""
			if may(at, unix.W_OK) != nil {
				d.add("mail-rights", finding{Where: at, What: fmt.Sprintf("%s cannot make a Maildir in it (%s)", k.name, modeOf(at)), Run: "chown " + shellWords(k.owner, at)})
			}
		} else if kind == "mail-missing" {
			f.Do = "the first message makes it, or the command does; is its disk mounted?"
		}
		if kind == "mail-closed" { // to others too
			d.add(kind, f)
		} else {
			add(kind, f)
		}
		return
	}
	if !contains(d.places, root.Mail) {
		d.places = append(d.places, root.Mail)
		d.space(root.Mail)
	}
	for _, dir := range []string{root.Mail, root.Inbox, root.Control, root.Index} {
		if dir == "" {
			continue
		}
		if kind, f, _ := k.way(dir); dir != root.Mail && kind != "" {
			if kind != "mail-missing" { // that is made when it is first needed
				add(kind, f)
			}
			continue
		}
		w := &walk{keeper: k, layout: root.Layout, files: &d.files, add: add}
		w.tree(dir, 64)
	}
	opt := maildir.CheckOptions{FS: d.fs, Env: uidlist.System(), Held: held}
	opt.Env.Now = d.now
	if !d.files.all {
		opt.Files = &d.files.left
	}
	if d.server != nil {
		opt.Server = d.server.PID
	}
	done, err := maildir.Check(ctx, who, opt, func(f maildir.Finding) { add(f.Kind, d.advise(f)) })
	d.boxes.Mailboxes += done.Mailboxes
	d.boxes.Messages += done.Messages
	if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrPermission) { // of rights there is a finding
		add("mail-unseen", finding{Where: root.Mail, What: err.Error()})
	}
}

// contains reports whether a path lies on a filesystem that was looked at already: where
// users' mail is beside each other one look is enough.
func contains(places []string, path string) bool {
	var st, other os.FileInfo
	var err error
	if st, err = os.Stat(path); err != nil {
		return true
	}
	for _, p := range places {
		if other, err = os.Stat(p); err == nil && device(other) == device(st) {
			return true
		}
	}
	return false
}

// advise says what to do about a finding of the mail.
func (d *doctor) advise(m maildir.Finding) finding {
	f := finding{Where: m.Path, What: m.What}
	if m.Mailbox != "" {
		f.What = fmt.Sprintf("mailbox %s: %s", m.Mailbox, m.What)
	}
	who := ""
	if m.PID != 0 && m.Host == "" {
		if who = d.program(m.PID); who != "" {
			f.What += ": " + who
		}
	}
	switch m.Kind {
	case maildir.FoundUIDList:
		f.Do = "the UIDs that whole lines prove stay; other messages get new ones, so clients load them again. Where it comes back, find out what else writes the file"
	case maildir.FoundKeywords:
		f.Do = "the other lines count, and these are kept as they are"
	case maildir.FoundLetters:
		f.Do = "they are shown as unknown-0 and so on; take the file from a backup, if it was lost"
	case maildir.FoundMetadata:
		f.Do = "clients get no annotations from it until the line is mended, or the file removed; what it may look like says docs/metadata.md"
	case maildir.FoundSubscriptions:
		f.Do = "the other lines count, and these are kept as they are"
	case maildir.FoundState:
		f.Do = "Roost leaves room for the UIDs that it may have shown, and writes it anew when it opens the mailbox"
	case maildir.FoundLockLeft:
		f.Do, f.Run = "whoever wants the lock next takes it away; so does", "rm "+shellWord(m.Path)
	case maildir.FoundLockHeld:
		f.Do = "writing waits for it"
		switch {
		case m.Host != "":
			f.Do += "; look at that process on " + m.Host
		case m.PID != 0:
			f.Do += fmt.Sprintf("; if the process hangs, end it, which frees the lock; it is kill %d", m.PID)
		}
	case maildir.FoundIndexHeld:
		f.Do = "the server serves the mailbox without MODSEQs; end that process, if it is another Roost on the same mail"
	case maildir.FoundTmp:
		before := d.now().Add(-36 * time.Hour).UTC()
		f.Do = "look whether they are mail that is missed; when not:"
		f.Run = fmt.Sprintf("find %s -maxdepth 1 -type f ! -newermt '%[2]s UTC' ! -newerct '%[2]s UTC' -delete", shellWord(m.Path), before.Format(time.DateTime))
	case maildir.FoundLink:
		target := m.Names[0]
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(m.Path), target)
		}
		f.Do = fmt.Sprintf("to have it shown, add %q to mail.follow_links", filepath.Dir(target))
	case maildir.FoundOdd:
		f.Do = "they are not shown; look at them and move them away"
		if len(m.Names) > 0 {
			f.What += fmt.Sprintf(", %s for one", strconv.Quote(m.Names[0]))
		}
	case maildir.FoundInbox:
		f.Do = "give it another name, and the mail in it is shown"
		f.Run = "mv -nT " + shellWords(m.Path, m.Path+"-old")
	case maildir.FoundHidden:
		f.Do = "give it a name as the others have: without empty levels, and without the separator in a level"
	case maildir.FoundNoEvents:
		f.Do = "new mail is seen every 5 seconds, and at once by a client that asks (NOOP)"
	case maildir.FoundClock:
		f.Do = "set the clock, if it is behind (timedatectl); clients that know UIDs and MODSEQs of that time are served right either way"
	case maildir.FoundUnreadable:
		f.Do = "see what is said of rights; else look at it with ls -ld"
	}
	return f
}

// locks reads who holds which file by flock.
func (d *doctor) locks() func(fsys.Stat) int {
	f, err := os.Open(filepath.Join(d.proc, "locks"))
	if err != nil {
		return nil
	}
	defer f.Close()
	holders := map[string]int{} // by MAJOR:MINOR:INODE
	for in := bufio.NewScanner(f); in.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:131079 0 EOF
		if l := strings.Fields(in.Text()); len(l) >= 6 && l[1] == "FLOCK" {
			if pid, err := strconv.Atoi(l[4]); err == nil && pid > 0 {
				holders[l[5]] = pid
			}
		}
	}
	return func(st fsys.Stat) int { return holders[lockName(st)] }
}
