package main

import (
	"bufio"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/config"
	"roost/confine"
	"roost/server/workers"
)

// uids that no system gives out.
const (
	frontUID = 60001
	authUID  = 60002
	annUID   = 60011
	benUID   = 60012
)

// startWorkers serves two users of the system, each in a process of their own.
func startWorkers(t testing.TB, extra string) *serving {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: processes become other users")
	}
	return startServing(t, fmt.Sprintf(`[isolation]
mode = "workers"
front_user = "%d"
auth_user = "%d"
%s`, frontUID, authUID, extra))
}

// layWorkers makes the homes of ann and ben in the place of a server's one directory.
func layWorkers(t testing.TB, s *serving) {
	t.Helper()
	for _, u := range []struct {
		name string
		uid  int
	}{{"ann", annUID}, {"ben", benUID}} {
		home := filepath.Join(s.dir, "home", u.name)
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Chmod(filepath.Dir(home), 0o755), os.Chmod(home, 0o700), os.Chown(home, u.uid, u.uid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s.write("passwd", strings.NewReplacer("DIR", s.dir, "ANN", fmt.Sprint(annUID), "BEN", fmt.Sprint(benUID)).Replace(
		"ann:{PLAIN}s3cretword:ANN:ANN::DIR/home/ann::\nben:{PLAIN}s3cretword:BEN:BEN::DIR/home/ben::\nroot:{PLAIN}s3cretword:100:100::DIR/home/root::\n"), 0o644)
}

// processes gives those of the server, by role, or "worker " and the uid.
func (s *serving) processes() map[string]int {
	s.t.Helper()
	list := map[string]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		b, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(dir + "/status")
		if err != nil || !strings.Contains(string(stat), fmt.Sprintf("\nPPid:\t%d\n", s.cmd.Process.Pid)) {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(dir), &pid)
		args := strings.Split(string(b), "\x00")
		if len(args) > 3 {
			role := args[2]
			if role == "worker" {
				role += " " + args[3]
			}
			list[role] = pid
		}
	}
	return list
}

// Users of the system are served, each by a process that is theirs, and no process can do
// what is another's.
func TestWorkers(t *testing.T) {
	s := startWorkers(t, "")
	ann := s.dial()
	ann.say("a LOGIN ann s3cretword\r\n", "a OK")
	ann.say("a SELECT INBOX\r\n", "a OK")
	ann.say("a APPEND INBOX {10+}\r\na: b\r\n\r\ncd\r\n", "a OK")
	ann.say("a CREATE Other\r\n", "a OK")
	ann.say("a MOVE 1 Other\r\n", "a OK")
	ben := s.dial()
	ben.say("b LOGIN ben s3cretword\r\n", "b OK")
	ben.say("b SELECT INBOX\r\n", "* 0 EXISTS")
	again := s.dial()
	again.say("c LOGIN ann s3cretword\r\n", "c OK")
	again.say("c SELECT Other\r\n", "* 1 EXISTS")
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(s.dir, "home/ann/Maildir/cur"), &st); err != nil || st.Uid != annUID || st.Mode&0o077 != 0 {
		t.Errorf("%+v, %v", st, err)
	}

	list := s.processes()
	if len(list) != 4 {
		t.Fatalf("%v", list)
	}
	for role, uid := range map[string]int{"front": frontUID, "desk": authUID, fmt.Sprintf("worker %d", annUID): annUID, fmt.Sprintf("worker %d", benUID): benUID} {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", list[role]))
		if err != nil || len(tasks) == 0 {
			t.Errorf("%s: %v, %v", role, list, err)
		}
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				continue // a thread that has ended
			}
			status := string(b)
			for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid), "NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n"} {
				if !strings.Contains(status, want) {
					t.Errorf("%s has not %q:\n%s", role, want, status)
				}
			}
			if confine.SeccompKnown && !strings.Contains(status, "Seccomp:\t2\n") {
				t.Errorf("%s is not filtered:\n%s", role, status)
			}
			if left := regexp.MustCompile(`(?m)^(Gid|Groups):.*\b0\b.*$`).FindString(status); left != "" {
				t.Errorf("%s: %s", role, left)
			}
		}
		// A worker holds no socket of the network.
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", list[role]))
		tcp, _ := os.ReadFile("/proc/net/tcp")
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			inode := strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")
			if inode != to && strings.Contains(string(tcp), " "+inode+" ") && role != "front" {
				t.Errorf("%s has the network's %s", role, to)
			}
		}
	}

	// The doctor looks at each user's mail as that user.
	if code, out, _ := roost(t, "doctor", "--config", s.conf, "ann", "ben"); strings.Contains(out, "mail-") || strings.Contains(out, "server-") {
		t.Errorf("%d\n%s", code, out)
	}

	// Who is on, and how to end it.
	code, out, stderr := roost(t, "who", "--config", s.conf)
	if code != 0 || strings.Count(out, "ann ") != 2 || !strings.Contains(out, "Other") {
		t.Errorf("%d\n%s%s", code, out, stderr)
	}
	if code, out, stderr := roost(t, "kick", "--config", s.conf, "ben"); code != 0 {
		t.Errorf("%d\n%s%s", code, out, stderr)
	}
	ben.until("* BYE Closed by the administrator")
}

