package neighbour

import (
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// OpenSMTPD is a private instance that takes mail by SMTP on loopback. Its package cannot
// be installed beside Postfix's, so it runs from where it was unpacked, in a mount and
// process namespace of its own that has its files, users and directories.
type OpenSMTPD struct {
	Addr string
	proc *process
	log  *logBuffer
}

// smtpdMachine makes that namespace and becomes smtpd. $1 is the unpacked package, $2 a
// private directory.
const smtpdMachine = `
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$2/layers"
for d in usr etc var; do
	mkdir "$2/layers/$d" "$2/layers/$d.work" "$2/layers/$d.none"
	lower=/$d
	[ $d = usr ] && lower=$1/usr:/usr
	mount -t overlay overlay -o "lowerdir=$lower,upperdir=$2/layers/$d,workdir=$2/layers/$d.work" /$d
done
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
for u in opensmtpd opensmtpq; do id $u >/dev/null 2>&1 || useradd --system --no-create-home $u; done
id vmail >/dev/null 2>&1 || useradd --uid %d --no-create-home --home-dir / vmail
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 0711 /var/spool/smtpd
exec smtpd -d -f "$2/smtpd.conf"
`

// smtpdConf listens where we say; what to do with mail comes from outside.
const smtpdConf = `
table virtuals { {users} }
{rules}
listen on 127.0.0.1 port {port} hostname mail.example.org
`

// StartOpenSMTPD runs smtpd from an unpacked package in dir. The rules are lines of
// smtpd.conf, which may use the table virtuals with the users (local parts at example.org)
// and the user vmail.
func StartOpenSMTPD(root, dir, rules string, users ...string) (*OpenSMTPD, error) {
	if _, err := os.Stat(filepath.Join(root, "usr/sbin/smtpd")); err != nil {
		return nil, Missing{"an unpacked opensmtpd", "libevent-2.1-7, then sh test/peers/unpack.sh opensmtpd"}
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("opensmtpd: %w", errNotRoot)
	}
	if err := os.MkdirAll(filepath.Join(dir, "layers"), 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	var table []string
	for _, u := range users {
		table = append(table, fmt.Sprintf(`"%s@example.org" = vmail`, u))
	}
	conf := expand(smtpdConf, "{users}", strings.Join(table, ", "), "{rules}", rules, "{port}", strconv.Itoa(port))
	if err := os.WriteFile(filepath.Join(dir, "smtpd.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	o := &OpenSMTPD{Addr: fmt.Sprintf("127.0.0.1:%d", port), log: &logBuffer{}}
	cmd := exec.Command("sh", "-c", fmt.Sprintf(smtpdMachine, MailUID), "sh", root, dir)
	cmd.Stdout, cmd.Stderr = o.log, o.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if o.proc, err = start(cmd); err != nil {
		return nil, err
	}
	if _, err := o.proc.reach(o.Addr); err != nil {
		o.proc.stop()
		return nil, fmt.Errorf("%w\n%s", err, o.Log())
	}
	return o, nil
}

// Send hands over one message for a local part at example.org.
func (o *OpenSMTPD) Send(user string, message []byte) error {
	return smtp.SendMail(o.Addr, nil, "sender@example.net", []string{user + "@example.org"}, message)
}

// Log is what it has logged so far.
func (o *OpenSMTPD) Log() string { return o.log.String() }

// Close ends it, and with it all of its processes, and waits.
func (o *OpenSMTPD) Close() error { return o.proc.stop() }
