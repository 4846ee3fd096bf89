package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// GNU SASL logs in by each mechanism of its own making, and not with a wrong password; by
// -PLUS bound to the TLS connection.
func TestGsasl(t *testing.T) {
	prog := need(t, "gsasl", "gsasl")
	neighbour.Compat(t, "client", "GNU SASL", version("gsasl"), "PLAIN, LOGIN, SCRAM-SHA-1, SCRAM-SHA-256 and their -PLUS forms")
	h := newHouse(t)
	r := h.serve(t)
	try := func(mech, password string) (string, error) {
		args := []string{"--imap", "--verbose", "--connect", r.STARTTLSAddr, "--x509-ca-file", r.CertFile, "--hostname", "localhost",
			"--mechanism", mech, "--authentication-id", "ann@example.org", "--authorization-id", "ann@example.org", "--password", password}
		if !strings.HasSuffix(mech, "-PLUS") {
			args = append(args, "--no-cb")
		}
		out, err := exec.Command(prog, args...).CombinedOutput()
		return string(out), err
	}
	for _, mech := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"} {
		out, err := try(mech, password)
		if err != nil || !logged(r, "event=login user=ann@example.org login=ann@example.org method="+mech+" ") {
			t.Errorf("%s: %v\n%s", mech, err, out)
		}
	}
	if out, err := try("SCRAM-SHA-256-PLUS", "wrong"); err == nil || !strings.Contains(out, "NO [AUTHENTICATIONFAILED]") {
		t.Errorf("with a wrong password: %v\n%s", err, out)
	}
	if !logged(r, `event=login_refused user=ann@example.org method=SCRAM-SHA-256-PLUS reason="wrong password"`) {
		t.Error("the log does not say that the password was wrong")
	}
}

// GNU SASL and curl open a user's mail with an admin's password.
func TestMasterUser(t *testing.T) {
	gsasl, curl := need(t, "gsasl", "gsasl"), need(t, "curl", "curl")
	h := newHouse(t)
	masters := filepath.Join(h.dir, "masters")
	if err := os.WriteFile(masters, []byte("root:{PLAIN}master\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.auth = "master_file = \"" + masters + "\""
	r := h.serve(t)
	out, err := exec.Command(gsasl, "--imap", "--verbose", "--connect", r.STARTTLSAddr, "--x509-ca-file", r.CertFile, "--hostname", "localhost", "--no-cb",
		"--mechanism", "PLAIN", "--authentication-id", "root", "--authorization-id", "ann@example.org", "--password", "master").CombinedOutput()
	if err != nil {
		t.Errorf("by authorization identity: %v\n%s", err, out)
	}
	for password, ok := range map[string]bool{"master": true, password: false} {
		out, err := exec.Command(curl, "-sS", "--cacert", r.CertFile, "imaps://"+r.Addr+"/", "--user", "ann@example.org*root:"+password, "--login-options", "AUTH=PLAIN").CombinedOutput()
		if (err == nil && strings.Contains(string(out), `"/" INBOX`)) != ok {
			t.Errorf("by name with %q: %v\n%s", password, err, out)
		}
	}
	if !loggedTimes(r, "event=login user=ann@example.org login=root method=PLAIN", 2) {
		t.Error("the log has not two logins with both names")
	}
}

// logged waits for a line of the server's log, which comes through a pipe.
func logged(r *neighbour.Roost, want string) bool { return loggedTimes(r, want, 1) }

func loggedTimes(r *neighbour.Roost, want string, n int) bool {
	for deadline := time.Now().Add(patience); strings.Count(r.Log(), want) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// curl and OpenSSL log in by a certificate that names the user.
func TestClientCertificate(t *testing.T) {
	curl := need(t, "curl", "curl")
	h := newHouse(t)
	dir := filepath.Join(h.dir, "clients")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := clientCertificate(t, dir, "ann@example.org")
	h.extra = "[auth.certificate]\nca = \"" + filepath.Join(dir, "ca.pem") + "\"\n"
	r := h.serve(t)
	list := func(args ...string) (string, error) {
		out, err := exec.Command(curl, append([]string{"-sS", "-v", "--cacert", r.CertFile, "imaps://" + r.Addr + "/"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := list("--cert", cert, "--key", key, "--user", "ann@example.org:", "--login-options", "AUTH=EXTERNAL"); err != nil || !strings.Contains(out, `"/" INBOX`) {
		t.Errorf("with a certificate: %v\n%s", err, out)
	}
	if !logged(r, "method=EXTERNAL") {
		t.Error("the log has no login by EXTERNAL")
	}
	if out, err := list("--user", "ann@example.org:", "--login-options", "AUTH=EXTERNAL"); err == nil || strings.Contains(out, "AUTH=EXTERNAL ") {
		t.Errorf("without a certificate: %v\n%s", err, out)
	}
	if out, err := list("--cert", cert, "--key", key, "--user", "bob@example.org:"+password); err != nil || !strings.Contains(out, `"/" INBOX`) {
		t.Errorf("by password beside a certificate: %v\n%s", err, out)
	}
}

// clientCertificate makes an authority in dir/ca.pem and a certificate by it.
func clientCertificate(t *testing.T, dir, user string) (cert, key string) {
	t.Helper()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	make := func(tmpl, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = k
		}
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return k, der
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, caDER := make(ca, ca, nil)
	write("ca.pem", "CERTIFICATE", caDER)
	leafKey, leafDER := make(&x509.Certificate{SerialNumber: big.NewInt(2), EmailAddresses: []string{user}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, caKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("client.pem", "CERTIFICATE", leafDER), write("client.key", "PRIVATE KEY", keyDER)
}
