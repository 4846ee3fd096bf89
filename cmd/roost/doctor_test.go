package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/maildir/fsys"
	"roost/test/neighbour"
)

// patient is a healthy set-up for the doctor: a configuration, a certificate of an
// authority that is trusted, a user with a Maildir. As root the mail is nobody's.
type patient struct {
	*testing.T
	*serving // its process is there after serve
	doctor   *doctor
	ports    [2]int
	authority,
	between issuer
	mail     string // the Maildir of ann
	uid, gid int
	as       int           // the server is started as this user; 0 as ours
	bin      string        // stand-ins for programs that a test must not run
	ended    chan struct{} // closed when the process of occupy is gone; nil: there was none
}

// issuer signs certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate; by itself without an issuer.
func (p *patient) issue(by *issuer, change func(*x509.Certificate)) issuer {
	p.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "someone"}, DNSNames: []string{"mail.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		p.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.Fatal(err)
	}
	return issuer{cert, key}
}

// keep writes name.pem, with the chain, and name.key.
func (p *patient) keep(name string, leaf issuer, chain ...issuer) {
	p.Helper()
	var text []byte
	for _, c := range append([]issuer{leaf}, chain...) {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		p.Fatal(err)
	}
	p.put(name+".pem", string(text), 0o640)
	p.put(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o640)
}

// put writes a file of the mail's user below the patient's directory, or one of root's
// where the mode says 0o1000.
func (p *patient) put(name, text string, mode os.FileMode) {
	p.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.Fatal(err)
	}
	os.Remove(path) // a watcher must see a new file
	err := os.WriteFile(path, []byte(text), mode.Perm())
	if err == nil {
		err = os.Chmod(path, mode.Perm())
	}
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(path, p.uid, p.gid)
	}
	if err != nil {
		p.Fatal(err)
	}
}

// plant makes files and directories of the mail's user in the Maildir.
func (p *patient) plant(files ...string) {
	p.Helper()
	for _, file := range files {
		name, text, _ := strings.Cut(file, "|")
		path := filepath.Join(p.mail, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil && strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o700)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			p.Fatal(err)
		}
	}
	p.own(p.mail)
}

// own gives a tree to the mail's user.
func (p *patient) own(dir string) {
	p.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && os.Getuid() == 0 {
			err = os.Lchown(path, p.uid, p.gid)
		}
		return err
	}); err != nil {
		p.Fatal(err)
	}
}

const healthyUser = "ann:{BLF-CRYPT}$2y$05$UyiUa9WvKqRkEGPwrjJ4MeHhkg0GlO0fxKaUDsgBidwGSGtc8ENR2\n"

func newPatient(t *testing.T) *patient {
	t.Helper()
	dir, err := os.MkdirTemp("", "roost-doctor-") // not t.TempDir: another user has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	p := &patient{T: t, serving: &serving{t: t, dir: dir, conf: filepath.Join(dir, "roost.toml"), more: make(chan struct{}, 1), done: make(chan struct{})}}
	p.uid, p.gid, p.mail = os.Getuid(), os.Getgid(), filepath.Join(dir, "mail", "ann")
	if p.uid == 0 {
		p.uid, p.gid = 65534, 65534
	}
	for i := range p.ports {
		if p.ports[i], err = neighbour.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	ca := func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.DNSNames, c.Subject.CommonName = true, true, nil, "an authority"
	}
	p.authority = p.issue(nil, ca)
	p.between = p.issue(&p.authority, func(c *x509.Certificate) { ca(c); c.Subject.CommonName = "a middleman" })
	p.keep("cert", p.issue(&p.between, nil), p.between)
	p.put("passwd", healthyUser, 0o640)
	p.put("roost.toml", p.text(""), 0o640)
	p.plant("cur/1.a:2,Sa|Subject: x\n\nx\n", "new/", "tmp/", "dovecot-uidlist|3 V1 N2 G3085f01b7f11094c501100008c4a11c1\n1 :1.a\n", "dovecot-keywords|0 $Junk\n")
	os.Chmod(filepath.Join(dir, "mail"), 0o755)
	p.doctor = newDoctor()
	p.doctor.path, p.doctor.patience = p.conf, patience
	p.doctor.roots = x509.NewCertPool()
	p.doctor.roots.AddCert(p.authority.cert)
	p.doctor.synced = func() bool { return true }
	p.doctor.landlock = func() int { return 2 }
	p.doctor.measure = func(cost) time.Duration { return time.Millisecond }
	p.bin = filepath.Join(dir, "bin")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.put("bin/roost", "#!/bin/sh\nexport "+asProgram+"=1\nexec "+self+" \"$@\" --stdin\n", 0o755)
	return p
}

// text is the configuration; extra begins with keys of [mail].
func (p *patient) text(extra string) string {
	user := ""
	if os.Getuid() == 0 {
		user = "user = \"nobody\"\n"
	}
	if !strings.Contains(extra, "[control]") {
		extra += fmt.Sprintf("\n[control]\nsocket = %q\n", filepath.Join(p.dir, "run", "control"))
	}
	return fmt.Sprintf(`hostname = "mail.example.org"
state_dir = "%[1]s/state"
[tls]
cert = "%[1]s/cert.pem"
key = "%[1]s/cert.key"
[[listen]]
address = "127.0.0.1:%[2]d"
[[listen]]
address = "127.0.0.1:%[3]d"
starttls = true
[auth]
passwd_file = "%[1]s/passwd"
[mail]
location = "%[1]s/mail/%%n"
%[4]s%[5]s`, p.dir, p.ports[0], p.ports[1], user, extra)
}

