package peers

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// Postfix, with the lines of docs/postfix.md, lets those send whom Roost lets in, over a
// unix socket and over loopback, and what was guessed there counts for IMAP too.
func TestPostfixSubmission(t *testing.T) {
	swaks := need(t, "swaks", "swaks")
	h := newHouse(t)
	if err := os.Mkdir(h.dir+"/private", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(h.dir + "/private"); err != nil {
		t.Fatal(err)
	}
	h.extra = "[[auth.listen]]\npath = \"" + h.dir + "/private/auth\"\n[[auth.listen]]\naddress = \"127.0.0.1:0\"\n"
	r := h.serve(t)
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Skip(neighbour.Missing{Program: "postfix", Package: "postfix"})
	}
	uid, _ := strconv.Atoi(owner.Uid)
	if err := os.Lchown(h.dir+"/private/auth", uid, -1); err != nil { // as root it would do so itself
		t.Fatal(err)
	}
	var inet []string
	for deadline := time.Now().Add(patience); inet == nil; time.Sleep(10 * time.Millisecond) { // it takes connections before it says so
		if inet = regexp.MustCompile(`on="(127\.0\.0\.1:\d+) authentication"`).FindStringSubmatch(r.Log()); inet == nil && time.Now().After(deadline) {
			t.Fatal("it does not listen on loopback")
		}
	}
	lines := strings.Join(regexp.MustCompile(`(?m)^    ((?:smtpd_(?:sasl|tls)|broken)_\S+ = .*)$`).FindAllString(read(t, "../../docs/postfix.md"), -1), "\n")
	if strings.Count(lines, "\n") != 5 {
		t.Fatalf("docs/postfix.md has the lines\n%s", lines)
	}
	lines = strings.ReplaceAll(lines, "    ", "")
	key := strings.Replace(r.CertFile, "cert.pem", "key.pem", 1)
	for name, path := range map[string]string{"unix": h.dir + "/private/auth", "loopback": "inet:" + inet[1]} {
		t.Run(name, func(t *testing.T) {
			p, err := neighbour.StartPostfixWith(strings.ReplaceAll(lines, "private/roost-auth", path)+
				"\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = "+r.CertFile+"\nsmtpd_tls_key_file = "+key,
				filepath.Join(h.dir, "postfix-"+name), h.mail, "ann")
			started(t, err)
			defer p.Close()
			try := func(mech, user, password string) string {
				out, _ := exec.Command(swaks, "--server", p.Addr, "--tls", "--auth", mech, "--auth-user", user, "--auth-password", password,
					"--from", "ann@example.org", "--to", "ann@example.org", "--quit-after", "AUTH").CombinedOutput() // its exit code is what the answer says
				return string(out)
			}
			for _, mech := range []string{"PLAIN", "LOGIN"} {
				if out := try(mech, "ann@example.org", password); !strings.Contains(out, "235 2.7.0 Authentication successful") {
					t.Errorf("%s:\n%s\n%s", mech, out, p.Log())
				}
			}
			if out := try("PLAIN", "ann@example.org", "wrong "+name); !strings.Contains(out, "535 5.7.8") || !strings.Contains(out, "SCRAM-SHA-256") {
				t.Errorf("a wrong password:\n%s\n%s", out, p.Log())
			}
			if out := try("LOGIN", "nobody@example.org", "wrong "+name); !strings.Contains(out, "535 5.7.8") {
				t.Errorf("nobody:\n%s", out)
			}
		})
	}
	neighbour.Compat(t, "client", "Postfix, smtpd", version("postfix"), "asks who may send, in Dovecot's protocol")
	for _, want := range []string{
		"addr=127.0.0.1 event=login user=ann@example.org login=ann@example.org method=PLAIN service=smtp",
		`addr=127.0.0.1 event=login_refused user=ann@example.org method=PLAIN reason="wrong password" service=smtp`,
		`addr=127.0.0.1 event=login_refused user=nobody@example.org method=LOGIN reason="unknown user" service=smtp`,
	} {
		if !logged(r, want) {
			t.Errorf("the log has no %q", want)
		}
	}
	// The third failure for ann waits for longer than a first one.
	c, err := imapclient.DialInsecure(r.PlainAddr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	if err := c.Login("ann@example.org", "wrong by IMAP").Wait(); err == nil {
		t.Error("a wrong password was taken")
	}
	if took := time.Since(start); took < 1500*time.Millisecond {
		t.Errorf("the first failure by IMAP was answered after %v: what failed at Postfix does not count", took)
	}
}
