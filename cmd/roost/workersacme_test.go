package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/test/neighbour"
)

// acmeUID is whom the process that asks for certificates becomes.
const acmeUID = 60003

// A server of several processes gets its certificate from an authority by one that has
// nothing else; the one that speaks with clients shows it, also after either of them was
// started anew.
func TestWorkersACME(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: processes become other users")
	}
	ca, err := neighbour.StartPebble(t.TempDir(), 7776000)
	if missing := (neighbour.Missing{}); errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			t.Logf("the authority's log:\n%s", ca.Log())
		}
	})
	s := startWorkers(t, fmt.Sprintf("acme_user = \"%d\"\n[tls.acme]\nnames = [\"imap.example.net\"]\nagree = true\nlisten = \"127.0.0.1:%d\"\ndirectory = %q\nroots = %q\n",
		acmeUID, ca.HTTPPort, ca.Directory, ca.Roots))
	shown := func() *tls.ConnectionState {
		t.Helper()
		// Until it has one the handshake fails: there is no event to wait for but its success.
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: "imap.example.net", InsecureSkipVerify: true})
			if err == nil {
				state := c.ConnectionState()
				c.Close()
				return &state
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	first := shown().PeerCertificates[0]
	if err := first.VerifyHostname("imap.example.net"); err != nil || !strings.HasPrefix(first.Issuer.CommonName, "Pebble") {
		t.Errorf("%v by %q", err, first.Issuer.CommonName)
	}
	if name := s.dialAs("localhost").ConnectionState().PeerCertificates[0].Subject.CommonName; name != "one" {
		t.Errorf("for localhost it shows %q", name)
	}
	k := s.dialAs("imap.example.net")
	k.say("a LOGIN ann s3cretword\r\n", "a OK")

	// Who is who, and has what.
	list := s.processes()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", list["issuer"]))
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", acmeUID), "NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n"} {
		if err != nil || !strings.Contains(string(status), want) {
			t.Errorf("no %q in %v\n%s", want, err, status)
		}
	}
	keys, _ := filepath.Glob(filepath.Join(s.dir, "state/acme/certificates/*/*/*.key"))
	if len(keys) != 1 {
		t.Fatal(keys)
	}
	for path, uid := range map[string]int{"state": authUID, "state/acme": acmeUID, strings.TrimPrefix(keys[0], s.dir+"/"): acmeUID} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(s.dir, path), &st); err != nil || int(st.Uid) != uid || st.Mode&0o077 != 0 {
			t.Errorf("%s: %v, uid %d, mode %o", path, err, st.Uid, st.Mode)
		}
	}

	// Each of the two may end; nothing is asked for again, and what is up goes on.
	orders := strings.Count(ca.Log(), "/order-plz")
	syscall.Kill(list["issuer"], syscall.SIGKILL)
	s.wait("event=isolation_died role=issuer")
	k.say("b NOOP\r\n", "b OK")
	if again := shown().PeerCertificates[0]; again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("another certificate")
	}
	s.mu.Lock()
	s.lines = nil
	s.mu.Unlock()
	syscall.Kill(list["front"], syscall.SIGKILL)
	s.wait("event=isolation_died role=front")
	s.wait("event=tls_issued")
	if again := shown().PeerCertificates[0]; again.SerialNumber.Cmp(first.SerialNumber) != 0 || strings.Count(ca.Log(), "/order-plz") != orders {
		t.Error("another certificate")
	}
	s.signal(syscall.SIGTERM)
	<-s.done
	if s.err != nil {
		t.Error(s.err)
	}
}

// Keys are not put where another can read them: the state directory is the desk's, which
// could leave a directory of its own there for the next start.
func TestWorkersACMEInADirectoryOfAnother(t *testing.T) {
	for _, tt := range []struct {
		uid  int
		mode os.FileMode
	}{{authUID, 0o777}, {acmeUID, 0o755}} {
		s := startWorkers(t, "")
		dir := filepath.Join(s.dir, "state/acme")
		for _, err := range []error{os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "left"), nil, 0o600), os.Chown(dir, tt.uid, tt.uid), os.Chmod(dir, tt.mode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		conf, err := os.ReadFile(s.conf)
		if err != nil {
			t.Fatal(err)
		}
		s.restart(strings.Replace(string(conf), "[isolation]", fmt.Sprintf("[tls.acme]\nnames = [\"imap.example.net\"]\nagree = true\nlisten = \"127.0.0.1:0\"\n"+
			"directory = \"https://127.0.0.1:1/dir\"\n[isolation]\nacme_user = \"%d\"", acmeUID), 1))
		if line := s.wait("event=acme_failed"); !strings.Contains(line, fmt.Sprintf("it belongs to uid %d and has mode %04o", tt.uid, tt.mode)) || !strings.Contains(line, "chown -R 60003 ") {
			t.Error(line)
		}
		s.dial().say("a LOGIN ann s3cretword\r\n", "a OK")
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
	}
}
