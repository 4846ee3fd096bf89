package test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/test/neighbour"
)

// The units do what they say under a systemd that is the first process of a machine of its
// own: with all that they forbid Roost starts, confines itself, logs users in, keeps mail,
// is read again, is restarted with what it knew, is started by its sockets, and ends with a
// word to its clients.
func TestUnderSystemd(t *testing.T) {
	for _, file := range []string{"roost.service", "roost-workers.service", "roost.socket", "roost.sysusers", "roost.tmpfiles"} {
		if _, err := os.ReadFile("../contrib/systemd/" + file); err != nil { // for go test's cache
			t.Fatal(err)
		}
	}
	if onOwnMachine(t, "systemctl systemd", "journalctl systemd", "nsenter util-linux", "useradd passwd") {
		underSystemd(t)
	}
}

// bootScript becomes systemd on a root of its own: what is on this machine's disk can be read
// there, and what is written is written to memory. $1 is the directory of that memory, $2
// the program, $3 the socket on which it says that it is up.
//
// Nothing of the machine may be started with it (systemd-tmpfiles empties /tmp), so it has
// its own units alone, and no generators.
const bootScript = `
set -eu
mount --make-rprivate /
mkdir $1/up $1/work $1/root
mount -t overlay -o lowerdir=/,upperdir=$1/up,workdir=$1/work overlay $1/root
cd $1/root
mount -t tmpfs -o mode=1777 tmpfs tmp
for d in run home dev var/tmp; do mount -t tmpfs -o mode=0755 tmpfs $d; done
for n in null zero full random urandom tty; do
	touch dev/$n
	mount --bind /dev/$n dev/$n
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir run/units run/said
mount --bind "$(dirname "$3")" run/said
for u in journald.service journald.socket journald-dev-log.socket; do cp lib/systemd/system/systemd-$u run/units/; done
for t in sysinit basic sockets shutdown network-online; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $t >run/units/$t.target
done
printf 'Requires=systemd-journald.service\nAfter=systemd-journald.service\n' >>run/units/basic.target
mkdir .old
pivot_root . .old
umount -l .old
rmdir .old
test "$(stat -f -c %T /)" = overlayfs # else what follows would be done to this machine
test "$(stat -f -c %T /tmp)" = tmpfs
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin NOTIFY_SOCKET=/run/said/"$(basename "$3")" \
	SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none \
	"$2" --system --unit=basic.target --log-target=journal --show-status=0
`

// init1 is a systemd.
type init1 struct {
	t   *testing.T
	pid int // of its first process, as this process sees it
}

// boot starts systemd; it has the network of this process.
func boot(t *testing.T) *init1 {
	t.Helper()
	program := "/lib/systemd/systemd"
	if _, err := os.Stat(program); err != nil {
		t.Skipf("needs systemd: apt-get install systemd: %v", err)
	}
	memory := t.TempDir()
	if err := unix.Mount("tmpfs", memory, "tmpfs", 0, "mode=0755"); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(memory, unix.MNT_DETACH) })
	groups, said := filepath.Join(memory, "cgroup"), filepath.Join(memory, "said")
	for _, d := range []string{groups, said} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("cgroup2", groups, "cgroup2", 0, ""); err != nil {
		t.Skipf("no cgroup2: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(groups, unix.MNT_DETACH) })
	group, err := os.MkdirTemp(groups, "roost-test-")
	if err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run() })

	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(said, "ready"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	log, err := os.Create(filepath.Join(memory, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("sh", "-c", `echo 0 >"$0/cgroup.procs" && exec unshare --mount --pid --fork --kill-child=KILL --cgroup --ipc --uts bash -c "$1" sh "$2" "$3" "$4"`,
		group, bootScript, memory, program, filepath.Join(said, "ready"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with systemd
		cmd.Wait()
		close(ended)
		notify.SetReadDeadline(time.Unix(1, 0))
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	buf := make([]byte, 4096)
	for ready := false; !ready; {
		n, err := notify.Read(buf)
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Skipf("systemd does not run here:\n%s", text)
		}
		ready = strings.Contains("\n"+string(buf[:n]), "\nREADY=1")
	}
	s := &init1{t: t}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if _, scan := fmt.Sscan(string(children), &s.pid); err != nil || scan != nil {
		t.Skipf("systemd's number is not known: %q, %v", children, err)
	}
	return s
}

// path is where a file of systemd's root is for this process.
func (s *init1) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", s.pid, name) }

// shell runs a script as an admin's shell there does.
func (s *init1) shell(dir, script string) {
	s.t.Helper()
	s.run("sh", "-euc", "cd "+dir+"\n"+script)
}

// command is one that is run beside systemd.
func (s *init1) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(s.pid), "-m", "-p", "-C", "-u", "-i", "--"}, args...)...)
}