// serve starts the server, through a shell that runs first.
func (p *patient) serve(first string) {
	p.Helper()
	p.start(first)
	p.wait("event=listen")
}

// start does so and waits for nothing.
func (p *patient) start(first string) {
	p.Helper()
	self, err := os.Executable()
	if err != nil {
		p.Fatal(err)
	}
	p.cmd = exec.Command("sh", "-c", first+"\nexec \"$@\"", "sh", self, "serve", "--config", p.conf)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	if p.as != 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.as), Gid: uint32(p.gid)}}
		exe := filepath.Join(p.bin, "server") // ours may not be theirs to run
		b, err := os.ReadFile(self)
		if err == nil {
			err = os.WriteFile(exe, b, 0o755)
		}
		if err != nil {
			p.Fatal(err)
		}
		p.cmd.Args[4], p.cmd.Dir = exe, "/"
	}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	go p.read(log) // ends with the process
	p.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if p.Failed() {
			p.Logf("the server's log:\n%s", strings.Join(p.lines, "\n"))
		}
	})
}

// examine runs the doctor, who must leave everything as it is, and gives the findings of
// a kind.
func (p *patient) examine(kind string) (found []finding) {
	p.Helper()
	before := p.snapshot()
	d := *p.doctor
	d.found = nil
	p.doctor = &d
	if err := d.examine(p.Context()); err != nil {
		p.Fatal(err)
	}
	d.sort()
	if after := p.snapshot(); after != before {
		p.Errorf("the doctor changed something:\n%s\nto\n%s", before, after)
	}
	for _, f := range d.found {
		if f.Kind == kind {
			found = append(found, f)
		}
	}
	return found
}

// snapshot is all that can be seen of the patient's files, but for when they were read.
func (p *patient) snapshot() string {
	p.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil {
			fi, err = d.Info()
		}
		if err != nil {
			return err
		}
		sys := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d %d:%d %v %v %d ", path, fi.Mode(), sys.Ino, sys.Uid, sys.Gid, sys.Mtim, sys.Ctim, sys.Nlink)
		if fi.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%x", sha256.Sum256(content))
		}
		b.WriteByte('\n')
		return nil
	}); err != nil {
		p.Fatal(err)
	}
	return b.String()
}

