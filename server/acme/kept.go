package acme

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Kept are certificates that an Issuer in another process has got. Safe for concurrent use.
type Kept struct {
	names []string

	mu    sync.RWMutex // guards certs
	certs map[string]*tls.Certificate
}

// NewKept has none yet, for names: the first is for clients that name no host.
func NewKept(names []string) *Kept {
	return &Kept{names: names, certs: map[string]*tls.Certificate{}}
}

// Put takes what Options.Issued is given. What is for none of the names is refused.
func (k *Kept) Put(name string, chain, key []byte) error {
	if !slices.Contains(k.names, name) {
		return fmt.Errorf("nobody wants a certificate for %.100q", name)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("certificate for %s: %w", name, err)
	}
	if err := cert.Leaf.VerifyHostname(name); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.certs[name] = &cert
	return nil
}

// Certificate is Issuer.Certificate.
func (k *Kept) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if name == "" {
		name = k.names[0]
	}
	if !slices.Contains(k.names, name) {
		return nil, nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if cert := k.certs[name]; cert != nil {
		return cert, nil
	}
	return nil, fmt.Errorf("there is no certificate for %s yet", name)
}
