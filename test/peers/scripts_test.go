package peers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
	r := newHouse(t).serve(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	script(t, python, "python_imaplib.py", host, port, "ann@example.org", password)
}

func TestImapflow(t *testing.T) {
	node := need(t, "node", "nodejs")
	if _, err := os.Stat("node_modules/imapflow"); err != nil {
		t.Skip("imapflow is not installed: npm ci in test/peers")
	}
	h := newHouse(t)
	r := h.serve(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	script(t, node, "imapflow.mjs", host, port, "ann@example.org", password, h.maildir("ann"))
}

// curl reads, lists, searches and stores mail.
func TestCurl(t *testing.T) {
	curl := need(t, "curl", "curl")
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
