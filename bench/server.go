package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"roost/test/neighbour"
)

// The sides of a run.
const (
	sideRoost   = "roost"
	sideDovecot = "dovecot"
	sideMachine = "machine"
)

// Users there are that have a plain password, each with mail of its own, and some whose hash
// is cheap or dear.
const (
	users    = 5000
	hashed   = 200
	password = "secret"
)

func userName(i int) string { return fmt.Sprintf("u%04d", i) }

// A server is one of the two that are measured.
type server struct {
	name  string // sideRoost or sideDovecot
	home  string // home/USER/Maildir
	addr  string // plain
	tls   string
	ready time.Duration // from its last start until it took a connection

	start func() error
	stop  func() error
	pid   func() int
	log   func() string
	about string // its name and version, where it tells
}

// newRoost makes it, not started.
func (r *run) newRoost() *server {
	s := &server{name: sideRoost, home: filepath.Join(r.dir, sideRoost)}
	var now *neighbour.Roost
	s.start = func() (err error) {
		now, err = neighbour.StartRoost(neighbour.RoostOptions{
			Bin: r.bin, Dir: filepath.Join(r.dir, "etc"), Location: s.home + "/%u/Maildir", Users: r.passwords(), Env: r.roostEnv,
			Extra: "[limits]\nconnections_per_user = 20000\nconnections_per_user_address = 20000\n" + r.profile.config(),
		})
		if err == nil {
			s.addr, s.tls, s.ready = now.PlainAddr, now.Addr, now.Ready
		}
		return err
	}
	s.stop = func() error { return now.Close() }
	s.pid = func() int { return now.PID() }
	s.log = func() string { return now.Log() }
	return s
}

// newDovecot makes it, not started. Its settings are Debian's and those of
// test/neighbour, with a login process for each core that serves many connections.
// plugins are further ones, settings what they need.
func (r *run) newDovecot(plugins, settings string) *server {
	s := &server{name: sideDovecot, home: filepath.Join(r.dir, sideDovecot)}
	etc := filepath.Join(r.dir, "dovecot-etc", "with"+strings.ReplaceAll(plugins, " ", "-"))
	var now *neighbour.Dovecot
	s.start = func() (err error) {
		if err := os.MkdirAll(etc, 0o755); err != nil {
			return err
		}
		var passwd strings.Builder
		for user, hash := range r.passwords() {
			if !strings.HasPrefix(hash, "{") {
				hash = "{PLAIN}" + hash
			}
			fmt.Fprintf(&passwd, "%s:%s\n", user, hash)
		}
		if err := os.WriteFile(filepath.Join(etc, "passwd"), []byte(passwd.String()), 0o644); err != nil {
			return err
		}
		now, err = neighbour.StartDovecot(neighbour.DovecotOptions{
			Dir: etc, Home: s.home, Passwd: filepath.Join(etc, "passwd"),
			CertFile: filepath.Join(r.dir, "etc", "cert.pem"), KeyFile: filepath.Join(r.dir, "etc", "key.pem"),
			Extra: "mail_plugins =" + plugins + "\nprotocol imap {\n  mail_plugins = $mail_plugins imap_zlib\n}\n" + settings + // imap_zlib: COMPRESS
				"service imap-login {\n  process_limit = 2\n  process_min_avail = 2\n}\n",
		})
		if err == nil {
			s.addr, s.tls, s.ready, s.about = now.Addr, now.TLSAddr, now.Ready, "Dovecot "+now.Version
		}
		return err
	}
	s.stop = func() error { return now.Close() }
	s.pid = func() int { return now.PID() }
	s.log = func() string { return now.Log() }
	return s
}

// restart ends the server in order and starts it anew.
func (s *server) restart() error {
	if err := s.stop(); err != nil {
		return err
	}
	return s.start()
}

// passwords of all users.
func (r *run) passwords() map[string]string {
	m := map[string]string{}
	for i := range users {
		m[userName(i)] = password
	}
	for i := range hashed {
		m[fmt.Sprintf("cheap%03d", i)], m[fmt.Sprintf("dear%03d", i)] = r.cheap, r.dear
	}
	return m
}

// rest waits until a server does nothing, for a while at most: what it has begun in the
// background must not fall on the next one's round.
func (s *server) rest(ctx context.Context) error {
	last, still := time.Duration(-1), 0
	for range 600 {
		now, err := s.cpu()
		if err != nil {
			return err
		}
		if still++; now != last {
			still = 0
		}
		if still == 2 {
			return nil
		}
		last = now
		if err := sleep(ctx, 25*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// tick of the kernel's clock of processes: USER_HZ.
const tick = 10 * time.Millisecond

// cpu is what the server used so far, in all of its processes.
func (s *server) cpu() (time.Duration, error) {
	processes, err := s.processes()
	if err != nil {
		return 0, err
	}
	sum := time.Duration(0)
	for _, p := range processes {
		sum += p.cpu
	}
	return sum, nil
}

// proc is what the kernel says of a process.
type proc struct {
	pid, parent int
	name        string
	cpu         time.Duration // its own and that of its children that ended
}

// processes of the server: the one that was started and those below it.
func (s *server) processes() ([]proc, error) {
	root, err := readProc(s.pid())
	if err != nil {
		return nil, err
	}
	if s.name == sideRoost { // it has no others
		return []proc{root}, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]proc{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, err := readProc(pid); err == nil { // it may have ended
				children[p.parent] = append(children[p.parent], p)
			}
		}
	}
	list := []proc{root}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i].pid]...)
	}
	return list, nil
}

// readProc reads /proc/PID/stat: proc(5).
func readProc(pid int) (proc, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < 0 {
		return proc{}, fmt.Errorf("process %d: stat is not understood", pid)
	}
	p := proc{pid: pid, name: string(b[open+1 : end])}
	f := strings.Fields(string(b[end+1:])) // the first is the third of the manual
	if len(f) < 15 {
		return proc{}, fmt.Errorf("process %d: stat is not understood", pid)
	}
	p.parent, err = strconv.Atoi(f[1])
	for _, s := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.Atoi(s)
		p.cpu += time.Duration(n) * tick
	}
	return p, err
}

// sleep does, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