// Nobody below the least uid is served, whatever the password file says.
func TestWorkersOfTheSystem(t *testing.T) {
	s := startWorkers(t, "")
	k := s.dial()
	if got := k.say("a LOGIN root s3cretword\r\n", "a "); !strings.HasPrefix(got, "a NO [UNAVAILABLE]") {
		t.Error(got)
	}
	s.wait("uid 100 is below isolation.min_uid")
	k.say("b LOGIN ann s3cretword\r\n", "b OK")
}

// worker gives the process of a uid.
func (s *serving) worker(uid int) int {
	s.t.Helper()
	return s.processes()[fmt.Sprintf("worker %d", uid)]
}

// What a session does across the boundary: it is compressed, waits, goes back to the gate
// and is looked at, as one in the same process.
func TestWorkersSessions(t *testing.T) {
	s := startWorkers(t, "[log]\naudit = \"log\"\n")
	k := s.dial()
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	k.say("a SELECT INBOX\r\n", "a OK")

	// News come while it idles.
	k.say("b IDLE\r\n", "+ ")
	other := s.dial()
	other.say("a LOGIN ann s3cretword\r\na APPEND INBOX {10+}\r\na: b\r\n\r\ncd\r\n", "a OK") // pipelined
	k.until("* 1 EXISTS")
	k.say("DONE\r\n", "b OK")

	// More than a socket holds, both ways.
	big := strings.Repeat("x", 99) + "\n"
	k.say(fmt.Sprintf("c APPEND INBOX {%d}\r\n", 3_000_000), "+ ")
	k.say(strings.Repeat(big, 30_000)+"\r\n", "c OK")
	k.say("d FETCH 2 BODY[]\r\n", "d OK")
	k.say("d STORE 1 +FLAGS (\\Deleted)\r\nd EXPUNGE\r\n", "d OK")
	k.until("d OK")
	if line := s.wait("event=mail_expunge"); !strings.Contains(line, "user=ann") {
		t.Error(line)
	}
	other.say("d NOOP\r\n", "d OK")

	// The next login may be sent at once.
	k.say("e UNAUTHENTICATE\r\nf LOGIN ben s3cretword\r\ng SELECT INBOX\r\n", "e OK")
	k.until("f OK")
	k.until("* 0 EXISTS")
	k.until("g OK")
	if code, out, _ := roost(t, "who", "--config", s.conf); code != 0 || strings.Count(out, "ben ") != 1 || strings.Count(out, "ann ") != 1 {
		t.Errorf("%d\n%s", code, out)
	}

	// Somebody looks, and sees no secret.
	trace := exec.Command(os.Args[0], "trace", "--config", s.conf, "--lines", "8", "ben")
	trace.Env = append(os.Environ(), asProgram+"=1")
	out, err := trace.StdoutPipe()
	if err == nil {
		err = trace.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 100)
	go func() { // ends with the trace
		defer close(shown)
		for in := bufio.NewScanner(out); in.Scan(); {
			shown <- in.Text()
		}
	}()
	<-shown // it looks
	var lines []string
	for open := true; open; { // the worker may hear that somebody looks behind the first commands
		select {
		case line, ok := <-shown:
			if open = ok; ok {
				lines = append(lines, line)
			}
		default:
			k.say("h NOOP\r\nh APPEND INBOX {4+}\r\nabcd\r\n", "h OK")
			k.until("h ")
		}
	}
	if err := trace.Wait(); err != nil || len(lines) != 8 || !strings.Contains(strings.Join(lines, "\n"), "C h NOOP") || strings.Contains(strings.Join(lines, "\n"), "abcd") {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}

	// Compressed.
	k.say("i COMPRESS DEFLATE\r\n", "i OK")
	w, err := flate.NewWriter(k, 6)
	if err != nil {
		t.Fatal(err)
	}
	plain := bufio.NewReader(flate.NewReader(k.in))
	fmt.Fprint(w, "j NOOP\r\n")
	w.Flush()
	if line, err := plain.ReadString('\n'); err != nil || !strings.HasPrefix(line, "j OK") {
		t.Fatal(line, err)
	}
	// A worker that dies takes its own sessions with it, each with a word.
	ann, ben := s.worker(annUID), s.worker(benUID)
	if err := syscall.Kill(ben, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if line, err := plain.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* BYE [SERVERBUG]") {
		t.Fatal(line, err)
	}
	other.say("k NOOP\r\n", "k OK")
	s.wait(fmt.Sprintf("event=isolation_worker_died uid=%d", benUID))
	fresh := s.dial()
	fresh.say("l LOGIN ben s3cretword\r\n", "l OK")
	if s.worker(benUID) == ben || s.worker(annUID) != ann {
		t.Error(s.processes())
	}
	syscall.Kill(ann, syscall.SIGKILL)
	other.until("* BYE [SERVERBUG]")
}