// sh runs a command as an admin pastes it.
func (p *patient) sh(command string) {
	p.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Env = append(os.Environ(), "PATH="+p.bin+":"+os.Getenv("PATH"), "PROC="+p.doctor.proc)
	cmd.Stdin = strings.NewReader("some new words\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// A healthy set-up has nothing that the doctor would invent, with and without a server.
func TestDoctorOfTheHealthy(t *testing.T) {
	p := newPatient(t)
	p.plant(".Sent/cur/", "roost.index|", "roost-keywords|roost-keywords 1\n")
	p.put("passwd", healthyUser+"#\nben:!{PLAIN}x\n", 0o640)
	p.serve("")
	p.examine("")
	for _, f := range p.doctor.found {
		if f.Kind != "hash-cost" || f.Weight != remark {
			t.Errorf("%+v", f)
		}
	}
	if len(p.doctor.found) != 1 || p.doctor.users != 1 || p.doctor.boxes.Mailboxes != 2 || p.doctor.boxes.Messages != 1 || p.doctor.verdict() != nil {
		t.Errorf("%d, %+v, %v", p.doctor.users, p.doctor.boxes, p.doctor.verdict())
	}
	p.signal(syscall.SIGTERM)
	<-p.done
	p.examine("")
	for _, f := range p.doctor.found {
		if f.Kind != "hash-cost" && f.Kind != "server-down" {
			t.Errorf("%+v", f)
		}
	}
}

// testName is how the kernel calls this process.
func testName() string {
	b, _ := os.ReadFile("/proc/self/comm")
	return strings.TrimSpace(string(b))
}

// far is a filesystem of another machine.
type far struct{ fsys.FS }

func (f far) Root(path string) (fsys.Dir, error) {
	d, err := f.FS.Root(path)
	return farDir{d}, err
}

type farDir struct{ fsys.Dir }

func (farDir) Remote() bool { return true }

// inTenDays is when a certificate ends and the day that is told, past midnight too.
var inTenDays = time.Now().Add(10 * 24 * time.Hour)

// ailments are all the kinds of findings, each provoked. Where a command is told it is
// run, and must mend what it is told for.
var ailments = []struct {
	kind   string
	about  string
	serve  bool // a server runs, started after prepare
	root   bool // only root can provoke it
	first  func(p *patient)
	then   func(p *patient) // once the server runs
	weight string
	find   string // contained in the line of the first finding; DIR is the patient's directory
	n      int    // findings; 0 is one, -1 none
	run    bool   // there is a command
	settle string // what the server logs when the command has had its effect
}{
	{kind: "config", about: "a key for everybody", weight: ill, find: "roost.toml:5:7: every user of this machine can get at the private key", run: true,
		first: func(p *patient) { os.Chmod(p.dir+"/cert.key", 0o644) }},
	{kind: "config", about: "a file that is not there", weight: ill, find: "there is no file DIR/gone.pem", first: func(p *patient) {
		p.put("roost.toml", strings.Replace(p.text(""), "/cert.pem", "/gone.pem", 1), 0o640)
	}},
	{kind: "reload-rights", root: true, weight: ailing, find: "DIR/cert.key: nobody, whom Roost becomes, cannot read it", run: true, first: func(p *patient) {
		os.Chown(p.dir+"/cert.key", 0, 0)
		os.Chmod(p.dir+"/cert.key", 0o600)
	}},
	{kind: "reload-rights", about: "by the directory", root: true, weight: ailing, find: "DIR/tls/cert.pem", n: 2, run: true, first: func(p *patient) {
		os.Mkdir(p.dir+"/tls", 0o700)
		p.keep("tls/cert", p.issue(&p.authority, nil))
		p.put("roost.toml", strings.ReplaceAll(p.text(""), "/cert.", "/tls/cert."), 0o640)
	}},
	{kind: "server-down", weight: ill, find: "DIR/run/control: no server answers; start it"},
	{kind: "server-down", about: "it hangs", weight: ill, find: "DIR/run/control: the server takes the question and gives no answer in 100ms; restart it", first: func(p *patient) {
		if err := os.Mkdir(p.dir+"/run", 0o700); err != nil {
			p.Fatal(err)
		}
		l, err := net.Listen("unix", p.dir+"/run/control")
		if err != nil {
			p.Fatal(err)
		}
		p.Cleanup(func() { l.Close() })
		p.doctor.patience = 100 * time.Millisecond
	}},
	{kind: "server-unseen", weight: remark, find: "control.socket is off", first: func(p *patient) {
		p.put("roost.toml", p.text("\n[control]\nsocket = \"off\"\n"), 0o640)
	}},
	{kind: "server-other", serve: true, weight: ailing, find: "which has the configuration DIR/roost.toml", then: func(p *patient) {
		p.put("other.toml", p.text("\n[control]\nsocket = \""+p.dir+"/run/control\"\n"), 0o640)
		p.doctor.path = p.dir + "/other.toml"
	}},
	{kind: "server-other", about: "but of the same file", serve: true, n: -1, then: func(p *patient) {
		if err := os.Symlink("roost.toml", p.dir+"/link.toml"); err != nil {
			p.Fatal(err)
		}
		p.doctor.path = p.dir + "/link.toml"
	}},
	{kind: "server-version", serve: true, weight: ailing, find: "version devel runs, next is installed", then: func(p *patient) {
		version = "next"
		p.Cleanup(func() { version = "devel" })
	}},
	{kind: "server-config", serve: true, weight: ailing, find: "after the server read it", run: true, settle: "event=reload ", then: func(p *patient) {
		p.put("roost.toml", p.text("separator = \".\"\n"), 0o640)
		os.Chtimes(p.conf, time.Now(), time.Now()) // files are stamped by a clock that is some milliseconds behind
	}},
	{kind: "server-restart", serve: true, weight: ailing, find: "the server goes by the old value of listen, auth.hashers", then: func(p *patient) {
		p.put("roost.toml", strings.Replace(strings.Replace(p.text(""), "[auth]", "[auth]\nhashers = 7", 1), "starttls = true", "plaintext = true", 1), 0o640)
		p.signal(syscall.SIGHUP)
		p.wait("event=reload_restart")
	}},
	{kind: "port-busy", weight: ill, find: testName() + " (process ", run: true, first: func(p *patient) { p.occupy(p.ports[0]) }},
	{kind: "port-silent", serve: true, weight: ill, find: "127.0.0.1:1: the server does not listen there", then: func(p *patient) {
		p.put("roost.toml", strings.Replace(p.text(""), fmt.Sprint(":", p.ports[1]), ":1", 1), 0o640)
	}},
	{kind: "port-silent", about: "without a control socket", weight: ill, find: "nobody listens there", n: 2, first: func(p *patient) {
		p.put("roost.toml", p.text("\n[control]\nsocket = \"off\"\n"), 0o640)
	}},
	{kind: "tls-failed", serve: true, weight: ill, find: "a client that connects to 127.0.0.1:", n: 2, first: func(p *patient) {
		p.put("roost.toml", p.text("\n[limits]\nconnections = 1\n"), 0o640)
	}, then: func(p *patient) {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", p.ports[1]))
		if err != nil {
			p.Fatal(err)
		}
		c.Read(make([]byte, 1)) // it has its place
		p.Cleanup(func() { c.Close() })
	}},
	{kind: "certificate-expired", weight: ill, find: "DIR/cert.pem: the certificate ended on 2020-01-02", first: func(p *patient) {
		p.keep("cert", p.issue(&p.between, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2020, 1, 2, 3, 0, 0, 0, time.UTC)
		}), p.between)
	}},
	{kind: "certificate-expired", about: "not begun", weight: ill, find: "the certificate begins on ", first: func(p *patient) {
		p.keep("cert", p.issue(&p.between, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(48 * time.Hour) }), p.between)
	}},
	{kind: "certificate-name", serve: true, weight: ill, n: 2, find: "the certificate is for imap.example.net, 192.0.2.1, and clients that use mail.example.org refuse it", first: func(p *patient) {
		p.keep("cert", p.issue(&p.between, func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = []string{"imap.example.net"}, []net.IP{net.IPv4(192, 0, 2, 1)}
		}), p.between)
	}},
	{kind: "certificate-chain", serve: true, weight: ill, n: 2, find: `without that of its issuer "a middleman"; tls.cert must be`, first: func(p *patient) { p.keep("cert", p.issue(&p.between, nil)) }},
	{kind: "certificate-untrusted", weight: ailing, find: "this machine does not trust it", first: func(p *patient) { p.keep("cert", p.issue(nil, nil)) }},
	{kind: "certificate-untrusted", about: "a whole chain of a stranger", weight: ailing, find: "this machine does not trust it", first: func(p *patient) { p.doctor.roots = x509.NewCertPool() }},
	{kind: "certificate-untrusted", about: "a further one", weight: ailing, find: "DIR/extra.pem: this machine", first: func(p *patient) {
		p.keep("extra", p.issue(nil, func(c *x509.Certificate) { c.DNSNames = []string{"other.example.net"} }))
		p.put("roost.toml", p.text("\n[[tls.certificate]]\ncert = \""+p.dir+"/extra.pem\"\nkey = \""+p.dir+"/extra.key\"\n"), 0o640)
	}},
	{kind: "certificate-expires", serve: true, weight: ailing, n: 2, find: "the certificate ends on " + inTenDays.UTC().Format(time.DateOnly), first: func(p *patient) {
		p.keep("cert", p.issue(&p.between, func(c *x509.Certificate) { c.NotAfter = inTenDays }), p.between)
	}},
	{kind: "certificate-stale", serve: true, weight: ailing, n: 2, find: "is in none of the files", run: true, settle: "event=reload ", then: func(p *patient) {
		p.keep("new", p.issue(&p.between, nil), p.between)
		p.put("roost.toml", strings.ReplaceAll(p.text(""), "/cert.", "/new."), 0o640)
	}},
	{kind: "passwd-line", weight: ill, find: "ben: DIR/passwd:2: damaged hash: it starts neither", run: true, first: func(p *patient) { p.put("passwd", healthyUser+"ben:xyz\n", 0o640) }},
	{kind: "passwd-line", about: "twice", weight: ailing, find: "is already in line 1", first: func(p *patient) { p.put("passwd", healthyUser+healthyUser, 0o640) }},
	{kind: "passwd-empty", weight: ill, find: "it has nobody who can log in", run: true, first: func(p *patient) { p.put("passwd", "# nobody\n", 0o640) }},
	{kind: "passwd-open", weight: ailing, find: "can get at the hashes (mode 0644)", run: true, first: func(p *patient) { os.Chmod(p.dir+"/passwd", 0o644) }},
	{kind: "hash-weak", weight: ailing, find: "gives away the passwords of ben and 1 more, which are kept as PLAIN", first: func(p *patient) {
		p.put("passwd", healthyUser+"ben:{PLAIN}x\ncarl:{PLAIN}y\n", 0o640)
	}},
	{kind: "hash-weak", about: "of one", weight: ailing, find: "gives away the passwords of ben, which", run: true, first: func(p *patient) { p.put("passwd", healthyUser+"ben:{PLAIN}x\n", 0o640) }},
	{kind: "hash-cost", weight: ailing, find: "a login of 1 user takes 2.5s to verify (BLF-CRYPT 5)", first: func(p *patient) {
		p.doctor.measure = func(cost) time.Duration { return 2500 * time.Millisecond }
	}},
	{kind: "mail-place", weight: ill, find: "ben: DIR/roost.toml: mail location of user", first: func(p *patient) {
		p.put("passwd", healthyUser+strings.Replace(strings.TrimSpace(healthyUser), "ann", "ben", 1)+"::::::userdb_mail=mbox:~/mail\n", 0o640)
	}},
	{kind: "mail-place", about: "an mbox", weight: ill, find: "ann: DIR/mail/ann: it is a file, and no Maildir", first: func(p *patient) {
		os.RemoveAll(p.mail)
		p.put("mail/ann", "From x\n", 0o600)
	}},
	{kind: "mail-place", about: "nobody of that name", weight: ill, find: "carl: DIR/passwd: there is no such user", first: func(p *patient) { p.doctor.only = []string{"carl", "ann"} }},
	{kind: "mail-missing", weight: ill, find: "ann: DIR/mail/ann: there is no such directory", run: true, first: func(p *patient) {
		os.RemoveAll(p.dir + "/mail")
	}},
	{kind: "mail-missing", about: "but it will be made", weight: remark, find: "the first login makes it", first: func(p *patient) {
		os.RemoveAll(p.mail)
		p.own(p.dir + "/mail")
		p.put("roost.toml", p.text("create = true\n"), 0o640)
	}},
	{kind: "mail-rights", about: "nowhere to make it", root: true, weight: ill, find: "DIR/mail: nobody cannot make a Maildir in it (drwxr-xr-x root:root)", run: true, first: func(p *patient) {
		os.RemoveAll(p.mail)
		p.put("roost.toml", p.text("create = true\n"), 0o640)
	}},
	{kind: "mail-closed", root: true, weight: ill, find: "DIR/mail: nobody cannot go through it (drwx------ root:root)", run: true, first: func(p *patient) { os.Chmod(p.dir+"/mail", 0o700) }},
	{kind: "mail-closed", about: "to its owner", root: true, weight: ill, find: "DIR/mail: nobody cannot go through it (d---rwxrwx nobody", run: true, first: func(p *patient) {
		os.Chown(p.dir+"/mail", p.uid, p.gid)
		os.Chmod(p.dir+"/mail", 0o077)
	}},
	{kind: "mail-closed", about: "to two users", root: true, weight: ill, find: "DIR/mail: nobody cannot go through it (drwx------ root:root)", run: true, first: func(p *patient) {
		p.put("passwd", healthyUser+strings.Replace(healthyUser, "ann", "ben", 1), 0o640)
		os.Chmod(p.dir+"/mail", 0o700)
	}},
	{kind: "mail-rights", about: "all is root's", root: true, weight: ill, find: "ann: DIR/mail/ann: nobody cannot read and write it (drwx------ root:root)", run: true, first: func(p *patient) {
		p.plant(".Sent/cur/1.x|y")
		for _, path := range []string{"", "/cur", "/new", "/tmp", "/.Sent", "/.Sent/cur", "/.Sent/cur/1.x", "/dovecot-uidlist"} {
			os.Chown(p.mail+path, 0, 0)
		}
	}},
	{kind: "mail-rights", about: "by the user of the server, where mail.user is not set", root: true, serve: true, weight: ill, find: "ann: DIR/mail/ann/new: nobody cannot read and write it", run: true, first: func(p *patient) {
		// As under systemd, with User=.
		p.put("roost.toml", strings.Replace(p.text(""), "user = \"nobody\"\n", "", 1), 0o640)
		os.Mkdir(p.dir+"/run", 0o700)
		os.Chown(p.dir+"/run", p.uid, p.gid)
		os.Chown(p.mail+"/new", 0, 0)
		p.as = p.uid
	}},
	{kind: "mail-rights", about: "root's, but open", root: true, weight: ill, find: "ann: DIR/mail/ann/.Sent: nobody cannot", run: true, first: func(p *patient) {
		p.plant(".Sent/cur/1.x|y", ".Sent/new/", ".Sent/tmp/")
		for _, path := range []string{"/.Sent", "/.Sent/cur", "/.Sent/new", "/.Sent/tmp", "/.Sent/cur/1.x"} {
			os.Chown(p.mail+path, 0, 0)
			os.Chmod(p.mail+path, 0o755)
		}
	}},
	{kind: "mail-rights", about: "a directory that its owner closed", weight: ill, find: "DIR/mail/ann/new: ", run: true, first: func(p *patient) {
		if os.Chmod(p.mail+"/new", 0o500); os.Getuid() != 0 {
			return
		}
	}},
	{kind: "mail-rights", about: "messages of root", root: true, weight: ill, find: "DIR/mail/ann/cur: nobody cannot read 2 files in it, ", run: true, first: func(p *patient) {
		p.plant("cur/2.b:2,|x", "cur/3.c'd e:2,|x", "cur/4.d|x")
		os.Chown(p.mail+"/cur/2.b:2,", 0, 0)
		os.Chown(p.mail+"/cur/3.c'd e:2,", 0, 0)
	}},
	{kind: "mail-rights", about: "a file beside the mail", weight: ill, find: "DIR/mail/ann/dovecot-uidlist: ", run: true, first: func(p *patient) { os.Chmod(p.mail+"/dovecot-uidlist", 0o400) }},
	{kind: "mail-rights", about: "in the fs layout, below a folder", weight: ill, find: "DIR/mail/ann/A/B/cur: ", run: true, first: func(p *patient) {
		p.put("roost.toml", p.text("layout = \"fs\"\n"), 0o640)
		p.plant("A/B/cur/", "A/B/new/", "A/B/tmp/", "A/cur/")
		os.Chmod(p.mail+"/A/B/cur", 0o500)
	}},
	{kind: "mail-rights", about: "in the control directory", weight: ill, find: "DIR/control/ann/.INBOX: ", run: true, first: func(p *patient) {
		p.put("roost.toml", p.text("control_dir = \""+p.dir+"/control/%n\"\n"), 0o640)
		os.MkdirAll(p.dir+"/control/ann/.INBOX", 0o700)
		p.own(p.dir + "/control")
		os.Chmod(p.dir+"/control/ann/.INBOX", 0o500)
	}},
	{kind: "mail-readonly", root: true, weight: ill, find: "DIR/mail/ann: the filesystem is mounted read-only", first: func(p *patient) {
		if err := unix.Mount("none", p.mail, "tmpfs", 0, "size=1m"); err != nil {
			p.Skip("no tmpfs can be mounted: ", err)
		}
		p.Cleanup(func() { unix.Unmount(p.mail, unix.MNT_DETACH) })
		p.plant("cur/", "new/", "tmp/")
		if err := unix.Mount("none", p.mail, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			p.Fatal(err)
		}
	}},
	{kind: "disk-full", root: true, weight: ill, find: "1024 KiB are free, less than one message may have (limits.message is 64 MiB)", first: func(p *patient) {
		if err := unix.Mount("none", p.mail, "tmpfs", 0, "size=1m"); err != nil {
			p.Skip("no tmpfs can be mounted: ", err)
		}
		p.Cleanup(func() { unix.Unmount(p.mail, unix.MNT_DETACH) })
		p.own(p.mail)
	}},
	{kind: "disk-full", about: "of inodes", weight: ill, find: "only 5 more files can be made", first: func(p *patient) {
		p.doctor.room = func(string) (uint64, uint64, error) { return 1 << 40, 5, nil }
	}},
	{kind: "mail-unseen", weight: unseen, find: "not all mail was looked at, but that of 1 user of 2", first: func(p *patient) {
		p.put("passwd", healthyUser+strings.Replace(healthyUser, "ann", "ben", 1), 0o640)
		p.doctor.files = budget{left: 3}
	}},
	{kind: "mailbox-unreadable", weight: ill, find: "DIR/mail/ann/cur: mailbox INBOX: not a directory", first: func(p *patient) {
		os.RemoveAll(p.mail + "/cur")
		p.plant("cur|x")
	}},
	{kind: "uidlist-damaged", weight: ailing, find: "DIR/mail/ann/dovecot-uidlist: mailbox INBOX: 1 line proves nothing", first: func(p *patient) { p.plant("dovecot-uidlist|3 V1 N2\nx\n") }},
	{kind: "keywords-damaged", weight: ailing, find: "mailbox INBOX: 1 line is of no use", first: func(p *patient) { p.plant("dovecot-keywords|0 $Junk\nx\n") }},
	{kind: "keywords-lost", weight: ailing, find: "messages have the keywords of the letters a,", first: func(p *patient) { os.Remove(p.mail + "/dovecot-keywords") }},
	{kind: "metadata-damaged", weight: ailing, find: "DIR/mail/ann/roost-metadata: mailbox INBOX: line 2: it does not begin with the name of an entry", first: func(p *patient) { p.plant("roost-metadata|roost-metadata 1\nx\n") }},
	{kind: "subscriptions-damaged", weight: ailing, find: "DIR/mail/ann/subscriptions: 1 line is no name", first: func(p *patient) { p.plant("subscriptions|V\t2\n\n\t\n") }},
	{kind: "state-damaged", weight: ailing, find: "DIR/mail/ann/roost-state: mailbox INBOX: it is damaged", first: func(p *patient) { p.plant("roost-state|x\n") }},
	{kind: "lock-left", weight: ailing, find: "the lock is left over (process ", run: true, first: func(p *patient) {
		gone := exec.Command("true")
		if err := gone.Run(); err != nil {
			p.Fatal(err)
		}
		host, _ := os.Hostname()
		p.plant(fmt.Sprintf("dovecot-uidlist.lock|%d:%s", gone.Process.Pid, host))
	}},
	{kind: "lock-held", weight: ailing, find: "(process 1): ", first: func(p *patient) {
		host, _ := os.Hostname()
		p.plant("dovecot-uidlist.lock|1:" + host)
		p.doctor.now = func() time.Time { return time.Now().Add(time.Hour) }
	}},
	{kind: "index-held", weight: ailing, find: fmt.Sprintf("process %d holds the index of this mailbox: %s", os.Getpid(), testName()), first: func(p *patient) {
		p.plant("roost.lock|")
		f, err := os.Open(p.mail + "/roost.lock")
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			p.Fatal(err)
		}
		p.Cleanup(func() { f.Close() })
	}},
	{kind: "tmp-left", weight: ailing, find: "2 files of deliveries that were never finished", run: true, first: func(p *patient) {
		p.plant("tmp/1.a|x", "tmp/2.b'c|x", "tmp/.keep|x")
		p.doctor.now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	}},
	{kind: "link-refused", weight: ailing, find: "DIR/mail/ann/.Shared: it leads to /nonexistent/team; to have it shown, add \"/nonexistent\" to mail.follow_links", first: func(p *patient) {
		if err := os.Symlink("/nonexistent/team", p.mail+"/.Shared"); err != nil {
			p.Fatal(err)
		}
	}},
	{kind: "odd-files", weight: ailing, find: `1 entry is no message: a link, a directory, or a name with a line end, "x\ny" for one`, first: func(p *patient) { p.plant("new/x\ny|z") }},
	{kind: "inbox-twice", weight: ailing, find: "DIR/mail/ann/.INBOX: its mail is not shown", run: true, first: func(p *patient) { p.plant(".INBOX/cur/1.x|y") }},
	{kind: "mailbox-hidden", weight: ailing, find: "DIR/mail/ann/.A..B: it holds mail", first: func(p *patient) { p.plant(".A..B/cur/1.x|y") }},
	{kind: "no-events", weight: remark, find: "DIR/mail/ann: the filesystem does not tell", first: func(p *patient) { p.doctor.fs = far{fsys.OS} }},
	{kind: "clock-behind", weight: ailing, find: "which is still to come", first: func(p *patient) {
		p.doctor.now = func() time.Time { return time.Now().Add(-time.Hour) }
	}},
	{kind: "inotify-watches", weight: ailing, find: "fs.inotify.max_user_watches: it is 2, and 1 mailbox may need 5, with what user ", run: true, first: func(p *patient) { p.kernel("max_user_watches", 2) }},
	{kind: "inotify-instances", weight: ailing, find: "fs.inotify.max_user_instances: it is 4, and Roost may need 11, with what user ", run: true, first: func(p *patient) { p.kernel("max_user_instances", 4) }},
	{kind: "inotify-queue", weight: ailing, find: "fs.inotify.max_queued_events: it is 1024", run: true, first: func(p *patient) { p.kernel("max_queued_events", 1024) }},
	{kind: "descriptors", serve: true, weight: ailing, find: "there may be 70 descriptors, and 5 connections with 1 mailbox need 76"},
	{kind: "clock-wrong", weight: ill, find: "clock: it says 2020-01-01", run: true, first: func(p *patient) {
		p.put("bin/timedatectl", "#!/bin/sh\ntest \"$*\" = \"set-ntp true\" && touch "+p.dir+"/set\n", 0o755)
		p.doctor.now = func() time.Time {
			if _, err := os.Stat(p.dir + "/set"); err == nil {
				return time.Now()
			}
			return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	}},
	{kind: "isolation-none", weight: remark, find: "version 1, and Roost needs 2", first: func(p *patient) { p.doctor.landlock = func() int { return 1 } }},
	{kind: "isolation-none", weight: ill, about: "but has to", find: "version 0", first: func(p *patient) {
		p.doctor.landlock = func() int { return 0 }
		p.put("roost.toml", p.text("\n[isolation]\nlandlock = \"required\"\n"), 0o640)
	}},
	{kind: "isolation-roots", weight: ailing, find: "set mail.home, or name them in isolation.write", first: func(p *patient) {
		p.put("passwd", "# nobody\n", 0o640)
		p.put("roost.toml", strings.Replace(p.text(""), p.dir+"/mail/%n", "~/Maildir", 1), 0o640)
	}},
	{kind: "clock-unsynced", weight: remark, find: "nothing keeps it right", first: func(p *patient) { p.doctor.synced = func() bool { return false } }},
}

