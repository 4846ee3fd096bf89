// Package test holds what is checked of the whole house: its arrows and its citations.
package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goList asks the go tool about packages, one line each.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

// The arrows point one way: protocol and storage meet in store only, and nothing
// behind the login reaches back to passwords, sockets or files.
func TestArrows(t *testing.T) {
	all := goList(t, "./...")
	under := func(prefix string) (out []string) {
		for _, p := range all {
			if p == prefix || strings.HasPrefix(p, prefix+"/") {
				out = append(out, p)
			}
		}
		return out
	}
	for _, rule := range []struct {
		from      []string
		forbidden []string
		why       string
	}{
		{under("roost/server"), under("roost/maildir"), "the protocol knows no files"},
		{under("roost/maildir"), under("roost/server"), "the storage knows no protocol"},
		{under("roost/maildir"), []string{"github.com/emersion/go-imap/v2/imapclient", "github.com/emersion/go-imap/v2/imapserver"}, "the storage knows no protocol"},
		{slices.Concat(under("roost/server/session"), under("roost/server/search"), under("roost/server/wire")), under("roost/auth"), "nothing behind the login knows passwords"},
		{slices.Concat([]string{"roost/store", "roost/unixsocket"}, under("roost/message"), under("roost/config"), under("roost/auth"), under("roost/maildir/fsys")), under("roost/server"), "leaves import no room"},
		{slices.Concat([]string{"roost/auth"}, under("roost/server")), []string{"roost/auth/oidc"}, "whose tokens count is for cmd to choose"},
		{slices.Concat(under("roost/message"), under("roost/auth"), under("roost/config")), slices.Concat(under("roost/maildir"), []string{"roost/store"}), "leaves import no room"},
	} {
		for _, p := range rule.from {
			deps := goList(t, "-deps", p)
			for _, f := range rule.forbidden {
				if slices.Contains(deps, f) {
					t.Errorf("%s reaches %s: %s", p, f, rule.why)
				}
			}
		}
	}
	for _, p := range slices.Concat(under("roost/server/session"), under("roost/server/search"), under("roost/server/wire")) {
		if slices.Contains(goList(t, "-f", "{{join .Imports \"\\n\"}}", p), "os") {
			t.Errorf("%s imports os: what a session knows of files comes through store", p)
		}
	}
}