// Each of the processes may end: the others go on, and it is started anew.
func TestWorkersSurvive(t *testing.T) {
	s := startWorkers(t, "")
	ann := s.dial()
	ann.say("a LOGIN ann s3cretword\r\n", "a OK")
	worker := s.worker(annUID)

	syscall.Kill(s.processes()["desk"], syscall.SIGKILL)
	s.wait("event=isolation_died role=desk")
	ann.say("b NOOP\r\n", "b OK")
	for {
		k := s.dial()
		if got := k.say("c LOGIN ann s3cretword\r\n", "c "); strings.HasPrefix(got, "c OK") {
			break
		} else if !strings.HasPrefix(got, "c NO") {
			t.Fatal(got)
		}
		k.Close()
	}
	if s.worker(annUID) != worker {
		t.Error(s.processes())
	}

	syscall.Kill(s.processes()["front"], syscall.SIGKILL)
	s.wait("event=isolation_died role=front")
	k := s.dial() // the socket is the parent's too: who comes waits
	k.say("d LOGIN ann s3cretword\r\n", "d OK")
	k.say("e SELECT INBOX\r\n", "e OK")
	if s.worker(annUID) != worker {
		t.Error(s.processes())
	}

	// When the parent goes without a word, so do they.
	fds := map[string]int{}
	for role, pid := range s.processes() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[role] = fd
	}
	s.cmd.Process.Kill()
	for role, fd := range fds {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			if err == unix.EINTR {
				continue
			}
			if n != 1 {
				t.Errorf("%s is still there", role)
			}
			break
		}
	}
}

// A worker without a session ends, and the mail is served again by the next.
func TestWorkersIdle(t *testing.T) {
	s := startWorkers(t, "idle = \"1ms\"\n[log]\nlevel = \"debug\"\n")
	for range 3 {
		k := s.dial()
		k.say("a LOGIN ann s3cretword\r\n", "a OK")
		k.say("a SELECT INBOX\r\n", "a OK")
		k.say("a APPEND INBOX {10+}\r\na: b\r\n\r\ncd\r\n", "a OK")
		s.mu.Lock()
		s.lines = nil
		s.mu.Unlock()
		k.say("a LOGOUT\r\n", "a OK")
		s.wait("event=isolation_worker_end")
	}
	// While one ends the next login waits for it: they never share a mailbox.
	for range 20 {
		k := s.dial()
		k.say("a LOGIN ann s3cretword\r\n", "a OK")
		if got := k.say("a SELECT INBOX\r\n", "* OK [HIGHESTMODSEQ"); got == "" {
			t.Error("another process has the index")
		}
		k.say("a LOGOUT\r\n", "a OK")
	}
}

