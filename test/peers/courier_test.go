package peers

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

func needCourier(t *testing.T) *neighbour.Courier {
	t.Helper()
	c, err := neighbour.FindCourier()
	started(t, err)
	return c
}

// courier opens a client of Courier's on a Maildir; stop ends both.
func courier(t *testing.T, k *neighbour.Courier, maildir string) (c *imapclient.Client, stop func()) {
	t.Helper()
	conn, err := k.Open(maildir)
	if err != nil {
		t.Fatal(err)
	}
	c = imapclient.New(conn, nil)
	if err := c.WaitGreeting(); err != nil {
		t.Fatal(err)
	}
	return c, func() {
		c.Logout().Wait()
		c.Close()
	}
}

// lookAtCourier is look, for a server whose subscriptions come by LSUB.
func lookAtCourier(t *testing.T, k *neighbour.Courier, maildir string) account {
	t.Helper()
	c, stop := courier(t, k, maildir)
	a := lookAtMail(t, c, false) // EXAMINE shows UIDs that it does not write down
	stop()
	conn, err := k.Open(maildir)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "a LSUB \"\" \"*\"\r\n"); err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^\* LSUB \(([^)]*)\) "\." "(.*)"\r\n$`)
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "a ") {
			break
		}
		if m := form.FindStringSubmatch(line); m != nil && !strings.Contains(m[1], `\Noselect`) { // a level above only
			a.subscribed = append(a.subscribed, strings.ReplaceAll(m[2], "Gr&APYA3w-e", "Größe"))
		}
	}
	slices.Sort(a.subscribed)
	return a
}

// withoutKeywords is a mailbox without what Courier cannot know, and without messages
// that were added since.
func withoutKeywords(m mailbox) map[imap.UID]string {
	out := map[imap.UID]string{}
	for uid, text := range m.messages {
		flags, rest, _ := strings.Cut(strings.TrimPrefix(text, "["), "]")
		system := slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f[0] != '\\' })
		out[uid] = fmt.Sprint(system, rest)
	}
	return out
}

// lineEnds is what docs/from-courier.md does to files before Courier reads them, for a
// tree of mail elsewhere.
func lineEnds(t *testing.T, mail string) string {
	t.Helper()
	m := regexp.MustCompile(`(?ms)^sudo (find /var/vmail -type f .*? \{\} \+)$`).FindStringSubmatch(read(t, "../../docs/from-courier.md"))
	if m == nil {
		t.Fatal("docs/from-courier.md has no command for the line ends")
	}
	return strings.ReplaceAll(m[1], "/var/vmail", mail)
}

const courierKeys = "separator = \".\"\nutf8 = true\n"

// A tree that Courier made moves to Roost, and back: what it was, and what of the changes
// made here Courier sees, as docs/from-courier.md says it.
func TestCourierBeforeAndAfter(t *testing.T) {
	k := needCourier(t)
	neighbour.Compat(t, "tree", "Courier-IMAP", k.Version, "moved in, changed, moved back, moved in again")
	h := newHouse(t)
	dir := h.maildir("ann")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	roost := func(keys string) (*imapclient.Client, func()) {
		t.Helper()
		h.extra = courierKeys + keys
		r := h.serve(t)
		c := login(t, r.Addr, "ann", nil)
		return c, func() {
			c.Logout().Wait()
			must(r.Close())
		}
	}
	flag := func(c *imapclient.Client, uids imap.UIDSet, op imap.StoreFlagsOp, flags ...imap.Flag) {
		t.Helper()
		must(c.Store(uids, &imap.StoreFlags{Op: op, Flags: flags}, nil).Close())
	}

	// Courier: folders, mail, flags, 30 keywords on one message, a gap in the UIDs.
	c, stop := courier(t, k, dir)
	var many []imap.Flag
	for i := range 30 {
		many = append(many, imap.Flag(fmt.Sprintf("kw%02d", i)))
	}
	for _, n := range []string{"INBOX.Sent", "INBOX.Projekte.Größe", "INBOX.R&D", "INBOX.Going"} {
		must(c.Create(n, nil).Wait())
	}
	for _, n := range []string{"INBOX", "INBOX.Sent", "INBOX.Projekte.Größe"} {
		must(c.Subscribe(n).Wait())
	}
	for n := range 12 {
		flags := []imap.Flag{imap.FlagSeen}
		if n%3 == 0 {
			flags = []imap.Flag{imap.FlagFlagged, "Work", imap.Flag(fmt.Sprintf("Key%d", n))}
		}
		appendMessage(t, c, "INBOX", sample(n), flags...)
	}
	appendMessage(t, c, "INBOX.R&D", sample(100), imap.FlagAnswered)
	appendMessage(t, c, "INBOX.Going", sample(101))
	_, err := c.Select("INBOX", nil).Wait()
	must(err)
	_, err = c.Copy(imap.SeqSetNum(2, 4), "INBOX.Projekte.Größe").Wait()
	must(err)
	flag(c, imap.UIDSetNum(5), imap.StoreFlagsAdd, many...)
	flag(c, imap.UIDSetNum(6, 12), imap.StoreFlagsAdd, imap.FlagDeleted)
	must(c.Expunge().Close())
	stop()
	// One more, that it has not seen.
	if err := os.WriteFile(filepath.Join(dir, "new/1795500000.M1P1.mta"), []byte(strings.ReplaceAll(sample(50), "\r\n", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	must(neighbour.Own(dir))
	made := lookAtCourier(t, k, dir)
	if len(made.mailboxes["INBOX"].messages) != 11 || !slices.Equal(made.subscribed, []string{"INBOX", "INBOX.Projekte.Größe", "INBOX.Sent"}) {
		t.Fatalf("what Courier made is not understood: %v", made)
	}
	database := read(t, filepath.Join(dir, "courierimapuiddb"))

	// Roost, as Courier's clients know their names.
	c, stop = roost("prefix = \"INBOX.\"")
	same := look(t, c)
	compare(t, "Courier to Roost", made, same)
	if next := same.mailboxes["INBOX"].next; next != made.mailboxes["INBOX"].next {
		t.Errorf("UIDNEXT is %d, was %d", next, made.mailboxes["INBOX"].next)
	}
	stop()

	// Changed here, by a client that knows no prefix.
	c, stop = roost("old_prefix = \"INBOX.\"")
	_, err = c.Select("INBOX", nil).Wait()
	must(err)
	flag(c, imap.UIDSetNum(2), imap.StoreFlagsAdd, imap.FlagAnswered, "Here")
	flag(c, imap.UIDSetNum(1), imap.StoreFlagsDel, "Work")
	flag(c, imap.UIDSetNum(7), imap.StoreFlagsAdd, imap.FlagDeleted)
	must(c.Expunge().Close())
	for n := range 3 {
		appendMessage(t, c, "INBOX", sample(60+n), imap.FlagSeen, "Here")
	}
	must(c.Create("New", nil).Wait())
	appendMessage(t, c, "New", sample(70))
	must(c.Rename("Going", "Gone.Far", nil).Wait())
	must(c.Subscribe("INBOX.New").Wait())
	here := look(t, c)
	stop()
	if text := read(t, filepath.Join(dir, "courierimapuiddb")); text != database {
		t.Errorf("Courier's database was changed:\n%s", text)
	}

	// The way back: Courier knows its old mail by its UIDs, with the system flags that were
	// set here; keywords and subscriptions are those that it knew. It gives UIDs to what is
	// new, in the order of the names.
	// What was stored here has CRLF in its file, of which Courier makes too much.
	back := lookAtCourier(t, k, dir)
	was, is := here.mailboxes["INBOX"], back.mailboxes["INBOX"]
	if text := is.messages[was.next-1]; !strings.Contains(text, " 170 ") {
		t.Errorf("Courier shows CRLF in files as it is: docs/from-courier.md need not mend it: %s", text)
	}
	script(t, "sh", "-ec", lineEnds(t, h.mail))
	back = lookAtCourier(t, k, dir)
	is = back.mailboxes["INBOX"]
	if is.validity != was.validity || is.next != was.next || !maps.Equal(withoutKeywords(is), withoutKeywords(was)) {
		t.Errorf("Roost to Courier:\n%d, UIDNEXT %d %v\nbecame\n%d, UIDNEXT %d %v", was.validity, was.next, withoutKeywords(was), is.validity, is.next, withoutKeywords(is))
	}
	for uid, text := range is.messages {
		if strings.Contains(text, "here") || uid == 1 && !strings.Contains(text, "work") || uid == 5 && !strings.Contains(text, "kw29") {
			t.Errorf("UID %d has other keywords than Courier had given: %s", uid, text)
		}
	}
	if moved := back.mailboxes["INBOX.Gone.Far"]; !maps.Equal(moved.messages, made.mailboxes["INBOX.Going"].messages) || moved.validity != made.mailboxes["INBOX.Going"].validity {
		t.Errorf("the renamed folder is %v, was %v", moved, made.mailboxes["INBOX.Going"])
	}
	if len(back.mailboxes["INBOX.New"].messages) != 1 {
		t.Errorf("the new folder is %v", back.mailboxes["INBOX.New"])
	}
	if !slices.Equal(back.subscribed, made.subscribed) {
		t.Errorf("subscriptions are %v, were %v", back.subscribed, made.subscribed)
	}

	// Courier goes on for a while; then Roost again, which has its own keywords still.
	c, stop = courier(t, k, dir)
	appendMessage(t, c, "INBOX", sample(80), "Later")
	stop()
	back = lookAtCourier(t, k, dir)
	c, stop = roost("prefix = \"INBOX.\"")
	again := look(t, c)
	stop()
	is = again.mailboxes["INBOX"]
	if was := back.mailboxes["INBOX"]; is.validity != was.validity || is.next < was.next || !maps.Equal(withoutKeywords(is), withoutKeywords(was)) {
		t.Errorf("Courier to Roost again: %v became %v", was, is)
	}
	for uid, text := range here.mailboxes["INBOX"].messages {
		if is.messages[uid] != text {
			t.Errorf("UID %d is %q, was %q here", uid, is.messages[uid], text)
		}
	}
	if last := is.messages[is.next-1]; !strings.Contains(last, "later") {
		t.Errorf("the last message is %q", last)
	}

	// Both give UIDs, and do not agree: one that was expunged here means another message
	// there. The mailbox gets a new UIDVALIDITY.
	c, stop = roost("prefix = \"INBOX.\"")
	uid := appendMessage(t, c, "INBOX", sample(90))
	appendMessage(t, c, "INBOX", sample(91))
	_, err = c.Select("INBOX", nil).Wait()
	must(err)
	flag(c, imap.UIDSetNum(uid), imap.StoreFlagsAdd, imap.FlagDeleted)
	must(c.Expunge().Close())
	stop()
	back = lookAtCourier(t, k, dir)
	c, stop = roost("prefix = \"INBOX.\"")
	again = look(t, c)
	stop()
	if back.mailboxes["INBOX"].validity == again.mailboxes["INBOX"].validity || len(again.mailboxes["INBOX"].messages) != len(back.mailboxes["INBOX"].messages) {
		t.Errorf("UIDs with two meanings: %v and %v", back.mailboxes["INBOX"], again.mailboxes["INBOX"])
	}
}

// mbsyncOfCourier is set up for Courier: it writes the prefix itself, as those do whose
// settings are old. {far} says how the server is reached.
const mbsyncOfCourier = `
IMAPStore far
{far}
UseNamespace no
Path INBOX.

