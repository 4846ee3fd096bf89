package peers

import (
	"fmt"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// letters are the messages of a mailbox directory: the subject, and the flags in the
// name of the file.
func letters(t *testing.T, dir string) (list []string) {
	t.Helper()
	for name, text := range texts(t, dir) {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, info, _ := strings.Cut(name, ":2,")
		flags := []byte(info)
		slices.Sort(flags)
		list = append(list, fmt.Sprintf("%s %s", subject, flags))
	}
	slices.Sort(list)
	return list
}

// texts are the contents of a mailbox directory by file name, lines ending in LF.
func texts(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, sub, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all[e.Name()] = strings.ReplaceAll(string(b), "\r\n", "\n")
		}
	}
	return all
}

// deliver puts a message into new/ as an MTA does.
func (h *house) deliver(t *testing.T, user, text string) {
	t.Helper()
	name := fmt.Sprintf("%d.M%dP%d.peer", time.Now().Unix(), time.Now().UnixMicro(), os.Getpid())
	tmp := filepath.Join(h.maildir(user), "tmp", name)
	if err := os.WriteFile(tmp, []byte(strings.ReplaceAll(text, "\r\n", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(h.maildir(user), "new", name)); err != nil {
		t.Fatal(err)
	}
}

// same fails where two lists of letters differ.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