func (s *init1) run(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		journal, _ := s.command("journalctl", "--no-pager", "-n", "60").CombinedOutput()
		s.t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, journal)
	}
	return string(out)
}

// journal reads what Roost logs from now on.
func (s *init1) journal() *bufio.Scanner {
	s.t.Helper()
	cmd := s.command("journalctl", "-u", "roost.service", "-o", "cat", "-f", "-n", "0")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return bufio.NewScanner(out)
}

// has reads on until a line has what.
func (s *init1) has(journal *bufio.Scanner, what string) {
	s.t.Helper()
	for journal.Scan() {
		if strings.Contains(journal.Text(), what) {
			return
		}
	}
	s.t.Fatalf("the journal ends without %q", what)
}

// caller is a client over TLS.
type caller struct {
	t *testing.T
	*tls.Conn
	in *bufio.Reader
}

func call(t *testing.T) *caller {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:993", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

// says sends lines and reads until one begins with want.
func (c *caller) says(lines, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c, lines); err != nil {
		c.t.Fatal(err)
	}
	var got strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		got.WriteString(line)
		if strings.HasPrefix(line, want) {
			return
		}
		if err != nil {
			c.t.Fatalf("%v after\n%s", err, got.String())
		}
	}
}

const systemdConf = `[[listen]]
address = ":993"
[[listen]]
address = ":143"
starttls = true
[tls]
cert = "/etc/roost/cert.pem"
key = "/etc/roost/key.pem"
[auth]
passwd_file = "/etc/roost/passwd"
[isolation]
landlock = "required"
seccomp = "required"
mode = "%s"
[mail]
create = true
location = "%s"
`

