package neighbour

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// dovecotConf is Debian's Dovecot 2.3 with what it needs to run alone. mail_fsync
// stays at its default, "optimized": acknowledged mail is synced, as in Roost.
const dovecotConf = `
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
protocols = imap
ssl = {ssl}
{cert}
disable_plaintext_auth = no
mail_location = {location}
first_valid_uid = 100
mail_max_userip_connections = 20000
passdb {
  {passdb}
}
userdb {
  driver = static
  args = uid={uid} gid={gid} home={home}/%u
}
namespace inbox {
  inbox = yes
  separator = /
}
service imap-login {
  process_limit = 1
  service_count = 0
  client_limit = 20000
  inet_listener imap {
    address = 127.0.0.1
    port = {port}
  }
  inet_listener imaps {
    address = 127.0.0.1
    port = {tlsport}
    ssl = yes
  }
}
service imap {
  process_limit = 2000
}
service anvil {
  client_limit = 20000
}
service auth {
  client_limit = 20000
}
service stats {
  client_limit = 20000
}
{extra}
`

// DovecotOptions say what a private Dovecot serves.
type DovecotOptions struct {
	Dir      string // private, absolute, reachable for the mail user
	Home     string // homes of the users: Home/ann
	Location string // mail_location; "" is maildir:~/Maildir
	Password string // of every user
	Passwd   string // a passwd-file of users and their hashes, in place of Password
	CertFile string // with KeyFile: TLS on a second port
	KeyFile  string
	Extra    string // further lines
}

// Dovecot is a private instance.
type Dovecot struct {
	Addr    string // plain IMAP
	TLSAddr string // IMAPS, "" without a certificate
	Version string
	Ready   time.Duration // from its start until it took a connection
	dir     string
	proc    *process
}

// StartDovecot runs a private Dovecot.
func StartDovecot(o DovecotOptions) (*Dovecot, error) {
	prog, err := Find("dovecot", "dovecot-imapd")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/usr/lib/dovecot/imap"); err != nil {
		return nil, Missing{"dovecot's imap", "dovecot-imapd"}
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("dovecot: %w", errNotRoot)
	}
	for _, d := range []string{"run", "state"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	tlsPort, ssl, cert := 0, "no", ""
	if o.CertFile != "" {
		if tlsPort, err = FreePort(); err != nil {
			return nil, err
		}
		ssl, cert = "yes", "ssl_cert = <"+o.CertFile+"\nssl_key = <"+o.KeyFile
	}
	if o.Location == "" {
		o.Location = "maildir:~/Maildir"
	}
	passdb := "driver = static\n  args = password=" + o.Password
	if o.Passwd != "" {
		passdb = "driver = passwd-file\n  args = " + o.Passwd
	}
	conf := filepath.Join(o.Dir, "dovecot.conf")
	text := expand(dovecotConf, "{dir}", o.Dir, "{home}", o.Home, "{location}", o.Location, "{passdb}", passdb,
		"{uid}", strconv.Itoa(MailUID), "{gid}", strconv.Itoa(MailGID), "{port}", strconv.Itoa(port),
		"{tlsport}", strconv.Itoa(tlsPort), "{ssl}", ssl, "{cert}", cert, "{extra}", o.Extra)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	version, _ := exec.Command(prog, "--version").Output()
	cmd := exec.Command(prog, "-F", "-c", conf)
	proc, err := start(cmd)
	if err != nil {
		return nil, err
	}
	d := &Dovecot{Addr: fmt.Sprintf("127.0.0.1:%d", port), Version: strings.TrimSpace(string(version)), dir: o.Dir, proc: proc}
	if tlsPort != 0 {
		d.TLSAddr = fmt.Sprintf("127.0.0.1:%d", tlsPort)
	}
	if d.Ready, err = proc.reach(d.Addr); err != nil {
		proc.stop()
		return nil, fmt.Errorf("%w\n%s", err, d.Log())
	}
	return d, nil
}

// Log is what it has logged so far.
func (d *Dovecot) Log() string {
	b, _ := os.ReadFile(filepath.Join(d.dir, "dovecot.log"))
	return string(b)
}

// Doveadm runs a doveadm command on this instance.
func (d *Dovecot) Doveadm(args ...string) (string, error) {
	out, err := exec.Command("doveadm", append([]string{"-c", filepath.Join(d.dir, "dovecot.conf")}, args...)...).CombinedOutput()
	return string(out), err
}

// PID is the master's process id.
func (d *Dovecot) PID() int { return d.proc.cmd.Process.Pid }

// Close ends it and waits.
func (d *Dovecot) Close() error { return d.proc.stop() }
