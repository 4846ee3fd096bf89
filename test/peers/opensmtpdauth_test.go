package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"

	"roost/auth"
	"roost/test/neighbour"
)

// OpenSMTPD and Roost read one table of passwords, which `roost passwd` keeps.
func TestOpenSMTPDReadsTheSamePasswords(t *testing.T) {
	swaks := need(t, "swaks", "swaks")
	h := newHouse(t)
	creds := filepath.Join(h.dir, "creds")
	hash, err := auth.NewHash("bcrypt", "first", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(creds, []byte("cat@example.org   "+hash+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	change := exec.Command(roostBin, "passwd", "change", "--file", creds, "--stdin", "cat@example.org")
	change.Stdin = strings.NewReader("second\n")
	if out, err := change.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(creds, 0o644); err != nil {
		t.Fatal(err)
	}
	h.extra = "[[auth.source]]\nkind = \"passwd\"\nfile = \"" + creds + "\"\n"
	r := h.serve(t)
	c, err := imapclient.DialInsecure(r.PlainAddr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("cat@example.org", "second").Wait(); err != nil {
		t.Error(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	key := filepath.Join(h.dir, "smtpd.key") // smtpd wants it to be root's alone
	if err := os.WriteFile(key, []byte(read(t, strings.Replace(r.CertFile, "cert.pem", "key.pem", 1))), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := fmt.Sprintf("pki mail cert \"%s\"\npki mail key \"%s\"\ntable creds file:%s\naction \"virt\" maildir \"%s/%%{rcpt.user}/Maildir\" user vmail virtual <virtuals>\n"+
		"match from any for domain \"example.org\" action \"virt\"\nlisten on 127.0.0.1 port %d smtps pki mail auth <creds>", r.CertFile, key, creds, h.mail, addr.Port)
	o, err := neighbour.StartOpenSMTPD("unpacked/opensmtpd", filepath.Join(h.dir, "smtpd"), rules, "ann")
	started(t, err)
	defer o.Close()
	for password, want := range map[string]string{"second": "235 2.0.0", "first": "535 "} {
		out, _ := exec.Command(swaks, "--server", "127.0.0.1", "--port", fmt.Sprint(addr.Port), "--tls-on-connect", "--auth", "PLAIN", "--auth-user", "cat@example.org",
			"--auth-password", password, "--from", "ann@example.org", "--to", "ann@example.org", "--quit-after", "AUTH").CombinedOutput() // its exit code is what the answer says
		if !strings.Contains(string(out), want) {
			t.Errorf("with %q:\n%s\n%s", password, out, o.Log())
		}
	}
}
