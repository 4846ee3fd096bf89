package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// courierExpected is what Courier-IMAP answered about its tree.
type courierExpected struct {
	List, Lsub []struct {
		UTF8  string
		Flags []string
	}
	Folders map[string]struct {
		Path        string
		UIDValidity uint32
		UIDNext     imap.UID
		Messages    []courierMessage
	}
}

type courierMessage struct {
	UID          imap.UID
	Flags        []string
	InternalDate string
	MessageID    string `json:"message_id"`
	TrueSize     int64  `json:"true_size"`
	Was, Now     string
	KnownBefore  bool `json:"known_before"`
}

const courierFixture = "../maildir/testdata/courier"

func readCourierExpected(t *testing.T) (want courierExpected) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(courierFixture, "EXPECTED.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// unpackCourier lays the tree out as dir/Maildir, with its times.
func unpackCourier(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "-xpzf", filepath.Join(courierFixture, "Maildir.tar.gz"), "--no-same-owner").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := neighbour.Own(dir); err != nil {
		t.Fatal(err)
	}
}

// sameAsCourier asks for all that Courier answered, by the names that Courier's clients
// know. listed is what LIST says of such a name.
func sameAsCourier(t *testing.T, c *imapclient.Client, want courierExpected, listed func(string) string) {
	t.Helper()
	var names, subscribed []string
	for _, l := range want.List {
		names = append(names, listed(l.UTF8))
	}
	for _, l := range want.Lsub {
		if !slices.Contains(l.Flags, `\Noselect`) { // Courier's way to show the levels above
			subscribed = append(subscribed, listed(l.UTF8))
		}
	}
	sameNames(t, c, "LIST", nil, names)
	sameNames(t, c, "subscriptions", &imap.ListOptions{SelectSubscribed: true}, subscribed)
	for name, f := range want.Folders {
		name := courierName(want, name)
		sel, err := c.Select(name, nil).Wait()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.Path == ".MadeByTool.Sub" {
			sel.UIDValidity = f.UIDValidity // Courier had not opened it: it gave one only to answer
		}
		if sel.UIDValidity != f.UIDValidity || sel.UIDNext != f.UIDNext || int(sel.NumMessages) != len(f.Messages) {
			t.Errorf("%s: UIDVALIDITY %d, UIDNEXT %d, %d messages; want %d, %d, %d", name, sel.UIDValidity, sel.UIDNext, sel.NumMessages, f.UIDValidity, f.UIDNext, len(f.Messages))
			continue
		}
		if len(f.Messages) == 0 {
			continue
		}
		got, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true}).Collect()
		if err != nil || len(got) != len(f.Messages) {
			t.Errorf("%s: %d messages, %v", name, len(got), err)
			continue
		}
		for i, m := range f.Messages {
			sameMessage(t, name, got[i], m)
		}
	}
}

// courierName is a folder's name in UTF-8.
func courierName(want courierExpected, wire string) string {
	for _, l := range want.List {
		if strings.ReplaceAll(l.UTF8, "&", "&-") == wire || mutf7(l.UTF8) == wire {
			return l.UTF8
		}
	}
	return wire
}

// mutf7 spells the names of the fixture that are not ASCII.
func mutf7(name string) string {
	return strings.NewReplacer("é", "&AOk-", "日本語", "&ZeVnLIqe-", "Ü", "&ANw-", "ä", "&AOQ-").Replace(name)
}

func sameMessage(t *testing.T, mailbox string, got *imapclient.FetchMessageBuffer, want courierMessage) {
	t.Helper()
	what := fmt.Sprintf("%s UID %d", mailbox, want.UID)
	if got.UID != want.UID { // those that Courier had not seen, too: both give UIDs in the order of names
		t.Errorf("%s: UID %d", what, got.UID)
	}
	var flags []string
	for _, f := range got.Flags {
		if f != `\Recent` {
			flags = append(flags, string(f))
		}
	}
	slices.Sort(flags)
	if expect := slices.Sorted(slices.Values(want.Flags)); !slices.Equal(flags, expect) {
		t.Errorf("%s: flags %q, want %q", what, flags, expect)
	}
	if at := got.InternalDate.UTC().Format("02-Jan-2006 15:04:05 -0700"); strings.TrimLeft(at, "0") != strings.TrimLeft(want.InternalDate, " 0") {
		t.Errorf("%s: date %s, want %s", what, at, want.InternalDate)
	}
	if got.RFC822Size != want.TrueSize {
		t.Errorf("%s: size %d, want %d", what, got.RFC822Size, want.TrueSize)
	}
	if id := strings.Trim(want.MessageID, "<>"); got.Envelope.MessageID != id {
		t.Errorf("%s: message %q, want %q", what, got.Envelope.MessageID, id)
	}
}

