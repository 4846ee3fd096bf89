package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What an admin does to app passwords, one command after the other.
func TestPasswdApp(t *testing.T) {
	dir := t.TempDir()
	file, conf := filepath.Join(dir, "passwd"), filepath.Join(dir, "roost.toml")
	for name, text := range map[string]string{
		file: "ann:{PLAIN}secret\nben:{PLAIN}secret\n",
		conf: "state_dir = '" + dir + "'\n[auth]\npasswd_file = '" + file + "'\napps_only = ['imap']\n[mail]\nhome = '/home/%u'\n",
		filepath.Join(dir, "app-uses"): `{"user":"ann","app":"phone","at":"2099-01-02T03:04:05Z","service":"imap","addr":"192.0.2.7","client":"Mail 1"}
{"user":"ann","app":"tablet","at":"2001-01-02T03:04:05Z","service":"imap","addr":"192.0.2.7"}
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	password := ""
	form := regexp.MustCompile(`(?m)^[a-z]{5}(-[a-z]{5}){3}$`)
	for i, c := range []struct {
		args string
		code int
		want string // in stdout and stderr
	}{
		{"passwd app list", 0, ""},
		{"passwd app add ann phone", 0, `this is the password "phone" of ann`},
		{"passwd app add ann phone", 1, "there is an app password of this name: ann phone"},
		{"passwd app add zoe phone", 1, "no such user"},
		{"passwd app add ann my/phone", 1, "is made of up to 64 letters"},
		{"passwd app add ann", 2, "USER and NAME are needed"},
		{"passwd app add --expires never ann tablet", 2, "no date like 2027-12-31"},
		{"passwd app add --allow-nets 10.0.0.0/99 ann tablet", 2, "--allow-nets"},
		{"passwd app add --expires 2098-12-31 --services imap,smtp --allow-nets 192.0.2.0/24 ann tablet", 0, "tablet"},
		{"passwd app list ann", 0, `used 2099-01-02 03:04 from 192.0.2.7 by "Mail 1" (imap)`},
		{"passwd app list ann", 0, "never used, ends 20"},
		{"passwd app list ben", 0, ""},
		{"passwd app list --json", 0, `"name":"phone","state":"active"`},
		{"auth test --stdin ann", 0, `the app password "phone" is right`},
		{"passwd app revoke ann phone", 0, "revoked phone of ann"},
		{"passwd app revoke ann phone", 0, "revoked phone of ann"},
		{"passwd app revoke ann nothing", 1, "no such app password: ann nothing"},
		{"passwd app list", 0, "phone   revoked"},
		{"auth test --stdin ann", 1, `app password "phone" was revoked`},
		{"passwd app remove ann phone", 0, "removed phone of ann"},
		{"passwd remove ann", 0, "removed ann"},
		{"passwd app list", 0, ""},
	} {
		var out strings.Builder
		env := &environment{stdin: strings.NewReader(password + "\n"), stdout: &out, stderr: &out, getenv: os.Getenv}
		args := strings.Fields(c.args)
		verb := 3
		if args[0] == "auth" || args[1] != "app" {
			verb = 2
		}
		args = append(append(args[:verb:verb], "--config", conf), args[verb:]...)
		code := run(t.Context(), env, args)
		if code != c.code || !strings.Contains(out.String(), c.want) || c.want == "" && out.Len() > 0 {
			t.Fatalf("%d. roost %s: exit %d, want %d with %q:\n%s", i, c.args, code, c.code, c.want, out.String())
		}
		if found := form.FindString(out.String()); found != "" && password == "" {
			password = found
		}
		if strings.Contains(c.args, "list") && password != "" && strings.Contains(out.String(), password) {
			t.Errorf("%d. roost %s shows a password", i, c.args)
		}
	}
	if fi, err := os.Stat(file + ".apps"); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("the file is %v, %v", fi, err)
	}
}

func TestParseEnd(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"90d": now.AddDate(0, 0, 90), "12h": now.Add(12 * time.Hour), "2026-12-31": time.Date(2027, 1, 1, 0, 0, 0, 0, time.Local),
	} {
		if got, err := parseEnd(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0d", "-1h", "90", "2026-13-01", "d"} {
		if got, err := parseEnd(in, now); err == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}