// kernel gives the doctor a /proc of his own with one small limit, and a process of the
// mail's user that watches two directories. `sysctl` changes the limit.
func (p *patient) kernel(limit string, value int) {
	p.Helper()
	p.doctor.proc = filepath.Join(p.dir, "proc")
	for name, n := range map[string]int{"max_user_watches": 1 << 20, "max_user_instances": 128, "max_queued_events": 16384, limit: value} {
		if name != limit || n == value {
			p.put("proc/sys/fs/inotify/"+name, strconv.Itoa(n)+"\n", 0o644)
		}
	}
	p.put("proc/sys/fs/inotify/"+limit, strconv.Itoa(value)+"\n", 0o644)
	p.put("proc/77/fdinfo/5", "pos:\t0\ninotify wd:1 ino:2\ninotify wd:2 ino:3\n", 0o644)
	if err := errors.Join(os.Mkdir(p.doctor.proc+"/77/fd", 0o755), os.Symlink("anon_inode:inotify", p.doctor.proc+"/77/fd/5"), os.Symlink("socket:[1]", p.doctor.proc+"/77/fd/6")); err != nil {
		p.Fatal(err)
	}
	p.own(p.doctor.proc + "/77")
	p.put("bin/sysctl", `#!/bin/sh
test "$1" = -w && name=${2%%=*} && test -f "$PROC/sys/$(echo "$name" | tr . /)" && echo "${2#*=}" >"$PROC/sys/$(echo "$name" | tr . /)"
`, 0o755)
}

