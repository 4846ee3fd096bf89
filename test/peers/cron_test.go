package peers

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/test/neighbour"
	"roost/test/witness"
)

const muttrc = `
set mbox_type=Maildir folder=%[1]s spoolfile=%[1]s
set confirmappend=no confirmcreate=no delete=yes quit=yes move=no wait_key=no
set header_cache= certificate_file= record= postponed= sleep_time=0 mail_check=0
push "<tag-pattern>~s flag<enter><tag-prefix-cond><set-flag>!<end-cond><untag-pattern>~A<enter>\
<tag-pattern>~s save<enter><tag-prefix-cond><save-message>=.Saved<enter><end-cond><untag-pattern>~A<enter>\
<delete-pattern>~s delete<enter><limit>~s read<enter><first-entry><display-message><exit>\
<limit>all<enter><sync-mailbox><exit>"
`

// cron is what admins have run at night.
const cron = `set -e
find "$1/cur" -type f -mtime +30 -exec mv -t "$1/.Archive/cur/" {} +
find "$1/.Trash/cur" "$1/.Trash/new" -type f -mtime +7 -exec rm -f {} +
`

// asMail makes a command run as the user whom the mail belongs to.
func asMail(c *exec.Cmd) *exec.Cmd {
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: neighbour.MailUID, Gid: neighbour.MailGID}}
	}
	return c
}