// SIGHUP and SIGTERM reach everybody.
func TestWorkersReloadAndStop(t *testing.T) {
	s := startWorkers(t, "")
	old := s.dial()
	old.say("a LOGIN ann s3cretword\r\n", "a OK")
	text, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	s.certificate("two")
	for _, ext := range []string{".pem", ".key"} {
		if err := errors.Join(os.Rename(filepath.Join(s.dir, "two"+ext), filepath.Join(s.dir, "one"+ext)), os.Chmod(filepath.Join(s.dir, "one"+ext), 0o640),
			os.Chown(filepath.Join(s.dir, "one"+ext), 0, frontUID)); err != nil {
			t.Fatal(err)
		}
	}
	s.write("roost.toml", strings.Replace(string(text), "[isolation]", "[limits]\nmessage = 65536\nbad_commands = 1\n[isolation]", 1), 0o644)
	s.write("passwd", fmt.Sprintf("eve:{PLAIN}s3cretword:%d:%d::%s/home/ann::\n", annUID, annUID, s.dir), 0o644)
	s.signal(syscall.SIGHUP)
	for end := time.After(patience); strings.Count(strings.Join(s.log(), "\n"), "event=reload ") < 2; {
		select {
		case <-s.more:
		case <-end:
			t.Fatal("not both have read it again")
		}
	}
	k := s.dial()
	if name := k.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "two" {
		t.Errorf("after the reload the certificate is %s", name)
	}
	k.say("a LOGIN eve s3cretword\r\n", "a OK")
	if got := k.say("b APPEND INBOX {70000}\r\n", "b "); !strings.HasPrefix(got, "b NO [LIMIT]") && !strings.HasPrefix(got, "b NO [TOOBIG]") {
		t.Error(got)
	}
	s.signal(syscall.SIGTERM)
	old.until("* BYE")
	k.until("* BYE")
	<-s.done
	if s.err != nil {
		t.Error(s.err)
	}
}

// One client that begins exchanges and breaks them off, as often as it can, keeps nobody
// from logging in.
func TestWorkersManyExchangesBrokenOff(t *testing.T) {
	s := startWorkers(t, "[limits]\nconnections = 20\n")
	mallory := s.dial()
	for i := range 100 {
		mallory.say(fmt.Sprintf("a%d AUTHENTICATE LOGIN\r\n", i), "+ ")
		mallory.say("*\r\n", fmt.Sprintf("a%d BAD", i))
	}
	k := s.dial()
	k.say("a AUTHENTICATE PLAIN AGFubgBzM2NyZXR3b3Jk\r\n", "a OK")
}

// A service manager may tell all processes of a service to end, and so front and workers
// twice: clients are told all the same.
func TestWorkersAllToldToEndAtOnce(t *testing.T) {
	s := startWorkers(t, "")
	var clients []*talker
	for range 20 {
		k := s.dial()
		k.say("a LOGIN ann s3cretword\r\n", "a OK")
		k.say("b SELECT INBOX\r\n", "b OK")
		clients = append(clients, k)
	}
	list := s.processes()
	s.signal(syscall.SIGTERM)
	for _, pid := range list {
		syscall.Kill(pid, syscall.SIGTERM)
		syscall.Kill(pid, syscall.SIGTERM)
	}
	for _, k := range clients {
		k.until("* BYE")
	}
	<-s.done
	if s.err != nil {
		t.Error(s.err)
	}
}

// asRole makes the test's binary a process of a role that was taken over by an attacker: it
// is confined as the role is and tries what stands in a file.
const asRole = "ROOST_TEST_ROLE"

// attack is what such a process tries, and what came of it.
type attack struct {
	Dir     string
	Outcome map[string]string
}

