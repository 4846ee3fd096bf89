package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// silentName is whose certificate is wanted.
const silentName = "imap.example.net"

// silent is an Issuer, not started yet, whose authority takes connections and says nothing.
func silent(t *testing.T, issued func(name string, chain, key []byte)) (*Issuer, net.Listener) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	i, err := Open(Options{
		Names: []string{silentName}, Directory: "https://" + l.Addr().String() + "/dir", Listen: "127.0.0.1:0",
		Dir: filepath.Join(t.TempDir(), "acme"), Log: slog.New(slog.DiscardHandler), Issued: issued,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i, l
}

// A certificate that is kept and due was not told of before the authority had answered: with
// workers all clients were refused after a restart while that was out of reach.
func TestKeptCertificateIsToldThoughTheAuthorityIsSilent(t *testing.T) {
	kept, told := NewKept([]string{silentName}), make(chan error, 10)
	i, l := silent(t, func(name string, chain, key []byte) { told <- kept.Put(name, chain, key) })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{silentName},
		NotBefore: now.Add(-89 * 24 * time.Hour), NotAfter: now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	from := i.magic.Issuers[0].IssuerKey()
	for at, b := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(from, silentName):       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		certmagic.StorageKeys.SitePrivateKey(from, silentName): pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}),
		certmagic.StorageKeys.SiteMeta(from, silentName):       []byte(`{"sans":["` + silentName + `"]}`),
	} {
		if err := i.magic.Storage.Store(t.Context(), at, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked, err := l.Accept() // and never answered
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	select {
	case err := <-told:
		if err != nil {
			t.Error(err)
		}
	default:
		t.Error("the authority is asked before the certificate that is kept is shown")
	}
}

// Who gave no address in the configuration was asked for one on standard input, and until then
// no certificate was asked for.
func TestNobodyIsAskedForAnAddress(t *testing.T) {
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { said.Close() })
	stdout := os.Stdout
	os.Stdout = said
	t.Cleanup(func() { os.Stdout = stdout }) // behind the end of the Issuer
	i, l := silent(t, nil)
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked, err := l.Accept() // behind the question
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	if b, err := os.ReadFile(said.Name()); err != nil || len(b) > 0 {
		t.Errorf("it says %q (%v)", b, err)
	}
}
