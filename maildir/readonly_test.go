package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// nobody is a uid without rights.
const nobody = 65534

// inChild runs the test again in a process that how prepares, and is true there.
func inChild(t *testing.T, how func(*exec.Cmd), env ...string) bool {
	t.Helper()
	const mark = "ROOST_TEST_CHILD="
	if os.Getenv(mark[:len(mark)-1]) == t.Name() {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		exe = "/proc/self/exe" // whoever may not enter its directory may run it so
	}
	cmd := exec.Command(exe, "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.count=1", "-test.v")
	cmd.Env = append(append(os.Environ(), mark+t.Name()), env...)
	how(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if bytes.Contains(out, []byte("SKIP")) {
		t.Skipf("%s", out)
	}
	return false
}

// asNobody runs the test without root's rights, which no mode can stop.
func asNobody(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// sealedTree makes a tree with three messages, two of them with UIDs 5 and 9, and a
// mailbox beside it; missing are directories that it lacks.
func sealedTree(t *testing.T, missing ...string) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "Maildir")
	for _, d := range []string{"", "cur", "new", "tmp", ".Other", ".Other/cur", ".Other/new", ".Other/tmp"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"cur/1700000001.a.h:2,": strangeText, "cur/1700000002.b.h:2,S": strangeText, "new/1700000003.c.h": strangeText,
		"dovecot-uidlist": "3 V1700000000 N10 G0123456789abcdef0123456789abcdef\n5 :1700000001.a.h\n9 :1700000002.b.h\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range missing {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{filepath.Dir(dir), dir} { // the child must get there
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// seal takes the right to write away from all.
func seal(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			t.Cleanup(func() { os.Chmod(path, 0o755) })
		}
		return err
	})
	if err == nil {
		err = exec.Command("chmod", "-R", "a-w", root).Run()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shape is all that a tree is made of.
func shape(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&out, path, info.Mode(), info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkSealed reads a mailbox that nobody can write to.
func checkSealed(t *testing.T, root store.Root, messages int) {
	t.Helper()
	before := shape(t, root.Mail)
	for range 2 {
		s, err := New(Options{Host: "test.example", Poll: true})
		if err != nil {
			t.Fatal(err)
		}
		acct, err := s.Account(t.Context(), store.Identity{User: "ann", Roots: []store.Root{root}})
		if err != nil {
			t.Fatal(err)
		}
		a := acct.(*account)
		if got := names(list(t, a, store.ListQuery{})); got != "INBOX Other" {
			t.Errorf("LIST: %s", got)
		}
		if st, err := a.Status(t.Context(), store.Inbox, true); err != nil || int(st.Messages) != messages {
			t.Errorf("STATUS: %+v, %v", st, err)
		}
		h, err := a.Hold(t.Context(), store.Inbox, true, func() {})
		if err != nil {
			t.Fatalf("SELECT: %v", err)
		}
		info := h.Info()
		if !info.ReadOnly {
			t.Error("SELECT says READ-WRITE")
		}
		v := h.View()
		uids := v.UIDs.Slice(0, v.UIDs.Len())
		if len(uids) != messages {
			t.Errorf("%d messages, want %d", len(uids), messages)
		}
		if info.UIDValidity == 1700000000 && messages > 0 && (uids[0] != 5 || uids[1] != 9) {
			t.Errorf("UIDs %v", uids)
		}
		for _, uid := range uids {
			if got, err := readAll(t, h, uid); err != nil || got != "Subject: x\r\n\r\nx\r\n" {
				t.Errorf("UID %d: %q, %v", uid, got, err)
			}
		}
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, store.ErrReadOnly) && !errors.Is(err, store.ErrNoPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, _, err = h.SetFlags(t.Context(), uids, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
		refused("STORE", err)
		_, _, err = h.Expunge(t.Context(), nil)
		refused("EXPUNGE", err)
		_, err = h.Copy(t.Context(), uids, "Other")
		refused("COPY", err)
		_, err = h.Move(t.Context(), uids, "Other")
		refused("MOVE", err)
		_, err = a.Batch(t.Context(), store.Inbox)
		refused("APPEND", err)
		refused("CREATE", a.Create(t.Context(), "New", nil))
		refused("DELETE", a.Delete(t.Context(), "Other"))
		refused("RENAME", a.Rename(t.Context(), "Other", "New"))
		refused("SUBSCRIBE", a.Subscribe(t.Context(), "Other", true))
		if err := h.Look(t.Context()); err != nil {
			t.Errorf("NOOP: %v", err)
		}
		h.Close()
		closeTree(t, s, a)
	}
	if after := shape(t, root.Mail); after != before {
		t.Errorf("the tree was changed:\n%s\nwas:\n%s", after, before)
	}
}

// A tree without the right to write can be read, complete or not.
func TestReadOnlyByModes(t *testing.T) {
	for _, c := range []struct {
		missing  string
		messages int
	}{
		{"", 2}, // the third has no UID that could be kept
		{"dovecot-uidlist", 3},
		{"tmp", 2},
		{"new", 2},
		{"cur", 0},
		{"new tmp dovecot-uidlist", 2},
	} {
		t.Run("without "+c.missing, func(t *testing.T) {
			root := os.Getenv("ROOST_TEST_TREE")
			if root == "" {
				root = sealedTree(t, strings.Fields(c.missing)...)
				seal(t, root)
			}
			if inChild(t, asNobody, "ROOST_TEST_TREE="+root) {
				checkSealed(t, store.Root{Mail: root}, c.messages)
			}
		})
	}
}

// Rights that are given later are used at the next SELECT, without a restart.
func TestReadOnlyUntilRightsAreGiven(t *testing.T) {
	root := os.Getenv("ROOST_TEST_TREE")
	if root == "" {
		root = sealedTree(t)
		if err := os.Chmod(filepath.Join(root, "cur"), 0o555); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			if out, err := exec.Command("chown", "-R", fmt.Sprint(nobody), root).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	if !inChild(t, asNobody, "ROOST_TEST_TREE="+root) {
		return
	}
	s, a := oddTree(t, root, slog.New(slog.DiscardHandler))
	defer closeTree(t, s, a)
	set := func(h store.Mailbox) error {
		_, _, err := h.SetFlags(t.Context(), []imap.UID{5}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}})
		return err
	}
	h, err := a.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := set(h); !h.Info().ReadOnly || !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only %v: %v", h.Info().ReadOnly, err)
	}
	h.Close()
	if err := os.Chmod(filepath.Join(root, "cur"), 0o755); err != nil {
		t.Fatal(err)
	}
	if h, err = a.Hold(t.Context(), store.Inbox, true, func() {}); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := set(h); h.Info().ReadOnly || err != nil {
		t.Errorf("read-only %v: %v", h.Info().ReadOnly, err)
	}
}