// occupy lets another process listen on a port.
func (p *patient) occupy(port int) {
	p.Helper()
	self, err := os.Executable()
	if err != nil {
		p.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=127.0.0.1:%d", asListener, port))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.Fatal(err)
	}
	gone := make(chan struct{})
	p.ended = gone
	go func() { // ends with the process; it must not stay behind as a zombie that holds nothing
		cmd.Wait()
		close(gone)
	}()
	p.Cleanup(func() {
		cmd.Process.Kill()
		<-gone
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens
		p.Fatal(err)
	}
}

func TestDoctorFinds(t *testing.T) {
	provoked := map[string]bool{}
	for _, a := range ailments {
		provoked[a.kind] = true
		t.Run(strings.TrimSpace(a.kind+" "+a.about), func(t *testing.T) {
			if a.root && os.Getuid() != 0 {
				t.Skip("needs root: what is another user's cannot be provoked")
			}
			p := newPatient(t)
			if a.first != nil {
				a.first(p)
			}
			if a.serve {
				limit := ""
				if a.kind == "descriptors" {
					limit = "ulimit -n 70"
				}
				p.serve(limit)
			}
			if a.then != nil {
				a.then(p)
			}
			found := p.examine(a.kind)
			if want := max(a.n, 1); a.n < 0 && len(found) == 0 {
				return
			} else if len(found) != want {
				t.Fatalf("%d findings, want %d; all: %+v", len(found), want, p.doctor.found)
			}
			f := found[0]
			partly := a.kind == "hash-weak" && a.about == "" // each user needs a new password: the command is for the first
			if line := f.line(); !strings.Contains(line, strings.ReplaceAll(a.find, "DIR", p.dir)) || f.Weight != a.weight || (f.Run != "") != (a.run || partly) {
				t.Errorf("%s: %s", f.Weight, line)
			}
			if f.What == "" || !a.run && f.Do == "" && a.kind != "config" && a.kind != "mail-place" && a.kind != "passwd-line" && f.Weight != remark {
				t.Errorf("it does not say what to do: %+v", f)
			}
			if !a.run {
				return
			}
			for _, f := range found {
				p.sh(f.Run)
			}
			if a.settle != "" {
				p.wait(a.settle)
			}
			if p.ended != nil {
				<-p.ended // a killed process keeps its sockets for a moment
			}
			if left := p.examine(a.kind); len(left) > 0 {
				t.Errorf("%s\nmends nothing: %s", f.Run, left[0].line())
			}
		})
	}
	for _, k := range kinds {
		if !provoked[k.name] {
			t.Errorf("nothing provokes %s", k.name)
		}
	}
}

// The verb: its exit codes, what it prints, and JSON.
func TestDoctorVerb(t *testing.T) {
	p := newPatient(t)
	p.put("roost.toml", p.text("\n[log]\nlevel = 7\ncolour = 1\n"), 0o640)
	code, stdout, stderr := roost(t, "doctor", "--config", p.conf)
	if code != exitUsage || strings.Count(stdout, "error  config  "+p.conf+":") != 2 || !strings.Contains(stderr, "nothing else was looked at") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := roost(t, "doctor", "--config", p.dir+"/none"); code != exitUsage || !strings.Contains(stderr, "no such file") {
		t.Errorf("%d\n%s", code, stderr)
	}
	p.put("roost.toml", p.text(""), 0o640)
	for i := range 15 {
		p.plant(fmt.Sprintf(".F%d/dovecot-uidlist|x\n", i))
	}
	code, stdout, stderr = roost(t, "doctor", "--config", p.conf)
	if code != exitFailed || strings.Count(stdout, "uidlist-damaged") != 11 || !strings.Contains(stdout, "and 5 more of uidlist-damaged: --all") || !strings.Contains(stderr, "warnings") ||
		!strings.HasPrefix(stdout, "error") || !strings.Contains(stdout, "looked at 1 user, 16 mailboxes, 1 message\n") || strings.Contains(stdout, "all is well") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if _, stdout, _ := roost(t, "doctor", "--all", "--config", p.conf); strings.Count(stdout, "uidlist-damaged") != 15 {
		t.Errorf("--all:\n%s", stdout)
	}
	code, stdout, _ = roost(t, "doctor", "--json", "--config", p.conf, "ann")
	var report struct {
		Version, Config            string
		Users, Mailboxes, Messages int
		Findings                   []struct{ Severity, Kind, User, Where, What, Do, Run string }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFailed || report.Users != 1 || report.Mailboxes != 16 || report.Config != p.conf || report.Version != version ||
		len(report.Findings) < 16 || report.Findings[0].Severity != ill || report.Findings[0].What == "" {
		t.Errorf("%d, %v\n%s", code, err, stdout)
	}
	if code, _, stderr := roost(t, "doctor", "--files", "x"); code != exitUsage {
		t.Errorf("%d\n%s", code, stderr)
	}
}

// A doctor who is neither root nor the mail's user says what he could not look at.
func TestDoctorWhoMayNotLook(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	p := newPatient(t)
	p.put("roost.toml", p.text(""), 0o644)
	p.serve("")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.bin+"/self", b, 0o755); err != nil {
		t.Fatal(err)
	}
	as := func(uid, gid int) (int, string) {
		t.Helper()
		cmd := exec.Command(p.bin+"/self", "doctor", "--config", p.conf)
		cmd.Dir = "/"
		roots := filepath.Join(p.dir, "roots.pem")
		os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.authority.cert.Raw}), 0o644)
		cmd.Env = append(os.Environ(), asProgram+"=1", "SSL_CERT_FILE="+roots, "SSL_CERT_DIR=/nonexistent")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	// The mail's own user sees all that matters.
	if code, out := as(p.uid, p.gid); code != exitDone && code != exitPartly || strings.Contains(out, "error ") || !strings.Contains(out, "looked at 1 user, 1 mailbox, 1 message") {
		t.Errorf("the mail's user: %d\n%s", code, out)
	}
	code, out := as(5001, 5001)
	for _, want := range []string{"server-unseen", "mail-unseen", "may not be read by user", "the users are not known", "run this as root", "looked at 0 users"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in it: %d\n%s", want, code, out)
		}
	}
	if code != exitPartly {
		t.Errorf("%d\n%s", code, out)
	}
	for _, file := range []string{"passwd", "cert.pem", "cert.key"} {
		os.Chown(filepath.Join(p.dir, file), p.uid, 5001)
	}
	if code, out = as(5001, 5001); code != exitPartly || !strings.Contains(out, "the mail belongs to nobody, and 5001 cannot say") {
		t.Errorf("%d\n%s", code, out)
	}
}

// With the rights of another user only one goroutine looks.
func TestAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var inside, readErr error
	if err := asUser(65534, 65534, []int{65534}, func() {
		inside = may(path, unix.R_OK)
		_, readErr = os.ReadFile(path)
	}); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(inside, fs.ErrPermission) || !errors.Is(readErr, fs.ErrPermission) {
		t.Errorf("inside: %v, %v", inside, readErr)
	}
	for range 100 { // no thread is left with those rights
		done := make(chan error)
		go func() { done <- may(path, unix.R_OK|unix.W_OK) }()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestShellWord(t *testing.T) {
	for _, s := range []string{"", "a b", "it's", "$HOME", "x;y", "näh", "a\nb", "/var/vmail/%n"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellWord(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q: %q, %v", s, out, err)
		}
	}
}