MaildirStore near
Path {near}/
Inbox {near}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Remove None
SyncState *
Sync All
`

// A copy of Courier's mail that mbsync kept in step goes on with Roost, with Courier's
// prefix and without: nothing is transferred again.
func TestCourierClientsGoOn(t *testing.T) {
	k := needCourier(t)
	mbsync := need(t, "mbsync", "isync")
	neighbour.Compat(t, "tree", "Courier-IMAP", k.Version, "a copy that mbsync kept goes on without a transfer")
	h := newHouse(t)
	dir := h.maildir("ann")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c, stop := courier(t, k, dir)
	for _, n := range []string{"INBOX.Sent", "INBOX.Listen.Größe"} {
		if err := c.Create(n, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		appendMessage(t, c, n, sample(100), imap.FlagSeen)
	}
	for n := range 10 {
		appendMessage(t, c, "INBOX", sample(n), imap.FlagSeen)
	}
	stop()

	near := t.TempDir()
	local := filepath.Join(near, "mail")
	if err := os.MkdirAll(local, 0o700); err != nil {
		t.Fatal(err)
	}
	sync := func(far string) string {
		t.Helper()
		rc := filepath.Join(near, "mbsyncrc")
		text := strings.NewReplacer("{far}", far, "{near}", local).Replace(mbsyncOfCourier)
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return script(t, mbsync, "-c", rc, "-D", "all")
	}
	moved := func(out string) (lines []string) {
		for l := range strings.Lines(out) {
			if transfer.MatchString(l) {
				lines = append(lines, l)
			}
		}
		return lines
	}
	theirs := fmt.Sprintf("Tunnel %q", k.Tunnel(dir))
	if n := len(moved(sync(theirs))); n < 12 {
		t.Fatalf("the first run moved %d messages", n)
	}
	if lines := moved(sync(theirs)); len(lines) > 0 {
		t.Fatalf("a run with nothing to do says %q", lines)
	}
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	for i, keys := range []string{"prefix = \"INBOX.\"", "old_prefix = \"INBOX.\""} {
		h.extra = courierKeys + keys
		r := h.serve(t)
		_, port, _ := net.SplitHostPort(r.Addr)
		ours := fmt.Sprintf("Host localhost\nPort %s\nUser ann@example.org\nPass %s\nSSLType IMAPS\nCertificateFile %s", port, password, r.CertFile)
		if lines := moved(sync(ours)); len(lines) > 0 {
			t.Errorf("%s: what was there is transferred again: %q", keys, lines)
		}
		c := login(t, r.Addr, "ann", nil)
		appendMessage(t, c, "INBOX.Listen.Größe", sample(200+i))
		if err := os.WriteFile(filepath.Join(local, "Sent/new", fmt.Sprintf("170000000%d.1.near", i)), []byte(sample(300+i)), 0o600); err != nil {
			t.Fatal(err)
		}
		if lines := moved(sync(ours)); len(lines) != 2 {
			t.Errorf("%s: one message each way is %q", keys, lines)
		}
		st, err := c.Status("Sent", &imap.StatusOptions{NumMessages: true}).Wait()
		if err != nil || *st.NumMessages != uint32(2+i) {
			t.Errorf("%s: Sent has %+v, %v", keys, st, err)
		}
		c.Logout().Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, sub := range []string{"Sent", "Listen.Größe", "Listen.Gr&APYA3w-e", "INBOX"} {
		if n := len(files(t, filepath.Join(local, sub))); n != 0 && n != 3 && n != 10 {
			t.Errorf("%s has %d messages here", sub, n)
		}
	}
}
