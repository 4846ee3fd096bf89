package neighbour

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// roostConf is what an administrator would write, and a plain listener beside it.
const roostConf = `
hostname = "mail.example.org"
state_dir = "{dir}/state"

[tls]
cert = "{cert}"
key = "{key}"

[[listen]]
address = "127.0.0.1:{imaps}"

[[listen]]
address = "127.0.0.1:{starttls}"
starttls = true

[[listen]]
address = "127.0.0.1:{plain}"
plaintext = true

[auth]
passwd_file = "{dir}/passwd"
{auth}

[control]
socket = "{dir}/control"

[mail]
location = "{location}"
create = true
{extra}
`

// RoostOptions say what a private Roost serves.
type RoostOptions struct {
	Bin      string            // the program
	Dir      string            // private, absolute
	Location string            // mail.location
	Users    map[string]string // passwords, or hashes that begin with their {SCHEME}
	Extra    string            // further lines: they follow those of [mail]
	Auth     string            // further keys of [auth]

	Env []string // beside those of this process: NAME=value

	// FirstProcess makes it pid 1 of a pid namespace, as in a container. Only for root.
	FirstProcess bool
}

// Roost is a private instance. As root it runs as the mail user.
type Roost struct {
	Addr         string // IMAPS
	STARTTLSAddr string
	PlainAddr    string // passwords in the clear
	CertFile     string
	Ready        time.Duration // from its start until it took a connection
	proc         *process
	log          *logBuffer
}

// logBuffer keeps what a program writes to its standard error.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// BuildRoost compiles the program of this module into dir; flags are those of go build.
func BuildRoost(dir string, flags ...string) (string, error) {
	bin := filepath.Join(dir, "roost")
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", bin}, flags, []string{"roost/cmd/roost"})...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// StartRoost runs a private Roost.
func StartRoost(o RoostOptions) (*Roost, error) {
	r := &Roost{log: &logBuffer{}, CertFile: filepath.Join(o.Dir, "cert.pem")}
	key := filepath.Join(o.Dir, "key.pem")
	if err := Certificate(o.Dir); err != nil {
		return nil, err
	}
	var passwd strings.Builder
	for user, password := range o.Users {
		if !strings.HasPrefix(password, "{") {
			password = "{PLAIN}" + password
		}
		fmt.Fprintf(&passwd, "%s:%s\n", user, password)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "passwd"), []byte(passwd.String()), 0o600); err != nil {
		return nil, err
	}
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = FreePort(); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(o.Dir, "roost.toml")
	text := expand(roostConf, "{cert}", r.CertFile, "{key}", key, "{dir}", o.Dir, "{location}", o.Location, "{extra}", o.Extra, "{auth}", o.Auth,
		"{imaps}", strconv.Itoa(ports[0]), "{starttls}", strconv.Itoa(ports[1]), "{plain}", strconv.Itoa(ports[2]))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(o.Bin, "serve", "--config", conf)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stderr = r.log
	cmd.Stdout = r.log
	if os.Getuid() == 0 {
		if err := Own(o.Dir); err != nil {
			return nil, err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: MailUID, Gid: MailGID}}
		if o.FirstProcess {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
		}
	}
	proc, err := start(cmd)
	if err != nil {
		return nil, err
	}
	r.proc = proc
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	r.Addr, r.STARTTLSAddr, r.PlainAddr = addr(0), addr(1), addr(2)
	if r.Ready, err = proc.reach(r.PlainAddr); err != nil {
		proc.stop()
		return nil, fmt.Errorf("%w\n%s", err, r.Log())
	}
	return r, nil
}

// Log is what it has logged so far.
func (r *Roost) Log() string { return r.log.String() }

// PID is its process id.
func (r *Roost) PID() int { return r.proc.cmd.Process.Pid }

// Kill ends it at once, as a power cut of the process would.
func (r *Roost) Kill() {
	r.proc.cmd.Process.Kill()
	<-r.proc.done
}

// Close ends it in order and waits.
func (r *Roost) Close() error { return r.proc.stop() }