// takenOver is the attacker. Each try that succeeds is "ok".
func takenOver(role workers.Role, dir string) {
	sv := &service{path: filepath.Join(dir, "etc/roost.toml"), role: role, log: slog.New(slog.DiscardHandler)}
	var err error
	sv.config, err = config.Load(sv.path)
	if err == nil && role == workers.RoleWorker {
		err = sv.confineWorker([]string{filepath.Join(dir, "home/ann/Maildir")}, nil)
	} else if err == nil {
		if role == workers.RoleIssuer {
			err = os.Chdir(filepath.Join(dir, "state/acme"))
		}
		if err == nil {
			err = sv.confine()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	a := attack{dir, map[string]string{}}
	try := func(what string, err error) {
		a.Outcome[what] = "ok"
		if err != nil {
			a.Outcome[what] = err.Error()
		}
	}
	read := func(what, name string) {
		_, err := os.ReadFile(name)
		try(what, err)
	}
	read("ann's mail", filepath.Join(dir, "home/ann/Maildir/cur/1:2,S"))
	read("ann's letter", filepath.Join(dir, "home/ann/letter"))
	read("ben's mail", filepath.Join(dir, "home/ben/Maildir/cur/1:2,S"))
	read("passwords", filepath.Join(dir, "passwd"))
	read("the key", filepath.Join(dir, "tls/one.key"))
	read("the system", "/etc/passwd")
	try("writing mail", os.WriteFile(filepath.Join(dir, "home/ann/Maildir/tmp/2"), nil, 0o600))
	try("the audit log", os.WriteFile(filepath.Join(dir, "state", "audit.log"), nil, 0o666))
	read("the account", filepath.Join(dir, "state/acme/account"))
	try("writing elsewhere", os.WriteFile(filepath.Join(dir, "open", string(role)), nil, 0o600))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	try("a socket", err)
	try("a program", exec.Command("/bin/true").Run())
	try("a signal", syscall.Kill(os.Getppid(), 0))
	try("root", errors.Join(unix.Setresuid(0, 0, 0)))
	try("another user", errors.Join(unix.Setresuid(benUID, benUID, benUID)))
	json.NewEncoder(os.Stdout).Encode(a)
}

// What a process can do that an attacker has taken over whole.
func TestWorkersTakenOver(t *testing.T) {
	needsLandlock(t)
	if os.Getuid() != 0 {
		t.Skip("needs root: processes become other users")
	}
	p := newPatient(t)
	s := p.serving
	s.certificate("one")
	layWorkers(t, s)
	for _, u := range []struct {
		name string
		uid  int
	}{{"ann", annUID}, {"ben", benUID}} {
		for _, dir := range []string{"", "cur", "new", "tmp"} {
			path := filepath.Join(s.dir, "home", u.name, "Maildir", dir)
			if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, u.uid, u.uid)); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range []string{"Maildir/cur/1:2,S", "letter"} {
			path := filepath.Join(s.dir, "home", u.name, file)
			// The mode alone would let everybody read it: Landlock is tried too.
			if err := errors.Join(os.WriteFile(path, nil, 0o666), os.Chown(path, u.uid, u.uid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, d := range []string{"tls", "open", "etc", "run", "state"} {
		if err := errors.Join(os.Mkdir(filepath.Join(s.dir, d), 0o755), os.Chmod(filepath.Join(s.dir, d), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(s.dir, "open"), 0o777), os.Chmod(filepath.Join(s.dir, "state"), 0o777),
		os.WriteFile(filepath.Join(s.dir, "state/audit.log"), nil, 0o600), os.Chmod(filepath.Join(s.dir, "state/audit.log"), 0o666),
		os.Rename(filepath.Join(s.dir, "one.key"), filepath.Join(s.dir, "tls/one.key")), os.Rename(filepath.Join(s.dir, "one.pem"), filepath.Join(s.dir, "tls/one.pem")),
		os.Chown(filepath.Join(s.dir, "tls/one.key"), 0, frontUID), os.Chmod(filepath.Join(s.dir, "tls/one.key"), 0o640),
		os.Chown(filepath.Join(s.dir, "passwd"), 0, authUID), os.Chmod(filepath.Join(s.dir, "passwd"), 0o640)); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Mkdir(filepath.Join(s.dir, "state/acme"), 0o700), os.WriteFile(filepath.Join(s.dir, "state/acme/account"), nil, 0o666),
		os.Chown(filepath.Join(s.dir, "state/acme"), acmeUID, acmeUID), os.Chown(filepath.Join(s.dir, "state/acme/account"), acmeUID, acmeUID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.write("etc/roost.toml", fmt.Sprintf(`state_dir = "%[1]s/state"
[tls]
cert = "%[1]s/tls/one.pem"
key = "%[1]s/tls/one.key"
[auth]
passwd_file = "%[1]s/passwd"
[control]
socket = "%[1]s/run/control"
[log]
audit = "%[1]s/state/audit.log"
[isolation]
mode = "workers"
front_user = "%[2]d"
auth_user = "%[3]d"
`, s.dir, frontUID, authUID), 0o644)
	for _, tt := range []struct {
		role workers.Role
		uid  int
		can  string // nothing else
	}{
		{workers.RoleFront, frontUID, "the key, a socket"},
		{workers.RoleDesk, authUID, "passwords, the system, the audit log, a socket, a program"},
		{workers.RoleWorker, annUID, "ann's mail, writing mail"},
		{workers.RoleIssuer, acmeUID, "the account, the system, a socket"},
	} {
		cmd := exec.Command(os.Args[0])
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		bin := filepath.Join(s.dir, "self")
		if b, err := os.ReadFile(self); err != nil || os.WriteFile(bin, b, 0o755) != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Dir = bin, "/"
		cmd.Env = append(os.Environ(), asRole+"="+string(tt.role)+" "+s.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(tt.uid), Gid: uint32(tt.uid)}}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var a attack
		if err == nil {
			err = json.Unmarshal(out, &a)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", tt.role, err, out)
		}
		for what, outcome := range a.Outcome {
			if can := slices.Contains(strings.Split(tt.can, ", "), what); can != (outcome == "ok") {
				t.Errorf("%s: %s: %s", tt.role, what, outcome)
			}
		}
	}
}

// A changed password ends sessions in other processes too, and with it no other.
func TestWorkersRevoked(t *testing.T) {
	s := startWorkers(t, "")
	ann, ben := s.dial(), s.dial()
	ann.say("a LOGIN ann s3cretword\r\n", "a OK")
	ben.say("a LOGIN ben s3cretword\r\n", "a OK")
	text, err := os.ReadFile(filepath.Join(s.dir, "passwd"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("next", strings.Replace(string(text), "ann:{PLAIN}s3cretword", "ann:{PLAIN}another", 1), 0o644)
	if err := os.Rename(filepath.Join(s.dir, "next"), filepath.Join(s.dir, "passwd")); err != nil {
		t.Fatal(err)
	}
	ann.until("* BYE")
	ben.say("b NOOP\r\n", "b OK")
}

// Who has no uid in the password file is asked of the system, with home and groups.
func TestWorkersOfTheMachine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: processes become other users")
	}
	p := newPatient(t)
	s := p.serving
	s.certificate("one")
	layWorkers(t, s)
	home := filepath.Join(s.dir, "home/cat")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, 60013, 60014)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ name, more string }{
		{"passwd", fmt.Sprintf("cat:x:60013:60014::%s:/bin/sh\n", home)},
		{"group", "cats:x:60014:\npets:x:60015:cat\ndisk2:x:6:cat\n"},
	} {
		b, err := os.ReadFile("/etc/" + file.name)
		if err != nil {
			t.Fatal(err)
		}
		s.write("etc-"+file.name, string(b)+file.more, 0o644)
	}
	s.write("passwd", "cat:{PLAIN}s3cretword\ndog:{PLAIN}s3cretword\n", 0o644)
	if err := os.Chmod(filepath.Join(s.dir, "passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.write("roost.toml", strings.Replace(s.config("one", fmt.Sprintf("[isolation]\nmode = \"workers\"\nfront_user = \"%d\"\nauth_user = \"%d\"\n", frontUID, authUID)), s.dir+"/mail/%n", "~/Maildir", 1), 0o644)
	if err := os.Chmod(s.conf, 0o644); err != nil {
		t.Fatal(err)
	}
	// No user is made: the process alone sees another /etc/passwd.
	p.start(fmt.Sprintf(`exec unshare -m sh -c 'mount --bind %[1]s/etc-passwd /etc/passwd && mount --bind %[1]s/etc-group /etc/group && exec "$@"' sh "$@"`, s.dir))
	s.addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(p.wait("event=listen"))
	k := s.dial()
	k.say("a LOGIN cat s3cretword\r\n", "a OK")
	k.say("a SELECT INBOX\r\n", "a OK")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.worker(60013)))
	if err != nil || !strings.Contains(string(status), "Gid:\t60014\t60014\t60014\t60014\n") || !regexp.MustCompile(`Groups:\t60014 60015 ?\n`).Match(status) {
		t.Errorf("%v\n%s", err, status)
	}
	if got := k.say("b UNAUTHENTICATE\r\nc LOGIN dog s3cretword\r\n", "c "); !strings.HasPrefix(got, "c NO [UNAVAILABLE]") {
		t.Error(got)
	}
	s.wait("user dog has no userdb_uid, and the system has no such user")
}

