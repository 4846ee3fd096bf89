package peers

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"roost/test/neighbour"
)

// script runs a client program that speaks for itself: it exits with 0 only when
// all was as it should be.
func script(t *testing.T, prog string, args ...string) string {
	t.Helper()
	out, err := exec.Command(prog, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", prog, err, out)
	}
	return string(out)
}

func TestImaplib(t *testing.T) {
	python := need(t, "python3", "python3")
	neighbour.Compat(t, "client", "imaplib (Python)", version("python3"), "mailboxes, append, search, sort, thread, fetch, flags, copy, expunge")
	r := newHouse(t).serve(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	script(t, python, "python_imaplib.py", host, port, "ann@example.org", password)
}

// imapflow is the program that runs imapflow, which the row of docs/compatibility.md then
// says was tried.
func imapflow(t *testing.T, what string) string {
	t.Helper()
	node := need(t, "node", "nodejs")
	if _, err := os.Stat("node_modules/imapflow"); err != nil {
		t.Skip("imapflow is not installed: npm ci in test/peers")
	}
	var pkg struct{ Version string }
	if err := json.Unmarshal([]byte(read(t, "node_modules/imapflow/package.json")), &pkg); err != nil {
		t.Fatal(err)
	}
	neighbour.Compat(t, "client", "imapflow (Node)", pkg.Version, what)
	return node
}

func TestImapflow(t *testing.T) {
	node := imapflow(t, "mailboxes, append, search, fetch, download, flags, move, IDLE")
	h := newHouse(t)
	r := h.serve(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	script(t, node, "imapflow.mjs", host, port, "ann@example.org", password, h.maildir("ann"))
}

func TestImapflowStaysInStep(t *testing.T) {
	node := imapflow(t, "COMPRESS, CONDSTORE, QRESYNC, OBJECTID, ESEARCH, PARTIAL")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	script(t, node, "imapflow_sync.mjs", host, port, "ann@example.org", password)
	if got := len(r.said(` SELECT INBOX \(QRESYNC \(`)); got != 3 {
		t.Errorf("it resumed %d times by QRESYNC, not 3", got)
	}
}

// curl reads, lists, searches and stores mail.
func TestCurl(t *testing.T) {
	curl := need(t, "curl", "curl")
	neighbour.Compat(t, "client", "curl", version("curl"), "list, search, read, store; IMAPS and STARTTLS")
	r := newHouse(t).serve(t)
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte(sample(1)), 0o644); err != nil {
		t.Fatal(err)
	}
	base := []string{"-sS", "--cacert", r.CertFile, "--user", "ann@example.org:" + password}
	run := func(args ...string) string { return script(t, curl, append(base[:len(base):len(base)], args...)...) }

	run("imaps://"+r.Addr+"/INBOX", "-T", message)
	if got := run("imaps://" + r.Addr + "/INBOX;UID=1"); got != sample(1) {
		t.Errorf("UID 1 is %q", got)
	}
	if got := run("imaps://" + r.Addr + "/INBOX;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)"); !strings.Contains(got, "Subject: message 1") {
		t.Errorf("the subject is %q", got)
	}
	if got := run("--ssl-reqd", "imap://"+r.STARTTLSAddr+"/"); !strings.Contains(got, `"/" INBOX`) {
		t.Errorf("LIST over STARTTLS is %q", got)
	}
	if got := run("imaps://" + r.Addr + "/INBOX?SUBJECT%20message"); !strings.Contains(got, "* SEARCH 1") {
		t.Errorf("SEARCH is %q", got)
	}
}

// Perl's Mail::IMAPClient: mailboxes, storing, searching, sorting, reading, flags, moving,
// IDLE; all of it compressed too, with the partial flushes of zlib.
func TestMailIMAPClient(t *testing.T) {
	perl := need(t, "perl", "perl")
	for _, m := range []struct{ module, pkg string }{{"Mail::IMAPClient", "libmail-imapclient-perl"}, {"IO::Socket::SSL", "libio-socket-ssl-perl"}} {
		if exec.Command(perl, "-M"+m.module, "-e1").Run() != nil {
			t.Skip(neighbour.Missing{Program: m.module, Package: m.pkg})
		}
	}
	for _, how := range []string{"plain", "compress"} {
		t.Run(how, func(t *testing.T) { mailIMAPClient(t, perl, how == "compress") })
	}
}

func mailIMAPClient(t *testing.T, perl string, compress bool) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t, "No such mailbox") // it asks whether one exists by STATUS
	neighbour.Compat(t, "client", "Mail::IMAPClient (Perl)", version("libmail-imapclient-perl"), "mailboxes, append, search, sort, thread, fetch, flags, copy, move, IDLE, COMPRESS")
	host, port := r.endpoint()
	args := []string{"mail_imapclient.pl", host, port, "ann@example.org", password, h.maildir("ann")}
	if compress {
		args = append(args, "compress")
	}
	script(t, perl, args...)
	if asked := len(r.said(`COMPRESS DEFLATE`)) == 1; asked != compress {
		t.Errorf("it asked for COMPRESS: %v", asked)
	}
	same(t, "INBOX", letters(t, h.maildir("ann")), []string{"delivered S", "message 1 RSb", "message 2 FSa"})
}
