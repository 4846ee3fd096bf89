package maildir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/fsys/faultfs"
	"roost/store"
)

// openAccount opens the tree in root for one user of a store of its own.
func openAccount(t *testing.T, sep byte, root store.Root) *account {
	t.Helper()
	s, err := New(Options{Host: "test.example", Poll: true, Clock: func() time.Time { return time.Unix(1795500000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}, Separator: sep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		s.Close(context.Background())
	})
	return a.(*account)
}

// newAccount is an account on an empty root that was made for it.
func newAccount(t *testing.T, root store.Root) *account {
	t.Helper()
	root.Mail = filepath.Join(t.TempDir(), "Maildir")
	root.Create = true
	return openAccount(t, '/', root)
}

func list(t *testing.T, a store.Account, q store.ListQuery) map[string][]string {
	t.Helper()
	if q.Patterns == nil {
		q.Patterns = []string{"*"}
	}
	out := map[string][]string{}
	var last store.Name
	for e, err := range a.List(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name <= last {
			t.Errorf("%q after %q", e.Name, last)
		}
		last = e.Name
		attrs := []string{}
		for _, attr := range e.Attrs {
			attrs = append(attrs, string(attr))
		}
		if e.ChildSubscribed {
			attrs = append(attrs, "CHILDINFO")
		}
		slices.Sort(attrs)
		out[string(e.Name)] = attrs
	}
	return out
}

func names(l map[string][]string) string {
	var out []string
	for n := range l {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// dovecotFolders is the special use of the servers that made the fixtures.
var dovecotFolders = []store.Folder{
	{Name: "Drafts", Use: `\Drafts`}, {Name: "Sent", Use: `\Sent`}, {Name: "Trash", Use: `\Trash`},
	{Name: "Junk", Use: `\Junk`}, {Name: "Archive", Use: `\Archive`},
}

// fixtureRoots are the trees of testdata as the configuration would name them.
var fixtureRoots = []struct {
	fixture, archive string
	at               []string
	sep              byte
	root             store.Root // paths below the unpacked archive
}{
	{"dovecot23-maildirpp", "Maildir", nil, '/', store.Root{Mail: "Maildir", Folders: dovecotFolders}},
	{"dovecot23-fs", "Maildir", nil, '/', store.Root{Mail: "Maildir", Layout: store.LayoutFS, Folders: dovecotFolders}},
	{"dovecot23-names", "escslash", []string{"escslash"}, '/', store.Root{Mail: "escslash", Escape: store.EscapeBackslash}},
	{"dovecot23-names", "escdot", []string{"escdot"}, '.', store.Root{Mail: "escdot", Escape: store.EscapeBackslash}},
	{"dovecot23-names", "utf8", []string{"utf8"}, '/', store.Root{Mail: "utf8", UTF8: true}},
	{"dovecot23-names", "control", []string{"control"}, '/', store.Root{Mail: "control/Maildir", Control: "control/control", Index: "control/index"}},
	{"postfix-fresh", "local", []string{"local", "dovecot"}, '/', store.Root{Mail: "Maildir"}},
	{"postfix-fresh", "virtual", []string{"virtual", "dovecot"}, '/', store.Root{Mail: "Maildir"}},
	{"opensmtpd-fresh", "local", []string{"local", "dovecot"}, '/', store.Root{Mail: "Maildir", Folders: dovecotFolders}},
	{"opensmtpd-fresh", "vmail", []string{"vmail", "dovecot"}, '/', store.Root{Mail: "Maildir"}},
}

// below puts the paths of a root into a directory.
func below(dir string, root store.Root) store.Root {
	for _, p := range []*string{&root.Mail, &root.Control, &root.Index} {
		if *p != "" {
			*p = filepath.Join(dir, *p)
		}
	}
	return root
}

func TestFixtureNames(t *testing.T) {
	for _, c := range fixtureRoots {
		t.Run(c.fixture+"/"+c.archive, func(t *testing.T) {
			want := readExpected(t, c.fixture, c.at...)
			dir := unpack(t, filepath.Join(c.fixture, c.archive+".tar.gz"))
			a := openAccount(t, c.sep, below(dir, c.root))
			got := list(t, a, store.ListQuery{})
			for _, e := range want.List {
				// Dovecot's \Noselect is ours for directories, \NonExistent for no directory.
				flags, attrs := strings.Join(e.Flags, " "), strings.Join(got[e.UTF8], " ")
				if strings.ReplaceAll(attrs, `\NonExistent`, `\Noselect`) != flags {
					t.Errorf("%q has %s, Dovecot says %s", e.UTF8, attrs, flags)
				}
				if f := want.Folders[e.Name]; f.Path != "" && e.Name != "INBOX" {
					s, err := a.trees[0].find(store.Name(e.UTF8))
					if err != nil || strings.Join(s.rel, "/") != f.Path {
						t.Errorf("%q lies in %q, want %q: %v", e.UTF8, s.rel, f.Path, err)
					}
				}
				delete(got, e.UTF8)
			}
			for n := range got {
				t.Errorf("%q is no mailbox of Dovecot's", n)
			}
			subs := list(t, a, store.ListQuery{Subscribed: true})
			for _, e := range want.Lsub {
				if subs[e.UTF8] == nil {
					t.Errorf("%q is not subscribed", e.UTF8)
				}
				delete(subs, e.UTF8)
			}
			for n := range subs {
				t.Errorf("%q is subscribed", n)
			}
		})
	}
}

func TestNewRoot(t *testing.T) {
	root := store.Root{
		Mail: filepath.Join(t.TempDir(), "a", "Maildir"), Create: true,
		Folders: []store.Folder{
			{Name: "Sent", Use: `\Sent`, Create: true, Subscribe: true},
			{Name: "Trash", Use: `\Trash`, Create: true},
			{Name: "Old/Mail", Use: `\Archive`},
		},
	}
	a := openAccount(t, '/', root)
	if got := fmt.Sprint(list(t, a, store.ListQuery{})); got != `map[INBOX:[\HasNoChildren] Sent:[\HasNoChildren \Sent] Trash:[\HasNoChildren \Trash]]` {
		t.Error(got)
	}
	if got := names(list(t, a, store.ListQuery{Subscribed: true})); got != "Sent" {
		t.Error(got)
	}
	for _, sub := range []string{"cur", "new", "tmp", ".Sent/cur", ".Sent/maildirfolder"} {
		if _, err := os.Stat(filepath.Join(root.Mail, sub)); err != nil {
			t.Error(err)
		}
	}
	if err := a.Delete(t.Context(), "Trash"); err != nil {
		t.Fatal(err)
	}
	// What was deleted does not come back at the next login.
	if got := names(list(t, openAccount(t, '/', root), store.ListQuery{})); got != "INBOX Sent" {
		t.Error(got)
	}
}

func TestMissingRoot(t *testing.T) {
	s, err := New(Options{Host: "test.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	_, err = s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: filepath.Join(t.TempDir(), "none")}}})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
}

// layouts are tried with each test of names that change.
var layouts = []struct {
	name string
	root store.Root
}{
	{"maildir++", store.Root{}},
	{"fs", store.Root{Layout: store.LayoutFS}},
	{"fs with a mail directory", store.Root{Layout: store.LayoutFS, MailDir: "dbox"}},
	{"control and index apart", store.Root{Control: "control", Index: "index"}},
	{"fs, control and index apart", store.Root{Layout: store.LayoutFS, Control: "control", Index: "index"}},
}

func eachLayout(t *testing.T, test func(t *testing.T, a *account)) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			root := l.root
			root.Mail = "Maildir"
			root.Create = true
			test(t, openAccount(t, '/', below(t.TempDir(), root)))
		})
	}
}

func TestCreateDeleteRename(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		ctx := t.Context()
		do := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		see := func(want string) {
			t.Helper()
			if got := names(list(t, a, store.ListQuery{})); got != want {
				t.Errorf("mailboxes %s\nwant      %s", got, want)
			}
		}
		do("create", a.Create(ctx, "a/b/c", nil), nil)
		see("INBOX a a/b a/b/c")
		do("create again", a.Create(ctx, "a/b", nil), store.ErrExists)
		do("create with a separator behind", a.Create(ctx, "x/", nil), nil)
		do("create INBOX", a.Create(ctx, "inbox", nil), store.ErrExists)
		do("create below INBOX", a.Create(ctx, "Inbox/sub", nil), nil)
		for _, bad := range []store.Name{"", "/", "/a", "a//b", "a\nb", "~a", "a\x00", "\xff", "..", "a/../../b"} {
			if err := a.Create(ctx, bad, nil); err == nil {
				t.Errorf("%q was made", bad)
			}
		}
		see("INBOX INBOX/sub a a/b a/b/c x")

		do("delete INBOX", a.Delete(ctx, "INBOX"), store.ErrCannot)
		do("delete nothing", a.Delete(ctx, "nope"), store.ErrNotFound)
		do("delete a parent", a.Delete(ctx, "a/b"), nil)
		if got := list(t, a, store.ListQuery{Patterns: []string{"a/b"}}); len(got) != 1 || got["a/b"][1] == `\HasNoChildren` {
			t.Errorf("a deleted parent: %v", got)
		}
		do("delete a level without mail", a.Delete(ctx, "a/b"), store.ErrHasChildren)
		do("create it again", a.Create(ctx, "a/b", nil), nil)
		do("delete a child", a.Delete(ctx, "a/b/c"), nil)
		do("delete", a.Delete(ctx, "x"), nil)
		see("INBOX INBOX/sub a a/b")

		do("subscribe", a.Subscribe(ctx, "a/b", true), nil)
		do("subscribe", a.Subscribe(ctx, "other", true), nil)
		do("subscribe again", a.Subscribe(ctx, "other", true), nil)
		do("rename below itself", a.Rename(ctx, "a", "a/x"), store.ErrCannot)
		do("rename nothing", a.Rename(ctx, "nope", "y"), store.ErrNotFound)
		do("rename to one that is there", a.Rename(ctx, "a/b", "INBOX/sub"), store.ErrExists)
		do("rename to INBOX", a.Rename(ctx, "a/b", "inbox"), store.ErrExists)
		do("rename", a.Rename(ctx, "a", "neu/place"), nil)
		see("INBOX INBOX/sub neu neu/place neu/place/b")
		if got := names(list(t, a, store.ListQuery{Subscribed: true})); got != "neu/place/b other" {
			t.Errorf("subscribed %s", got)
		}
		do("rename back", a.Rename(ctx, "neu/place/b", "b"), nil)
		see("INBOX INBOX/sub b neu neu/place")
		do("unsubscribe", a.Subscribe(ctx, "other", false), nil)
		if got := names(list(t, a, store.ListQuery{Subscribed: true})); got != "b" {
			t.Errorf("subscribed %s", got)
		}
	})
}

