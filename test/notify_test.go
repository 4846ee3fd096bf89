package test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/maildir"
	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/server/session"
	"roost/store"
	"roost/test/stage"
	"roost/test/talk"
)

// village is a tree that other programs change, and its server.
type village struct {
	t      *testing.T
	root   string
	layout store.Layout
	fs     *faultfs.FS // counts the calls of the server
	talk   talk.Options
	sent   int
}

func newVillage(t *testing.T, layout store.Layout, opt maildir.Options, folders ...string) *village {
	t.Helper()
	v := &village{t: t, root: filepath.Join(t.TempDir(), "Maildir"), layout: layout, fs: faultfs.New(fsys.OS)}
	for _, f := range append(folders, "INBOX") {
		if err := v.make(v.path(f)); err != nil {
			t.Fatal(err)
		}
	}
	opt.FS, opt.Log = v.fs, slog.New(slog.DiscardHandler)
	st, err := maildir.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{Mail: v.root, Layout: layout, Create: true}}}
	s := stage.New(t, st, who, func(ctx context.Context, conn net.Conn, who store.Identity) {
		if _, err := session.Serve(ctx, conn, &session.Login{Who: who, Tag: "l"}, st, &session.Options{Log: opt.Log}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	calls := 0
	v.talk = talk.Options{Dial: s.Dial, Greeting: true, Hooks: map[string]func([]string) error{
		"deliver": func(args []string) error { return v.deliver(args[0]) },
		// make FOLDER: as maildirmake does, or for fs, where a level is one before it has mail, at once
		"make": func(args []string) error {
			if layout != store.LayoutFS {
				return v.make(v.path(args[0]))
			}
			if err := v.make(v.root + ".aside"); err != nil {
				return err
			}
			return os.Rename(v.root+".aside", v.path(args[0]))
		},
		"move":   func(args []string) error { return os.Rename(v.path(args[0]), v.path(args[1])) },
		"remove": func(args []string) error { return os.Rename(v.path(args[0]), v.root+".gone") },
		// mark FOLDER FLAGS: another program gives all messages flags
		"mark": func(args []string) error {
			entries, err := os.ReadDir(filepath.Join(v.path(args[0]), "cur"))
			for _, e := range entries {
				base, _, _ := strings.Cut(e.Name(), ":2,")
				err = os.Rename(filepath.Join(v.path(args[0]), "cur", e.Name()), filepath.Join(v.path(args[0]), "cur", base+":2,"+args[1]))
			}
			return err
		},
		"subscriptions": func(args []string) error {
			tmp := filepath.Join(v.root, "subscriptions.new")
			if err := os.WriteFile(tmp, []byte("V\t2\n\n"+strings.Join(args, "\n")+"\n"), 0o600); err != nil {
				return err
			}
			return os.Rename(tmp, filepath.Join(v.root, "subscriptions"))
		},
		"count": func([]string) error { calls = v.fs.Calls(); return nil },
		// fewer N: the server made fewer calls since "count"
		"fewer": func(args []string) error {
			var most int
			fmt.Sscan(args[0], &most)
			if n := v.fs.Calls() - calls; n >= most {
				return fmt.Errorf("%d calls of the filesystem, want fewer than %d", n, most)
			}
			return nil
		},
	}}
	return v
}

func (v *village) path(folder string) string {
	switch {
	case folder == "INBOX":
		return v.root
	case v.layout == store.LayoutFS:
		return filepath.Join(v.root, folder)
	}
	return filepath.Join(v.root, "."+strings.ReplaceAll(folder, "/", "."))
}

func (v *village) make(path string) error {
	for _, d := range []string{"", "tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(path, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// deliver does as an MTA.
func (v *village) deliver(folder string) error {
	v.sent++
	name := fmt.Sprintf("%d.M%06dP1.mail", time.Now().Unix(), v.sent)
	tmp := filepath.Join(v.path(folder), "tmp", name)
	if err := os.WriteFile(tmp, []byte("Subject: hello\n\nhello\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(v.path(folder), "new", name))
}

// What other programs do to a tree is told, with events and without.
func TestNotifyHearsOfOtherPrograms(t *testing.T) {
	for _, c := range []struct {
		name   string
		layout store.Layout
		opt    maildir.Options
	}{
		{"Maildir++", store.LayoutMaildirPP, maildir.Options{}},
		{"fs", store.LayoutFS, maildir.Options{}},
		{"polled", store.LayoutMaildirPP, maildir.Options{Poll: true, PollEvery: 10 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVillage(t, c.layout, c.opt, "Work", "Work/Old", "Play")
			talk.Run(t, `
A> a1 NOTIFY SET STATUS (selected (MessageNew MessageExpunge)) (mailboxes Play NONE) (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))
A< * STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ${v} UNSEEN 0 HIGHESTMODSEQ ...
A< * STATUS Work (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ${w} UNSEEN 0 HIGHESTMODSEQ ...
A< * STATUS Work/Old (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ${o} UNSEEN 0 HIGHESTMODSEQ ...
A< a1 OK ...
! deliver Work/Old
A< * STATUS Work/Old (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ${o} UNSEEN 1)
! deliver Play
! deliver INBOX
A< * STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ${v} UNSEEN 1)
A> a2 SELECT INBOX
! deliver INBOX
A< * 2 EXISTS
A< * 2 RECENT
! make Work/New
A< * LIST (\HasChildren) "/" Work
A< * LIST (\HasNoChildren) "/" Work/New
! deliver Work/New
A< * STATUS Work/New (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ${n} UNSEEN 1)
! move Work/New Newer
A< * LIST (\HasNoChildren) "/" Newer ("OLDNAME" (Work/New))
! deliver Newer
A< * STATUS Newer (MESSAGES 2 UIDNEXT 3 UIDVALIDITY ${n} UNSEEN 2)
B> b1 SELECT Newer
B> b2 UNSELECT
! mark Newer S
A< * STATUS Newer (MESSAGES 2 UIDNEXT 3 UIDVALIDITY ${n} UNSEEN ...)
B> b3 NOOP
! subscriptions Newer ghost
A< ...
A< * LIST (\HasNoChildren \Subscribed) "/" Newer
A< * LIST (\NonExistent \HasNoChildren \Subscribed \Noselect) "/" ghost
! subscriptions Newer
A< * LIST (\NonExistent \Noselect) "/" ghost
! remove Newer
A< ...
A< * LIST (\NonExistent \HasNoChildren \Subscribed \Noselect) "/" Newer
`, v.talk)
		})
	}
}

// A session that watches a thousand folders polls none of them: what a delivery costs does
// not depend on how many there are, and where nothing happens nothing is done.
func TestNotifyPollsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a thousand folders: run without -short")
	}
	folders := make([]string, 1000)
	for i := range folders {
		folders[i] = fmt.Sprintf("Lists/%04d", i)
	}
	v := newVillage(t, store.LayoutMaildirPP, maildir.Options{}, folders...)
	talk.Run(t, `
A> a1 NOTIFY SET (personal (MessageNew MessageExpunge FlagChange MailboxName))
! count
! deliver Lists/0500
A< * STATUS Lists/0500 (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ${v} UNSEEN 1)
! deliver Lists/0500
A< * STATUS Lists/0500 (MESSAGES 2 UIDNEXT 3 UIDVALIDITY ${v} UNSEEN 2)
A> a2 NOOP
A< a2 OK ...
! fewer 400
! make Lists/more
A< * LIST (\NonExistent \HasChildren \Noselect) "/" Lists
A< * LIST (\HasNoChildren) "/" Lists/more
! deliver Lists/more
A< * STATUS Lists/more (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ${w} UNSEEN 1)
`, v.talk)
}
