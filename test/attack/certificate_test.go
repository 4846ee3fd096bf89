package attack

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// authority issues and revokes client certificates.
type authority struct {
	t      *testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T) *authority {
	ca := &authority{t: t, serial: 1}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte{1, 2, 3},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, ca.key.Public(), ca.key)
	if err == nil {
		ca.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (ca *authority) issue(user string) tls.Certificate {
	ca.t.Helper()
	ca.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial), Subject: pkix.Name{CommonName: user}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// put writes a PEM file in one step, as the mail user's.
func (ca *authority) put(path, kind string, der []byte) {
	ca.t.Helper()
	tmp := path + ".new"
	err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	if err == nil {
		err = neighbour.Own(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		ca.t.Fatal(err)
	}
}

func (ca *authority) revoke(path string, number int64, certs ...tls.Certificate) {
	ca.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.put(path, "X509 CRL", der)
}

// A certificate lets in whom it names, until its authority has revoked it, without a restart.
// One of another authority lets nobody in.
func TestRevokedCertificate(t *testing.T) {
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	ca, other := newAuthority(t), newAuthority(t)
	ann, bea, stranger := ca.issue("ann"), ca.issue("bea"), other.issue("ann")
	crl := filepath.Join(dir, "crl.pem")
	ca.put(filepath.Join(dir, "ca.pem"), "CERTIFICATE", ca.cert.Raw)
	ca.revoke(crl, 1)
	if err := neighbour.Own(dir); err != nil {
		t.Fatal(err)
	}
	s := serve(t, fmt.Sprintf("[auth.certificate]\nca = %q\ncrl = %q\nuser = \"cn\"", filepath.Join(dir, "ca.pem"), crl), nil)
	enter := func(cert tls.Certificate, response string) string {
		t.Helper()
		conn, err := tls.Dial("tcp", s.Addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		if err != nil {
			return "handshake: " + err.Error()
		}
		c := over(t, conn)
		c.r = bufio.NewReader(conn)
		defer c.close()
		if c.line() == "" {
			return "no greeting"
		}
		_, answer := c.do("AUTHENTICATE EXTERNAL " + response)
		return answer
	}
	if got := enter(ann, "="); !strings.HasPrefix(got, "OK") {
		t.Fatalf("ann: %q", got)
	}
	for _, got := range []string{enter(stranger, "="), enter(ann, b64("bea"))} {
		if strings.HasPrefix(got, "OK") {
			t.Errorf("another authority's, or for another user: %q", got)
		}
	}
	ca.revoke(crl, 2, ann)
	for deadline := time.Now().Add(patience); ; {
		got := enter(ann, "=")
		if !strings.HasPrefix(got, "OK") {
			t.Logf("revoked: %q", got)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the revoked certificate lets in for ever")
		}
		time.Sleep(20 * time.Millisecond) // the file is looked at when it changes
	}
	if got := enter(bea, "="); !strings.HasPrefix(got, "OK") {
		t.Errorf("bea: %q", got)
	}
}
