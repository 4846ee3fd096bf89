package test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// The trees that Dovecot, Postfix and OpenSMTPD left, each opened with what an
// administrator writes for it, by a client that knows nothing but IMAP. maildir's own
// tests look at the same trees from the inside.
var trees = []struct {
	name    string
	archive string   // below maildir/testdata
	at      []string // the way into EXPECTED.json
	mail    string   // the tree in the archive
	sep     rune
	keys    string            // of [mail]; {} is the directory
	create  map[string]string // folders to make, and their directories
}{
	{"maildirpp", "dovecot23-maildirpp/Maildir", nil, "Maildir", '/', ``,
		map[string]string{"Neu/Ä & B": "{}/Maildir/.Neu.&AMQ- &- B"}},
	{"fs", "dovecot23-fs/Maildir", nil, "Maildir", '/', `layout = "fs"`,
		map[string]string{"v2.0/a.b": "{}/Maildir/v2.0/a.b"}},
	{"listescape, separator /", "dovecot23-names/escslash", []string{"escslash"}, "escslash", '/', `escape = "backslash"`,
		map[string]string{"a.b/~c.d": `{}/escslash/.a\2eb.\7ec\2ed`, "~e": `{}/escslash/.\7ee`, "Ü.x": `{}/escslash/.&ANw-\2ex`}},
	{"listescape, separator .", "dovecot23-names/escdot", []string{"escdot"}, "escdot", '.', "escape = \"backslash\"\nseparator = \".\"",
		map[string]string{"a/b.c": `{}/escdot/.a\2fb.c`}},
	{"utf8", "dovecot23-names/utf8", []string{"utf8"}, "utf8", '/', `utf8 = true`,
		map[string]string{"Größe/R&D": "{}/utf8/.Größe.R&D"}},
	{"control and index", "dovecot23-names/control", []string{"control"}, "control/Maildir", '/', "control_dir = \"{}/control/control\"\nindex_dir = \"{}/control/index\"",
		map[string]string{"New": "{}/control/control/.New"}},
	{"postfix local", "postfix-fresh/local", []string{"local", "dovecot"}, "Maildir", '/', ``, nil},
	{"postfix virtual", "postfix-fresh/virtual", []string{"virtual", "dovecot"}, "Maildir", '/', ``, nil},
	{"opensmtpd local", "opensmtpd-fresh/local", []string{"local", "dovecot"}, "Maildir", '/', ``, nil},
	{"opensmtpd vmail", "opensmtpd-fresh/vmail", []string{"vmail", "dovecot"}, "Maildir", '/', ``, nil},

	// The same, as Dovecot's mail_location has it: one line, where keys say nothing.
	{"utf8, in one line", "dovecot23-names/utf8", []string{"utf8"}, "utf8", '/', `= maildir:{}/utf8:UTF-8`, nil},
	{"control and index, in one line", "dovecot23-names/control", []string{"control"}, "control/Maildir", '/',
		`= maildir:{}/control/Maildir:CONTROL={}/control/control:INDEX={}/control/index`, nil},
	{"fs, in one line", "dovecot23-fs/Maildir", nil, "Maildir", '/', `= maildir:{}/Maildir:LAYOUT=fs`, nil},
}

type dovecotExpected struct {
	List, Lsub []struct {
		Name, UTF8 string
		Flags      []string
	}
	Folders map[string]struct {
		Path        string
		UIDValidity uint32
		Messages    []struct {
			courierMessage
			Size int64
		}
	}
}

func readDovecotExpected(t *testing.T, archive string, at []string) (want dovecotExpected) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata, filepath.Dir(archive), "EXPECTED.json"))
	for err == nil && len(at) > 0 {
		var object map[string]json.RawMessage
		err = json.Unmarshal(b, &object)
		b, at = object[at[0]], at[1:]
	}
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

const testdata = "../maildir/testdata"

