package neighbour

import (
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// postfixMain delivers mail for example.org by virtual(8) into
// MailBase/example.org/USER/Maildir/.
const postfixMain = `
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
maillog_file = {dir}/mail.log
maillog_file_prefixes = /
myhostname = mail.example.org
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {mail}
virtual_mailbox_maps = inline:{ {users} }
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
{extra}
`

const postfixMaster = `
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
showq unix n - n - - showq
`

// Postfix is a private instance that takes mail by SMTP on loopback.
type Postfix struct {
	Addr string
	dir  string
	proc *process
}

// StartPostfix runs a private Postfix in dir, delivering for the users (local
// parts at example.org) below mail.
func StartPostfix(dir, mail string, users ...string) (*Postfix, error) {
	return StartPostfixWith("", dir, mail, users...)
}

// StartPostfixWith is StartPostfix with further lines of main.cf.
func StartPostfixWith(extra, dir, mail string, users ...string) (*Postfix, error) {
	master, err := Find("master", "postfix")
	if err != nil {
		return nil, err
	}
	postfix, err := Find("postfix", "postfix")
	if err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("postfix: %w", errNotRoot)
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return nil, err
	}
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{"etc", "spool", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Chown(filepath.Join(dir, "data"), uid, -1); err != nil {
		return nil, err
	}
	if err := mailDir(mail); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	var table string
	for _, u := range users {
		table += fmt.Sprintf(" { %s@example.org = example.org/%s/Maildir/ }", u, u)
	}
	fill := []string{"{dir}", dir, "{mail}", mail, "{users}", table, "{extra}", extra, "{port}", strconv.Itoa(port),
		"{uid}", strconv.Itoa(MailUID), "{gid}", strconv.Itoa(MailGID)}
	if err := os.WriteFile(filepath.Join(etc, "main.cf"), []byte(expand(postfixMain, fill...)), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(etc, "master.cf"), []byte(expand(postfixMaster, fill...)), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command(postfix, "-c", etc, "check").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix check: %w: %s", err, out)
	}
	proc, err := start(exec.Command(master, "-d", "-c", etc))
	if err != nil {
		return nil, err
	}
	p := &Postfix{Addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, proc: proc}
	if _, err := proc.reach(p.Addr); err != nil {
		proc.stop()
		return nil, fmt.Errorf("%w\n%s", err, p.Log())
	}
	return p, nil
}

// Send hands over one message for a user at example.org.
func (p *Postfix) Send(user string, message []byte) error {
	return smtp.SendMail(p.Addr, nil, "sender@example.net", []string{user + "@example.org"}, message)
}

// Log is what it has logged so far.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "mail.log"))
	return string(b)
}

// Close ends it and waits.
func (p *Postfix) Close() error { return p.proc.stop() }
