package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/server/workers"
)

// asProgram makes the test's binary the program itself: signals, users and exit codes
// belong to a process of their own.
const asProgram = "ROOST_TEST_AS_PROGRAM"

// asListener makes it listen on an address until it is killed.
const asListener = "ROOST_TEST_LISTEN"

func TestMain(m *testing.M) {
	if addr := os.Getenv(asListener); addr != "" {
		l, err := net.Listen("tcp", addr)
		fmt.Println(l, err)
		if err == nil {
			l.Accept()
		}
		os.Exit(1)
	}
	if role, dir, ok := strings.Cut(os.Getenv(asRole), " "); ok {
		takenOver(workers.Role(role), dir)
		os.Exit(0)
	}
	if os.Getenv(asMallory) != "" && len(os.Args) > 2 && os.Args[1] == isolated && os.Args[2] == string(workers.RoleWorker) {
		mallory()
	}
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience is what a test waits for an event before it gives up; no result depends on it.
const patience = 5 * time.Minute

// serving is a server in a process of its own.
type serving struct {
	t    testing.TB
	dir  string
	conf string
	addr string // IMAPS
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // readable after done

	mu    sync.Mutex // guards lines
	lines []string   // of its log
	more  chan struct{}
}

// startServing serves a directory with the user ann. extra stands at the end of the
// configuration, whose last table is [mail]; env is added to the process's.
func startServing(t testing.TB, extra string, env ...string) *serving {
	t.Helper()
	dir, err := os.MkdirTemp("", "roost-serve-") // not t.TempDir: another user has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, dir: dir, conf: filepath.Join(dir, "roost.toml"), more: make(chan struct{}, 1), done: make(chan struct{})}
	s.certificate("one")
	s.write("passwd", "ann:{PLAIN}s3cretword\n", 0o644)
	s.write("roost.toml", s.config("one", extra), 0o644)
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(extra, `mode = "workers"`) {
		layWorkers(t, s)
		s.write("roost.toml", strings.Replace(s.config("one", extra), dir+"/mail/%n", "~/Maildir", 1), 0o644)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("the server's log:\n%s", strings.Join(s.lines, "\n"))
		}
	})
	s.start(env...)
	return s
}

// restart serves by another configuration, once the process has ended.
func (s *serving) restart(conf string) {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	<-s.done
	s.write("roost.toml", conf, 0o644)
	s.lines, s.done = nil, make(chan struct{})
	s.start()
}

func (s *serving) start(env ...string) {
	t := s.t
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(self, "serve", "--config", s.conf)
	s.cmd.Env = append(os.Environ(), asProgram+"=1")
	s.cmd.Env = append(s.cmd.Env, env...)
	log, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.read(log) // ends with the process
	line := s.wait("event=listen")
	s.addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
}

// config is a configuration with the named certificate.
func (s *serving) config(cert, extra string) string {
	if !strings.Contains(extra, "[control]") {
		extra += fmt.Sprintf("[control]\nsocket = %q\n", filepath.Join(s.dir, "run", "control"))
	}
	extra = strings.ReplaceAll(extra, "{}", s.dir)
	return fmt.Sprintf(`hostname = "mail.example.org"
state_dir = "%[1]s/state"
[tls]
cert = "%[1]s/%[2]s.pem"
key = "%[1]s/%[2]s.key"
[[listen]]
address = "127.0.0.1:0"
[auth]
passwd_file = "%[1]s/passwd"
[mail]
location = "%[1]s/mail/%%n"
create = true
%[3]s`, s.dir, cert, extra)
}

func (s *serving) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// certificate makes name.pem and name.key, whose subject is the name.
func (s *serving) certificate(name string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), 0o644)
	s.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
}

// read keeps what the process logs, until it ends.
func (s *serving) read(log io.Reader) {
	for in := bufio.NewScanner(log); in.Scan(); {
		s.mu.Lock()
		s.lines = append(s.lines, in.Text())
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
	s.err = s.cmd.Wait()
	close(s.done)
}

// log is what the process has logged.
func (s *serving) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[:len(s.lines):len(s.lines)]
}

// wait gives the first line of the log that contains text, once it is there.
func (s *serving) wait(text string) string {
	s.t.Helper()
	for deadline, ended := time.After(patience), s.done; ; {
		for _, line := range s.log() {
			if strings.Contains(line, text) {
				return line
			}
		}
		if ended == nil {
			s.t.Fatalf("the process ended (%v) without %q in its log", s.err, text)
		}
		select {
		case <-s.more:
		case <-ended:
			ended = nil // one more look
		case <-deadline:
			s.t.Fatalf("%q is not in the log", text)
		}
	}
}

func (s *serving) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// talker is a client's connection.
type talker struct {
	t testing.TB
	*tls.Conn
	in *bufio.Reader
}

func (s *serving) dial() *talker { return s.dialAs("") }

// dialAs asks for the server by a name.
func (s *serving) dialAs(name string) *talker {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	k := &talker{s.t, c, bufio.NewReader(c)}
	k.until("* OK")
	return k
}

