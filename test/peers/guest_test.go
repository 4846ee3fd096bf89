package peers

import (
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// guest is an ordinary user of this machine, with a home of his own, who runs mail
// programs: many of them refuse to be root's. The server's certificate is in ca.pem.
type guest struct {
	t    *testing.T
	home string
	who  *syscall.Credential // nil: as we are

	screens int // so many were opened
}

func (h *house) guest(t *testing.T) *guest {
	t.Helper()
	g := &guest{t: t, home: filepath.Join(h.dir, "home")}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Skip(err)
		}
		uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		g.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	g.write("ca.pem", read(t, h.roost.CertFile))
	return g
}

// path is a place in the home.
func (g *guest) path(parts ...string) string {
	return filepath.Join(append([]string{g.home}, parts...)...)
}

// write makes a file in the home and gives its path.
func (g *guest) write(name, text string) string {
	g.t.Helper()
	path := g.path(name)
	g.mkdir(filepath.Dir(name))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// mkdir makes directories in the home.
func (g *guest) mkdir(names ...string) {
	g.t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(g.path(name), 0o700); err != nil {
			g.t.Fatal(err)
		}
	}
}

// command is a program run by the guest, in his home, which is his own.
func (g *guest) command(prog string, args ...string) *exec.Cmd {
	g.t.Helper()
	cmd := exec.Command(prog, args...)
	cmd.Dir = g.home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + g.home, "USER=ann", "LOGNAME=ann", "SHELL=/bin/sh", "TERM=screen", "LC_ALL=C.UTF-8", "TZ=UTC",
		"SSL_CERT_FILE=" + g.path("ca.pem"), "XDG_RUNTIME_DIR=" + g.home, "TMPDIR=" + g.home,
	}
	if g.who != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: g.who}
		err := filepath.WalkDir(g.home, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, int(g.who.Uid), int(g.who.Gid))
		})
		if err != nil {
			g.t.Fatal(err)
		}
	}
	return cmd
}

// run runs a program to its end and gives what it printed.
func (g *guest) run(prog string, args ...string) string {
	g.t.Helper()
	out, err := g.command(prog, args...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s: %v\n%s", prog, err, out)
	}
	return string(out)
}

// background starts a program that has children of its own, and ends all of them with the
// test. The channel is closed when it has ended.
func background(t *testing.T, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the program
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	return ended
}

// settings are what docs/clients.md tells the user of a program to write: the fenced
// block of that name, with this server and this home for the example's.
func (g *guest) settings(name string, r *record) string {
	g.t.Helper()
	m := regexp.MustCompile("(?ms)^```" + regexp.QuoteMeta(name) + "\n(.*?)^```$").FindStringSubmatch(read(g.t, "../../docs/clients.md"))
	if m == nil {
		g.t.Fatalf("docs/clients.md has no block %q", name)
	}
	host, port := r.endpoint()
	return strings.NewReplacer("mail.example.org", host, "993", port, "PASSWORD", password,
		"/etc/ssl/certs/ca-certificates.crt", g.path("ca.pem"), "~/", g.home+"/").Replace(m[1])
}

// complaint is what a program says where something was not right.
var complaint = regexp.MustCompile(`(?i)\berr(or)?\b|warning|fail(ed|ure)|could not|traceback`)

// content fails where what a program printed says that something was wrong.
func (g *guest) content(out string) {
	g.t.Helper()
	if complaint.MatchString(out) {
		g.t.Errorf("it complains:\n%s", out)
	}
}

// version is that of the package that a program came with.
func version(pkg string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	if err != nil {
		return "unknown"
	}
	return regexp.MustCompile(`^\d+:|[+-].*$`).ReplaceAllString(string(out), "")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
