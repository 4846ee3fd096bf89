package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/auth"
	"roost/config"
	"roost/confine"
)

// needsLandlock skips where the kernel cannot confine.
func needsLandlock(t *testing.T) {
	t.Helper()
	if abi := confine.LandlockABI(); abi < 2 {
		t.Skipf("kernel: needs Landlock of version 2 (Linux 5.19, lsm=landlock), this one has %d", abi)
	}
}

// Everything that a server does goes on in a process that can open nothing else.
func TestConfinedServer(t *testing.T) {
	needsLandlock(t)
	s := startServing(t, "control_dir = \"{}/control/%n\"\nindex_dir = \"{}/index/%n\"\n[isolation]\nlandlock = \"required\"\n")
	if line := s.wait("event=isolation "); !strings.Contains(line, "landlock=") || !strings.Contains(line, filepath.Join(s.dir, "mail")) {
		t.Error(line)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1\n") || confine.SeccompKnown && !strings.Contains(string(status), "Seccomp:\t2\n") {
		t.Errorf("%v\n%s", err, status)
	}
	k := s.dial()
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	k.say("a SELECT INBOX\r\n", "a OK")
	k.say("a APPEND INBOX {10+}\r\na: b\r\n\r\ncd\r\n", "a OK")
	// Renames and links between directories, which Landlock can forbid.
	k.say("a COPY 1 Archive\r\n", "a NO [TRYCREATE]")
	k.say("a CREATE Archive\r\n", "a OK")
	k.say("a COPY 1 Archive\r\n", "a OK")
	k.say("a MOVE 1 Archive\r\n", "a OK")
	k.say("a RENAME Archive Old\r\n", "a OK")
	k.say("a SELECT Old\r\n", "* 2 EXISTS")
	k.say("a SETMETADATA Old (/private/comment \"x\")\r\n", "a OK")
	k.say("a SEARCH BODY cd\r\n", "* SEARCH 1 2")
	k.say("a DELETE Sent\r\n", "a OK")
	k.say("a SELECT INBOX\r\n", "a OK")
	// Another program delivers.
	tmp, cur := filepath.Join(s.dir, "mail/ann/tmp/1.x.y"), filepath.Join(s.dir, "mail/ann/new/1.x.y")
	if err := os.WriteFile(tmp, []byte("a: b\n\nc\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	k.say("b IDLE\r\n", "+ ")
	if err := os.Rename(tmp, cur); err != nil {
		t.Fatal(err)
	}
	k.until("* 1 EXISTS")
	k.say("DONE\r\n", "b OK")
	// Who is asked answers.
	if code, out, stderr := roost(t, "who", "--config", s.conf); code != 0 || !strings.Contains(out, "ann") {
		t.Errorf("%d\n%s%s", code, out, stderr)
	}
	// A certificate is replaced as certbot does it.
	s.certificate("two")
	for _, ext := range []string{".pem", ".key"} {
		if err := os.Rename(filepath.Join(s.dir, "two"+ext), filepath.Join(s.dir, "one"+ext)); err != nil {
			t.Fatal(err)
		}
	}
	s.signal(syscall.SIGHUP)
	s.wait("event=reload ")
	if name := s.dial().ConnectionState().PeerCertificates[0].Subject.CommonName; name != "two" {
		t.Errorf("after the reload the certificate is %s", name)
	}
	k.say("c NOOP\r\n", "c OK")
}

// A file outside cannot be opened, whoever puts which link to it where the server looks,
// and an admin who names one is told what to do.
func TestConfinedServerOpensNothingElse(t *testing.T) {
	needsLandlock(t)
	outside, err := os.MkdirTemp("", "roost-outside-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(outside) })
	s := startServing(t, "[isolation]\nlandlock = \"required\"\n")
	s.wait("event=isolation ")
	s.certificate("shadow")
	for _, ext := range []string{".pem", ".key"} {
		name := filepath.Join(s.dir, "one"+ext)
		if err := os.Rename(filepath.Join(s.dir, "shadow"+ext), filepath.Join(outside, "shadow"+ext)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, "shadow"+ext), name); err != nil {
			t.Fatal(err)
		}
	}
	s.signal(syscall.SIGHUP)
	line := s.wait("event=reload_failed")
	if !strings.Contains(line, "restart it") || !strings.Contains(line, outside) {
		t.Error(line)
	}
	if name := s.dial().ConnectionState().PeerCertificates[0].Subject.CommonName; name != "one" {
		t.Errorf("the certificate is %s", name)
	}
	// Of users whose mail is elsewhere: what the password file says is read at each login.
	s.write("passwd", "ann:{PLAIN}s3cretword\nbob:{PLAIN}s3cretword::::::userdb_mail=maildir:"+outside+"/bob\n", 0o644)
	k := s.dial()
	if got := k.say("a LOGIN bob s3cretword\r\n", "a "); !strings.HasPrefix(got, "a NO [UNAVAILABLE]") {
		t.Error(got)
	}
	if line := s.wait("event=login_error"); !strings.Contains(line, outside+"/bob is outside of what Roost may open") {
		t.Error(line)
	}
	k.say("b LOGIN ann s3cretword\r\n", "b OK")
	if _, err := os.Stat(filepath.Join(outside, "bob")); err == nil {
		t.Error("mail was made outside")
	}
}

func TestConfinementThatCannotBe(t *testing.T) {
	p := newPatient(t)
	p.write("passwd", "", 0o644)
	sv := &service{path: p.conf, config: config.Default()}
	sv.config.Mail.Location = "~/Maildir"
	if _, err := reach(sv.path, sv.config, func() []auth.User { return nil }); err == nil || !strings.Contains(err.Error(), "isolation.write") {
		t.Error(err)
	}
	if err := sv.unconfined("required", "isolation.landlock", confine.ErrLandlock); err == nil || !strings.Contains(err.Error(), `isolation.landlock is "required": the kernel has no Landlock`) {
		t.Error(err)
	}
}

// Which directories the mail is in, so that users who come later are served too.
func TestMailRoots(t *testing.T) {
	users := []auth.User{
		{Name: "ann@example.org", Home: "/var/vmail/example.org/ann"},
		{Name: "bob", Home: "/home/bob"},
		{Name: "eve", Home: "/eve"},
		{Name: "joe", Mail: "maildir:/srv/mail/joe:INDEX=/var/joe"},
		{Name: "sue"},
	}
	for _, tt := range []struct {
		mail config.Mail
		want string
	}{
		{config.Mail{Location: "~/Maildir"}, "/var/vmail/example.org /home /eve /srv/mail /var/joe"},
		{config.Mail{Location: "~/Maildir", Home: "/var/vmail/%d/%n"}, "/var/vmail /home /eve /srv/mail /var/joe"},
		{config.Mail{Location: "/var/mail/%u", IndexDir: "/var/cache/roost/%1Mu/%u", ControlDir: "/control"}, "/var/mail /control /var/cache/roost /srv/mail /var/joe"},
		{config.Mail{Location: "maildir:/m-%d/x:INBOX=/in/%u", LinkTo: []string{"/shared"}}, "/in /shared /srv/mail /var/joe /m-example.org /m-"},
	} {
		tt.mail.Layout = "maildir++"
		c := config.Default()
		c.Mail = tt.mail
		got, err := mailRoots(c, func() []auth.User { return users })
		if strings.HasPrefix(tt.mail.Location, "maildir:/m-") {
			// A user without a domain has no place there.
			got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "/m-") })
			tt.want = "/in /shared /srv/mail /var/joe"
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %q, %v", tt.mail.Location, got, err)
		}
	}
}

