package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"roost/test/neighbour"
)

// What an issuer tells of can be shown by another process, and so can what it is renewed by.
func TestIssuedAndRenewed(t *testing.T) {
	ca, err := neighbour.StartPebble(t.TempDir(), 7776000)
	if missing := (neighbour.Missing{}); errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	const name = "imap.example.net"
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(ca.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	kept := NewKept([]string{name})
	hello := &tls.ClientHelloInfo{ServerName: "IMAP.example.net"}
	if c, err := kept.Certificate(hello); c != nil || err == nil {
		t.Errorf("a certificate out of nowhere: %v, %v", c, err)
	}
	told := make(chan error, 10)
	var pem [2][]byte
	i, err := Open(Options{
		Names: []string{name}, Directory: ca.Directory, Roots: ca.Roots, Listen: l.Addr().String(), Listener: l,
		Dir: filepath.Join(t.TempDir(), "acme"), Log: slog.New(slog.DiscardHandler),
		Issued: func(name string, chain, key []byte) {
			pem = [2][]byte{chain, key}
			told <- kept.Put(name, chain, key)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	first, err := kept.Certificate(hello)
	if err != nil || first.Leaf.VerifyHostname(name) != nil || len(first.Certificate) < 2 {
		t.Fatalf("%+v, %v", first, err)
	}
	old := pem
	if err := i.magic.RenewCertSync(context.Background(), name, true); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	second, err := kept.Certificate(&tls.ClientHelloInfo{})
	if err != nil || second.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("%v, the one from before: %v", err, second)
	}

	// What is none, or of another name, is not shown.
	for what, try := range map[string]struct {
		name       string
		chain, key []byte
	}{
		"a name that is not ours":      {"other.example.net", pem[0], pem[1]},
		"nothing":                      {name, nil, nil},
		"no certificate":               {name, []byte("x"), pem[1]},
		"the key of another":           {name, pem[0], old[1]},
		"no key":                       {name, pem[0], pem[0]},
		"a certificate of another one": {name, read(t, ca.Roots), read(t, filepath.Join(filepath.Dir(ca.Roots), "key.pem"))},
	} {
		if what == "the key of another" && bytes.Equal(old[1], pem[1]) {
			continue // it was kept
		}
		if err := kept.Put(try.name, try.chain, try.key); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if again, err := kept.Certificate(hello); err != nil || again != second {
		t.Errorf("%v, %v", again, err)
	}
	if c, err := kept.Certificate(&tls.ClientHelloInfo{ServerName: "other.example.net"}); c != nil || err != nil {
		t.Errorf("for a name that is not ours: %v, %v", c, err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
