package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// A site that moves its IMAP first: the users and their mail are where Dovecot says, while
// it runs and after it was restarted; others log in while it is away. (That its users are
// refused for now then is for the package's own tests: its auth process lives on for a while.)
func TestUsersOfDovecot(t *testing.T) {
	h := newHouse(t)
	for _, dir := range []string{h.mail + "/cat", h.mail + "/cat/Maildir"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	passwd := filepath.Join(h.dir, "passwd")
	if err := os.WriteFile(passwd, []byte("cat:{PLAIN}"+password+"::::::\nclosed:{PLAIN}"+password+"::::::nologin reason=moved\nkitty:{PLAIN}"+password+"::::::user=cat\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.dir, "dovecot")
	start := func() *neighbour.Dovecot {
		d, err := neighbour.StartDovecot(neighbour.DovecotOptions{Dir: dir, Home: h.mail, Passwd: passwd, Extra: `
service auth {
  unix_listener auth-client {
    mode = 0666
  }
  unix_listener auth-userdb {
    mode = 0666
  }
}`})
		started(t, err)
		return d
	}
	d := start()
	neighbour.Compat(t, "client", "Dovecot, its users", d.Version, "passwords, homes and fields over its sockets")
	h.extra = fmt.Sprintf("[[auth.source]]\nkind = \"dovecot\"\nsocket = \"%[1]s/run/auth-client\"\nuserdb = \"%[1]s/run/auth-userdb\"\n", dir)
	r := h.serve(t)
	try := func(user, password string) string {
		t.Helper()
		c, err := imapclient.DialInsecure(r.PlainAddr, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login(user, password).Wait(); err != nil {
			return err.Error()
		}
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		return ""
	}
	check := func(user, password, want string) {
		t.Helper()
		if got := try(user, password); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q\n%s", user, got, want, d.Log())
		}
	}
	check("cat", password, "")
	check("kitty", password, "")
	check("cat", "wrong", "AUTHENTICATIONFAILED")
	check("nobody", password, "AUTHENTICATIONFAILED")
	check("closed", password, "UNAVAILABLE")
	check("ann@example.org", password, "") // of the password file
	for _, want := range []string{
		`user=cat method=LOGIN reason="wrong password"`, `user=nobody method=LOGIN reason="unknown user"`, `user=closed method=LOGIN reason="the entry has nologin"`,
		"event=login user=cat login=kitty ",
	} {
		if !logged(r, want) {
			t.Errorf("the log has no %q", want)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	check("bob@example.org", password, "")
	d = start()
	check("kitty", password, "")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