// written waits for a line in a file and gives all that is there.
func (s *serving) written(name, text string) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if strings.Contains(string(b), text) {
			return string(b)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q is not in %s: %v\n%s", text, name, err, b)
		}
	}
}

// The audit log is a file of the process that knows who is who, with the words of each
// user's process about its own sessions; it is moved away and opened anew, and outlives the
// process that writes it.
func TestWorkersAuditFile(t *testing.T) {
	s := startWorkers(t, "[log]\naudit = \"{}/state/audit.log\"\n")
	conf, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	s.write("other.toml", strings.Replace(string(conf), "/state/audit.log", "/home/audit.log", 1), 0o644)
	for name, want := range map[string]int{"roost.toml": 0, "other.toml": 1} {
		if _, out, stderr := roost(t, "config", "check", "--config", filepath.Join(s.dir, name)); strings.Count(out+stderr, "for log.audit, cannot be written by 60002") != want {
			t.Errorf("%s: %s%s", name, out, stderr)
		}
	}
	ann, ben := s.dial(), s.dial()
	for _, k := range []*talker{ann, ben} {
		k.say(`i ID ("name" "Mail" "version" "a\"b user=root")`+"\r\n", "i OK")
	}
	ann.say("a LOGIN ann s3cretword\r\n", "a OK")
	ben.say("a LOGIN ben s3cretword\r\n", "a OK")
	for _, k := range []*talker{ann, ben} {
		k.say("b CREATE \"x user=root\"\r\n", "b OK")
		for range 3 {
			k.say("b APPEND \"x user=root\" {6+}\r\na: b\r\n\r\n", "b OK")
		}
		k.say("c SELECT \"x user=root\"\r\n", "c OK")
	}
	ann.say("d STORE 1:2 +FLAGS (\\Deleted $y)\r\n", "d OK")
	ann.say("e EXPUNGE\r\n", "e OK")
	ben.say("d MOVE 1 INBOX\r\n", "d OK")
	s.written("state/audit.log", "event=mail_move ")
	text := s.written("state/audit.log", "event=mail_expunge ")
	for _, want := range []string{
		` user=ann addr=127.0.0.1 client="Mail a\"b user=root" mailbox="x user=root" messages=2 uids=1:2 op=+ flags="\\Deleted $y"` + "\n",
		` user=ann addr=127.0.0.1 client="Mail a\"b user=root" mailbox="x user=root" messages=2 uids=1:2` + "\n",
		` user=ben addr=127.0.0.1 client="Mail a\"b user=root" mailbox="x user=root" to=INBOX messages=1 uids=1` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(s.dir, "state/audit.log"), &st); err != nil || st.Uid != authUID || st.Mode&0o077 != 0 {
		t.Errorf("%+v, %v", st, err)
	}

	// Rotated.
	if err := os.Rename(filepath.Join(s.dir, "state/audit.log"), filepath.Join(s.dir, "state/audit.log.1")); err != nil {
		t.Fatal(err)
	}
	ben.say("e STORE 1 +FLAGS ($old)\r\n", "e OK")
	s.written("state/audit.log.1", "$old")
	s.signal(syscall.SIGHUP)
	s.wait("event=reload ") // the desk's: the front cannot read its key again
	ben.say("e STORE 1 +FLAGS ($new)\r\n", "e OK")
	if text = s.written("state/audit.log", "$new"); strings.Count(text, "\n") != 1 {
		t.Error(text)
	}

	// By another process than that which let the sessions in.
	desk := s.processes()["desk"]
	syscall.Kill(desk, syscall.SIGKILL)
	s.wait("event=isolation_died role=desk")
	ann.say("f STORE 1 +FLAGS ($later)\r\n", "f OK")
	if text = s.written("state/audit.log", "$later"); !strings.Contains(text, "user=ann addr=127.0.0.1 ") {
		t.Error(text)
	}

	// All that was done is there at the end.
	for i := range 200 {
		fmt.Fprintf(ann, "g STORE 1 +FLAGS ($k%d)\r\ng STORE 1 -FLAGS ($k%[1]d)\r\n", i)
	}
	for range 400 {
		ann.until("g OK")
	}
	s.signal(syscall.SIGTERM)
	<-s.done
	text = s.written("state/audit.log", "$k199")
	if n := strings.Count(text, "flags=$k"); n != 400 {
		t.Errorf("%d of 400 lines", n)
	}
}

