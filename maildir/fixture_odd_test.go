package maildir

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/uidlist"
	"roost/store"
)

// dovecot23-odd is a tree that was damaged by hand and then opened by Dovecot
// 2.3.19.1. oddities are the directories of which Roost makes something else; all
// others are as Dovecot left them. How a directory is described:
//
//	hidden            not listed
//	refused           listed, and cannot be selected
//	V5 f1=2 f2=4      UIDVALIDITY and UIDs of the messages; Vnew is one that the tree did not have
//
// The description of what Dovecot did is compared with EXPECTED.json.
var oddities = []oddity{
	// A uidlist of which a line is no good: Dovecot gives a new UIDVALIDITY, so that every
	// client loads the mailbox anew. The other lines are as true as before.
	{".ul v3 garbage", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000009 f1=2 f2=4 f3=6 f4=9", "a line of rubbish proves nothing against the others"},
	{".ul v3 empty line", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000010 f1=2 f2=4 f3=9 f4=10", "nor does an empty line"},
	{".ul v3 unordered", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000011 f1=8 f2=4 f3=6 f4=20", "each UID stands beside one name, whatever the order"},
	{".ul v3 dup uid", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000013 f1=20 f2=21 f3=6 f4=22", "UID 2 may have been shown with either of two messages, so neither has it; f3 keeps its own"},
	{".ul v3 slash", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000016 f1=2 f2=20 f3=21 f4=22", "a name that leads elsewhere is dropped with its line"},
	{".ul v3 bad G", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000017 f1=2 f2=20 f3=21 f4=22", "without a GUID the mailbox gets one, and keeps its UIDs"},
	{".ul v3 uid max", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "V1000000018 f1=2 f2=5 f3=6 f4=7", "a UID that cannot be is not f2's; f1 keeps its own"},
	{".ul v3 no colon", "", "", "V1000000020 f1=20 f2=21 f3=22 f4=23", "V1000000020 f1=20 f2=4 f3=21 f4=22", "Dovecot forgets what follows the bad line"},
	{".ul v3 no LF", "", "", "V1000000014 f1=2 f2=20 f3=21 f4=22", "V1000000014 f1=2 f2=4 f3=20 f4=21", "the name of the torn line is whole, for there is such a file"},
	{".ul v1 uid over next", "", "", "V1000000002 f1=2 f2=5 f3=6 f4=7", "V1000000002 f1=2 f2=4 f3=6 f4=8", "UIDNEXT in the header is old more often than wrong"},
	{".ul v3 V0", "", "", "Vnew f1=1 f2=2 f3=3 f4=4", "Vnew f1=2 f2=20 f3=21 f4=22", "UIDVALIDITY is lost, so all clients start anew; the numbers are free then"},

	// Directories that other programs named.
	{".&", "&-", "&", "refused", "Vnew x=1", "what is not modified UTF-7 is shown as it stands, and found again"},
	{".&AGEAYg-", "&-AGEAYg-", "&AGEAYg-", "refused", "Vnew x=1", "likewise: the code of plain letters"},
	{".&bad-mutf7", "&bac-mutf7", "&bad-mutf7", "refused", "Vnew x=1", "likewise: Dovecot even shows a name that nobody wrote"},
	{".ok.ünder", "ok/&APw-nder", "ok/ünder", "refused", "Vnew x=1", "raw UTF-8"},
	{".日本語", "&ZeVnLIqe-", "日本語", "refused", "Vnew x=1", "raw UTF-8"},
	{".latin1-\xe9", "latin1-&,,0-", "latin1-é", "Vnew", "Vnew", "Dovecot renames the directory, Roost reads it as Latin-1"},
	{"..double", "/double", "", "refused", "hidden", "no client can name it: it begins with a separator"},
	{".a..b", "a//b", "", "refused", "hidden", "no client can name it: it has an empty level"},
	{".trailing.", "trailing/", "", "refused", "hidden", "no client can name it: it ends with a separator"},
	{".link", "", "", "Vnew x=1", "hidden", "links are followed only to where mail.follow_links says"},
	{".danglinglink", "", "", "refused", "hidden", "there is no such mailbox"},

	// Keywords that no client could be told: Dovecot sends "two words", "\Recent" and
	// "bad(paren" as they stand, which breaks the FETCH response.
	{".kw bad", "", "", "Vnew k0=1 k1=2 k2=3 k3=4 k4=5 k5=6 k6=7", "Vnew k0=1 k1=2 k2=3 k3=4 k4=5 k5=6 k6=7", "keywords that are no atoms go by the number of their letter: TestOddKeywords"},
}

type oddity struct {
	dir            string
	wire           string // Dovecot's name where it is not the directory's
	name           string // Roost's, likewise
	dovecot, roost string
	why            string
}

// hiddenInBoth are directories that neither server shows: a second INBOX, and what
// does not begin with a dot.
var hiddenInBoth = []string{".INBOX", ".inbox", ".regularfile"}

// oddTree opens the tree and gives its root with it.
func oddTree(t *testing.T, root string, log *slog.Logger) (*Store, *account) {
	t.Helper()
	s, err := New(Options{Host: "test.example", Poll: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root, Folders: dovecotFolders}}})
	if err != nil {
		t.Fatal(err)
	}
	return s, a.(*account)
}

func closeTree(t *testing.T, s *Store, a *account) {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// shortBase is what tells the messages of the tree apart: "f1".
func shortBase(base string) string {
	_, rest, _ := strings.Cut(base, ".")
	return strings.TrimSuffix(rest, ".mail.example.org")
}

// describe tells a mailbox as the table does.
func describe(validity uint32, inTree bool, uids map[string]imap.UID) string {
	out := []string{"Vnew"}
	if inTree {
		out[0] = fmt.Sprintf("V%d", validity)
	}
	for _, base := range slices.Sorted(func(yield func(string) bool) {
		for b := range uids {
			if !yield(b) {
				return
			}
		}
	}) {
		out = append(out, fmt.Sprintf("%s=%d", base, uids[base]))
	}
	return strings.Join(out, " ")
}

// UIDVALIDITYs that the damaged files carry; every other one was made later.
func wasInTree(validity uint32) bool { return validity >= 1_000_000_000 && validity < 1_000_000_100 }

func dovecotSays(want expectedTree, raw map[string]struct{ Error string }, wire string) string {
	if !slices.ContainsFunc(want.List, func(e expectedName) bool { return e.Name == wire }) {
		return "hidden"
	}
	if raw[wire].Error != "" {
		return "refused"
	}
	f := want.Folders[wire]
	uids := map[string]imap.UID{}
	for _, m := range f.Messages {
		uids[shortBase(baseOf(filepath.Base(m.Was)))] = imap.UID(m.UID)
	}
	return describe(f.UIDValidity, wasInTree(f.UIDValidity), uids)
}

func roostSays(t *testing.T, a *account, listed map[string][]string, name string) string {
	t.Helper()
	if listed[name] == nil {
		return "hidden"
	}
	h, err := a.Hold(t.Context(), store.Name(name), true, func() {})
	if err != nil {
		return "refused"
	}
	defer h.Close()
	m := h.(*hold).m
	m.whole()
	uids := map[string]imap.UID{}
	v := h.View()
	m.mu.Lock() // the worker moves files
	for _, uid := range v.UIDs.Slice(0, v.UIDs.Len()) {
		i, _ := m.table.find(uid)
		uids[shortBase(m.table.base(i))] = uid
	}
	m.mu.Unlock()
	validity := h.Info().UIDValidity
	return describe(validity, wasInTree(validity), uids)
}

// The whole tree is opened three times: as it was found, with Roost's caches, and
// after these were deleted. Each time it must be the same.
func TestOddTree(t *testing.T) {
	// A row of docs/compatibility.md, in the form of test/neighbour.Compat, which storage may not import.
	t.Log("compat: tree|fixture dovecot23-odd|as found|57 damaged or strange folders: each at least as Dovecot has it, every UID kept that the files prove")
	root := filepath.Join(unpack(t, "dovecot23-odd/Maildir.tar.gz"), "Maildir")
	before := contentsOf(t, root)
	want := readExpected(t, "dovecot23-odd")
	b, err := os.ReadFile("testdata/dovecot23-odd/EXPECTED.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Folders map[string]struct{ Error string }
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var first map[string]string
	for _, round := range []string{"as found", "with caches", "without caches"} {
		s, a := oddTree(t, root, slog.New(slog.DiscardHandler))
		listed := list(t, a, store.ListQuery{})
		shown := map[string]string{}
		if err := a.trees[0].walk(maxLevels, func(f found) bool { shown[f.rel[0]] = string(f.name); return true }); err != nil {
			t.Fatal(err)
		}
		now := map[string]string{}
		for _, e := range entries {
			dir := e.Name()
			if dir[0] != '.' {
				continue
			}
			row := slices.IndexFunc(oddities, func(o oddity) bool { return o.dir == dir })
			wire, name := strings.ReplaceAll(dir[1:], ".", "/"), ""
			expect := ""
			switch {
			case slices.Contains(hiddenInBoth, dir):
				wire, expect = "none", "hidden"
			case row >= 0:
				o := oddities[row]
				if expect, name = o.roost, o.name; o.wire != "" {
					wire = o.wire
				}
				if got := dovecotSays(want, raw.Folders, wire); got != o.dovecot {
					t.Errorf("%q: Dovecot said %q, the table has %q", dir, got, o.dovecot)
				}
			default:
				expect = dovecotSays(want, raw.Folders, wire)
			}
			if name == "" {
				name = shown[dir]
			}
			got := roostSays(t, a, listed, name)
			if got != expect {
				t.Errorf("%s: %q is %q, want %q", round, dir, got, expect)
			}
			now[name] = got
			if e, ok := want.Folders[wire]; ok && row < 0 {
				checkMailbox(t, a, store.Name(name), e)
			}
			delete(listed, name)
		}
		for name, attrs := range listed {
			if name != "INBOX" && !slices.Contains(attrs, `\NonExistent`) {
				t.Errorf("%s: %q is listed and no directory", round, name)
			}
		}
		checkOddInbox(t, a, want.Folders["INBOX"])
		now["INBOX"] = roostSays(t, a, map[string][]string{"INBOX": {}}, "INBOX")
		if first == nil {
			first = now
		}
		for name, said := range now {
			if said != first[name] {
				t.Errorf("%s: %q is %q, was %q", round, name, said, first[name])
			}
		}
		closeTree(t, s, a)
		checkOddFiles(t, root, before)
		if round == "with caches" {
			removeCaches(t, root)
		}
	}
}

// checkOddInbox looks at the messages with strange names.
func checkOddInbox(t *testing.T, a *account, want expectedFolder) {
	t.Helper()
	h, err := a.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m := h.(*hold).m
	v := h.View()
	rows := map[string]store.Row{}
	for list, err := range h.Rows(t.Context(), v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err == nil {
			err = h.Measure(t.Context(), list)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		for _, r := range list {
			i, _ := m.table.find(r.UID)
			rows[m.table.base(i)] = r
		}
		m.mu.Unlock()
	}
	for _, w := range want.Messages {
		base := strings.ReplaceAll(baseOf(filepath.Base(w.Was)), "\ufffd", "\xe9") // JSON has no such byte
		row, ok := rows[base]
		delete(rows, base)
		switch {
		case w.Was == "", strings.Contains(base, ".symlink."):
			// Directories, and links: Dovecot counts the first as messages until somebody reads
			// them and follows the second; Roost serves files.
			if ok {
				t.Errorf("%q is served", w.Was)
			}
			continue
		case !ok:
			t.Errorf("%q is not served", w.Was)
			continue
		case strings.Contains(base, ".dup."), strings.Contains(base, ".both."):
			continue // which of two files keeps the name is chance
		}
		checkRow(t, h, store.Inbox, row, w)
	}
	for base := range rows { // the files whose names could not be kept
		if !strings.HasSuffix(base, ".test.example") {
			t.Errorf("%q is served and was no message", base)
		}
	}
	if len(rows) != 3 {
		t.Errorf("%d messages got new names, want 3: the one without a base, and one of each pair", len(rows))
	}
}

// A keyword that is no atom of IMAP cannot be sent; its letter still tells the message
// from others, and stays in the file's name.
func TestOddKeywords(t *testing.T) {
	root := filepath.Join(unpack(t, "dovecot23-odd/Maildir.tar.gz"), "Maildir")
	lines, err := os.ReadFile(filepath.Join(root, ".kw bad", lettersFile))
	if err != nil {
		t.Fatal(err)
	}
	s, a := oddTree(t, root, slog.New(slog.DiscardHandler))
	defer closeTree(t, s, a)
	h, err := a.Hold(t.Context(), "kw bad", true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var got []string
	for rows, err := range h.Rows(t.Context(), []imap.UID{1, 2, 3, 4, 5, 6, 7}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			got = append(got, r.Keywords.Names()...)
		}
	}
	if want := "Ok unknown-1 unknown-2 unknown-3 unknown-4 unknown-5 unknown-6"; strings.Join(got, " ") != want {
		t.Errorf("keywords %q, want %s", got, want)
	}
	// A new keyword takes a letter that is free, and what other programs wrote stays.
	if _, _, err := h.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{"New"}}); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(root, ".kw bad", lettersFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		if !strings.Contains(string(after), line) {
			t.Errorf("the line %q is gone", line)
		}
	}
	if !strings.Contains(string(after), " New\n") {
		t.Errorf("no line for the new keyword: %q", after)
	}
}

// contentsOf are the message files of a tree: by path up to the flags, what they hold.
func contentsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		dir := filepath.Base(filepath.Dir(path))
		if dir != "cur" && dir != "new" {
			return nil
		}
		b, err := os.ReadFile(path)
		box := filepath.Dir(filepath.Dir(path))
		base := baseOf(filepath.Base(path))
		out[box+"/"+base] = append(out[box+"/"+base], fmt.Sprintf("%x", sha256.Sum256(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkOddFiles: no message was lost or changed, the names that could be kept were
// kept, tmp/ is untouched, and the uidlists are whole.
func checkOddFiles(t *testing.T, root string, before map[string][]string) {
	t.Helper()
	after := contentsOf(t, root)
	everything := func(m map[string][]string) (all []string) {
		for _, sums := range m {
			all = append(all, sums...)
		}
		slices.Sort(all)
		return all
	}
	if !slices.Equal(everything(before), everything(after)) {
		t.Errorf("%d messages before, %d after, or their bytes changed", len(everything(before)), len(everything(after)))
	}
	for name := range before {
		if after[name] == nil && filepath.Base(name) != filepath.Base(filepath.Dir(name)) && !strings.HasSuffix(name, "/") {
			t.Errorf("%q has another name now", name)
		}
	}
	lists, err := filepath.Glob(filepath.Join(root, ".*", uidlist.Name))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(lists, filepath.Join(root, uidlist.Name)) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		l, err := uidlist.Parse(b, uidlist.DefaultLimits)
		if err != nil || l.Bad > 0 || l.Torn || l.Version != 3 || l.Header.GUID == "" {
			t.Errorf("%s is still damaged: %d bad lines, torn %v: %v", path, l.Bad, l.Torn, err)
		}
	}
	for _, pattern := range []string{"tmp/*", ".*/tmp/*"} {
		if left, _ := filepath.Glob(filepath.Join(root, pattern)); left != nil {
			t.Errorf("in tmp/: %q", left)
		}
	}
}

// removeCaches deletes every roost.* file.
func removeCaches(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasPrefix(d.Name(), "roost.") {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
