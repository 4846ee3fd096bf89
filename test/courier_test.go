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