// A note is put into the INBOX of whom it is for by that user's process, which is started
// for it where there is none.
func TestWorkersNotes(t *testing.T) {
	s := startWorkers(t, "[[event]]\nname = \"deletions\"\nmail = true\n[[event]]\nname = \"login_locked\"\nmail = true\n[auth.throttle]\nlock_after = 4\n[limits]\ntrusted_networks = []\n")
	for i := range 2 {
		s.dial().say(fmt.Sprintf("a LOGIN ben s3cretwrong%d\r\n", i), "a NO")
	}
	ann := s.dial()
	ann.say("a LOGIN ann s3cretword\r\n", "a OK")
	var all strings.Builder
	for range manyDeleted {
		all.WriteString("m APPEND Trash (\\Deleted) {6+}\r\na: b\r\n\r\n")
	}
	all.WriteString("b SELECT Trash\r\n")
	ann.say(all.String(), "b OK")
	ann.say("c EXPUNGE\r\n", "c OK")
	ann.say("d SELECT INBOX\r\n", "d OK")
	for answer := ""; !strings.Contains(answer, "SEARCH 1"); {
		ann.say("e NOOP\r\n", "e OK")
		answer = ann.say("f SEARCH SUBJECT \"Many messages were deleted\" BODY \"500 messages\"\r\n", "* SEARCH")
		ann.until("f OK")
	}
	var notes []string
	for deadline := time.Now().Add(patience); len(notes) == 0; time.Sleep(5 * time.Millisecond) {
		if notes, _ = filepath.Glob(filepath.Join(s.dir, "home/ben/Maildir/new/*")); time.Now().After(deadline) {
			t.Fatal("ben has no note")
		}
	}
	text, err := os.ReadFile(notes[0])
	var st syscall.Stat_t
	if err == nil {
		err = syscall.Stat(notes[0], &st)
	}
	if err != nil || st.Uid != benUID || !strings.Contains(string(text), "Subject: Logins are refused after wrong passwords") || !strings.Contains(string(text), "address: 127.0.0.1\r\n") {
		t.Errorf("%v, %d\n%s", err, st.Uid, text)
	}
	if s.worker(benUID) == 0 {
		t.Error(s.processes())
	}
}