// until reads up to a line that starts with prefix.
func (k *talker) until(prefix string) string {
	k.t.Helper()
	k.SetDeadline(time.Now().Add(patience))
	for {
		line, err := k.in.ReadString('\n')
		if err != nil {
			k.t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
}

// say sends lines as they are and reads up to one that starts with prefix.
func (k *talker) say(text, prefix string) string {
	k.t.Helper()
	k.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(k, text); err != nil {
		k.t.Fatal(err)
	}
	return k.until(prefix)
}

// refusals are logins that do not happen, by every way in, each with a password of its own:
// of those that are repeated the log says so.
var refusals = []string{
	"a LOGIN ann s3cretwrong1\r\n",
	"a LOGIN \"nobody addr=192.0.2.1 event=login_refused\" s3cretwrong2\r\n",
	"a LOGIN {3+}\r\nann {12+}\r\ns3cretwrong3\r\n",
	"a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00ann\x00s3cretwrong4")) + "\r\n",
	"a AUTHENTICATE PLAIN\r\n" + base64.StdEncoding.EncodeToString([]byte("\x00ann\x00s3cretwrong5")) + "\r\n",
	"a AUTHENTICATE LOGIN\r\n" + base64.StdEncoding.EncodeToString([]byte("ann")) + "\r\n" +
		base64.StdEncoding.EncodeToString([]byte("s3cretwrong")) + "\r\n",
	"a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("bob\x00ann\x00s3cretword")) + "\r\n",
}