func underSystemd(t *testing.T) {
	bin := buildOnce(t)
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ownMachine(t, top)
	page := pages(t)["docs/isolation.md"]
	_, section, _ := strings.Cut(page, "\n## systemd\n")
	steps := regexp.MustCompile(`(?m)^    sudo (.*)$`).FindAllStringSubmatch(section, -1)
	if len(steps) < 2 {
		t.Fatalf("docs/isolation.md has %d steps", len(steps))
	}
	s := boot(t)
	if err := os.CopyFS(s.path("/srv/roost/contrib"), os.DirFS(filepath.Join(top, "contrib"))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(bin)
	if err == nil {
		err = os.WriteFile(s.path("/usr/local/bin/roost"), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.shell("/", "userdel vmail 2>/dev/null || :")
	for _, step := range steps {
		s.shell("/srv/roost", strings.ReplaceAll(step[1], "sudo ", ""))
	}
	for _, mode := range []struct {
		unit, mode, mail, inbox string
		lay                     string // what the admin does
	}{
		{"roost.service", "user", "/var/vmail/%n", "/var/vmail/ann",
			"chgrp vmail passwd key.pem && chmod 640 passwd key.pem"},
		{"roost-workers.service", "workers", "~/Maildir", "/home/ann/Maildir",
			"chmod 755 . && chgrp roost-auth passwd && chgrp roost key.pem && chmod 640 passwd key.pem; useradd -m ann"},
	} {
		t.Run(mode.unit, func(t *testing.T) {
			s := &init1{t: t, pid: s.pid}
			certify := func() {
				t.Helper()
				dir := t.TempDir()
				if err := neighbour.Certificate(dir); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"cert.pem", "key.pem"} {
					b, err := os.ReadFile(filepath.Join(dir, name))
					if err == nil {
						err = os.WriteFile(s.path("/etc/roost/"+name), b, 0o644)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			certify()
			write(t, s.path("/etc/roost/roost.toml"), fmt.Sprintf(systemdConf, mode.mode, mode.mail))
			write(t, s.path("/etc/roost/passwd"), "ann:{PLAIN}s3cretword\n")
			s.shell("/etc/roost", mode.lay)
			s.shell("/srv/roost/contrib/systemd", "cp "+mode.unit+" /run/units/roost.service; cp roost.socket /run/units/")
			s.run("systemctl", "daemon-reload")
			journal := s.journal()

			s.run("systemctl", "start", "roost.service") // until it is ready
			c := call(t)
			old := c.ConnectionState().PeerCertificates[0].SerialNumber
			c.says("", "* OK")
			c.says("a LOGIN ann wrong\r\n", "a NO")
			c.says("a LOGIN ann s3cretword\r\n", "a OK")
			c.says("b SELECT INBOX\r\n", "b OK")
			c.says("c APPEND INBOX {10+}\r\na: b\r\n\r\ncd\r\n", "c OK")
			c.says("d CREATE Other\r\nd MOVE 1 Other\r\n", "d OK")
			c.says("", "d OK")
			c.says("e IDLE\r\n", "+ ")
			if out := s.run("roost", "who"); !strings.Contains(out, "ann ") {
				t.Errorf("roost who:\n%s", out)
			}
			main := s.run("systemctl", "show", "-P", "MainPID", "roost.service")
			status := s.run("cat", "/proc/"+strings.TrimSpace(main)+"/status")
			for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
				if !strings.Contains(status, want) {
					t.Errorf("it has not %q:\n%s", want, status)
				}
			}

			// What delivers mail is another program.
			s.shell(mode.inbox, `printf 'a: b\n\nc\n' >tmp/1.x && chown --reference=new tmp/1.x && mv tmp/1.x new/1.x`)
			c.says("", "* 1 EXISTS")

			certify()
			s.run("systemctl", "reload", "roost.service")
			s.has(journal, "event=reload")
			for {
				fresh := call(t) // which of the processes has read it again is not told
				if fresh.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(old) != 0 {
					break
				}
				fresh.Close()
			}

			s.run("systemctl", "restart", "roost.service")
			c.says("", "* BYE")
			again := call(t)
			again.says("a LOGIN ann s3cretword\r\n", "a OK")
			again.says("b SELECT Other\r\n", "* 1 EXISTS")

			s.run("systemctl", "stop", "roost.service")
			again.says("", "* BYE")
			if out := s.run("systemctl", "show", "-p", "Result", "-p", "ActiveState", "roost.service"); out != "Result=success\nActiveState=inactive\n" {
				t.Errorf("after the end:\n%s", out)
			}

			s.run("systemctl", "start", "roost.socket")
			by := call(t)
			by.says("a LOGIN ann s3cretword\r\n", "a OK")
			s.run("systemctl", "stop", "roost.socket", "roost.service")
			by.says("", "* BYE")

			for _, line := range strings.Split(s.run("journalctl", "--no-pager", "-u", "roost.service", "-o", "cat"), "\n") {
				// Between the two writes of certify somebody may look.
				expected := strings.Contains(line, "event=login_refused") || strings.Contains(line, "event=tls_reload_failed")
				if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") && !expected {
					t.Error(line)
				}
			}
			s.run("journalctl", "--rotate")
			s.run("journalctl", "--vacuum-time=1s")
			s.shell("/", "rm -rf /var/lib/roost")
		})
	}
}