func sameNames(t *testing.T, c *imapclient.Client, what string, opt *imap.ListOptions, want []string) {
	t.Helper()
	list, err := c.List("", "*", opt).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range list {
		got = append(got, l.Mailbox)
		if l.Delim != '.' {
			t.Errorf("%s: %q has the separator %q", what, l.Mailbox, l.Delim)
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// nothingLost looks at the disk after the session: each message is where Courier would
// have it too, under its own name, and what Courier keeps is as it was.
func nothingLost(t *testing.T, want courierExpected, dir string, before map[string]string) {
	t.Helper()
	base := func(path string) string {
		base, _, _ := strings.Cut(path, ":")
		return base
	}
	for name, f := range want.Folders {
		have := map[string]int{}
		for _, sub := range []string{"cur", "new"} {
			entries, err := os.ReadDir(filepath.Join(dir, f.Path, sub))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				have[base(sub+"/"+e.Name())]++
			}
		}
		for _, m := range f.Messages {
			if have[base(m.Now)] != 1 {
				t.Errorf("%s: %s is there %d times", name, m.Now, have[base(m.Now)])
			}
			delete(have, base(m.Now))
		}
		if len(have) > 0 {
			t.Errorf("%s: messages that nobody put there: %v", name, have)
		}
		if entries, err := os.ReadDir(filepath.Join(dir, f.Path, "tmp")); err != nil || len(entries) > 0 {
			t.Errorf("%s: tmp/ has %d files, %v", name, len(entries), err)
		}
	}
	after := courierFiles(t, dir)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was changed", path)
		}
	}
}

// courierFiles are the files that Courier needs to go on where it was.
func courierFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, "/courierimap") && e.Name() != "maildirsize" && e.Name() != "maildirfolder" {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil || len(out) < 40 {
		t.Fatalf("%d files of Courier's: %v", len(out), err)
	}
	return out
}

// A tree of Courier's, through the server, with both ways to name its folders: all
// that Courier answered is answered.
func TestCourierFixture(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	neighbour.Compat(t, "tree", "fixture courier", "as found", "UIDs, UIDVALIDITY, keywords and subscriptions taken over; every answer as Courier's")
	want := readCourierExpected(t)
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	bin := buildOnce(t)
	for _, c := range []struct {
		name, keys string
		listed     func(string) string
	}{
		{"prefix", "prefix = \"INBOX.\"", func(n string) string { return n }},
		{"old-prefix", "old_prefix = \"INBOX.\"", func(n string) string { return strings.TrimPrefix(n, "INBOX.") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := filepath.Join(dir, c.name, "ann")
			if err := os.MkdirAll(home, 0o755); err != nil {
				t.Fatal(err)
			}
			unpackCourier(t, home)
			before := courierFiles(t, filepath.Join(home, "Maildir"))
			r, err := neighbour.StartRoost(neighbour.RoostOptions{
				Bin: bin, Dir: filepath.Join(dir, c.name, "roost"), Location: filepath.Join(dir, c.name, "%n/Maildir"),
				Users: map[string]string{"ann": "secret"}, Extra: "separator = \".\"\nutf8 = true\n" + c.keys,
			})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				client, err := imapclient.DialTLS(r.Addr, &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
				if err != nil {
					t.Fatal(err)
				}
				if err := client.Login("ann", "secret").Wait(); err != nil {
					t.Fatal(err)
				}
				ns, err := client.Namespace().Wait()
				if err != nil || len(ns.Personal) != 1 || ns.Personal[0].Delim != '.' || ns.Personal[0].Prefix != map[string]string{"prefix": "INBOX."}[c.name] {
					t.Errorf("NAMESPACE %+v, %v", ns, err)
				}
				sameAsCourier(t, client, want, c.listed)
				client.Logout().Wait()
				client.Close()
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("the server's log:\n%s", r.Log())
			}
			nothingLost(t, want, filepath.Join(home, "Maildir"), before)
		})
	}
}

