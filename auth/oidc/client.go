package oidc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"
)

const (
	requestTime = 5 * time.Second
	maxAnswer   = 1 << 20 // bytes of a body
	maxHeader   = 64 << 10
	maxWays     = 3 // redirects
)

// newClient makes the client that speaks with the issuer. ca is a file of authorities in
// place of the machine's; "" for these.
func newClient(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: it has no certificate in PEM", ca)
		}
	}
	below := http.DefaultTransport.(*http.Transport).Clone()
	below.TLSClientConfig = config
	below.MaxResponseHeaderBytes = maxHeader
	below.MaxConnsPerHost = 2 * maxAsking
	return &http.Client{
		Transport: bounded{below},
		Timeout:   requestTime,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			from := via[0]
			// Credentials and tokens are in what is posted.
			if from.Method != http.MethodGet || len(via) > maxWays || req.URL.Scheme != from.URL.Scheme || req.URL.Host != from.URL.Host {
				return fmt.Errorf("redirected to %s, where it is not followed", where(req.URL))
			}
			return nil
		},
	}, nil
}

// where is a URL without what may be secret in it.
func where(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// bounded lets through what is encrypted or stays on this machine, and so much of an
// answer.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := Secure(req.URL); err != nil {
		return nil, err
	}
	resp, err := b.Transport.RoundTrip(req)
	if err == nil {
		resp.Body = &limited{resp.Body, maxAnswer}
	}
	return resp, err
}

// Secure says why a URL cannot be that of an issuer or of a part of it: it has to be https,
// or http on a loopback address.
func Secure(u *url.URL) error {
	switch {
	case u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%q is no https URL", where(u))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%q is not encrypted: https it has to be", where(u))
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

type limited struct {
	io.ReadCloser
	left int64
}

var errLong = errors.New("the answer is too long")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		if n, err := l.ReadCloser.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errLong
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// shortened is an error for the log: libraries put whole answers into theirs.
func shortened(err error) string {
	s := err.Error()
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return s
}
