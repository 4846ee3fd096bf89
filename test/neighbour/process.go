package neighbour

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// MailUID and MailGID own the mail of all private instances.
const (
	MailUID = 5000
	MailGID = 5000
)

// Missing says what to install. It is an error, and the reason of a skipped test.
type Missing struct{ Program, Package string }

func (m Missing) Error() string {
	return fmt.Sprintf("%s is not installed: apt-get install %s", m.Program, m.Package)
}

// Find looks a program up in PATH and in the administrator's directories.
func Find(program, pkg string) (string, error) {
	if p, err := exec.LookPath(program); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/lib/postfix/sbin/"} {
		if st, err := os.Stat(dir + program); err == nil && st.Mode()&0o111 != 0 {
			return dir + program, nil
		}
	}
	return "", Missing{program, pkg}
}

// errNotRoot is what a program that changes its user needs.
var errNotRoot = errors.New("needs root: the program changes its user")

// process is a running program; it is ended by its own pid.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{} // closed when it has ended
	err     error         // readable after done
}

// start runs cmd in the background. Its goroutine ends with the program.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, started: time.Now(), done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// patience is for programs that hang; no result depends on it.
const patience = 5 * time.Minute

// stop asks the program to end, waits, and ends it where it does not.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s had to be killed", p.cmd.Path)
	}
	return nil
}

// reach waits until addr takes connections, or the program ends. It says how long after
// its start that was.
func (p *process) reach(addr string) (time.Duration, error) {
	for pause := time.Millisecond; time.Since(p.started) < patience; pause = min(pause*5/4, 25*time.Millisecond) {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return time.Since(p.started), c.Close()
		}
		select {
		case <-p.done:
			return 0, fmt.Errorf("%s ended: %w", p.cmd.Path, p.err)
		case <-time.After(pause):
		}
	}
	return 0, fmt.Errorf("%s does not listen on %s", p.cmd.Path, addr)
}

// expand fills {name} in a configuration text.
func expand(text string, pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(text)
}

// mailDir makes a directory that belongs to the mail user where we may give it away.
func mailDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(dir, MailUID, MailGID)
}

// TempDir makes a private directory that the mail user can reach, and a function
// that removes it.
func TempDir() (string, func(), error) {
	dir, err := os.MkdirTemp("", "roost-")
	if err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// Own gives a tree to the mail user, where we may.
func Own(tree string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, MailUID, MailGID)
	})
}