// What docs/from-courier.md says is done as pasted, on a machine of its own: the users
// come from Courier's userdb, the tree is the fixture, and all that Courier answered is
// answered; then Courier's units are started again.
func TestFromCourier(t *testing.T) {
	if onOwnMachine(t, "useradd passwd", "tar tar") {
		fromCourier(t)
	}
}

// courierUnits stands in for systemd: Roost is started and stopped, Courier's units are
// noted in /var/log/units.
const courierUnits = `
set -eu
sudo() { "$@"; }
ended() {
	case "$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)" in
	"" | Z) ;;
	*) return 1 ;;
	esac
}
systemctl() {
	case "$*" in
	"start roost") roost serve >/var/log/roost.log 2>&1 & echo $! >/var/log/roost.pid ;;
	"stop roost") pid=$(cat /var/log/roost.pid); kill "$pid"; until ended "$pid"; do sleep 0.05; done ;;
	*) echo "$*" >>/var/log/units ;;
	esac
}
`

func fromCourier(t *testing.T) {
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ownMachine(t, top)
	want := readCourierExpected(t)
	page := pages(t)["docs/from-courier.md"]
	conf, steps := blocks(page, "toml"), blocks(page, "sh")
	if len(conf) != 1 || len(steps) != 3 {
		t.Fatalf("the page has %d configurations and %d steps", len(conf), len(steps))
	}
	bin, err := neighbour.BuildRoost("/usr/local/bin")
	if err != nil {
		t.Fatal(bin, err)
	}
	shell(t, top, "userdel vmail 2>/dev/null || :; useradd --uid 5000 --home-dir /var/vmail --create-home --skel /dev/null --shell /usr/sbin/nologin vmail; mkdir -p /etc/courier /var/vmail/example.org/ann")
	write(t, "/etc/courier/userdb", "ann@example.org\thome=/var/vmail/example.org/ann|uid=5000|gid=5000|imappw=$1$pKTZDLSq$jfID/NAOsvUcYVIZcB5SC1|systempw=x\n"+
		"bob@example.org\thome=/var/vmail/example.org/bob|mail=/var/vmail/example.org/ann/Maildir|systempw=$1$pKTZDLSq$jfID/NAOsvUcYVIZcB5SC1|uid=5000|gid=5000\n"+
		"nobody\thome=/nowhere\n")
	tree := "/var/vmail/example.org/ann/Maildir"
	unpackCourier(t, filepath.Dir(tree))
	before := courierFiles(t, tree)
	certificate(t, "/etc/letsencrypt/live/mail.example.org")

	shell(t, top, courierUnits+steps[0])
	shell(t, top, "RENEWED_LINEAGE=/etc/letsencrypt/live/mail.example.org sh contrib/certbot-hook")
	write(t, "/etc/roost/roost.toml", conf[0])
	shell(t, top, courierUnits+steps[1])
	c := await(t, "secret")
	sameAsCourier(t, c.client, want, func(n string) string { return n })
	text := "Subject: stored here\r\n\r\nby a mail program\r\n"
	add := c.client.Append("INBOX.Sent", int64(len(text)), nil)
	if _, err := add.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := add.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := add.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.client.Login("bob@example.org", "secret").Wait(); err == nil {
		t.Error("one login after the other")
	}
	c.client.Logout().Wait()

	shell(t, top, courierUnits+steps[2])
	found, err := filepath.Glob(tree + "/.Sent/*/*Q*,S=*,W=*")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if b, err := os.ReadFile(found[0]); err != nil || string(b) != strings.ReplaceAll(text, "\r", "") {
		t.Errorf("the message that was stored here is %q, %v", b, err)
	}
	if err := os.Remove(found[0]); err != nil { // all else is Courier's
		t.Fatal(err)
	}
	delete(before, tree+"/maildirsize")
	nothingLost(t, want, tree, before)
	if b, err := os.ReadFile("/var/log/units"); err != nil || string(b) != "disable --now courier-imap courier-imap-ssl\nenable --now courier-imap courier-imap-ssl\n" {
		t.Errorf("units: %q, %v", b, err)
	}
}
