package peers

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/textproto"
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

// deliverToIdle has another program deliver messages 0..count-1 to ann's INBOX, several
// at once as on a busy server, while a client idles: it must hear of each, and see each
// once, with a UID of its own.
func (h *house) deliverToIdle(t *testing.T, count int, send func(n int) error, log func() string) []*imapclient.FetchMessageBuffer {
	t.Helper()
	i := h.idle(t, "INBOX")
	errs := make(chan error, 4)
	for k := range 4 {
		go func() { // ends with its share of the messages
			for n := k; n < count; n += 4 {
				if err := send(n); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	i.await(count, func() string {
		return fmt.Sprintf("files: %d\n%s", len(files(t, h.maildir("ann"))), log())
	})
	msgs := i.end()
	var uids []imap.UID
	subjects := map[string]int{}
	for _, m := range msgs {
		uids = append(uids, m.UID)
		subjects[m.Envelope.Subject]++
	}
	if len(uids) != count || !slices.IsSorted(uids) || len(slices.Compact(slices.Clone(uids))) != count {
		t.Errorf("UIDs are not %d rising numbers: %v", count, uids)
	}
	for n := range count {
		if s := fmt.Sprintf("message %d", n); subjects[s] != 1 {
			t.Errorf("%q is there %d times", s, subjects[s])
		}
	}
	return msgs
}

// sieve files, flags and labels by the number in the subject.
const sieve = `
require ["fileinto", "imap4flags", "mailbox"];
if header :matches "subject" "message *7" {
	addflag ["\\Flagged", "$Label1"];
	fileinto :create "Listen/Größe";
} elsif header :matches "subject" "message *3" {
	setflag ["\\Seen", "Work"];
	keep;
}
`

// sieveConf is what Dovecot needs to sort mail as it delivers it.
const sieveConf = `
protocols = imap lmtp
service lmtp {
  unix_listener lmtp {
    mode = 0666
  }
}
postmaster_address = postmaster@example.org
mail_plugins =
protocol lmtp {
  mail_plugins = sieve
}
protocol lda {
  mail_plugins = sieve
}
plugin {
  sieve = {dir}/filter.sieve
}
`

// sortingDovecot delivers beside Roost into the same tree, and sorts by Sieve.
func sortingDovecot(t *testing.T, h *house) *neighbour.Dovecot {
	t.Helper()
	for _, p := range []struct{ file, pkg string }{
		{"/usr/lib/dovecot/lmtp", "dovecot-lmtpd"}, {"/usr/lib/dovecot/modules/lib90_sieve_plugin.so", "dovecot-sieve"},
	} {
		if _, err := os.Stat(p.file); err != nil {
			t.Skip(neighbour.Missing{Program: p.file, Package: p.pkg})
		}
	}
	dir := filepath.Join(h.dir, "sieve")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/filter.sieve", []byte(sieve), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sievec", dir+"/filter.sieve").CombinedOutput(); err != nil {
		t.Fatalf("sievec: %v\n%s", err, out)
	}
	d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
		Dir:      filepath.Join(h.dir, "dovecot"),
		Home:     h.mail,
		Location: "maildir:" + h.mail + "/%d/%n/Maildir",
		Password: password,
		Extra:    strings.ReplaceAll(sieveConf, "{dir}", dir),
	})
	started(t, err)
	t.Cleanup(func() {
		d.Close()
		for line := range strings.Lines(d.Log()) {
			if strings.Contains(line, "Error:") || strings.Contains(line, "Panic:") {
				t.Errorf("Dovecot complains: %s", line)
			}
		}
	})
	return d
}