// What is deleted and made again may never have the old UIDVALIDITY, though crashes
// left its files.
func TestRecreate(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		seen := map[uint32]bool{}
		for range 5 {
			if err := a.Create(t.Context(), "box", nil); err != nil {
				t.Fatal(err)
			}
			s, err := a.trees[0].find("box")
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.open()
			if err != nil {
				t.Fatal(err)
			}
			if err := fsys.Replace(d.control, "dovecot-uidlist", "uidlist.tmp", []byte("3 V7 N1\n"), 0o600, false); err != nil {
				t.Fatal(err)
			}
			d.close()
			if err := a.Delete(t.Context(), "box"); err != nil {
				t.Fatal(err)
			}
			if err := a.Create(t.Context(), "box", nil); err != nil {
				t.Fatal(err)
			}
			if s, err = a.trees[0].find("box"); err != nil {
				t.Fatal(err)
			}
			if d, err = s.open(); err != nil {
				t.Fatal(err)
			}
			if _, err := d.control.Stat("dovecot-uidlist"); err == nil {
				t.Error("the uidlist of the deleted mailbox is there")
			}
			d.close()
			v, err := s.place().uidvalidity()
			if err != nil || seen[v] {
				t.Errorf("UIDVALIDITY %d: %v", v, err)
			}
			seen[v] = true
			if err := a.Delete(t.Context(), "box"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSpecialUse(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		use := []imap.MailboxAttr{`\sent`, imap.MailboxAttrArchive}
		if err := a.Create(t.Context(), "a/Gesendet", use); err != nil {
			t.Fatal(err)
		}
		if err := a.Create(t.Context(), "all", []imap.MailboxAttr{imap.MailboxAttrAll}); !errors.Is(err, store.ErrCannot) {
			t.Errorf(`\All: %v`, err)
		}
		want := `map[a/Gesendet:[\Archive \HasNoChildren \Sent]]`
		for range 2 { // once more from memory
			if got := fmt.Sprint(list(t, a, store.ListQuery{Patterns: []string{"a/%"}})); got != want {
				t.Error(got)
			}
		}
		if err := a.Rename(t.Context(), "a/Gesendet", "Gesendet"); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(list(t, a, store.ListQuery{Patterns: []string{"G*"}})); got != `map[Gesendet:[\Archive \HasNoChildren \Sent]]` {
			t.Error(got)
		}
	})
}

// RFC 9051 section 6.3.9, and RFC 5258 section 5 for the examples.
func TestListExtended(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		for _, n := range []store.Name{"Fruit/Apple", "Fruit/Banana", "Tofu", "Vegetable/Corn"} {
			if err := a.Create(t.Context(), n, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range []store.Name{"INBOX", "Fruit/Banana", "Fruit/Peach", "Vegetable", "Gone/Deep/Down"} {
			if err := a.Subscribe(t.Context(), n, true); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			q    store.ListQuery
			want string
		}{
			{store.ListQuery{Patterns: []string{"*"}}, "Fruit Fruit/Apple Fruit/Banana INBOX Tofu Vegetable Vegetable/Corn"},
			{store.ListQuery{Patterns: []string{"%"}}, "Fruit INBOX Tofu Vegetable"},
			{store.ListQuery{Patterns: []string{"inbox", "%/C*"}}, "INBOX Vegetable/Corn"},
			{store.ListQuery{Patterns: []string{"*"}, Subscribed: true}, "Fruit/Banana Fruit/Peach Gone/Deep/Down INBOX Vegetable"},
			{store.ListQuery{Patterns: []string{"%"}, Subscribed: true}, "INBOX Vegetable"},
			{store.ListQuery{Patterns: []string{"%"}, Subscribed: true, Deep: true}, "Fruit Gone INBOX Vegetable"},
			{store.ListQuery{Patterns: []string{"nothing"}}, ""},
		} {
			if got := names(list(t, a, c.q)); got != c.want {
				t.Errorf("%+v: %s, want %s", c.q, got, c.want)
			}
		}
		got := list(t, a, store.ListQuery{Patterns: []string{"*"}, Subscribed: true, Deep: true})
		for n, want := range map[string]string{
			"Fruit":       `[CHILDINFO \HasChildren]`,
			"Fruit/Peach": `[\HasNoChildren \NonExistent]`,
			"Gone":        `[CHILDINFO \HasNoChildren \NonExistent]`,
			"Vegetable":   `[\HasChildren]`,
		} {
			if fmt.Sprint(got[n]) != want {
				t.Errorf("%s: %v, want %s", n, got[n], want)
			}
		}
	})
}

// Courier's clients see every name below INBOX.
func TestPrefix(t *testing.T) {
	root := store.Root{Mail: filepath.Join(t.TempDir(), "Maildir"), Prefix: "INBOX.", Create: true, Escape: store.EscapeCourier}
	a := openAccount(t, '.', root)
	if err := a.Create(t.Context(), "INBOX.a.b", nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Create(t.Context(), "a", nil); !errors.Is(err, store.ErrCannot) {
		t.Errorf("a name outside the prefix: %v", err)
	}
	if got := fmt.Sprint(list(t, a, store.ListQuery{})); got != `map[INBOX:[\HasChildren] INBOX.a:[\HasChildren] INBOX.a.b:[\HasNoChildren]]` {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(root.Mail, ".a.b", "cur")); err != nil {
		t.Error(err)
	}
	if got := names(list(t, a, store.ListQuery{Patterns: []string{"INBOX.%"}})); got != "INBOX.a" {
		t.Error(got)
	}
}

// A second root stands behind its prefix, and hides what the first has there.
func TestTwoRoots(t *testing.T) {
	dir := t.TempDir()
	roots := []store.Root{
		{Mail: filepath.Join(dir, "own"), Create: true},
		{Mail: filepath.Join(dir, "team"), Create: true, Prefix: "Team/"},
	}
	for _, d := range []string{"own/.Team.x", "own/.Mine", "team/.Plans.2026"} {
		if err := os.MkdirAll(filepath.Join(dir, d, "cur"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Options{Host: "test.example", Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := fmt.Sprint(list(t, a, store.ListQuery{})); got != `map[INBOX:[\HasNoChildren] Mine:[\HasNoChildren] Team:[\HasChildren \NonExistent] Team/Plans:[\HasChildren \NonExistent] Team/Plans/2026:[\HasNoChildren]]` {
		t.Error(got)
	}
	if err := a.Create(t.Context(), "Team/New", nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "team", ".New", "cur")); err != nil {
		t.Error(err)
	}
	if err := a.Rename(t.Context(), "Mine", "Team/Mine"); !errors.Is(err, store.ErrCannot) {
		t.Errorf("rename into another root: %v", err)
	}
	for _, n := range []store.Name{"Team/x", "Team"} {
		if _, err := a.Status(t.Context(), n, false); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("status of %q: %v", n, err)
		}
	}
}

func TestInboxElsewhere(t *testing.T) {
	dir := t.TempDir()
	root := store.Root{Mail: filepath.Join(dir, "mail"), Inbox: filepath.Join(dir, "spool", "ann"), Create: true}
	a := openAccount(t, '/', root)
	s, err := a.trees[0].find(store.Inbox)
	if err != nil || s.path != root.Inbox {
		t.Fatalf("INBOX in %s: %v", s.path, err)
	}
	if _, err := os.Stat(filepath.Join(root.Inbox, "cur")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root.Mail, "cur")); err == nil {
		t.Error("the root has mail too")
	}
}

// Directories that no spelling of ours gives are shown, opened, renamed and deleted.
func TestForeignSpelling(t *testing.T) {
	for _, l := range []store.Root{{}, {Layout: store.LayoutFS}} {
		a := newAccount(t, l)
		dot := "."
		if l.Layout == store.LayoutFS {
			dot = ""
		}
		for _, dir := range []string{"&AGE-", "latin-\xe9", "Ümläut", ".INBOX", ".inbox"} {
			if !strings.HasPrefix(dir, ".") {
				dir = dot + dir
			} else if dot == "" {
				dir = dir[1:]
			}
			if err := os.MkdirAll(filepath.Join(a.trees[0].root.Mail, dir, "cur"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if got := names(list(t, a, store.ListQuery{})); got != "&AGE- INBOX latin-é Ümläut" {
			t.Error(got)
		}
		for _, n := range []store.Name{"&AGE-", "latin-é", "Ümläut"} {
			if _, err := a.trees[0].find(n); err != nil {
				t.Error(err)
			}
			if err := a.Create(t.Context(), n, nil); !errors.Is(err, store.ErrExists) {
				t.Errorf("create %q: %v", n, err)
			}
		}
		if err := a.Rename(t.Context(), "latin-é", "é"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(a.trees[0].root.Mail, dot+"&AOk-", "cur")); err != nil {
			t.Error(err)
		}
		if err := a.Delete(t.Context(), "Ümläut"); err != nil {
			t.Error(err)
		}
		if got := names(list(t, a, store.ListQuery{})); got != "&AGE- INBOX é" {
			t.Error(got)
		}
	}
}

// No name and no link leads outside the root, except where the configuration says so.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	outside, shared := filepath.Join(dir, "outside"), filepath.Join(dir, "shared")
	for _, d := range []string{outside + "/cur", shared + "/team/cur", shared + "/team/sub/cur"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []store.Root{{}, {Layout: store.LayoutFS}} {
		l.FollowLinks = []string{shared}
		a := newAccount(t, l)
		dot := "."
		if l.Layout == store.LayoutFS {
			dot = ""
		}
		for name, target := range map[string]string{"evil": outside, "team": shared + "/team", "sly": shared + "/../outside", "round": shared, "gone": shared + "/none"} {
			if err := os.Symlink(target, filepath.Join(a.trees[0].root.Mail, dot+name)); err != nil {
				t.Fatal(err)
			}
		}
		want := "INBOX team"
		if dot == "" {
			want = "INBOX team team/sub"
		}
		if got := names(list(t, a, store.ListQuery{})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		for _, n := range []store.Name{"evil", "sly", "gone", "../outside", "evil/cur"} {
			if s, err := a.trees[0].find(n); err == nil {
				t.Errorf("%q leads to %s", n, s.path)
			}
		}
		s, err := a.trees[0].find("team")
		if err != nil || s.path != shared+"/team" {
			t.Fatalf("team leads to %q: %v", s.path, err)
		}
		d, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		d.close()
		// The link may be changed after it was read: its target still holds it.
		if err := os.RemoveAll(shared + "/team/tmp"); err != nil {
			t.Fatal(err)
		}
		if err := a.Delete(t.Context(), "team"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(shared + "/team/cur"); err != nil {
			t.Error("deleting the link deleted the mail:", err)
		}
	}
}

// A link that is read as allowed may lead on: what counts is where it ends. Links in a
// ring, and to the tree itself, harm nobody.
func TestLinksThatLeadOn(t *testing.T) {
	for _, layout := range []store.Layout{store.LayoutMaildirPP, store.LayoutFS} {
		dir := t.TempDir()
		root, shared := filepath.Join(dir, "Maildir"), filepath.Join(dir, "shared")
		dot := "."
		if layout == store.LayoutFS {
			dot = ""
		}
		for _, d := range []string{dir + "/outside/cur", shared + "/team/cur", root + "/cur", root + "/" + dot + "real/cur"} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{
			shared + "/chain": dir + "/outside", shared + "/dots": "../outside", shared + "/a": "b", shared + "/b": "a", shared + "/short": "team",
			root + "/" + dot + "chain": shared + "/chain", root + "/" + dot + "dots": shared + "/dots", root + "/" + dot + "ring": shared + "/a",
			root + "/" + dot + "self": dot + "self", root + "/" + dot + "short": "../shared/short",
			root + "/" + dot + "alias": dot + "real", root + "/" + dot + "up": "..", root + "/" + dot + "here": ".", root + "/" + dot + "file": "/etc/passwd",
		} {
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
		}
		var log logLines
		s, err := New(Options{Host: "test.example", Poll: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		acct, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root, Layout: layout, FollowLinks: []string{shared, root}}}})
		if err != nil {
			t.Fatal(err)
		}
		a := acct.(*account)
		for range 2 {
			if got := names(list(t, a, store.ListQuery{})); got != "INBOX alias real short" {
				t.Errorf("%s: %q", layout, got)
			}
		}
		for _, n := range []string{"chain", "dots", "ring", "self", "up", "here", "file"} {
			if _, err := a.Hold(t.Context(), store.Name(n), true, nil); err == nil {
				t.Errorf("%s: %q was opened", layout, n)
			}
			if lines := log.with("/" + dot + n + "\n"); len(lines) > 1 || len(lines) == 0 && n != "here" {
				t.Errorf("%s: %d lines on %q", layout, len(lines), n)
			}
		}
		// Two names of one directory are one mailbox.
		one, err := a.Hold(t.Context(), "real", true, nil)
		if err != nil {
			t.Fatal(err)
		}
		two, err := a.Hold(t.Context(), "alias", true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if one.(*hold).m != two.(*hold).m || one.Info().UIDValidity != two.Info().UIDValidity {
			t.Errorf("%s: two mailboxes of one directory", layout)
		}
		one.Close()
		two.Close()
		closeTree(t, s, a)
	}
}

func TestUIDValidity(t *testing.T) {
	a := newAccount(t, store.Root{})
	tr := a.trees[0]
	take := func(want uint32) {
		t.Helper()
		if v, err := tr.freshUIDValidity(); err != nil || v != want {
			t.Errorf("took %08x, want %08x: %v", v, want, err)
		}
		b, _ := os.ReadFile(filepath.Join(tr.root.Mail, uidvalidityFile))
		if got := string(b); got != fmt.Sprintf("%08x", want) {
			t.Errorf("the file says %q", got)
		}
		if files, _ := filepath.Glob(filepath.Join(tr.root.Mail, uidvalidityPrefix+"*")); len(files) != 1 || !strings.HasSuffix(files[0], uidvalidityName(want)) {
			t.Errorf("files %q", files)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(tr.root.Mail, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	take(1795500000) // the time
	take(1795500001)
	write(uidvalidityFile, "nonsense")
	take(1795500002)
	write(uidvalidityFile, "00000005") // an old one
	take(1795500003)
	write(uidvalidityName(1795600000), "") // the larger of two counts
	write(uidvalidityFile, "00000005")
	take(1795600001)
}

// Who needs many values takes several at once, and so syncs seldom; each is above all that
// anyone was given before, though another program takes values in between.
func TestManyUIDValiditiesAscend(t *testing.T) {
	mem := faultfs.NewMem()
	l := newLab(t, mem)
	l.must(l.open("boot"))
	defer l.close()
	tr := l.a.(*account).trees[0]
	l.fs.Reset()
	last := uint32(0)
	take := func() {
		t.Helper()
		v, err := tr.freshUIDValidity()
		if l.must(err); v <= last {
			t.Fatalf("took %d after %d", v, last)
		}
		last = v
	}
	for range 1000 {
		take()
	}
	if n := strings.Count(l.fs.Transcript(), "sync"); n > 10 {
		t.Errorf("%d syncs for 1,000 values", n)
	}
	for range 100 { // another program makes a mailbox now and then
		d := tr.controlRoot()
		known, ok := readUIDValidity(d)
		if !ok || known < last {
			t.Fatalf("the file says %d, %d was taken", known, last)
		}
		v, err := (&tree{mail: d, clock: tr.clock}).freshUIDValidity()
		if l.must(err); v <= last {
			t.Fatalf("the other program took %d after %d", v, last)
		}
		last = v
		for range 20 {
			take()
		}
	}
}

// Another process takes values for its mailboxes before any one of the calls by which we
// take one, so also between two names that a directory gives: nobody gets what another got.
func TestUIDValidityIsGivenOnce(t *testing.T) {
	for _, born := range []bool{false, true} {
		for others := 1; others <= 3; others++ {
			for n, met := 1, true; met && !t.Failed(); n++ {
				met = false
				mem := faultfs.NewMem()
				fs := faultfs.New(mem)
				fs.EachName = true
				ours, err := fs.Make("/Maildir", 0o700)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := mem.Root("/Maildir")
				if err != nil {
					t.Fatal(err)
				}
				var given []uint32
				take := func(d fsys.Dir) {
					t.Helper()
					tr := &tree{clock: func() time.Time { return time.Unix(1795500000, 0) }}
					v, err := tr.nextUIDValidity(d, 1)
					if err != nil || slices.Contains(given, v) {
						t.Errorf("a tree with a value %v, %d taken before call %d: %d was taken beside %d, %v", born, others, n, v, given, err)
					}
					given = append(given, v)
				}
				if born {
					take(theirs)
				}
				fs.Reset()
				fs.FailWhere(func(k int, _ string) error {
					if met = met || k == n; k == n {
						for range others {
							take(theirs)
						}
					}
					return nil
				})
				take(ours)
				fs.FailWhere(nil)
				take(theirs)
				take(ours)
			}
		}
	}
}

func TestSubscriptionLines(t *testing.T) {
	s := spelling{layout: store.LayoutMaildirPP, sep: '/'}
	for _, file := range []string{
		"V\t2\n\nINBOX\nArchive\t2024\nR&-D\nGone\nodd\x01tname\n",
		"INBOX\nArchive.2024\nR&-D\n..broken\n",
	} {
		l := parseSubscriptions([]byte(file))
		if got := string(l.encode()); got != file {
			t.Errorf("%q came back as %q", file, got)
		}
		if levels, ok := l.levels(s, l.lines[1]); !ok || !slices.Equal(levels, []string{"Archive", "2024"}) {
			t.Errorf("%q reads %q", l.lines[1], levels)
		}
		if line, err := l.line(s, []string{"Archive", "2024"}); err != nil || line != l.lines[1] {
			t.Errorf("spelled %q: %v", line, err)
		}
	}
	a := newAccount(t, store.Root{})
	path := filepath.Join(a.trees[0].root.Mail, "subscriptions")
	if err := os.WriteFile(path, []byte("Old.Name\n\xff..x\nOld\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Subscribe(t.Context(), "New/é", true); err != nil {
		t.Fatal(err)
	}
	if err := a.Subscribe(t.Context(), "Old", false); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "Old.Name\n\xff..x\nNew.&AOk-\n" {
		t.Errorf("the file is %q", b)
	}
	// A lock that was left long ago does not hold anybody; a fresh one does.
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Unix(1795500000-60, 0)
	if err := os.Chtimes(path+".lock", long, long); err != nil {
		t.Fatal(err)
	}
	if err := a.Subscribe(t.Context(), "Third", true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Subscribe(ctx, "Fourth", true); !errors.Is(err, context.Canceled) {
		t.Errorf("beside a fresh lock: %v", err)
	}
	if got := names(list(t, a, store.ListQuery{Subscribed: true})); got != "New/é Old/Name Third" {
		t.Error(got)
	}
}

func FuzzSubscriptions(f *testing.F) {
	f.Add([]byte("V\t2\n\na\tb\x01tc\n\xff\n"))
	f.Add([]byte("a.b\n\n.x\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := spelling{layout: store.LayoutMaildirPP, sep: '/', escape: store.EscapeBackslash}
		l := parseSubscriptions(b)
		again := parseSubscriptions(l.encode())
		if !slices.Equal(l.lines, again.lines) && len(l.lines) > 0 && l.lines[0] != "V\t2" {
			t.Fatalf("%q, then %q", l.lines, again.lines)
		}
		for _, line := range l.lines {
			levels, ok := l.levels(s, line)
			if !ok {
				continue
			}
			spelled, err := l.line(s, levels)
			if err != nil {
				continue
			}
			if got, ok := l.levels(s, spelled); !ok || !slices.Equal(got, levels) {
				t.Fatalf("%q reads %q, spelled %q reads %q", line, levels, spelled, got)
			}
		}
	})
}

func BenchmarkList10k(b *testing.B) {
	root := store.Root{Mail: filepath.Join(b.TempDir(), "Maildir"), Create: true}
	for i := range 10000 {
		if err := os.MkdirAll(filepath.Join(root.Mail, fmt.Sprintf(".Lists.group%d.list%d", i%100, i), "cur"), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	s, err := New(Options{Host: "test.example"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	a, err := s.Account(b.Context(), store.Identity{User: "ann", Roots: []store.Root{root}})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range a.List(b.Context(), store.ListQuery{Patterns: []string{"*"}}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 10102 {
			b.Fatal(n)
		}
	}
}

// What the system refuses reaches the client as what it is.
func TestErrorsAreDecisions(t *testing.T) {
	a := newAccount(t, store.Root{})
	left := 1 << 30
	tr := a.trees[0]
	tr.mail = stoppingDir{tr.mail, stoppingFS{fsys.OS, &left}}
	left = 0
	if err := a.Create(t.Context(), "x", nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("EIO: %v", err)
	}
	left = 1 << 30
	if err := a.Create(t.Context(), "inbox", nil); !errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a decision of ours: %v", err)
	}
	if err := a.Create(t.Context(), "x", nil); err != nil {
		t.Errorf("when the cause is gone: %v", err)
	}
}

// A mailbox whose UIDs could not be kept is shown under a UIDVALIDITY all the same: it is
// not that of its UIDs when they are kept, nor anybody else's.
func TestUIDValidityThatWasLentIsNotTaken(t *testing.T) {
	a := newAccount(t, store.Root{})
	tr := a.trees[0]
	if err := os.WriteFile(filepath.Join(tr.root.Mail, uidvalidityName(1795499999)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lent := tr.lendUIDValidity()
	for range 2 {
		if v, err := tr.freshUIDValidity(); err != nil || v <= lent {
			t.Errorf("lent %d, took %d: %v", lent, v, err)
		}
	}
}

// Values run ahead of the clock where many mailboxes were made: what is lent then was
// no mailbox's before.
func TestUIDValidityThatIsLentWasNotGiven(t *testing.T) {
	a := newAccount(t, store.Root{})
	tr := a.trees[0]
	given := map[uint32]bool{}
	for range 200 {
		v, err := tr.freshUIDValidity()
		if err != nil {
			t.Fatal(err)
		}
		given[v] = true
	}
	now := tr.clock()
	for s := range 300 {
		tr.clock = func() time.Time { return now.Add(time.Duration(s) * time.Second) }
		if v := tr.lendUIDValidity(); given[v] {
			t.Fatalf("%d s later %d is lent, which a mailbox has", s, v)
		}
	}
}

// The tree is put back from a backup while a session is there: what it does from then on,
// and whoever comes, is in the tree that is there now.
func TestTreeThatIsPutBackUnderASession(t *testing.T) {
	eachLayout(t, func(t *testing.T, a *account) {
		ctx := t.Context()
		if err := a.Create(ctx, "old", nil); err != nil {
			t.Fatal(err)
		}
		mail := a.who.Roots[0].Mail
		if out, err := exec.Command("cp", "-a", mail, mail+".backup").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := a.Create(ctx, "since", nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(mail, mail+".gone"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(mail+".backup", mail); err != nil {
			t.Fatal(err)
		}
		if got := names(list(t, a, store.ListQuery{})); got != "INBOX old" {
			t.Errorf("after it was put back there is %s", got)
		}
		if err := a.Create(ctx, "neu", nil); err != nil {
			t.Error(err)
		}
		b, err := a.s.Account(ctx, a.who)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if got := names(list(t, b, store.ListQuery{})); got != "INBOX neu old" {
			t.Errorf("another session sees %s", got)
		}
		if err := os.RemoveAll(mail); err != nil {
			t.Fatal(err)
		}
		for _, err := range a.List(ctx, store.ListQuery{Patterns: []string{"*"}}) {
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("without a tree: %v", err)
			}
		}
	})
}
