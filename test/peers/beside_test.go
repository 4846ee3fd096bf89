package peers

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// besides is a Roost and a Dovecot on one tree at one time.
type besides struct {
	roost, dovecot *imapclient.Client
	d              *neighbour.Dovecot
	r              *neighbour.Roost
}

// beside starts both on ann's tree. keys are of Roost's [mail], options what follows the
// path in mail_location, extra is for Dovecot's configuration; {} is ann's home.
func (h *house) beside(t *testing.T, keys, options, extra string) besides {
	t.Helper()
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	home := filepath.Dir(h.maildir("ann"))
	fill := strings.NewReplacer("{}", home)
	d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
		Dir: filepath.Join(h.dir, "dovecot"), Home: h.mail, Location: "maildir:" + h.maildir("ann") + fill.Replace(options),
		Password: password, Extra: fill.Replace(extra),
	})
	started(t, err)
	t.Cleanup(func() { d.Close() })
	r, err := neighbour.StartRoost(neighbour.RoostOptions{
		Bin: roostBin, Dir: filepath.Join(h.dir, "roost"), Location: h.maildir("ann"),
		Users: map[string]string{"ann@example.org": password}, Extra: fill.Replace(keys),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Roost's log:\n%s\nDovecot's log:\n%s", r.Log(), d.Log())
		}
	})
	c, err := imapclient.DialInsecure(d.Addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login("ann@example.org", password).Wait(); err != nil {
		t.Fatal(err, d.Log())
	}
	return besides{roost: login(t, r.Addr, "ann", nil), dovecot: c, d: d, r: r}
}

// noComplaint fails where Dovecot says that the tree is wrong.
func (b besides) noComplaint(t *testing.T, unless ...string) {
	t.Helper()
lines:
	for line := range strings.Lines(b.d.Log()) {
		if !strings.Contains(line, "Error:") && !strings.Contains(line, "Warning:") {
			continue
		}
		for _, u := range append(unless, "Killed with signal", "SIGTERM") {
			if strings.Contains(line, u) {
				continue lines
			}
		}
		t.Errorf("Dovecot complains: %s", line)
	}
}

func storeFlags(t *testing.T, c *imapclient.Client, uid imap.UID, op imap.StoreFlagsOp, flags ...imap.Flag) {
	t.Helper()
	if err := c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: op, Flags: flags, Silent: true}, nil).Close(); err != nil {
		t.Fatal(err)
	}
}