func TestAround(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"live/x", "archive/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../archive/x/key1", filepath.Join(dir, "live/x/key")); err != nil {
		t.Fatal(err)
	}
	if got, want := around(filepath.Join(dir, "live/x/key")), []string{filepath.Join(dir, "live/x"), filepath.Join(dir, "archive/x")}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string, 1)
	go func() { done <- around(filepath.Join(dir, "loop")) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a link to itself is followed for ever")
	}
	if got := around("/etc/roost.toml"); !slices.Equal(got, []string{"/etc/roost.toml"}) {
		t.Errorf("%q", got)
	}
}

// Mail that is not there yet can be made and opened later: what it will be made in is open.
func TestMailThatComesLaterIsWithinReach(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Mail.Location = dir + "/mail/ann/Maildir"
	got, err := mailRoots(c, func() []auth.User { return nil })
	if err != nil || !slices.Equal(got, []string{dir + "/mail"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// Who has confined itself cannot read /etc/passwd any more, and the users that the
// configuration names by their names are known from before.
func TestReloadOfAConfinedServerThatNamesUsers(t *testing.T) {
	needsLandlock(t)
	if os.Getuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	for _, c := range []struct {
		mode, conf string
		processes  int // that read it again
	}{
		{"user", "user = \"mail\"\ngroup = \"mail\"\n[isolation]\nmode = \"user\"\nlandlock = \"required\"\n", 1},
		{"workers", "[isolation]\nmode = \"workers\"\nlandlock = \"required\"\nfront_user = \"nobody\"\nauth_user = \"mail\"\n", 2},
	} {
		t.Run(c.mode, func(t *testing.T) {
			s := startServing(t, c.conf)
			s.certificate("two")
			gid := 8 // Debian's mail
			if c.mode == "workers" {
				gid = 65534 // nogroup
			}
			key := filepath.Join(s.dir, "two.key")
			if err := errors.Join(os.Chown(key, 0, gid), os.Chmod(key, 0o640), os.Rename(key, filepath.Join(s.dir, "one.key")),
				os.Rename(filepath.Join(s.dir, "two.pem"), filepath.Join(s.dir, "one.pem"))); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(s.conf)
			if err != nil {
				t.Fatal(err)
			}
			s.write("roost.toml", string(text)+"[limits]\nmessage = 65536\n", 0o644)
			s.signal(syscall.SIGHUP)
			for range c.processes {
				if line := s.wait("event=reload"); strings.Contains(line, "event=reload_failed") {
					t.Fatal(line)
				}
				s.mu.Lock()
				i := slices.IndexFunc(s.lines, func(l string) bool { return strings.Contains(l, "event=reload") })
				s.lines = slices.Delete(s.lines, i, i+1)
				s.mu.Unlock()
			}
			k := s.dial()
			k.say("a LOGIN ann s3cretword\r\n", "a OK")
			if got := k.say("b APPEND INBOX {70000}\r\n", "b "); !strings.HasPrefix(got, "b NO [") {
				t.Error(got)
			}
		})
	}
}
