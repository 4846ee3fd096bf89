package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a fresh certificate for names with its key, and gives its leaf.
func writePair(t testing.TB, cert, key string, names ...string) []byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     names,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: serial}, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	return der
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake gives what a client is shown.
func shake(t testing.TB, server *tls.Config, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(b, server).Handshake() // ends with the pipe
	client.InsecureSkipVerify = true
	c := tls.Client(a, client)
	err := c.Handshake()
	return c.ConnectionState(), err
}

func leafOf(t testing.TB, server *tls.Config, name string) []byte {
	t.Helper()
	state, err := shake(t, server, &tls.Config{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].Raw
}

// openWatched opens certificates; reloaded waits for what the watch brings about.
func openWatched(t *testing.T, pairs ...KeyPair) (c *Certificates, log *bytes.Buffer, reloaded func()) {
	t.Helper()
	log = &bytes.Buffer{}
	done := make(chan struct{}, 100)
	c, err := openCertificates(CertOptions{Pairs: pairs, Min: tls.VersionTLS12}, slog.New(slog.NewTextHandler(log, nil)), func() { done <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	if c.watcher == nil {
		t.Fatal("no inotify instance was to be had; see fs.inotify.max_user_instances")
	}
	t.Cleanup(func() { c.Close() })
	return c, log, func() { <-done }
}

// Certificates change in the ways that certbot, lego and Kubernetes change them,
// and a damaged new one leaves the old one in force.
func TestCertificatesSwap(t *testing.T) {
	link := func(t *testing.T, target, name string) {
		if err := os.Symlink(target, name+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		pair func(dir string) KeyPair
		lay  func(t *testing.T, dir string, n string) []byte
	}{
		{"written in place", func(dir string) KeyPair { return KeyPair{dir + "/cert.pem", dir + "/key.pem"} },
			func(t *testing.T, dir, n string) []byte {
				return writePair(t, dir+"/cert.pem", dir+"/key.pem", n)
			}},
		{"renamed over", func(dir string) KeyPair { return KeyPair{dir + "/cert.pem", dir + "/key.pem"} },
			func(t *testing.T, dir, n string) []byte {
				leaf := writePair(t, dir+"/c.tmp", dir+"/k.tmp", n)
				for from, to := range map[string]string{"/c.tmp": "/cert.pem", "/k.tmp": "/key.pem"} {
					if err := os.Rename(dir+from, dir+to); err != nil {
						t.Fatal(err)
					}
				}
				return leaf
			}},
		{"links of certbot", func(dir string) KeyPair {
			return KeyPair{dir + "/live/x/fullchain.pem", dir + "/live/x/privkey.pem"}
		},
			func(t *testing.T, dir, n string) []byte {
				leaf := writePair(t, dir+"/archive/x/fullchain"+n+".pem", dir+"/archive/x/privkey"+n+".pem", n)
				if err := os.MkdirAll(dir+"/live/x", 0o700); err != nil {
					t.Fatal(err)
				}
				link(t, "../../archive/x/fullchain"+n+".pem", dir+"/live/x/fullchain.pem")
				link(t, "../../archive/x/privkey"+n+".pem", dir+"/live/x/privkey.pem")
				return leaf
			}},
		{"link of a directory", func(dir string) KeyPair { return KeyPair{dir + "/now/cert.pem", dir + "/now/key.pem"} },
			func(t *testing.T, dir, n string) []byte {
				leaf := writePair(t, dir+"/v"+n+"/cert.pem", dir+"/v"+n+"/key.pem", n)
				link(t, "v"+n, dir+"/now")
				return leaf
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := tt.lay(t, dir, "1")
			c, _, reloaded := openWatched(t, tt.pair(dir))
			conf := c.Config()
			if !bytes.Equal(leafOf(t, conf, ""), first) {
				t.Fatal("not the first certificate")
			}
			for _, n := range []string{"2", "3"} {
				next := tt.lay(t, dir, n)
				for range 10 { // the events of one change may come in two lots
					reloaded()
					if bytes.Equal(leafOf(t, conf, ""), next) {
						break
					}
				}
				if !bytes.Equal(leafOf(t, conf, ""), next) {
					t.Fatalf("certificate %s is not in force", n)
				}
			}
		})
	}
}

func TestDamagedCertificateKeepsOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := KeyPair{dir + "/cert.pem", dir + "/key.pem"}
	first := writePair(t, pair.Cert, pair.Key, "a.example")
	c, log, reloaded := openWatched(t, pair)
	write(t, pair.Cert, []byte("-----BEGIN NOTHING"))
	reloaded()
	if !bytes.Equal(leafOf(t, c.Config(), ""), first) {
		t.Error("the old certificate is gone")
	}
	c.Close() // log is the watcher's until then
	if !strings.Contains(log.String(), "event=tls_reload_failed") || !strings.Contains(log.String(), pair.Cert) {
		t.Errorf("log is %s", log)
	}
}

func TestCertificateBySNI(t *testing.T) {
	dir := t.TempDir()
	a := writePair(t, dir+"/a.pem", dir+"/a.key", "mail.a.example")
	b := writePair(t, dir+"/b.pem", dir+"/b.key", "mail.b.example", "*.c.example")
	c, _, _ := openWatched(t, KeyPair{dir + "/a.pem", dir + "/a.key"}, KeyPair{dir + "/b.pem", dir + "/b.key"})
	for name, want := range map[string][]byte{
		"": a, "mail.a.example": a, "mail.b.example": b, "x.c.example": b, "other.example": a,
	} {
		if !bytes.Equal(leafOf(t, c.Config(), name), want) {
			t.Errorf("%q is shown the wrong certificate", name)
		}
	}
}

func TestTLSVersionsAndALPN(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir+"/a.pem", dir+"/a.key", "a.example")
	pairs := []KeyPair{{dir + "/a.pem", dir + "/a.key"}}
	c, _, _ := openWatched(t, pairs...)
	for _, tt := range []struct {
		client *tls.Config
		proto  string
		ok     bool
	}{
		{&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "", false},
		{&tls.Config{MaxVersion: tls.VersionTLS12}, "", true},
		{&tls.Config{}, "", true},
		{&tls.Config{NextProtos: []string{"imap"}}, "imap", true},
		{&tls.Config{NextProtos: []string{"h2", "imap"}}, "imap", true},
		{&tls.Config{NextProtos: []string{"http/1.1"}}, "", true},
	} {
		state, err := shake(t, c.Config(), tt.client)
		if (err == nil) != tt.ok || state.NegotiatedProtocol != tt.proto {
			t.Errorf("%v up to %x: %v, protocol %q", tt.client.NextProtos, tt.client.MaxVersion, err, state.NegotiatedProtocol)
		}
	}
	conf := c.Config()
	if changed, err := c.Reload(CertOptions{Pairs: pairs, Min: tls.VersionTLS13}); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if _, err := shake(t, conf, &tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is spoken though the minimum is 1.3")
	}
}

func TestNoCertificate(t *testing.T) {
	_, err := OpenCertificates(CertOptions{Pairs: []KeyPair{{"/nonexistent/cert.pem", "/nonexistent/key.pem"}}, Min: tls.VersionTLS12}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/cert.pem") {
		t.Errorf("error is %v", err)
	}
}
