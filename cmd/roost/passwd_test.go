package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an admin does to the password file, one command after the other.
func TestPasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	for i, c := range []struct {
		stdin string
		args  string
		code  int
		want  string // in stdout and stderr
	}{
		{"", "passwd list --file FILE", 1, "no such file"},
		{"", "passwd change --file FILE --stdin ann", 1, "`roost passwd add` makes it"},
		{"", "passwd add --file FILE --stdin ann", 1, "no password"},
		{"", "passwd add --file FILE ann", 2, "--stdin reads it"},
		{"secret\n", "passwd add --file FILE --scheme md5 --stdin ann", 2, "there are argon2id, bcrypt"},
		{"secret\n", "passwd add --file FILE --scheme sha512-crypt --home /home/ann --stdin ann", 0, "added ann"},
		{"secret\n", "passwd add --file FILE --stdin ann", 1, "roost passwd change"},
		{"secret\n", "passwd add --file FILE --stdin Ben", 1, `"ben"`},
		{"secret\n", "passwd verify --file FILE --stdin ann", 0, "right"},
		{"Secret\n", "passwd verify --file FILE --stdin ann", 1, "wrong"},
		{"secret\r\n", "auth test --file FILE --stdin --addr 192.0.2.7 ANN", 0, "mail is in /home/ann/Maildir"},
		{"other\n", "auth test --file FILE --stdin ann", 1, "the password is wrong"},
		{"", "auth test --file FILE --no-password nobody", 1, "unknown user"},
		{"", "passwd disable --file FILE ann", 0, "disabled ann"},
		{"secret\n", "passwd verify --file FILE --stdin ann", 1, "wrong"},
		{"", "passwd list --file FILE", 0, "ann  SHA512-CRYPT  disabled"},
		{"", "passwd enable --file FILE ann", 0, "enabled ann"},
		{"new one\n", "passwd change --file FILE --scheme sha512-crypt --stdin ann", 0, "changed"},
		{"new one", "passwd verify --file FILE --stdin ann", 0, "right"},
		{"", "passwd list --file FILE --json", 0, `{"user":"ann","scheme":"SHA512-CRYPT","state":"active","line":1}`},
		{"", "passwd remove --file FILE ann", 0, "removed ann"},
		{"", "passwd remove --file FILE ann", 1, "no such user"},
		{"", "passwd remove --file FILE", 2, "one USER"},
	} {
		var out strings.Builder
		env := &environment{stdin: strings.NewReader(c.stdin), stdout: &out, stderr: &out, getenv: os.Getenv}
		code := run(t.Context(), env, strings.Fields(strings.ReplaceAll(c.args, "FILE", file)))
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Fatalf("%d. roost %s: exit %d, want %d with %q:\n%s", i, c.args, code, c.code, c.want, out.String())
		}
		if strings.Contains(out.String(), "secret") {
			t.Errorf("%d. roost %s shows the password", i, c.args)
		}
		if _, err := os.Stat(file); (err == nil) != (i > 4) {
			t.Fatalf("%d. roost %s: the file is there: %v", i, c.args, err == nil)
		}
	}
}

// Of several password files each user has the first that knows them.
func TestPasswdFindsTheUserAmongSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	one, two, conf := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "roost.toml")
	for path, text := range map[string]string{
		one: "ann:{PLAIN}first\nzoe:{PLAIN}secret\n", two: "ben:{PLAIN}secret::::/home/ben\nann:{PLAIN}second\n",
		conf: "auth.source = [{kind = 'passwd', file = '" + one + "'}, {kind = 'passwd', file = '" + two + "'}]\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		stdin, args string
		code        int
		want        string
	}{
		{"second\n", "passwd verify --stdin ann", 1, "wrong"},
		{"first\n", "passwd verify --stdin ann", 0, "right"},
		{"secret\n", "passwd verify --stdin ben", 0, "right"},
		{"", "passwd list", 0, "ben  PLAIN  active   " + two},
		{"", "passwd list", 0, two + `:2: user "ann" is in ` + one},
		{"", "passwd disable ben", 0, "disabled ben in " + two},
		{"new\n", "passwd change --scheme sha512-crypt --stdin ben", 0, "changed the password of ben in " + two},
		{"new\n", "auth test --stdin ben", 0, "mail is in /home/ben/Maildir"},
		{"first\n", "auth test --stdin ann", 1, "no home directory is known"},
		{"second\n", "auth test --stdin ann", 1, "the password is wrong"},
		{"new\n", "passwd add --stdin ben", 1, "already"},
		{"new\n", "passwd add --scheme sha512-crypt --stdin cat", 0, "added cat in " + one},
		{"", "passwd remove nobody", 1, "no such user"},
	} {
		var out strings.Builder
		env := &environment{stdin: strings.NewReader(c.stdin), stdout: &out, stderr: &out, getenv: os.Getenv}
		words := strings.Fields(c.args)
		words = append(words[:2:2], append([]string{"--config", conf}, words[2:]...)...)
		if code := run(t.Context(), env, words); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%d. roost %s: exit %d, want %d with %q:\n%s", i, c.args, code, c.code, c.want, out.String())
		}
	}
	if err := os.WriteFile(conf, []byte("auth.source = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := roost(t, "passwd", "list", "--config", conf); code != exitUsage || !strings.Contains(errs, "names no password file; --file names one") {
		t.Errorf("without a file: %d, %s", code, errs)
	}
}

// A change to a file with a damaged line is made, and the admin learns that a running
// server does not take it.
func TestPasswdDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("ann:{PLAIN}a\nben:{SSHA}!\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: os.Getenv}
	if code := run(t.Context(), env, []string{"passwd", "disable", "--file", file, "ann"}); code != exitPartly || !strings.Contains(out.String(), file+`:2: user "ben"`) {
		t.Errorf("exit %d:\n%s", code, out.String())
	}
}
