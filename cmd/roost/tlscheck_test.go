package main

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
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// shop is a server that can do some things wrong.
type shop struct {
	tls      *tls.Config
	startTLS bool
	clear    string // capabilities before TLS
	greeting string
}

// open serves until the test ends.
func (s *shop) open(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(nc)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func (s *shop) serve(nc net.Conn) {
	defer nc.Close()
	conn, offers := nc, s.clear
	encrypt := func() bool {
		c := tls.Server(nc, s.tls)
		conn, offers = c, "IMAP4rev1 AUTH=PLAIN"
		return c.Handshake() == nil
	}
	if !s.startTLS && !encrypt() {
		return
	}
	fmt.Fprintf(conn, "%s\r\n", s.greeting)
	r := bufio.NewReader(conn)
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.TrimSpace(l) {
		case "t CAPABILITY":
			fmt.Fprintf(conn, "* CAPABILITY %s\r\nt OK done\r\n", offers)
		case "t STARTTLS":
			if fmt.Fprint(conn, "t OK go\r\n"); !encrypt() {
				return
			}
			r = bufio.NewReader(conn)
		case "t LOGOUT":
			fmt.Fprint(conn, "* BYE\r\nt OK done\r\n")
			return
		}
	}
}

// shopCertificate makes one for a host, and the file of who vouches for it.
func shopCertificate(t *testing.T, host string, until time.Time) (cert tls.Certificate, roots string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: until.Add(-100 * 24 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// What a client would see is told, and what it would stumble over makes the verb fail.
func TestTLSCheck(t *testing.T) {
	good, roots := shopCertificate(t, "mail.example.org", time.Now().Add(60*24*time.Hour))
	late, lateRoots := shopCertificate(t, "mail.example.org", time.Now().Add(3*24*time.Hour))
	over, overRoots := shopCertificate(t, "mail.example.org", time.Now().Add(-24*time.Hour))
	weak := tls.InsecureCipherSuites()
	ids := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	for _, s := range append(tls.CipherSuites(), weak...) {
		ids = append(ids, s.ID)
	}
	for name, c := range map[string]struct {
		shop  shop
		roots string
		name  string
		code  int
		want  []string
	}{
		"all is well": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"imap"}, MinVersion: tls.VersionTLS12}, greeting: "* OK hello"}, roots, "mail.example.org", 0,
			[]string{"TLS 1.3", "ALPN imap", "takes          TLS 1.2, TLS 1.3; refuses TLS 1.0, TLS 1.1", "resumption     true", "trusted        for mail.example.org", "offers         IMAP4rev1 AUTH=PLAIN"}},
		"STARTTLS": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequestClientCert}, greeting: "* OK hello", startTLS: true, clear: "IMAP4rev1 LOGINDISABLED"}, roots, "mail.example.org", 0,
			[]string{"STARTTLS, as mail.example.org", "no ALPN", "in the clear   IMAP4rev1 LOGINDISABLED", "asks           for a client's certificate"}},
		"passwords in the clear": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}}, greeting: "* OK hello", startTLS: true, clear: "IMAP4rev1 AUTH=PLAIN"}, roots, "mail.example.org", 1,
			[]string{"FAULT          it offers AUTH=PLAIN before TLS"}},
		"old TLS": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, CipherSuites: ids}, greeting: "* OK hello"}, roots, "mail.example.org", 1,
			[]string{"FAULT          it takes TLS 1.0", "FAULT          it takes TLS 1.1"}},
		"ends soon": {shop{tls: &tls.Config{Certificates: []tls.Certificate{late}}, greeting: "* OK hello"}, lateRoots, "mail.example.org", 0, []string{"soon           the certificate ends on"}},
		"ended":     {shop{tls: &tls.Config{Certificates: []tls.Certificate{over}}, greeting: "* OK hello"}, overRoots, "mail.example.org", 1, []string{"FAULT          the certificate ended on"}},
		"another name": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}}, greeting: "* OK hello"}, roots, "imap.example.net", 1,
			[]string{"FAULT          the certificate is for mail.example.org, and clients that use imap.example.net refuse it"}},
		"a stranger's": {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}}, greeting: "* OK hello"}, lateRoots, "mail.example.org", 1, []string{"FAULT          this machine does not trust it"}},
		"no IMAP":      {shop{tls: &tls.Config{Certificates: []tls.Certificate{good}}, greeting: "220 hello"}, roots, "mail.example.org", 1, []string{`FAULT          it greets with "220 hello"`}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"tls", "check", "--roots", c.roots, "--name", c.name}
			if c.shop.startTLS {
				args = append(args, "--starttls")
			}
			code, stdout, stderr := roost(t, append(args, c.shop.open(t))...)
			if code != c.code || (code == 0) != (stderr == "") || strings.Count(stdout, "FAULT") > 0 != (code != 0) {
				t.Errorf("exit %d, want %d\n%s%s", code, c.code, stdout, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("it does not say %q:\n%s", want, stdout)
				}
			}
		})
	}
	port, err := neighbour.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := roost(t, "tls", "check", fmt.Sprintf("127.0.0.1:%d", port)); code != 1 || !strings.Contains(stdout, "refused") {
		t.Errorf("nobody listens: exit %d\n%s", code, stdout)
	}
}
