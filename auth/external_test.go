package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}

// expired is a context that has ended.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// authority issues certificates.
type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{1, 2, 3},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, serial: 1}
}

func (ca *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

func (ca *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
}

// issue makes a certificate for a host and a client; change may alter it before.
func (ca *authority) issue(t *testing.T, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	ca.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// revoke writes a list of what is revoked.
func (ca *authority) revoke(t *testing.T, path string, until time.Time, certs ...tls.Certificate) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// enter logs in by the certificate that the client shows.
func enter(t *testing.T, a *Auth, at Attempt, response string) (User, error) {
	t.Helper()
	ex, err := a.Start("external", at)
	if err != nil {
		return User{}, err
	}
	if out, done, err := ex.Next(t.Context(), nil); len(out) > 0 || done || err != nil {
		t.Fatalf("without an initial response: %q, %v, %v", out, done, err)
	}
	_, done, err := ex.Next(t.Context(), []byte(response))
	if done != (err == nil) {
		t.Errorf("done %v with %v", done, err)
	}
	return ex.User(), err
}

// A client's certificate lets in whom it names, while its authority stands by it.
func TestExternal(t *testing.T) { synctest.Test(t, externalLogins) }

func externalLogins(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "mail.example.org", nil)}, ClientAuth: tls.RequestClientCert}
	mail := func(addrs ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.EmailAddresses = addrs }
	}
	shown := func(cert tls.Certificate) Attempt {
		at, _ := channel(t, server, &tls.Config{RootCAs: ca.pool(), ServerName: "mail.example.org", Certificates: []tls.Certificate{cert}})
		return at
	}
	ann := ca.issue(t, "Ann", mail("ann@example.org"))
	lost := ca.issue(t, "Ann", mail("ann@example.org"))
	crl := filepath.Join(dir, "crl.pem")
	ca.revoke(t, crl, time.Now().Add(time.Hour), lost)
	users := writeFile(t, "ann@example.org:{PLAIN}x\nonly-certs@example.org:\noff@example.org:!{PLAIN}x\nann:{PLAIN}x\nnets@example.org:{PLAIN}x::::::allow_nets=10.0.0.0/8\nroot@example.org::0\n")
	open := func(user, mapping string) *Auth {
		opt := ClientCertOptions{CA: write("ca.pem", "text before\n"+ca.pem()), CRL: crl, User: user}
		if mapping != "" {
			opt.Map = write("map", mapping)
		}
		certs, err := OpenClientCertificates(opt)
		if err != nil {
			t.Fatal(err)
		}
		return newTestAuth(t, Options{File: users, Certificates: certs, Trusted: everywhere, Log: nil})
	}
	byMail := open("email", "")
	byName := open("cn", "")
	byMap := open("map", fmt.Sprintf("# phones\n\n%X ann # hers\n", sha256.Sum256(ann.Certificate[0])))
	for _, c := range []struct {
		what   string
		a      *Auth
		cert   tls.Certificate
		as     string
		want   error
		reason string
	}{
		{"mail address", byMail, ann, "", nil, "ann@example.org"},
		{"as herself", byMail, ann, "ann@example.org", nil, "ann@example.org"},
		{"as somebody else", byMail, ann, "ben@example.org", ErrUnauthorized, "wants to act"},
		{"two addresses", byMail, ca.issue(t, "x", mail("ann@example.org", "b@example.org")), "", ErrDenied, "names 2 mail addresses"},
		{"no address", byMail, ca.issue(t, "x", nil), "", ErrDenied, "names 0 mail addresses"},
		{"revoked", byMail, lost, "", ErrDenied, "was revoked"},
		{"of another authority", byMail, stranger.issue(t, "x", mail("ann@example.org")), "", ErrDenied, "unknown authority"},
		{"past", byMail, ca.issue(t, "x", func(c *x509.Certificate) { mail("ann@example.org")(c); c.NotAfter = time.Now().Add(-time.Minute) }), "", ErrDenied, "expired"},
		{"of a server", byMail, ca.issue(t, "x", func(c *x509.Certificate) { mail("ann@example.org")(c); c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "", ErrDenied, "usage"},
		{"unknown user", byMail, ca.issue(t, "x", mail("zoe@example.org")), "", ErrDenied, "unknown user"},
		{"user without password", byMail, ca.issue(t, "x", mail("only-certs@example.org")), "", nil, "only-certs@example.org"},
		{"user that is off", byMail, ca.issue(t, "x", mail("off@example.org")), "", ErrDenied, "disabled"},
		{"uid 0", byMail, ca.issue(t, "x", mail("root@example.org")), "", ErrDenied, "has no password"},
		{"from elsewhere", byMail, ca.issue(t, "x", mail("nets@example.org")), "", ErrDenied, "allow_nets"},
		{"common name", byName, ca.issue(t, "ann", nil), "", nil, "ann"},
		{"path", byName, ca.issue(t, "../ann", nil), "", ErrDenied, "user names"},
		{"fingerprint", byMap, ann, "", nil, "ann"},
		{"no line", byMap, lost, "", ErrDenied, "was revoked"},
		{"no line", byMap, ca.issue(t, "ann", nil), "", ErrDenied, "has no line"},
	} {
		at := shown(c.cert)
		u, err := enter(t, c.a, at, c.as)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
			continue
		}
		var r *Refusal
		switch {
		case err == nil && u.Name != c.reason:
			t.Errorf("%s: is %q", c.what, u.Name)
		case errors.As(err, &r) && !strings.Contains(r.Reason, c.reason):
			t.Errorf("%s: the log has %q", c.what, r.Reason)
		}
		// A certificate that names nobody is not offered as a way in, but the log tells why it is none.
		if names := slices.Contains(c.a.Mechanisms(at), "EXTERNAL"); names != (c.want == nil || strings.Contains("unknown user|as somebody else|user that is off|uid 0|from elsewhere|path", c.what)) {
			t.Errorf("%s: offered %v", c.what, names)
		}
	}
	if _, err := enter(t, byMail, shown(tls.Certificate{}), ""); !errors.Is(err, ErrMechanism) {
		t.Errorf("without a certificate: %v", err)
	}
	if _, err := byMail.Login(t.Context(), "only-certs@example.org", "", home); !errors.Is(err, ErrDenied) {
		t.Errorf("a user without password logs in by password: %v", err)
	}

	// Files that change count at once; a list that is out of date or damaged lets nobody in.
	at := shown(ann)
	for _, c := range []struct {
		change func()
		reason string
	}{
		{func() { ca.revoke(t, crl, time.Now().Add(time.Hour), lost, ann) }, "was revoked"},
		{func() { ca.revoke(t, crl, time.Now().Add(time.Hour)) }, ""},
		{func() { ca.revoke(t, crl, time.Now().Add(-time.Minute)) }, "out of date"},
		{func() { stranger.revoke(t, crl, time.Now().Add(time.Hour)) }, "signed by no authority"},
		{func() { write("crl.pem", "nothing") }, "no PEM block"},
		{func() { os.Remove(crl) }, "no such file"},
	} {
		c.change()
		_, err := enter(t, byMail, at, "")
		var r *Refusal
		if errors.As(err, &r); (err == nil) != (c.reason == "") || r != nil && !strings.Contains(r.Reason, c.reason) {
			t.Errorf("want %q: %v, %+v", c.reason, err, r)
		}
	}
}

func TestClientCertificatesRefuseBadFiles(t *testing.T) {
	ca := newAuthority(t)
	good := writeFile(t, ca.pem())
	for want, opt := range map[string]ClientCertOptions{
		"no such file":         {CA: "/nonexistent/ca.pem"},
		"no PEM block":         {CA: writeFile(t, "nothing")},
		"malformed":            {CA: writeFile(t, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
		":2: a line is the SH": {CA: good, User: "map", Map: writeFile(t, "# x\nabc ann\n")},
	} {
		if _, err := OpenClientCertificates(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