// treeServer unpacks an archive and serves what lies in it to one user.
func treeServer(t *testing.T, bin, archive, mail, keys string) (dir string, r *neighbour.Roost) {
	t.Helper()
	top, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	dir = filepath.Join(top, "ann")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", dir, "-xpzf", filepath.Join(testdata, archive+".tar.gz"), "--no-same-owner").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := neighbour.Own(dir); err != nil {
		t.Fatal(err)
	}
	keys = strings.ReplaceAll(keys, "{}", dir)
	location, oneLine := strings.CutPrefix(keys, "= ")
	if !oneLine {
		location = filepath.Join(dir, mail)
	} else {
		keys = ""
	}
	r, err = neighbour.StartRoost(neighbour.RoostOptions{
		Bin: bin, Dir: filepath.Join(top, "roost"), Location: location,
		Users: map[string]string{"ann": "secret"}, Extra: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", r.Log())
		}
	})
	return dir, r
}

func loginAnn(t *testing.T, r *neighbour.Roost) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(r.Addr, &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login("ann", "secret").Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// built is the program, compiled at the first use.
var built struct {
	once   sync.Once
	bin    string
	remove func()
	err    error
}

// buildOnce compiles the program for all tests that start it.
func buildOnce(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		var dir string
		if dir, built.remove, built.err = neighbour.TempDir(); built.err == nil {
			built.bin, built.err = neighbour.BuildRoost(dir)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.bin
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.remove != nil {
		built.remove()
	}
	os.Exit(code)
}

func TestTreesThroughTheServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	bin := buildOnce(t)
	for _, c := range trees {
		t.Run(c.name, func(t *testing.T) {
			neighbour.Compat(t, "tree", "fixture "+filepath.Dir(c.archive), "as found", "opened through the server: every name, subscription, UID, flag, date and byte as Dovecot answers")
			want := readDovecotExpected(t, c.archive, c.at)
			dir, r := treeServer(t, bin, c.archive, c.mail, c.keys)
			tree := filepath.Join(dir, c.mail)
			files := messageFiles(t, tree)
			client := loginAnn(t, r)
			for range 2 {
				sameTree(t, client, want, c.sep, tree, files)
			}
			for name, path := range c.create {
				if err := client.Create(name, nil).Wait(); err != nil {
					t.Errorf("CREATE %q: %v", name, err)
					continue
				}
				if _, err := os.Stat(strings.ReplaceAll(path, "{}", dir)); err != nil {
					t.Errorf("CREATE %q: %v", name, err)
				}
				if list, err := client.List("", name, nil).Collect(); err != nil || len(list) != 1 || list[0].Mailbox != name {
					t.Errorf("LIST %q: %v, %v", name, list, err)
				}
				if err := client.Subscribe(name).Wait(); err != nil {
					t.Errorf("SUBSCRIBE %q: %v", name, err)
				}
				if err := client.Delete(name).Wait(); err != nil {
					t.Errorf("DELETE %q: %v", name, err)
				}
			}
			client.Logout().Wait()
			sameFiles(t, tree, files)
		})
	}
}

// sameTree asks for all that Dovecot answered.
func sameTree(t *testing.T, c *imapclient.Client, want dovecotExpected, sep rune, tree string, files map[string][]byte) {
	t.Helper()
	var listed, subscribed []string
	for _, l := range want.List {
		listed = append(listed, l.UTF8)
	}
	for _, l := range want.Lsub {
		subscribed = append(subscribed, l.UTF8)
	}
	for what, q := range map[string]struct {
		opt  *imap.ListOptions
		want []string
	}{"LIST": {nil, listed}, "subscriptions": {&imap.ListOptions{SelectSubscribed: true}, subscribed}} {
		list, err := c.List("", "*", q.opt).Collect()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range list {
			if got = append(got, l.Mailbox); l.Delim != sep {
				t.Errorf("%q has the separator %q", l.Mailbox, l.Delim)
			}
		}
		slices.Sort(got)
		if slices.Sort(q.want); !slices.Equal(got, q.want) {
			t.Errorf("%s:\n got %q\nwant %q", what, got, q.want)
		}
	}
	for _, l := range want.List {
		f, ok := want.Folders[l.Name]
		if !ok || slices.Contains(l.Flags, `\Noselect`) {
			continue
		}
		sel, err := c.Select(l.UTF8, nil).Wait()
		if err != nil {
			t.Errorf("%s: %v", l.UTF8, err)
			continue
		}
		if int(sel.NumMessages) != len(f.Messages) {
			t.Errorf("%s: %d messages, want %d", l.UTF8, sel.NumMessages, len(f.Messages))
			continue
		}
		if len(f.Messages) == 0 {
			continue
		}
		whole := &imap.FetchItemBodySection{Peek: true}
		got, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{
			UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true, BodySection: []*imap.FetchItemBodySection{whole},
		}).Collect()
		if err != nil || len(got) != len(f.Messages) {
			t.Errorf("%s: %d messages, %v", l.UTF8, len(got), err)
			continue
		}
		for i, m := range f.Messages {
			if !m.KnownBefore { // Dovecot gave it that UID; ours are in the same order
				m.UID = got[i].UID
			} else if sel.UIDValidity != f.UIDValidity {
				t.Errorf("%s: UIDVALIDITY %d, want %d", l.UTF8, sel.UIDValidity, f.UIDValidity)
			}
			if m.MessageID == "" { // Dovecot closed the connection on it
				m.MessageID = "<" + got[i].Envelope.MessageID + ">"
			}
			if m.TrueSize == 0 { // not noted; the bytes are compared below
				m.TrueSize = got[i].RFC822Size
			}
			sameMessage(t, l.UTF8, got[i], m.courierMessage)
			path := f.Path
			if l.Name == "INBOX" {
				path = "."
			}
			text, ok := files[filepath.Join(tree, path, filepath.Dir(m.Was), base(m.Was))]
			body := got[i].FindBodySection(whole)
			if int64(len(body)) != got[i].RFC822Size {
				t.Errorf("%s UID %d: RFC822.SIZE %d of %d bytes", l.UTF8, m.UID, got[i].RFC822Size, len(body))
			}
			if ok && !bytes.Equal(body, crlf(text)) {
				t.Errorf("%s UID %d: %d bytes that are not those of the file", l.UTF8, m.UID, len(body))
			} else if !ok && m.Was != "" {
				t.Errorf("%s UID %d: no file %s", l.UTF8, m.UID, m.Was)
			}
		}
	}
}