// The lines that fail2ban reads. Other people's scripts live on them: what differs from
// the golden file breaks those. The filter in contrib/fail2ban matches the same lines.
func TestRefusedLoginsInTheLog(t *testing.T) {
	s := startServing(t, "")
	var talkers []*talker // at once, for each refusal takes its time
	for _, text := range refusals {
		k := s.dial()
		talkers = append(talkers, k)
		if _, err := io.WriteString(k, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range talkers {
		k.until("a NO")
	}
	s.signal(syscall.SIGTERM)
	<-s.done
	var got []string
	changing := regexp.MustCompile(`^time=\S+ |sess=\S+`)
	for _, line := range s.log() {
		if strings.Contains(line, "event=login_refused") && strings.Contains(line, `msg="login refused"`) {
			got = append(got, changing.ReplaceAllStringFunc(line, func(m string) string {
				return m[:strings.Index(m, "=")+1] + "X" + m[len(strings.TrimRight(m, " ")):]
			}))
		}
	}
	slices.Sort(got)
	want, err := os.ReadFile("testdata/refused.log")
	if text := strings.Join(got, "\n") + "\n"; err != nil || text != string(want) {
		t.Errorf("%v; logged:\n%swant:\n%s", err, text, want)
	}
	filter, err := os.ReadFile("../../contrib/fail2ban/filter.d/roost.conf")
	if err != nil {
		t.Fatal(err)
	}
	fail := regexp.MustCompile(`(?m)^failregex = (.*)$`).FindSubmatch(filter)
	if fail == nil {
		t.Fatal("the filter has no failregex")
	}
	match := regexp.MustCompile(strings.ReplaceAll(string(fail[1]), "<ADDR>", `(\S+)`))
	for _, line := range got {
		if m := match.FindStringSubmatch(line); m == nil || m[1] != "127.0.0.1" {
			t.Errorf("fail2ban sees %q in %s", m, line)
		}
	}
}

// Whatever way a password comes, the log at its most talkative does not have it.
func TestNoPasswordInTheLog(t *testing.T) {
	s := startServing(t, "[log]\nlevel = \"debug\"\n")
	plain := base64.StdEncoding.EncodeToString([]byte("\x00ann\x00s3cretword"))
	var talkers []*talker
	for _, text := range append([]string{
		"a LOGIN ann s3cretword\r\nb NOOP\r\na LOGOUT\r\n",
		"a AUTHENTICATE PLAIN " + plain + "\r\nb LOGIN ann s3cretword\r\na LOGOUT\r\n",
		"a AUTHENTICATE LOGIN\r\n" + base64.StdEncoding.EncodeToString([]byte("ann")) + "\r\n" +
			base64.StdEncoding.EncodeToString([]byte("s3cretword")) + "\r\na LOGOUT\r\n",
		"x LOGIN ann s3cretword too much\r\na LOGOUT\r\n",
		"x LOGIN \"ann s3cretword\r\na LOGOUT\r\n",
		"x LOGIN ann {99999999}\r\ns3cretword\r\na LOGOUT\r\n",
		"x AUTHENTICATE PLAIN s3cretword!\r\na LOGOUT\r\n",
		"s3cretword s3cretword s3cretword\r\na LOGOUT\r\n",
		"a LOGIN ann s3cretwrong\r\na LOGIN ann s3cretword\r\na LOGOUT\r\n",
	}, refusals...) {
		k := s.dial()
		if _, err := io.WriteString(k, text); err != nil {
			t.Fatal(err)
		}
		k.CloseWrite()
		talkers = append(talkers, k)
	}
	for _, k := range talkers {
		io.Copy(io.Discard, k.in)
	}
	s.signal(syscall.SIGTERM)
	<-s.done
	log := strings.Join(s.log(), "\n")
	for _, secret := range []string{"s3cret", plain, base64.StdEncoding.EncodeToString([]byte("s3cretword")), base64.StdEncoding.EncodeToString([]byte("s3cretwrong"))} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
	if n := strings.Count(log, "event=login "); n < 3 {
		t.Errorf("%d logins; the test tries too little:\n%s", n, log)
	}
}

// SIGHUP puts certificate and limits in force for what comes next; connections stay,
// and a broken configuration changes nothing.
func TestReload(t *testing.T) {
	s := startServing(t, "")
	old := s.dial()
	old.say("a LOGIN ann s3cretword\r\n", "a OK")

	s.certificate("two")
	s.write("roost.toml", s.config("two", "[limits]\nbad_commands = 1\n"), 0o644)
	s.signal(syscall.SIGHUP)
	s.wait("event=reload ")
	fresh := s.dial()
	if name := fresh.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "two" {
		t.Errorf("after the reload the certificate is %s", name)
	}
	fresh.say("a NONSENSE\r\n", "* BYE") // the first bad command ends it
	old.say("b NOOP\r\n", "b OK")

	s.write("roost.toml", s.config("one", "[limits]\nbad_commands = \"many\"\nconections = 1\n"), 0o644)
	s.signal(syscall.SIGHUP)
	s.wait("did you mean \\\"limits.connections")
	s.wait("limits.bad_commands is a whole number") // all that is wrong, each with its line
	kept := s.dial()
	if name := kept.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "two" {
		t.Errorf("after a broken configuration the certificate is %s", name)
	}
	kept.say("a NONSENSE\r\n", "* BYE")
	old.say("c NOOP\r\n", "c OK")
}

// Who connected while a long passwd file was read was refused: sockets come first.
func TestSocketsComeBeforeUsers(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	conf, users := filepath.Join(dir, "roost.toml"), filepath.Join(dir, "passwd")
	text := fmt.Sprintf("[[listen]]\naddress = %q\nplaintext = true\n[auth]\npasswd_file = %q\n[mail]\nlocation = \"/nowhere/%%n\"\n", taken.Addr(), users)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(users, nil, 0o600), os.Truncate(users, 65<<20)); err != nil { // too long: read, it fails
		t.Fatal(err)
	}
	env := &environment{stderr: io.Discard, getenv: func(string) string { return "" }}
	if err := serve(t.Context(), env, conf, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the users were looked for first: %v", err)
	}
}

// SIGHUP while the server starts ended it: it is read again once it serves.
func TestHangupWhileItStarts(t *testing.T) {
	p := newPatient(t)
	p.start("")
	p.wait("event=passwd_read")
	p.signal(syscall.SIGHUP)
	p.wait("event=reload ")
}

// SIGTERM says BYE to everybody, and the process ends with 0 while clients are there.
func TestTermination(t *testing.T) {
	s := startServing(t, "")
	in, out, before := s.dial(), s.dial(), s.dial()
	in.say("a LOGIN ann s3cretword\r\n", "a OK")
	out.say("a LOGIN ann s3cretword\r\n", "a OK")
	out.say("b SELECT INBOX\r\n", "b OK")
	out.say("c IDLE\r\n", "+ ")
	s.signal(syscall.SIGTERM)
	for _, k := range []*talker{in, out, before} {
		k.until("* BYE")
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if s.err != nil {
		t.Errorf("it ended with %v", s.err)
	}
}

// What systemd is told, in this order.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	told := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		socket.SetReadDeadline(time.Now().Add(patience))
		n, err := socket.Read(b)
		if err != nil || !bytes.HasPrefix(b[:n], []byte(want)) {
			t.Fatalf("systemd was told %q, %v; want %s", b[:n], err, want)
		}
	}
	s := startServing(t, "", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	told("READY=1")
	s.dial()
	s.signal(syscall.SIGHUP)
	told("RELOADING=1\nMONOTONIC_USEC=")
	told("READY=1")
	s.signal(syscall.SIGTERM)
	told("STOPPING=1")
	<-s.done
}

// Started as root it becomes mail.user, in all threads and without root's groups, and
// says which files it cannot read again.
func TestRootIsGivenUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the program changes its user")
	}
	s := startServing(t, "user = \"nobody\"\n")
	if line := s.wait("event=rights"); !strings.Contains(line, "one.key") {
		t.Error(line)
	}
	if code, stdout, stderr := roost(t, "config", "check", "--config", s.conf); code != exitDone || !strings.Contains(stdout, "all right") ||
		strings.Count(stderr, "cannot be read by nobody") != 1 || !strings.Contains(stderr, "/one.key") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	k := s.dial()
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	k.say("b APPEND INBOX {3+}\r\na:b\r\n", "b OK")
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	root := regexp.MustCompile(`(?m)^(Uid|Gid|Groups):.*\b0\b.*$|^CapEff:\s+0*[1-9a-f].*$`)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if left := root.Find(status); err != nil || left != nil {
			t.Errorf("%s: %v, %s", task, err, left)
		}
	}
}
