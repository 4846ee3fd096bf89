// Package peers runs real mail programs against the server: what delivers into
// the tree, what reads it over IMAP, and the server that had it before.
package peers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// roostBin is the program under test, built once.
var roostBin string

func TestMain(m *testing.M) {
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if roostBin, err = neighbour.BuildRoost(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	remove()
	os.Exit(code)
}

const password = "secret"

// patience is when a wait is called stuck: a watchdog, no measure.
const patience = 5 * time.Minute

// house is a private directory with mail of ann and bob in mail/example.org/USER/Maildir.
type house struct {
	dir   string
	mail  string
	extra string // further keys of [mail]
	auth  string // of [auth]
	roost *neighbour.Roost
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	h := &house{dir: dir, mail: filepath.Join(dir, "mail")}
	if err := os.MkdirAll(filepath.Join(h.mail, "example.org"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	return h
}

// maildir is the tree of a user.
func (h *house) maildir(user string) string {
	return filepath.Join(h.mail, "example.org", user, "Maildir")
}

// serve starts Roost on the house.
func (h *house) serve(t *testing.T) *neighbour.Roost {
	t.Helper()
	r, err := neighbour.StartRoost(neighbour.RoostOptions{
		Bin:      roostBin,
		Dir:      filepath.Join(h.dir, "roost"),
		Location: filepath.Join(h.mail, "example.org/%n/Maildir"),
		Users:    map[string]string{"ann@example.org": password, "bob@example.org": password},
		Extra:    h.extra,
		Auth:     h.auth,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.roost = r
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", r.Log())
		}
	})
	return r
}

// need skips the test, with what to install, where a program is missing.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := neighbour.Find(program, pkg)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// started skips where a neighbour is missing, and fails where it did not start.
func started(t *testing.T, err error) {
	t.Helper()
	var missing neighbour.Missing
	switch {
	case errors.As(err, &missing):
		t.Skip(missing)
	case os.Getuid() != 0 && err != nil:
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// login opens an IMAPS connection of go-imap's client.
func login(t *testing.T, addr, user string, handler *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(addr, &imapclient.Options{
		TLSConfig:             &tls.Config{InsecureSkipVerify: true},
		UnilateralDataHandler: handler,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(user+"@example.org", password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// sample is a small message with its number in the subject.
func sample(n int) string {
	return fmt.Sprintf("From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: message %d\r\n"+
		"Date: Tue, 24 Nov 2026 10:%02d:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nBody of message %d.\r\n", n, n%60, n, n)
}

// appendMessage stores one message and returns its UID.
func appendMessage(t *testing.T, c *imapclient.Client, mailbox, text string, flags ...imap.Flag) imap.UID {
	t.Helper()
	cmd := c.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags})
	if _, err := cmd.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return data.UID
}

// all is every message, for FETCH.
var all = imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}

// files lists the messages of a mailbox directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				out = append(out, e.Name())
			}
		}
	}
	return out
}