// A user works with mutt in the Maildir itself and the admin's script moves old mail
// away, while Roost serves it to clients that poll, idle and set flags.
func TestMuttAndCronInTheSameMaildir(t *testing.T) {
	mutt := need(t, "mutt", "mutt")
	script := need(t, "script", "bsdutils")
	h := newHouse(t)
	r := h.serve(t)
	const user = "ann@example.org"
	tree := h.maildir("ann")
	ledger := witness.NewLedger()
	ledger.MayGo = func(message string) bool {
		for _, kind := range []string{"delete", "save", "old"} {
			if strings.Contains(message, "Subject: "+kind) {
				return true
			}
		}
		return false
	}
	dial := func(who, box string) *witness.Session {
		s, err := witness.Dial(ledger, who+" "+box, r.PlainAddr, user, password)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		s.Tell = witness.ByBytes
		for _, name := range []string{"Saved", "Archive", "Trash"} { // Archive and Trash are there
			if err := s.Do("CREATE " + name); err != nil && !strings.Contains(err.Error(), "EXISTS") {
				t.Fatal(err)
			}
		}
		if err := s.Select(box); err != nil {
			t.Fatal(err)
		}
		return s
	}
	boxes := map[string]string{"INBOX": tree, "Saved": tree + "/.Saved", "Archive": tree + "/.Archive", "Trash": tree + "/.Trash"}
	var watchers []*witness.Session
	for box := range boxes {
		watchers = append(watchers, dial("who idles in", box), dial("who polls", box))
	}
	worker := dial("who flags in", "INBOX")
	rc := filepath.Join(h.dir, "muttrc")
	if err := os.WriteFile(rc, fmt.Appendf(nil, muttrc, tree), 0o644); err != nil {
		t.Fatal(err)
	}
	passwd := filepath.Join(h.dir, "passwd")
	if err := os.WriteFile(passwd, fmt.Appendf(nil, "root:x:0:0::/root:/bin/sh\nvmail:x:%d:%d::%s:/bin/sh\n", neighbour.MailUID, neighbour.MailGID, h.mail), 0o644); err != nil {
		t.Fatal(err)
	}
	runMutt := func() {
		c := exec.Command(script, "-q", "-e", "-c", mutt+" -n -F "+rc+" -f "+tree, "/dev/null")
		if os.Getuid() == 0 {
			// mutt wants to know the name of its user.
			c = exec.Command("unshare", append([]string{"-m", "sh", "-c", `mount --bind "$1" /etc/passwd && shift && exec "$@"`, "sh", passwd,
				"setpriv", "--reuid", strconv.Itoa(neighbour.MailUID), "--regid", strconv.Itoa(neighbour.MailGID), "--clear-groups"}, c.Args...)...)
		}
		c.Dir = h.dir
		c.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C", "HOME="+h.mail)
		stdin, err := c.StdinPipe() // a keyboard that nobody touches
		if err != nil {
			ledger.Blame("%v", err)
			return
		}
		defer stdin.Close()
		var out strings.Builder
		c.Stdout = &out
		if err := c.Start(); err != nil {
			ledger.Blame("%v", err)
			return
		}
		// When it asks a question that this test does not know it waits for ever.
		watchdog := time.AfterFunc(patience, func() { c.Process.Kill() })
		defer watchdog.Stop()
		if err := c.Wait(); err != nil {
			ledger.Blame("mutt: %v\n%s", err, out.String())
		}
	}
	runCron := func() {
		if out, err := asMail(exec.Command("sh", "-c", cron, "cron", tree)).CombinedOutput(); err != nil {
			// mv of a file that mutt or Roost renamed a moment ago: tomorrow's run takes it.
			if !strings.Contains(string(out), "No such file") {
				ledger.Blame("the script: %v: %s", err, out)
			}
		}
	}
	number := 0
	deliver := func(dir, kind string, age time.Duration) {
		number++
		name := fmt.Sprintf("%d.M%dP1.mta", time.Now().Unix(), number)
		text := fmt.Sprintf("From: a@example.org\r\nSubject: %s %d\r\nMessage-ID: <%s-%d@mutt>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\nbody %d\r\n", kind, number, kind, number, number)
		if err := os.WriteFile(filepath.Join(dir, "tmp", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, "tmp", name), at, at); err != nil {
			t.Fatal(err)
		}
		if err := neighbour.Own(filepath.Join(dir, "tmp", name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tmp", name), filepath.Join(dir, "new", name)); err != nil {
			t.Fatal(err)
		}
	}

	stop := make(chan struct{})
	beats := make(chan struct{}, len(watchers))
	var watching sync.WaitGroup
	for i, s := range watchers {
		watching.Go(func() { // ends with stop
			for {
				var err error
				if i%2 == 0 {
					err = s.Idle(stop, nil)
				} else {
					err = s.Poll()
				}
				if err != nil {
					ledger.Blame("%v", err)
					return
				}
				select {
				case <-stop:
					return
				case <-beats:
				}
			}
		})
	}
	beat := func() {
		for range watchers {
			select {
			case beats <- struct{}{}:
			default:
			}
		}
	}
	const day = 24 * time.Hour
	for range neighbour.Rounds(3) {
		for _, kind := range []string{"read", "flag", "delete", "save", "keep", "keep"} {
			deliver(tree, kind, 0)
		}
		for range 3 {
			deliver(tree, "old", 40*day)
			deliver(boxes["Trash"], "old", 10*day)
		}
		deliver(boxes["Trash"], "keep", 2*day)
		var working sync.WaitGroup
		working.Go(runMutt)
		working.Go(func() {
			for range 3 {
				runCron()
				beat()
			}
		})
		working.Go(func() {
			for i := range 6 {
				if err := worker.Poll(); err != nil {
					ledger.Blame("%v", err)
				}
				sign := []string{"+", "-"}[i%2]
				for uid := range worker.Messages() {
					if !strings.Contains(ledger.Name(worker.Key(uid)), "Subject: keep") {
						continue
					}
					if err := worker.Do(fmt.Sprintf(`UID STORE %d %sFLAGS (\Answered Work)`, uid, sign)); err != nil {
						ledger.Blame("%v", err)
					}
				}
				beat()
			}
		})
		working.Wait()
	}
	// Alone and one after the other they finish what they got in each other's way with.
	runCron()
	runMutt()
	runCron()
	close(stop)
	watching.Wait()

	// All agree with the files, byte by byte.
	for _, s := range append(watchers, worker) {
		dir := boxes[s.Mailbox]
		var wrong []string
		for deadline := time.Now().Add(patience); ; {
			if err := s.Poll(); err != nil {
				t.Fatal(err)
			}
			wrong = disagreements(t, s, ledger, dir)
			if len(wrong) == 0 || time.Now().After(deadline) {
				break
			}
		}
		for _, w := range wrong {
			t.Errorf("%s: %s", s.Who, w)
		}
	}
	kinds := map[string]int{}
	for box, dir := range boxes {
		for _, name := range files(t, dir) {
			subject := bodyOf(t, dir, name)
			_, subject, _ = strings.Cut(subject, "Subject: ")
			kind, _, _ := strings.Cut(subject, " ")
			kinds[box+" "+kind]++
		}
	}
	rounds := neighbour.Rounds(3)
	for what, n := range map[string]int{
		"INBOX read": rounds, "INBOX flag": rounds, "INBOX keep": 2 * rounds, "INBOX delete": 0, "INBOX save": 0, "INBOX old": 0,
		"Archive old": 3 * rounds, "Trash old": 0, "Trash keep": rounds,
	} {
		if kinds[what] != n {
			t.Errorf("%s: %d messages, want %d", what, kinds[what], n)
		}
	}
	if kinds["Saved save"] < rounds { // more, where mutt saved again what it could not delete
		t.Errorf("%d messages in Saved, want %d", kinds["Saved save"], rounds)
	}
	// A message has one UID in a mailbox for as long as it is there.
	uids := map[string][]witness.Key{}
	for k, text := range ledger.Messages() {
		if !strings.Contains(text, "Subject: save") {
			uids[k.Mailbox+text] = append(uids[k.Mailbox+text], k)
		}
	}
	for text, keys := range uids {
		if len(keys) > 1 {
			t.Errorf("%q had the UIDs %v", text, keys)
		}
	}
	for _, f := range ledger.Faults() {
		t.Error(f)
	}
	seen, gone := ledger.Counts()
	t.Logf("%d UIDs were seen, %d times one was told to be gone", seen, gone)
}

// bodyOf reads a message file of a mailbox, wherever it lies.
func bodyOf(t *testing.T, dir, name string) string {
	t.Helper()
	for _, sub := range []string{"cur", "new"} {
		f, err := os.Open(filepath.Join(dir, sub, name))
		if err != nil {
			continue
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return ""
}

// disagreements compares what a session knows with the files of its mailbox.
func disagreements(t *testing.T, s *witness.Session, ledger *witness.Ledger, dir string) (out []string) {
	t.Helper()
	letters := map[byte]string{'D': `\Draft`, 'F': `\Flagged`, 'R': `\Answered`, 'S': `\Seen`, 'T': `\Deleted`}
	onDisk := map[string]string{} // text to name
	for _, name := range files(t, dir) {
		text := strings.ReplaceAll(strings.ReplaceAll(bodyOf(t, dir, name), "\r\n", "\n"), "\n", "\r\n")
		onDisk[strings.TrimSpace(text)+" "+name] = name
	}
	known := s.Messages()
	if len(known) != len(onDisk) {
		out = append(out, fmt.Sprintf("knows %d messages, there are %d", len(known), len(onDisk)))
	}
	for uid, flags := range known {
		text := ledger.Name(s.Key(uid))
		found := ""
		for key, name := range onDisk {
			if strings.HasPrefix(key, text+" ") && found == "" {
				found = name
				delete(onDisk, key)
			}
		}
		if found == "" {
			out = append(out, fmt.Sprintf("UID %d is %q, and no file is", uid, text))
			continue
		}
		_, info, _ := strings.Cut(found, ":2,")
		for letter, flag := range letters {
			has := strings.IndexByte(info, letter) >= 0
			shown := false
			for _, f := range flags {
				shown = shown || f == flag
			}
			if has != shown {
				out = append(out, fmt.Sprintf("UID %d has %v, its file is %s", uid, flags, found))
			}
		}
	}
	return out
}