// sorted checks what Sieve did to messages 0..count-1: it is there once, each client sees
// its flags, and Dovecot and Roost give the same UIDs.
func sorted(t *testing.T, h *house, d *neighbour.Dovecot, count int, inbox, list []*imapclient.FetchMessageBuffer) {
	t.Helper()
	seen := map[string]string{}
	for box, msgs := range map[string][]*imapclient.FetchMessageBuffer{"INBOX": inbox, "Listen/Größe": list} {
		for n, m := range msgs {
			if n > 0 && m.UID <= msgs[n-1].UID {
				t.Errorf("%s: UID %d follows %d", box, m.UID, msgs[n-1].UID)
			}
			var flags []string
			for _, f := range m.Flags {
				if f != `\Recent` {
					flags = append(flags, string(f))
				}
			}
			slices.Sort(flags)
			if was, ok := seen[m.Envelope.Subject]; ok {
				t.Errorf("%q is there twice: %s and %s", m.Envelope.Subject, was, box)
			}
			seen[m.Envelope.Subject] = fmt.Sprint(box, flags)
		}
	}
	for n := range count {
		want := "INBOX[]"
		switch n % 10 {
		case 7:
			want = `Listen/Größe[$Label1 \Flagged]`
		case 3:
			want = `INBOX[Work \Seen]`
		}
		if got := seen[fmt.Sprintf("message %d", n)]; got != want {
			t.Errorf("message %d is %q, want %q", n, got, want)
		}
	}
	c, err := imapclient.DialInsecure(d.Addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("ann@example.org", password).Wait(); err != nil {
		t.Fatal(err)
	}
	compare(t, "Roost beside Dovecot", look(t, login(t, h.roost.Addr, "ann", nil)), look(t, c))
}

// Dovecot's LMTP with Sieve delivers beside Roost while clients idle on INBOX and on the
// folder that Sieve files into: both hear of each message, with the flags that Sieve set.
func TestDovecotLMTPWithSieve(t *testing.T) {
	const count = 100
	h := newHouse(t)
	d := sortingDovecot(t, h)
	neighbour.Compat(t, "delivery", "Dovecot LMTP with Pigeonhole Sieve", version("dovecot-lmtpd"), "fileinto, flags and keywords while clients idle; the same UIDs in both")
	h.serve(t)
	c := login(t, h.roost.Addr, "ann", nil)
	if err := c.Create("Listen/Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	inbox, list := h.idle(t, "INBOX"), h.idle(t, "Listen/Größe")
	errs := make(chan error, 4)
	for k := range 4 {
		go func() { // ends with its share of the messages
			errs <- lmtp(filepath.Join(h.dir, "dovecot/run/lmtp"), "ann@example.org", func(yield func(string) bool) {
				for n := k; n < count && yield(sample(n)); n += 4 {
				}
			})
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatalf("%v\n%s", err, d.Log())
		}
	}
	inbox.await(count*9/10, d.Log)
	list.await(count/10, d.Log)
	sorted(t, h, d, count, inbox.end(), list.end())
}

// lmtp hands messages for one recipient over in one session.
func lmtp(socket, rcpt string, messages func(yield func(string) bool)) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := textproto.NewConn(conn)
	expect := func(code int) {
		if err == nil {
			_, _, err = c.ReadResponse(code)
		}
	}
	say := func(code int, format string, args ...any) {
		if err == nil {
			err = c.PrintfLine(format, args...)
		}
		expect(code)
	}
	expect(220)
	say(250, "LHLO mx.example.net")
	for m := range messages {
		say(250, "MAIL FROM:<sender@example.net>")
		say(250, "RCPT TO:<%s>", rcpt)
		say(354, "DATA")
		if err == nil {
			w := c.DotWriter()
			_, err = w.Write([]byte(m))
			err = errors.Join(err, w.Close())
		}
		expect(250)
	}
	say(221, "QUIT")
	return err
}

// handOver runs a delivery agent with a message on its standard input.
func handOver(message, prog string, args ...string) error {
	cmd := exec.Command(prog, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(message, "\r\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("%s: %v: %s", prog, err, out)
	}
	return nil
}

// asAnn gives the words that run a program as ann, a user of this machine who owns the
// mail: to it alone /etc/passwd knows her.
func (h *house) asAnn(t *testing.T, prog string, args ...string) []string {
	t.Helper()
	if os.Getuid() != 0 {
		return append([]string{prog}, args...)
	}
	passwd := filepath.Join(h.dir, "passwd")
	text := fmt.Sprintf("root:x:0:0::/root:/bin/sh\nann:x:%d:%d::%s:/bin/sh\n", neighbour.MailUID, neighbour.MailGID, h.mail)
	if err := os.WriteFile(passwd, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	enter := fmt.Sprintf(`mount --bind %s /etc/passwd && exec setpriv --reuid=%d --regid=%d --clear-groups "$@"`, passwd, neighbour.MailUID, neighbour.MailGID)
	return append([]string{"unshare", "-m", "sh", "-c", enter, "sh", prog}, args...)
}

// dovecot-lda with Sieve, a process for each message, four at a time.
func TestDovecotLDAWithSieve(t *testing.T) {
	const count = 40
	h := newHouse(t)
	d := sortingDovecot(t, h)
	neighbour.Compat(t, "delivery", "dovecot-lda with Pigeonhole Sieve", version("dovecot-core"), "fileinto, flags and keywords while clients idle; the same UIDs in both")
	h.serve(t)
	c := login(t, h.roost.Addr, "ann", nil)
	if err := c.Create("Listen/Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	inbox, list := h.idle(t, "INBOX"), h.idle(t, "Listen/Größe")
	errs := make(chan error, 4)
	for k := range 4 {
		go func() { // ends with its share of the messages
			for n := k; n < count; n += 4 {
				if err := handOver(sample(n), "/usr/lib/dovecot/dovecot-lda", "-c", filepath.Join(h.dir, "dovecot/dovecot.conf"), "-d", "ann@example.org"); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatalf("%v\n%s", err, d.Log())
		}
	}
	inbox.await(count*9/10, d.Log)
	list.await(count/10, d.Log)
	sorted(t, h, d, count, inbox.end(), list.end())
}

func TestMaildropDeliversToIdle(t *testing.T) {
	prog := need(t, "maildrop", "maildrop")
	h := newHouse(t)
	h.serve(t)
	neighbour.Compat(t, "delivery", "maildrop", version("maildrop"), "80 messages while a client idles")
	filter := filepath.Join(h.mail, "filter")
	if err := os.WriteFile(filter, []byte("to \""+h.maildir("ann")+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(filter); err != nil {
		t.Fatal(err)
	}
	run := h.asAnn(t, prog, filter)
	h.deliverToIdle(t, 80, func(n int) error { return handOver(sample(n), run[0], run[1:]...) }, h.roost.Log)
}

func TestProcmailDeliversToIdle(t *testing.T) {
	prog := need(t, "procmail", "procmail")
	h := newHouse(t)
	h.serve(t)
	neighbour.Compat(t, "delivery", "procmail", version("procmail"), "80 messages while a client idles; a folder that it makes")
	rc := filepath.Join(h.mail, "rc")
	if err := os.WriteFile(rc, []byte("DEFAULT="+h.maildir("ann")+"/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(rc); err != nil {
		t.Fatal(err)
	}
	run := h.asAnn(t, prog, rc)
	h.deliverToIdle(t, 80, func(n int) error { return handOver(sample(n), run[0], run[1:]...) }, h.roost.Log)

	// A folder that procmail makes has no maildirfolder.
	run = h.asAnn(t, prog, "DEFAULT="+h.maildir("ann")+"/.Listen.neu/", rc)
	if err := os.WriteFile(rc, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := handOver(sample(100), run[0], run[1:]...); err != nil {
		t.Fatal(err)
	}
	if msgs := h.idle(t, "Listen/neu").end(); len(msgs) != 1 || msgs[0].Envelope.Subject != "message 100" {
		t.Errorf("Listen/neu has %d messages", len(msgs))
	}
}
