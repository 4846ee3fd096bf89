package peers

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// A server gets its certificate from an authority that proves by HTTP that the name is its
// own, shows it, keeps it over a restart, and does not ask again.
func TestACME(t *testing.T) {
	h := newHouse(t)
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	ca, err := neighbour.StartPebble(dir, 7776000)
	started(t, err)
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			t.Logf("the authority's log:\n%s", ca.Log())
		}
	})
	h.extra = fmt.Sprintf("[tls.acme]\nnames = [\"imap.example.net\"]\nagree = true\nlisten = \"127.0.0.1:%d\"\ndirectory = %q\nroots = %q\n",
		ca.HTTPPort, ca.Directory, ca.Roots)
	r := h.serve(t)
	issued := func(r *neighbour.Roost) *tls.ConnectionState {
		t.Helper()
		// Until it has one the handshake fails: there is no event to wait for but its success.
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			c, err := tls.Dial("tcp", r.Addr, &tls.Config{ServerName: "imap.example.net", InsecureSkipVerify: true})
			if err == nil {
				s := c.ConnectionState()
				c.Close()
				return &s
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	first := issued(r).PeerCertificates
	if err := first[0].VerifyHostname("imap.example.net"); err != nil || !strings.HasPrefix(first[0].Issuer.CommonName, "Pebble") || len(first) < 2 {
		t.Errorf("%v by %q, %d certificates", err, first[0].Issuer.CommonName, len(first))
	}
	// Those of files go on beside it.
	c, err := tls.Dial("tcp", r.Addr, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "localhost" {
		t.Errorf("for localhost it shows %q", got)
	}
	c.Close()
	login(t, r.Addr, "ann", nil)

	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	orders := strings.Count(ca.Log(), "/order-plz")
	again := issued(h.serve(t)).PeerCertificates
	if again[0].SerialNumber.Cmp(first[0].SerialNumber) != 0 || strings.Count(ca.Log(), "/order-plz") != orders {
		t.Error("another certificate after a restart")
	}
	if files, _ := filepath.Glob(filepath.Join(h.dir, "roost/state/acme/certificates/*/*/*.key")); len(files) != 1 {
		t.Errorf("keys: %v", files)
	}
}