func base(path string) string {
	base, _, _ := strings.Cut(filepath.Base(path), ":")
	return base
}

// crlf is a message as it is sent: NUL, which no literal may hold, as Dovecot sends it.
func crlf(b []byte) []byte {
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	return bytes.ReplaceAll(b, []byte{0}, []byte{0x80})
}

// messageFiles are the files below cur/ and new/ of a tree, by path without flags.
func messageFiles(t *testing.T, tree string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(tree, func(path string, e os.DirEntry, err error) error {
		dir := filepath.Base(filepath.Dir(path))
		if err != nil || !e.Type().IsRegular() || dir != "cur" && dir != "new" {
			return err
		}
		b, err := os.ReadFile(path)
		out[filepath.Join(filepath.Dir(path), base(path))] = b
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%d messages in %s: %v", len(out), tree, err)
	}
	return out
}

// sameFiles: no message lost, none changed, each under its base name.
func sameFiles(t *testing.T, tree string, before map[string][]byte) {
	t.Helper()
	where := func(path string) string { return filepath.Join(filepath.Dir(filepath.Dir(path)), filepath.Base(path)) }
	after := map[string][]byte{}
	for path, b := range messageFiles(t, tree) {
		after[where(path)] = b
	}
	for path, b := range before {
		if !bytes.Equal(after[where(path)], b) {
			t.Errorf("%s is gone, or changed", path)
		}
		delete(after, where(path))
	}
	for path := range after {
		t.Errorf("%s was not there", path)
	}
}

// Messages that Dovecot compressed are answered as Dovecot answered them: whole, in
// pieces, searched, and copied.
func TestCompressedTreeThroughTheServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	const fixture = "dovecot23-zlib"
	neighbour.Compat(t, "tree", "fixture "+fixture, "as found", "gzip, bzip2, zstd and lz4 read as if plain, ranges and search included")
	var want struct {
		Mailbox map[string][]struct {
			UID     imap.UID
			Flags   []imap.Flag
			Size    int64  `json:"rfc822_size"`
			BodySum string `json:"body_sha256"`
			Kind    string
		}
	}
	b, err := os.ReadFile(filepath.Join(testdata, fixture, "EXPECTED.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, r := treeServer(t, buildOnce(t), fixture+"/Maildir", "Maildir", "")
	c := loginAnn(t, r)
	if sel, err := c.Select("INBOX", nil).Wait(); err != nil || int(sel.NumMessages) != len(want.Mailbox["INBOX"]) {
		t.Fatalf("%+v, %v", sel, err)
	}
	piece := func(set imap.NumSet, off, n int64) []byte {
		t.Helper()
		s := &imap.FetchItemBodySection{Peek: true}
		if n > 0 {
			s.Partial = &imap.SectionPartial{Offset: off, Size: n}
		}
		got, err := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{s}}).Collect()
		if err != nil || len(got) != 1 {
			t.Fatalf("%d messages, %v", len(got), err)
		}
		return got[0].FindBodySection(s)
	}
	for _, m := range want.Mailbox["INBOX"] {
		set := imap.UIDSetNum(m.UID)
		got, err := c.Fetch(set, &imap.FetchOptions{Flags: true, RFC822Size: true, Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}}).Collect()
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %d messages, %v", m.Kind, len(got), err)
		}
		whole := piece(set, 0, 0)
		if sum := sha256.Sum256(whole); got[0].RFC822Size != m.Size || hex.EncodeToString(sum[:]) != m.BodySum {
			t.Errorf("%s: size %d, %d bytes; want %d", m.Kind, got[0].RFC822Size, len(whole), m.Size)
		}
		var pieces []byte
		for off := int64(0); off < m.Size; off += 50 {
			pieces = append(pieces, piece(set, off, 50)...)
		}
		if !bytes.Equal(pieces, whole) {
			t.Errorf("%s: the pieces are not the message", m.Kind)
		}
		subject := got[0].Envelope.Subject
		if !bytes.Contains(whole, []byte("Subject: "+subject+"\r\n")) {
			t.Errorf("%s: the subject is %q", m.Kind, subject)
		}
		if bs, ok := got[0].BodyStructure.(*imap.BodyStructureSinglePart); !ok || bs.Type != "text" || int(bs.Size) != len(whole)-bytes.Index(whole, []byte("\r\n\r\n"))-4 {
			t.Errorf("%s: BODYSTRUCTURE %+v", m.Kind, got[0].BodyStructure)
		}
		bin := &imap.FetchItemBinarySection{Part: []int{1}, Peek: true}
		if got, err := c.Fetch(set, &imap.FetchOptions{BinarySection: []*imap.FetchItemBinarySection{bin}}).Collect(); err != nil || len(got) != 1 || !bytes.HasSuffix(whole, got[0].FindBinarySection(bin)) {
			t.Errorf("%s: BINARY: %v", m.Kind, err)
		}
		// A word of the body finds it, and perhaps its likes.
		_, body, _ := strings.Cut(string(whole), "\r\n\r\n")
		found, err := c.UIDSearch(&imap.SearchCriteria{Body: []string{strings.Fields(body)[0]}}, nil).Wait()
		if err != nil || !slices.Contains(found.AllUIDs(), m.UID) {
			t.Errorf("%s: SEARCH found %v, %v", m.Kind, found, err)
		}
	}
	if err := c.Create("Copies", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and what was copied is copied
		if _, err := c.Copy(imap.SeqSet{{Start: 1}}, "Copies").Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Select("Copies", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	n := len(want.Mailbox["INBOX"])
	for i := range 2 * n {
		m := want.Mailbox["INBOX"][i%n]
		if sum := sha256.Sum256(piece(imap.SeqSetNum(uint32(i+1)), 0, 0)); hex.EncodeToString(sum[:]) != m.BodySum {
			t.Errorf("the copy of %s is another message", m.Kind)
		}
	}
	// APPEND of such a file would make another message of it.
	var no *imap.Error
	a := c.Append("INBOX", int64(len("\x1f\x8b\x08")), nil)
	fmt.Fprint(a, "\x1f\x8b\x08")
	a.Close()
	if _, err := a.Wait(); !errors.As(err, &no) || no.Code != imap.ResponseCodeCannot || !strings.Contains(no.Text, "gzip") {
		t.Errorf("APPEND of a packed file: %v", err)
	}
}
