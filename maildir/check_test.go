package maildir

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/store"
)

// snapshot is all that can be seen of a tree, but for when it was read.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		sys := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d %d:%d %v %v %d ", path, fi.Mode(), sys.Ino, sys.Uid, sys.Gid, sys.Mtim, sys.Ctim, sys.Nlink)
		if fi.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%x", sha256.Sum256(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// look runs Check on one root and gives its findings as lines. Nothing may have changed.
func look(t *testing.T, root store.Root, opt CheckOptions) ([]string, Checked) {
	t.Helper()
	base := filepath.Dir(root.Mail)
	before := snapshot(t, base)
	var lines []string
	done, err := Check(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}}, opt, func(f Finding) {
		rel, err := filepath.Rel(base, f.Path)
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s %q", f.Kind, f.Mailbox, rel, f.What, f.Names))
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, base); after != before {
		t.Errorf("Check changed the tree:\n%s\nto\n%s", before, after)
	}
	slices.Sort(lines)
	return lines, done
}

// What Check finds, each provoked: files by path below the root, in which HOST, DEAD and
// ALIVE stand for this host, a process that ended, and one that lives. A path that ends
// in "/" is a directory, "->" makes a link.
func TestCheck(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	env := uidlist.System()
	words := strings.NewReplacer("HOST", env.Host, "DEAD", fmt.Sprint(dead.Process.Pid), "ALIVE", "1")
	day := time.Now().Format(time.DateOnly)
	for _, tt := range []struct {
		name  string
		files string // path: content
		root  store.Root
		later time.Duration // the clock of Check is ahead by so much
		want  []string      // contained in the lines, in order
	}{
		{name: "nothing", files: "cur/1.a:2,Sa|new/2.b|dovecot-uidlist:3 V1 N2\n1 :1.a\n|dovecot-keywords:0 $Junk\n|subscriptions:V\t2\n\n.gone\n|.Sent/cur/|.Sent/maildirfolder:|tmp/3.c"},
		{name: "damaged uidlist", files: "dovecot-uidlist:3 V1 N2\nx\n1 :1.a\ny\n|.A/cur/|.A/dovecot-uidlist:3 N5\n|.B/cur/|.B/dovecot-uidlist:7 V1\n|.C/cur/|.C/dovecot-uidlist:3 V1 N1\n4 :x|.D/cur/|.D/dovecot-uidlist:3 V1 N2\n4294967294 :x\n",
			want: []string{"uidlist-damaged A Maildir/.A/dovecot-uidlist: no UIDVALIDITY", "uidlist-damaged B Maildir/.B/dovecot-uidlist: unsupported version",
				"uidlist-damaged C Maildir/.C/dovecot-uidlist: the last line has no end", "uidlist-damaged D Maildir/.D/dovecot-uidlist: no UID is left",
				"uidlist-damaged INBOX Maildir/dovecot-uidlist: 2 lines prove nothing"}},
		{name: "damaged keywords", files: "dovecot-keywords:0 $Junk\nx\n0 Again\n|cur/1.a:2,Sabz|roost-keywords:roost-keywords 1\nX :1.a",
			want: []string{"keywords-damaged INBOX Maildir/dovecot-keywords: 2 lines are of no use", "keywords-damaged INBOX Maildir/roost-keywords: its first line or its end",
				"keywords-lost INBOX Maildir/dovecot-keywords: messages have the keywords of the letters b, z"}},
		{name: "damaged annotations", files: "roost-metadata:x\n|roost-server-metadata:roost-metadata 1\n/private/x 5%\n|.A/cur/|.A/roost-metadata:roost-metadata 1\n/private/x y",
			want: []string{"metadata-damaged  Maildir/roost-server-metadata: line 2: the value has a control character, or a %", "metadata-damaged INBOX Maildir/roost-metadata: line 1: it is not"}},
		{name: "damaged subscriptions", files: "subscriptions:V\t2\n\nA\n\t\tB\n", want: []string{"subscriptions-damaged  Maildir/subscriptions: 1 line is no name"}},
		{name: "damaged state", files: "roost-state:roost-state 1\nuidnext x\n", want: []string{"state-damaged INBOX Maildir/roost-state: it is damaged"}},
		{name: "locks", files: "dovecot-uidlist.lock:DEAD:HOST|.A/cur/|.A/dovecot-uidlist.lock:ALIVE:HOST|.B/cur/|.B/dovecot-uidlist.lock:5:elsewhere|subscriptions.lock:V\t2\n\n", later: time.Minute,
			want: []string{"lock-left INBOX Maildir/dovecot-uidlist.lock: the lock is left over (process DEAD)"}},
		{name: "old locks", files: "dovecot-keywords.lock:|.A/cur/|.A/dovecot-uidlist.lock:ALIVE:HOST|.B/cur/|.B/dovecot-uidlist.lock:5:elsewhere|subscriptions.lock:V\t2\n\n", later: time.Hour,
			want: []string{"lock-held A Maildir/.A/dovecot-uidlist.lock: the lock is held since " + day, "lock-left  Maildir/subscriptions.lock: the lock is left over (nobody names himself in it)",
				"lock-left B Maildir/.B/dovecot-uidlist.lock: the lock is left over (process 5 of host elsewhere)", "lock-left INBOX Maildir/dovecot-keywords.lock"}},
		{name: "what deliveries left", files: "tmp/1.a|tmp/2.b|tmp/.hidden|tmp/sub/", later: 37 * time.Hour, want: []string{"tmp-left INBOX Maildir/tmp: 2 files of deliveries that were never finished, the oldest of " + day}},
		{name: "what deliveries left but now", files: "tmp/1.a|tmp/2.b", later: 35 * time.Hour},
		{name: "what is no message", files: "cur/a/|new/b\nc|new/d->/etc/passwd|cur/.e/|cur/1.f:2,", want: []string{`odd-files INBOX Maildir/cur: 1 entry is no message: a link, a directory, or a name with a line end ["a"]`, `odd-files INBOX Maildir/new: 2 entries are`}},
		{name: "links", files: ".A->/etc|.B->../other|.C->../gone|../other/cur/|.d->/etc/passwd|..e->/etc|f->/etc", root: store.Root{FollowLinks: []string{"BASE"}},
			want: []string{`link-refused  Maildir/.A: it leads to /etc ["/etc"]`, `link-refused  Maildir/.C: it leads to ../gone`, `link-refused  Maildir/.d: it leads to /etc/passwd`}},
		{name: "links in fs", files: "A/cur/|A/B->/etc|C->/etc|dovecot->/etc/passwd|cur/1.a->/etc/passwd", root: store.Root{Layout: store.LayoutFS},
			want: []string{`link-refused  Maildir/A/B: it leads`, `link-refused  Maildir/C: it leads`, `link-refused  Maildir/dovecot: it leads`, `odd-files INBOX Maildir/cur`}},
		{name: "a second INBOX", files: ".INBOX/cur/|.inbox/cur/|.INBOX.sub/cur/", want: []string{"inbox-twice  Maildir/.INBOX: its mail is not shown", "inbox-twice  Maildir/.inbox"}},
		{name: "what no client could name", files: "..A/cur/|.A..B/cur/|..C/x|.D/cur/", want: []string{"mailbox-hidden  Maildir/..A: it holds mail", "mailbox-hidden  Maildir/.A..B: it holds mail"}},
		{name: "a clock that is behind", files: "cur/1.a:2,", later: -time.Hour, want: []string{"clock-behind INBOX Maildir/"}},
		{name: "a clock that is behind the UIDs", files: "dovecot-uidlist:3 V1 N2 R" + fmt.Sprint(time.Now().Add(26*time.Hour).UnixMicro()) + "\n", want: []string{"clock-behind INBOX Maildir/dovecot-uidlist: it was written at "}},
		{name: "a mark a day ahead", files: "dovecot-uidlist:3 V1 N2 R" + fmt.Sprint(time.Now().Add(24*time.Hour).UnixMicro()) + "\n"},
		{name: "control apart", files: "cur/1.a:2,|dovecot-uidlist:3 N2\n|../control/.INBOX/dovecot-uidlist:3 V1 N2\nx\n|../control/.A/|.A/cur/|.B/cur/|../control/subscriptions:V\t2\n\n\t\n", root: store.Root{Control: "BASE/control", Index: "BASE/index"},
			want: []string{"subscriptions-damaged  control/subscriptions", "uidlist-damaged INBOX control/.INBOX/dovecot-uidlist: 1 line proves nothing"}},
		{name: "control that is not there yet", files: "cur/1.a:2,|dovecot-uidlist:3 N2\n", root: store.Root{Control: "BASE/control"}},
		{name: "what cannot be looked at", files: "cur:x|new/|tmp/|.A/cur/|.A/new->/etc", want: []string{"mailbox-unreadable A Maildir/.A/new: not a directory", "mailbox-unreadable INBOX Maildir/cur: not a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			tt.root.Mail = filepath.Join(base, "Maildir")
			plant(t, tt.root.Mail, words.Replace(tt.files))
			tt.root.Control = strings.Replace(tt.root.Control, "BASE", base, 1)
			for i := range tt.root.FollowLinks {
				tt.root.FollowLinks[i] = base
			}
			mine := uidlist.System()
			mine.Now = func() time.Time { return time.Now().Add(tt.later) }
			lines, _ := look(t, tt.root, CheckOptions{Env: mine})
			for i, line := range lines {
				if i >= len(tt.want) || !strings.HasPrefix(line, words.Replace(tt.want[i])) {
					t.Errorf("found %s", line)
				}
			}
			if len(lines) < len(tt.want) {
				t.Errorf("found %d, want %q", len(lines), tt.want)
			}
		})
	}
}