// asMallory makes each worker one that its user has taken over.
const asMallory = "ROOST_TEST_MALLORY"

// mallory is such a worker: it takes a session, tells the truth of it once, and then says of
// others what they did not do.
func mallory() {
	desk, pass := -1, ""
	for desk < 0 || pass == "" {
		b, oob := make([]byte, 1<<18), make([]byte, 64)
		n, rights, _, _, err := unix.Recvmsg(channelFD, b, oob, 0)
		if err != nil || n == 0 {
			os.Exit(1)
		}
		var m struct {
			Desk bool
			Job  struct{ Login struct{ Ticket string } }
		}
		if err := json.Unmarshal(b[:n], &m); err != nil {
			os.Exit(1)
		}
		if m.Desk {
			list, err := unix.ParseSocketControlMessage(oob[:rights])
			if err != nil || len(list) != 1 {
				os.Exit(1)
			}
			fds, err := unix.ParseUnixRights(&list[0])
			if err != nil || len(fds) != 1 {
				os.Exit(1)
			}
			desk = fds[0]
		}
		pass = m.Job.Login.Ticket
	}
	for _, text := range []string{
		`{"Pass":"PASS","Client":"x\nuser=ben","Deed":{"What":"delete_mailbox","Mailbox":"true\nevent=mail_expunge user=ben"}}`,
		`{"Pass":"PASS","User":"ben","Deed":{"What":"expunge","User":"ben","Mailbox":"still","Messages":1,"UIDs":"1"}}`,
		`{"Pass":"PASS","Deed":{"What":"expunge\nevent=mail_expunge user=ben","Mailbox":"forged"}}`,
		`{"Pass":"PASS","Deed":{"What":"expunge","Mailbox":"too late"}}`,
	} {
		unix.Sendmsg(desk, []byte(strings.ReplaceAll(text, "PASS", pass)), nil, nil, unix.MSG_NOSIGNAL)
	}
	for b := make([]byte, 1<<18); ; { // until the parent is gone
		if n, err := unix.Read(channelFD, b); n <= 0 && err != unix.EINTR {
			os.Exit(1)
		}
	}
}

// A user who has taken over their own worker can say of themselves what they like, but of
// nobody else, and is heard no more when it is no deed.
func TestWorkersAuditLogAndAWorkerTakenOver(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: processes become other users")
	}
	s := startServing(t, fmt.Sprintf("[isolation]\nmode = \"workers\"\nfront_user = \"%d\"\nauth_user = \"%d\"\n[log]\naudit = \"{}/state/audit.log\"\n[limits]\nshutdown_patience = \"1s\"\n", frontUID, authUID), asMallory+"=1")
	k := s.dial()
	fmt.Fprint(k, "a LOGIN ann s3cretword\r\n")
	s.wait(fmt.Sprintf("event=isolation_worker_told uid=%d", annUID))
	b, err := os.ReadFile(filepath.Join(s.dir, "state/audit.log"))
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if err != nil || len(lines) != 2 ||
		!strings.HasSuffix(lines[0], ` user=ann addr=127.0.0.1 client="x\nuser=ben" mailbox="true\nevent=mail_expunge user=ben"`) ||
		!strings.HasSuffix(lines[1], ` user=ann addr=127.0.0.1 client="" mailbox=still messages=1 uids=1`) {
		t.Errorf("%v\n%s", err, b)
	}
}
