package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sys/unix"

	"roost/test/neighbour"
)

// inside marks the process that has a machine of its own.
const inside = "ROOST_TEST_INSIDE"

// The README's set-up, as pasted, on a machine of its own: mounts, network and
// processes are private, /etc, /var, /run, /usr/local and this tree are written to memory.
// In the end Postfix delivers a message, an idling client hears of it over IMAPS, and
// a renewed certificate and a changed password are taken without a restart.
func TestReadmeSetUp(t *testing.T) {
	if onOwnMachine(t, "postfix postfix", "make make", "useradd passwd") {
		readmeSetUp(t)
	}
}

// onOwnMachine runs the test once more in a process that has a machine of its own; there
// it gives true. Programs it needs stand before the names of their packages.
func onOwnMachine(t *testing.T, needs ...string) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		return true
	}
	if testing.Short() {
		t.Skip("builds and starts servers: run without -short")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: it installs Roost on a machine of its own")
	}
	for _, n := range needs {
		program, pkg, _ := strings.Cut(n, " ")
		if _, err := neighbour.Find(program, pkg); err != nil {
			t.Skip(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../README.md", "../docs/from-courier.md", "../contrib/certbot-hook"} { // for go test's cache: only this process is watched
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	// With its first process all others of the machine end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("no machine of its own here:\n%s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// sudo stands in for the program: we are root. The password that a person would type
// comes from standard input, and the server stays while the test goes on.
const sudo = `
set -eu
sudo() {
	case "$*" in
	"roost passwd add "*) printf 'first words\n' | "$@" --stdin ;;
	"roost serve") "$@" >/var/log/roost.log 2>&1 & ;;
	*) env "$@" ;;
	esac
}
`

// postfixBase is what Debian's package leaves, but for names and the log.
const postfixBase = `compatibility_level = 3.6
myhostname = mail.example.org
mydestination = localhost
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = /var/log/postfix.log
alias_maps =
alias_database =
`

func readmeSetUp(t *testing.T) {
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ownMachine(t, top)
	page := pages(t)["README.md"]
	conf, steps := blocks(page, "toml"), blocks(page, "sh")
	if len(conf) != 1 || len(steps) != 1 {
		t.Fatalf("the README has %d configurations and %d set-ups", len(conf), len(steps))
	}
	write(t, filepath.Join(top, "roost.toml"), conf[0])
	write(t, "/etc/postfix/main.cf", postfixBase)
	lineage := "/etc/letsencrypt/live/mail.example.org"
	first := certificate(t, lineage)
	shell(t, top, "userdel vmail 2>/dev/null || :; postfix start")

	shell(t, top, sudo+steps[0])

	c := await(t, "first words")
	if _, err := c.client.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.client.Idle()
	if err != nil {
		t.Fatal(err)
	}
	shell(t, top, `printf 'Subject: it works\n\nindeed\n' | /usr/sbin/sendmail -f root@localhost ann@example.org`)
	select {
	case <-c.exists:
	case <-time.After(5 * time.Minute): // a watchdog, no measure
		log, _ := os.ReadFile("/var/log/postfix.log")
		t.Fatalf("no mail came:\n%s", log)
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
	msgs, err := c.client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil || len(msgs) != 1 || msgs[0].Envelope.Subject != "it works" {
		t.Fatalf("%v, %v", msgs, err)
	}
	if c.serial != first {
		t.Errorf("the certificate is %s, want %s", c.serial, first)
	}

	// The doctor finds nothing that would be wrong with it, but for the certificate, which is
	// of nobody and short-lived.
	shell(t, top, `roost doctor --json >/var/log/doctor.json || :; roost who >/var/log/who`)
	var report struct {
		Findings []struct{ Severity, Kind, What string }
	}
	text, err := os.ReadFile("/var/log/doctor.json")
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Severity != "note" && f.Kind != "certificate-untrusted" && f.Kind != "certificate-expires" {
			t.Errorf("the doctor says: %+v", f)
		}
	}
	if who, err := os.ReadFile("/var/log/who"); err != nil || !strings.Contains(string(who), "ann@example.org") {
		t.Errorf("%v\n%s", err, who)
	}

	// What root would have kept for itself is read again by vmail.
	if err := os.RemoveAll(lineage); err != nil {
		t.Fatal(err)
	}
	second := certificate(t, lineage)
	shell(t, top, "RENEWED_LINEAGE="+lineage+" /etc/letsencrypt/renewal-hooks/deploy/roost; printf 'other words\n' | roost passwd change --stdin ann@example.org")
	for end := time.Now().Add(5 * time.Minute); c.serial != second; {
		if time.Now().After(end) {
			log, _ := os.ReadFile("/var/log/roost.log")
			t.Fatalf("the renewed certificate is not shown:\n%s", log)
		}
		c = await(t, "other words")
	}
}

// ownMachine makes the mounts and the network of the new machine.
func ownMachine(t *testing.T, top string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts cannot be made private: %v", err)
	}
	upper, err := os.MkdirTemp("", "roost-machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the mounts end with the process
		unix.Unmount(upper, unix.MNT_DETACH)
		os.Remove(upper)
	})
	if err := unix.Mount("tmpfs", upper, "tmpfs", 0, "mode=0755"); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Skipf("no /proc: %v", err)
	}
	for i, dir := range []string{"/etc", "/var", "/run", "/usr/local", top} {
		up, work := filepath.Join(upper, fmt.Sprint("up", i)), filepath.Join(upper, fmt.Sprint("work", i))
		for _, d := range []string{up, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+up+",workdir="+work); err != nil {
			t.Skipf("no overlay on %s: %v", dir, err)
		}
	}
	if err := os.Chdir(filepath.Join(top, "test")); err != nil { // into the overlay
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Skipf("no loopback: %v", err)
	}
}

// shell runs a script as an admin's shell does.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out")) // a file: what stays in the background holds no pipe
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		t.Fatalf("%v\n%s", err, text)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// certificate makes what certbot keeps, as it keeps it, and gives the serial number.
func certificate(t *testing.T, lineage string) string {
	t.Helper()
	made := t.TempDir()
	if err := neighbour.Certificate(made); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(made, "cert.pem"), filepath.Join(made, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	shell(t, made, `install -d -m 0700 /etc/letsencrypt/live `+lineage+`
install -m 0644 cert.pem `+lineage+`/fullchain.pem; install -m 0600 key.pem `+lineage+`/privkey.pem`)
	return pair.Leaf.SerialNumber.String()
}

// visitor is a client that has logged in.
type visitor struct {
	client *imapclient.Client
	serial string // of the server's certificate
	exists chan uint32
}

// await logs in over IMAPS once the server is there and takes the password.
func await(t *testing.T, password string) *visitor {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(25 * time.Millisecond) {
		v, err := visit(password)
		if err == nil {
			t.Cleanup(func() { v.client.Close() })
			return v
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile("/var/log/roost.log")
			t.Fatalf("%v\n%s", err, log)
		}
	}
}

func visit(password string) (*visitor, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", "127.0.0.1:993", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	v := &visitor{serial: conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), exists: make(chan uint32, 10)}
	v.client = imapclient.New(conn, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				v.exists <- *d.NumMessages
			}
		},
	}})
	if err := v.client.Login("ann@example.org", password).Wait(); err != nil {
		v.client.Close()
		return nil, err
	}
	return v, nil
}