// plant makes files: "path:content|path/|path->target".
func plant(t *testing.T, dir, files string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if !strings.Contains(files, "cur:x") {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file := range strings.SplitSeq(files, "|") {
		i := strings.IndexByte(file, ':')
		if strings.Contains(file, ":2,") {
			i = -1
		}
		path, content := file, ""
		if i >= 0 {
			path, content = file[:i], file[i+1:]
		}
		path, target, link := strings.Cut(path, "->")
		full := filepath.Join(dir, path)
		err := os.MkdirAll(filepath.Dir(full), 0o700)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, full)
		case strings.HasSuffix(path, "/"):
			err = os.MkdirAll(full, 0o700)
		default:
			err = os.WriteFile(full, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Trees of other programs have nothing wrong that Check would invent, and are not changed.
func TestCheckFixtures(t *testing.T) {
	for _, f := range []struct {
		archive string // below testdata
		mail    string // the root in it
		root    store.Root
		boxes   int
		want    []string // prefixes, in order
	}{
		{archive: "dovecot23-maildirpp/Maildir.tar.gz", mail: "Maildir", boxes: 20},
		{archive: "dovecot23-fs/Maildir.tar.gz", mail: "Maildir", root: store.Root{Layout: store.LayoutFS}, boxes: 23},
		{archive: "dovecot23-names/control.tar.gz", mail: "control/Maildir", root: store.Root{Control: "control/control"}, boxes: 4},
		{archive: "dovecot23-names/escdot.tar.gz", mail: "escdot", boxes: 7},
		{archive: "dovecot23-zlib/Maildir.tar.gz", mail: "Maildir", boxes: 1},
		{archive: "courier/Maildir.tar.gz", mail: "Maildir", boxes: 18},
		{archive: "postfix-fresh/virtual.tar.gz", mail: "Maildir", boxes: 2},
		{archive: "opensmtpd-fresh/vmail.tar.gz", mail: "Maildir", boxes: 1},
		{archive: "dovecot23-odd/Maildir.tar.gz", mail: "Maildir", boxes: 45, want: []string{
			"inbox-twice  Maildir/.INBOX:", "inbox-twice  Maildir/.inbox:",
			"keywords-damaged kw bad Maildir/.kw bad/dovecot-keywords: 5 lines", "keywords-damaged kw dup Maildir/.kw dup/dovecot-keywords: 1 line",
			"keywords-lost INBOX Maildir/dovecot-keywords: messages have the keywords of the letters f,", "keywords-lost kw bad ", "keywords-lost kw dup ",
			"keywords-lost kw gap Maildir/.kw gap/dovecot-keywords: messages have the keywords of the letters b, z,", "keywords-lost kw none ",
			"link-refused  Maildir/.danglinglink: it leads to nowhere", "link-refused  Maildir/.link: it leads to .real",
			"mailbox-hidden  Maildir/..double:", "mailbox-hidden  Maildir/.a..b:", "mailbox-hidden  Maildir/.trailing.:",
			"odd-files INBOX Maildir/cur: 5 entries", "odd-files INBOX Maildir/new: 1 entry", "subscriptions-damaged  Maildir/subscriptions: 1 line",
			"uidlist-damaged ul v2 Maildir/.ul v2/dovecot-uidlist: unsupported version", "uidlist-damaged ul v3 V0 ", "uidlist-damaged ul v3 dup uid Maildir/.ul v3 dup uid/dovecot-uidlist: 2 lines",
			"uidlist-damaged ul v3 empty line ", "uidlist-damaged ul v3 garbage ", "uidlist-damaged ul v3 no LF ", "uidlist-damaged ul v3 no colon ", "uidlist-damaged ul v3 slash ",
			"uidlist-damaged ul v3 uid max ", "uidlist-damaged ul v9 ",
		}},
	} {
		dir := unpack(t, f.archive)
		f.root.Mail = filepath.Join(dir, f.mail)
		if f.root.Control != "" {
			f.root.Control = filepath.Join(dir, f.root.Control)
		}
		lines, done := look(t, f.root, CheckOptions{})
		if done.Mailboxes != f.boxes {
			t.Errorf("%s: %+v", f.archive, done)
		}
		for i, l := range lines {
			if i >= len(f.want) || !strings.HasPrefix(l, f.want[i]) {
				t.Errorf("%s: found %s", f.archive, l)
			}
		}
		if len(lines) < len(f.want) {
			t.Errorf("%s: found %d, want %q", f.archive, len(lines), f.want)
		}
	}
}

// A bound on files ends the look, and says so.
func TestCheckIsBounded(t *testing.T) {
	root := store.Root{Mail: filepath.Join(t.TempDir(), "Maildir")}
	var files []string
	for i := range 50 {
		files = append(files, fmt.Sprintf("cur/%d.a:2,", i), fmt.Sprintf(".F%d/cur/1.x:2,", i))
	}
	plant(t, root.Mail, strings.Join(files, "|"))
	n := 60
	if _, done := look(t, root, CheckOptions{Files: &n}); !done.Cut || done.Messages > 60 {
		t.Errorf("%+v", done)
	}
	n = 1000
	if _, done := look(t, root, CheckOptions{Files: &n}); done.Cut || done.Messages != 100 || done.Mailboxes != 51 || n > 1000-100 {
		t.Errorf("%+v, %d left", done, n)
	}
}

// A filesystem of another machine, a mailbox whose index another process holds, and a
// tree that is not there.
func TestCheckSurroundings(t *testing.T) {
	root := store.Root{Mail: filepath.Join(t.TempDir(), "Maildir")}
	plant(t, root.Mail, "roost.lock:")
	lines, _ := look(t, root, CheckOptions{FS: farFS{fsys.OS}, Server: 7, Held: func(fsys.Stat) int { return 5 }})
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "index-held INBOX Maildir/roost.lock: process 5 holds") || !strings.HasPrefix(lines[1], "no-events  Maildir: ") {
		t.Errorf("%q", lines)
	}
	for _, pid := range []int{0, 7} {
		if lines, _ := look(t, root, CheckOptions{Server: 7, Held: func(fsys.Stat) int { return pid }}); len(lines) != 0 {
			t.Errorf("%q", lines)
		}
	}
	root.Mail += "x"
	if _, err := Check(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}}, CheckOptions{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// farFS is a filesystem of another machine.
type farFS struct{ fsys.FS }

func (f farFS) Root(path string) (fsys.Dir, error) {
	d, err := f.FS.Root(path)
	return farDir{d}, err
}

type farDir struct{ fsys.Dir }

func (farDir) Remote() bool { return true }

// No call of a Dir changes anything through lookOnly.
func TestLookOnly(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "a:x|sub/b:y")
	before := snapshot(t, dir)
	d, err := lookOnly{fsys.OS}.Make(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sub, err := d.Sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, d := range []fsys.Dir{d, sub} {
		_, e1 := d.Create("new", 0o600)
		_, e2 := d.Append("a")
		_, e3 := d.Update("a", 0o600)
		for i, err := range []error{e1, e2, e3, d.Link("a", d, "c"), d.Move("a", d, "c"), d.Rename("a", d, "c"), d.Remove("a"), d.Rmdir("sub"),
			d.Mkdir("c", 0o700), d.SetTime("a", time.Unix(1, 0))} {
			if !errors.Is(err, syscall.EROFS) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	}
	if _, err := (lookOnly{fsys.OS}).Make(filepath.Join(dir, "none"), 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("%s\nto\n%s", before, after)
	}
}