// flagsOf are the flags of all messages of the selected mailbox, in lower case.
func flagsOf(t *testing.T, c *imapclient.Client) map[imap.UID][]string {
	t.Helper()
	if err := c.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	msgs, err := c.Fetch(imap.UIDSet{{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	out := map[imap.UID][]string{}
	for _, m := range msgs {
		for _, f := range m.Flags {
			if f != `\Recent` {
				out[m.UID] = append(out[m.UID], strings.ToLower(string(f)))
			}
		}
		slices.Sort(out[m.UID])
	}
	return out
}

// Keywords beyond the 26 letters are Roost's alone. A Dovecot beside it sees the others,
// and what it does to the messages takes none away.
func TestKeywordsBesideDovecot(t *testing.T) {
	neighbour.Compat(t, "tree", "Dovecot, beside Roost", version("dovecot-imapd"), "40 keywords on a message, of which Dovecot knows 26")
	h := newHouse(t)
	b := h.beside(t, "", "", "")
	for n := range 4 {
		appendMessage(t, b.roost, "INBOX", sample(n))
	}
	for _, c := range []*imapclient.Client{b.roost, b.dovecot} {
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	var many []imap.Flag
	var keys []string
	for i := range 40 {
		many = append(many, imap.Flag(fmt.Sprintf("key-%02d", i)))
		keys = append(keys, string(many[i]))
	}
	storeFlags(t, b.roost, 1, imap.StoreFlagsAdd, many...)
	storeFlags(t, b.roost, 2, imap.StoreFlagsAdd, many[39], many[3])
	if got := flagsOf(t, b.dovecot); !slices.Equal(got[1], keys[:26]) || !slices.Equal(got[2], keys[3:4]) {
		t.Errorf("Dovecot sees %v", got)
	}
	extra := func() string {
		b, err := os.ReadFile(filepath.Join(h.maildir("ann"), "roost-keywords"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := extra()

	storeFlags(t, b.dovecot, 1, imap.StoreFlagsAdd, imap.FlagFlagged)
	storeFlags(t, b.dovecot, 1, imap.StoreFlagsDel, "key-05")
	storeFlags(t, b.dovecot, 2, imap.StoreFlagsAdd, imap.FlagSeen, "key-06")
	storeFlags(t, b.dovecot, 3, imap.StoreFlagsAdd, "key-30") // it has no letter for that
	want := map[imap.UID][]string{
		1: append([]string{`\flagged`}, slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == "key-05" })...),
		2: {`\seen`, "key-03", "key-06", "key-39"}, 3: nil, 4: nil,
	}
	same := func(when string, got, want map[imap.UID][]string) {
		t.Helper()
		for uid, flags := range want {
			if !slices.Equal(got[uid], flags) {
				t.Errorf("%s: UID %d has %v, want %v", when, uid, got[uid], flags)
			}
		}
	}
	same("after Dovecot's changes", flagsOf(t, b.roost), want)
	if after := extra(); after != before {
		t.Errorf("roost-keywords was %q, is %q", before, after)
	}

	storeFlags(t, b.dovecot, 4, imap.StoreFlagsAdd, imap.FlagDeleted)
	if err := b.dovecot.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	storeFlags(t, b.roost, 3, imap.StoreFlagsAdd, "key-30", "key-31", "key-01")
	delete(want, 4)
	want[3] = []string{"key-01", "key-30", "key-31"}
	// A file that is gone may have been renamed: it is told of after a second look.
	got := flagsOf(t, b.roost)
	for limit := time.Now().Add(patience); len(got) > 3 && time.Now().Before(limit); {
		got = flagsOf(t, b.roost)
	}
	same("after both", got, want)
	if len(got) != 3 {
		t.Errorf("%d messages, want 3", len(got))
	}
	// Each reads the other's letters, however often the file is written.
	if got := flagsOf(t, b.dovecot)[3]; !slices.Contains(got, "key-01") {
		t.Errorf("Dovecot sees %v", got)
	}
	b.noComplaint(t)
}

// The tree that was damaged on purpose: where Roost kept UIDs that Dovecot alone would
// not have, a Dovecot that comes after it keeps them too, and finds nothing to complain.
func TestDovecotAfterRoostOnADamagedTree(t *testing.T) {
	neighbour.Compat(t, "tree", "Dovecot, damaged by hand", version("dovecot-imapd"), "57 folders: mended by Roost, then opened by Dovecot: the same UIDs")
	h := newHouse(t)
	home := filepath.Dir(h.maildir("ann"))
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", home, "-xpzf", "../../maildir/testdata/dovecot23-odd/Maildir.tar.gz", "--no-same-owner").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := h.beside(t, "", "", "")
	roost, dovecot := look(t, b.roost), map[string]mailbox{}
	list, err := b.dovecot.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Mailbox == "kw bad" {
			continue // Dovecot sends a keyword with a parenthesis, and go-imap hangs up
		}
		sel, err := b.dovecot.Select(l.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			continue // what it lists and cannot select
		}
		m := mailbox{sel.UIDValidity, sel.UIDNext, map[imap.UID]string{}}
		if sel.NumMessages > 0 {
			msgs, err := b.dovecot.Fetch(all, &imap.FetchOptions{UID: true}).Collect()
			if err != nil {
				t.Fatal(err)
			}
			for _, msg := range msgs {
				m.messages[msg.UID] = "there"
			}
		}
		dovecot[l.Mailbox] = m
	}
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(roost.mailboxes)) {
		r := roost.mailboxes[name]
		d, ok := dovecot[name]
		if !ok {
			continue
		}
		compared++
		if d.validity != r.validity || d.next < r.next {
			t.Errorf("%s: UIDVALIDITY %d, UIDNEXT %d in Roost, %d and %d in Dovecot", name, r.validity, r.next, d.validity, d.next)
		}
		for uid := range r.messages {
			if d.messages[uid] == "" {
				t.Errorf("%s: UID %d is not Dovecot's", name, uid)
			}
		}
		// Links and directories are messages to Dovecot, until somebody reads them.
		if name != "INBOX" && len(d.messages) != len(r.messages) {
			t.Errorf("%s: %d messages in Roost, %d in Dovecot", name, len(r.messages), len(d.messages))
		}
	}
	if compared < 38 {
		t.Errorf("only %d mailboxes compared", compared)
	}
	b.noComplaint(t, "line.mail", "Ignoring a file with #0xa", "Symlink destination", "Removing invalid entry", "unwanted")
}

// shows selects a mailbox until it shows n messages: the event that tells of the other
// server's may still be on its way.
func shows(c *imapclient.Client, name string, n uint32) error {
	for limit := time.Now().Add(patience); ; {
		sel, err := c.Select(name, nil).Wait()
		if err != nil || sel.NumMessages == n {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%d messages, want %d", sel.NumMessages, n)
		}
	}
}

// Names that the disk cannot hold as they are, made by each server and used by the other.
func TestNamesBesideDovecot(t *testing.T) {
	neighbour.Compat(t, "tree", "Dovecot, its ways to write names", version("dovecot-imapd"), "listescape with / and ., UTF-8, CONTROL and INDEX: folders made, renamed and deleted by both")
	nasty := []string{
		"plain", "a.b", "a.b/c.d", "~tilde", "x/~y", "~z/~z", `back\slash`, `\2e`, `\`, "Ümläut.x", "R&D", "&-", "with space ", " x", "*", "%", "a*b%c",
		`quote"x`, "INBOX.sub", "INBOX/sub", "cur", "tmp/new", ".hidden", "..", ".", "a/..b", "日本語/😀", "trailing.", "dovecot-uidlist", "maildirfolder",
		"(paren", "{3}", "é", "e\u0301", strings.Repeat("long ", 30),
	}
	for _, c := range []struct {
		name, keys, options, extra string
		sep                        string
	}{
		{"maildirpp", "", "", "", "/"},
		{"fs", `layout = "fs"`, ":LAYOUT=fs", "", "/"},
		{"listescape", `escape = "backslash"`, "", "mail_plugins = $mail_plugins listescape", "/"},
		{"listescape, separator .", "escape = \"backslash\"\nseparator = \".\"", "", "mail_plugins = $mail_plugins listescape\nnamespace inbox {\n  separator = .\n}", "."},
		{"listescape, fs", "escape = \"backslash\"\nlayout = \"fs\"", ":LAYOUT=fs", "mail_plugins = $mail_plugins listescape", "/"},
		{"UTF-8", "utf8 = true", ":UTF-8", "", "/"},
		{"UTF-8, listescape", "utf8 = true\nescape = \"backslash\"", ":UTF-8", "mail_plugins = $mail_plugins listescape", "/"},
		{"CONTROL and INDEX", "control_dir = \"{}/control\"\nindex_dir = \"{}/roost\"", ":CONTROL={}/control:INDEX={}/index", "", "/"},
		{"CONTROL and INDEX, fs", "layout = \"fs\"\ncontrol_dir = \"{}/control\"\nindex_dir = \"{}/roost\"", ":LAYOUT=fs:CONTROL={}/control:INDEX={}/index", "", "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			b := h.beside(t, c.keys, c.options, c.extra)
			servers := map[string]*imapclient.Client{"Dovecot": b.dovecot, "Roost": b.roost}
			for _, maker := range []string{"Dovecot", "Roost"} {
				made, other := servers[maker], b.roost
				if maker == "Roost" {
					other = b.dovecot
				}
				for i, name := range nasty {
					if name = strings.ReplaceAll(name, "/", c.sep); strings.HasSuffix(name, c.sep) {
						continue // that is the name without it
					}
					if err := made.Create(name, nil).Wait(); err != nil {
						continue // a server may refuse; what it takes the other must take
					}
					appendMessage(t, made, name, sample(i))
					b.remind([]string{name})
					if list, err := other.List("", name, nil).Collect(); err != nil || !slices.ContainsFunc(list, func(l *imap.ListData) bool { return l.Mailbox == name }) {
						t.Errorf("%q, made by %s, is not listed: %v", name, maker, err)
						continue
					}
					if err := shows(other, name, 1); err != nil {
						t.Errorf("%q, made by %s: %v", name, maker, err)
						continue
					}
					appendMessage(t, other, name, sample(i))
					if err := shows(made, name, 2); err != nil {
						t.Errorf("%q, made by %s, after the other's APPEND: %v", name, maker, err)
					}
				}
				same := func(when string) {
					t.Helper()
					for limit := time.Now().Add(patience); ; {
						r, rerr := mailboxes(b.roost)
						b.remind(r)
						d, derr := mailboxes(b.dovecot)
						if rerr == nil && derr == nil && slices.Equal(r, d) {
							return
						}
						if time.Now().After(limit) {
							t.Fatalf("%s: Roost has %q, %v\nDovecot has %q, %v", when, r, rerr, d, derr)
						}
					}
				}
				same("made by " + maker)
				list, err := other.List("", "*", nil).Collect()
				if err != nil {
					t.Fatal(err)
				}
				// The other renames and deletes what was made.
				for i, l := range list {
					if l.Mailbox == "INBOX" || slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) {
						continue
					}
					if i%2 == 0 {
						if err := other.Rename(l.Mailbox, fmt.Sprintf("renamed %d", i), nil).Wait(); err != nil && !strings.Contains(err.Error(), "exist") && !strings.Contains(err.Error(), "No such") {
							t.Errorf("RENAME %q: %v", l.Mailbox, err) // else it went with its parent
						}
					}
				}
				same("renamed beside " + maker)
				if list, err = other.List("", "*", nil).Collect(); err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(list, func(a, b *imap.ListData) int { return len(b.Mailbox) - len(a.Mailbox) })
				for _, l := range list {
					if l.Mailbox != "INBOX" {
						other.Delete(l.Mailbox).Wait() // a parent that holds nothing is not there
					}
				}
				same("deleted beside " + maker)
			}
		})
	}
}

// remind makes Dovecot look for mailboxes: within a session it lists those that its own
// index knows, until it is asked for another by name.
func (b besides) remind(names []string) {
	for _, n := range names {
		name, _, _ := strings.Cut(n, "\x00")
		b.dovecot.Status(name, &imap.StatusOptions{NumMessages: true}).Wait()
	}
}

// mailboxes are the names that can be selected, each with its UIDVALIDITY and UIDs.
func mailboxes(c *imapclient.Client) (out []string, err error) {
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		if slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		sel, err := c.Select(l.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			return nil, fmt.Errorf("%q: %w", l.Mailbox, err)
		}
		found, err := c.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s\x00%d %v", l.Mailbox, sel.UIDValidity, found.AllUIDs()))
	}
	slices.Sort(out)
	return out, c.Unselect().Wait()
}
