package neighbour

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Courier is Courier-IMAP. Debian's package cannot be installed beside Dovecot's, so
// that it is unpacked somewhere and its imapd is run from there, for one Maildir and one
// connection at a time, as its manual says it can be: already logged in.
type Courier struct {
	Version string
	dir     string
}

// FindCourier finds the tree into which the package was unpacked, as .ci/run does:
// ROOST_COURIER, or /opt/courier-imap.
func FindCourier() (*Courier, error) {
	dir := os.Getenv("ROOST_COURIER")
	if dir == "" {
		dir = "/opt/courier-imap"
	}
	c := &Courier{dir: dir}
	if _, err := os.Stat(c.imapd()); err != nil {
		return nil, Missing{"Courier's imapd", "courier-imap; where Dovecot is installed, unpack it below " + dir + " as .ci/run does"}
	}
	b, err := os.ReadFile(c.imapd())
	if err != nil {
		return nil, err
	}
	if m := regexp.MustCompile(`Courier-IMAP (\d+(\.\d+)+)`).FindSubmatch(b); m != nil {
		c.Version = string(m[1])
	}
	return c, nil
}

func (c *Courier) imapd() string { return filepath.Join(c.dir, "usr/bin/imapd") }

// command is imapd as its start script would run it.
func (c *Courier) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.imapd(), args...)
	libs, _ := filepath.Glob(filepath.Join(c.dir, "usr/lib/*-linux-gnu")) // the pattern is good
	more, _ := filepath.Glob(filepath.Join(c.dir, "lib/*-linux-gnu"))
	libs = append(append(libs, more...), filepath.Join(c.dir, "usr/lib"))
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "LD_LIBRARY_PATH=" + strings.Join(libs, ":"),
		"IMAP_KEYWORDS=1", "IMAP_ACL=1", "IMAP_USELOCKS=1", "IMAP_MAILBOX_SANITY_CHECK=0", "IMAP_CHECK_ALL_FOLDERS=0", "IMAP_UMASK=077", "IMAP_TRASHFOLDERNAME=Trash",
		"IMAP_CAPABILITY=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE",
	}
	// Where gamin's server is not, each command waits a second for it. It stays behind as a
	// daemon, but not behind the first process of a namespace.
	if os.Getuid() == 0 {
		cmd.Env = append(cmd.Env, "GAMIN_DEBUG_SERVER="+filepath.Join(c.dir, "usr/libexec/gam_server"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	}
	return cmd
}

// Open runs imapd on a Maildir; the connection is logged in, and ends it when it is
// closed. It refuses to run as a user without a name, which the mail user may be, and so
// runs as we do; what it made is the mail user's afterwards.
func (c *Courier) Open(maildir string) (net.Conn, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "imapd"), os.NewFile(uintptr(pair[1]), "imapd")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, err
	}
	log := &logBuffer{}
	cmd := c.command(maildir)
	cmd.Dir = maildir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, log
	proc, err := start(cmd)
	theirs.Close()
	if err != nil {
		conn.Close()
		return nil, err
	}
	k := &courierConn{Conn: conn, maildir: maildir, in: bufio.NewReader(conn), proc: proc}
	// It complains first where no program watches its files; clients take that for the
	// greeting.
	for {
		if k.greeting, err = k.in.ReadString('\n'); err != nil {
			k.Close()
			return nil, fmt.Errorf("courier's imapd: %w: %s", err, log)
		}
		if strings.HasPrefix(k.greeting, "* PREAUTH") {
			return k, nil
		}
	}
}

// courierConn is a connection whose greeting was read already.
type courierConn struct {
	net.Conn
	greeting string
	maildir  string
	in       *bufio.Reader
	proc     *process
}

func (k *courierConn) Read(b []byte) (int, error) {
	if k.greeting != "" {
		n := copy(b, k.greeting)
		k.greeting = k.greeting[n:]
		return n, nil
	}
	return k.in.Read(b)
}

// Close ends imapd, by the end of its input, and waits for it.
func (k *courierConn) Close() error {
	err := k.Conn.Close()
	<-k.proc.done
	return errors.Join(err, Own(k.maildir))
}

// Tunnel is a command by which a mail program on this machine opens a Maildir.
func (c *Courier) Tunnel(maildir string) string {
	cmd := c.command(maildir)
	var words []string
	for _, e := range cmd.Env {
		words = append(words, "'"+e+"'")
	}
	own := ""
	if cmd.SysProcAttr != nil {
		own = "unshare -p -f "
	}
	return fmt.Sprintf("cd '%s' && env %s %s'%s' '%s' | grep -a --line-buffered -v '^[*] OK .ALERT. Filesystem'", maildir, strings.Join(words, " "), own, c.imapd(), maildir)
}
