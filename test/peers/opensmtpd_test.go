package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"roost/test/neighbour"
)

// OpenSMTPD, with the rules of docs/opensmtpd.md, delivers while a client idles; spam
// goes to Junk, and each spelling of an address to the same tree.
func TestOpenSMTPDDeliversToIdle(t *testing.T) {
	h := newHouse(t)
	var rules []string
	for _, m := range regexp.MustCompile(`(?m)^    ((?:action|match) .*)$`).FindAllStringSubmatch(read(t, "../../docs/opensmtpd.md"), -1) {
		rules = append(rules, strings.ReplaceAll(m[1], "/var/vmail", h.mail))
	}
	if len(rules) != 2 {
		t.Fatalf("docs/opensmtpd.md has the rules %q", rules)
	}
	o, err := neighbour.StartOpenSMTPD("unpacked/opensmtpd", filepath.Join(h.dir, "smtpd"), strings.Join(rules, "\n"), "ann")
	started(t, err)
	defer o.Close()
	usage, _ := exec.Command("unpacked/opensmtpd/usr/sbin/smtpd", "-h").CombinedOutput() // exits with 1
	version := regexp.MustCompile(`\d+\.\S+`).FindString(string(usage))
	neighbour.Compat(t, "delivery", "OpenSMTPD", version, "40 messages while a client idles; junk to its folder")
	h.serve(t)
	h.deliverToIdle(t, 40, func(n int) error { return o.Send("ann", []byte(sample(n))) }, o.Log)

	inbox, junk := h.idle(t, "INBOX"), h.idle(t, "Junk")
	for user, text := range map[string]string{"ann": "X-Spam: yes\r\n" + sample(100), "ann+lists": sample(101), "Ann": sample(102)} {
		if err := o.Send(user, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	inbox.await(42, o.Log)
	junk.await(1, o.Log)
	same(t, "Junk", letters(t, h.maildir("ann")+"/.Junk"), []string{"message 100 "})
	if names, err := os.ReadDir(filepath.Join(h.mail, "example.org")); err != nil || len(names) != 1 {
		t.Errorf("trees: %v, %v; want only ann's", names, err)
	}
}
