package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each edit changes one field of one line, and no other byte.
func TestEditKeepsTheRest(t *testing.T) {
	const before = "# users of example.org\r\n\n" +
		"ann:{PLAIN}a:1000:1000:Ann, the first:/home/ann::userdb_quota_rule=*:storage=1G  foreign=1:2\n" +
		" \n:odd\n" +
		"ben:{PLAIN}b\r\n" +
		"cyd \t $2b$hash  \n" +
		"# end"
	for name, c := range map[string]struct {
		edit     func(*PasswordFile) error
		old, new string
	}{
		"change":      {func(f *PasswordFile) error { return f.SetPassword("ann", "{X}y") }, "ann:{PLAIN}a:", "ann:{X}y:"},
		"change crlf": {func(f *PasswordFile) error { return f.SetPassword("ben", "{X}y") }, "ben:{PLAIN}b\r\n", "ben:{X}y\r\n"},
		"change bare": {func(f *PasswordFile) error { return f.SetPassword("cyd", "$6$") }, "cyd \t $2b$hash  \n", "cyd \t $6$  \n"},
		"disable":     {func(f *PasswordFile) error { return f.Disable("ann") }, "ann:{PLAIN}a:", "ann:!{PLAIN}a:"},
		"remove":      {func(f *PasswordFile) error { return f.Remove("ben") }, "ben:{PLAIN}b\r\n", ""},
		"add":         {func(f *PasswordFile) error { return f.Add("dan", "{X}y", "", "", "", "/home/dan", "", "") }, "# end", "# end\ndan:{X}y::::/home/dan::\n"},
		"enable":      {func(f *PasswordFile) error { return f.Enable("ann") }, "ann", "ann"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, before)
			if err := Edit(path, false, false, c.edit); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(before, c.old, c.new, 1); string(got) != want {
				t.Errorf("got\n%q\nwant\n%q", got, want)
			}
			fi, err := os.Stat(path)
			if err != nil || fi.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	const before = "ann:{PLAIN}a\nlocked:!\n"
	for name, c := range map[string]struct {
		edit func(*PasswordFile) error
		want string
	}{
		"twice":        {func(f *PasswordFile) error { return f.Add("ann", "x") }, ErrUserExists.Error()},
		"capitals":     {func(f *PasswordFile) error { return f.Add("Ben", "x") }, `add "ben"`},
		"colon":        {func(f *PasswordFile) error { return f.Add("be:n", "x") }, "colon"},
		"newline":      {func(f *PasswordFile) error { return f.Add("ben\nroot", "x") }, "control"},
		"comment":      {func(f *PasswordFile) error { return f.Add("#ben", "x") }, "#"},
		"slash":        {func(f *PasswordFile) error { return f.Add("../ben", "x") }, "slash"},
		"unknown":      {func(f *PasswordFile) error { return f.SetPassword("ben", "x") }, ErrNoUser.Error()},
		"unknown gone": {func(f *PasswordFile) error { return f.Remove("ben") }, ErrNoUser.Error()},
		"no password":  {func(f *PasswordFile) error { return f.Enable("locked") }, "roost passwd change"},
	} {
		path := writeFile(t, before)
		err := Edit(path, false, false, c.edit)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if got, _ := os.ReadFile(path); string(got) != before {
			t.Errorf("%s: the file changed: %q", name, got)
		}
	}
}

// A symlink stays one, and what it leads to is replaced.
func TestEditFollowsSymlink(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}a\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, false, false, func(f *PasswordFile) error { return f.Disable("ann") }); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v, %v: no symlink any more", fi.Mode(), err)
	}
	if got, _ := os.ReadFile(path); string(got) != "ann:!{PLAIN}a\n" {
		t.Errorf("%q", got)
	}
}

// Edits at one time all count, though each puts a new file in place of the locked one.
func TestEditLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			errs[i] = Edit(path, true, false, func(f *PasswordFile) error { return f.Add("u"+string(rune('a'+i)), "{PLAIN}x") })
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	users, problems, err := List(path, false)
	if err != nil || len(users) != len(errs) || len(problems) > 0 {
		t.Errorf("%d users, %v, %v", len(users), problems, err)
	}
}

// The last user leaves a file that a running server takes for what it is.
func TestEditRemovesLast(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}a\n")
	a := newTestAuth(t, Options{File: path})
	if err := Edit(path, false, false, func(f *PasswordFile) error { return f.Remove("ann") }); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, known := a.Lookup("ann", Attempt{}); known {
		t.Error("ann is still there")
	}
}

// A table of OpenSMTPD gets passwords as smtpctl encrypt makes them.
func TestBare(t *testing.T) {
	for text, want := range map[string]bool{
		"":                             false,
		"# nobody\n":                   false,
		"ann\t$2b$x\n":                 true,
		"ann\t$2b$x\nben:{PLAIN}b\n":   false,
		"ben:{PLAIN}b\nzoe $2b$hash\n": true, // zoe's own line decides
	} {
		path := writeFile(t, text)
		if err := Edit(path, false, false, func(f *PasswordFile) error {
			if got := f.Bare("zoe"); got != want {
				t.Errorf("%q: %v, want %v", text, got, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
