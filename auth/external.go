package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ClientCertificates say how clients log in by certificate: AUTHENTICATE EXTERNAL,
// RFC 4422 appendix A. A certificate is looked at when it is used and not in the
// handshake, so that one that is no good shows in the log as a login that was refused and
// keeps nobody from logging in by password.
//
// The files are read again when they change. Safe for concurrent use.
type ClientCertificates struct {
	opt ClientCertOptions
	now func() time.Time

	mu    sync.Mutex // guards all below, and is held while files are read
	seen  [3]stamp
	files *certFiles
}

// ClientCertOptions name the files and how a certificate names its user.
type ClientCertOptions struct {
	CA string // certificates of authorities, PEM

	// CRL is a file of revocation lists, PEM; "" for none. Each must be signed by an
	// authority of CA; one that is out of date refuses all certificates of its authority.
	CRL string

	// User is what names the user: "email" is the only mail address among the subject's
	// alternative names, "cn" the subject's common name, "map" the file Map.
	User string

	// Map has a line for each certificate, "fingerprint user": SHA-256 of the
	// certificate in hex, colons allowed. Empty lines and those after # do not count.
	Map string
}

// certFiles are one version of the files; immutable.
type certFiles struct {
	roots *x509.CertPool
	cas   []*x509.Certificate
	lists []*x509.RevocationList
	users map[[sha256.Size]byte]string
}

// OpenClientCertificates reads the files.
func OpenClientCertificates(opt ClientCertOptions) (*ClientCertificates, error) {
	c := &ClientCertificates{opt: opt, now: time.Now}
	_, err := c.current()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Authorities gives the certificates of the authorities as a pool, for a server that says
// in the handshake whose certificates it takes.
func (c *ClientCertificates) Authorities() *x509.CertPool {
	f, err := c.current()
	if err != nil {
		return nil
	}
	return f.roots
}

// current gives the files as they are. Unlike a password file one that is damaged is an
// error: what was revoked in it must not be let in by what stood there before.
func (c *ClientCertificates) current() (*certFiles, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var seen [3]stamp
	same := c.files != nil
	for i, path := range []string{c.opt.CA, c.opt.CRL, c.opt.Map} {
		if path == "" {
			continue
		}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		seen[i] = stampOf(fi, time.Now())
		same = same && !c.seen[i].young && seen[i] == c.seen[i]
	}
	if same {
		return c.files, nil
	}
	f, err := readCertFiles(c.opt)
	if err != nil {
		return nil, err
	}
	c.seen, c.files = seen, f
	return f, nil
}

func readCertFiles(opt ClientCertOptions) (*certFiles, error) {
	f := &certFiles{roots: x509.NewCertPool(), users: map[[sha256.Size]byte]string{}}
	err := eachBlock(opt.CA, "CERTIFICATE", func(der []byte) error {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			f.roots.AddCert(cert)
			f.cas = append(f.cas, cert)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if opt.CRL != "" {
		err := eachBlock(opt.CRL, "X509 CRL", func(der []byte) error {
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				return err
			}
			for _, ca := range f.cas {
				if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
					f.lists = append(f.lists, list)
					return nil
				}
			}
			return fmt.Errorf("the list of %s is signed by no authority of %s", list.Issuer, opt.CA)
		})
		if err != nil {
			return nil, err
		}
	}
	if opt.Map != "" {
		if err := f.readMap(opt.Map); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// eachBlock runs do on each PEM block of a kind. A file without any is an error.
func eachBlock(path, kind string, do func(der []byte) error) error {
	b, _, err := readFile(path)
	if err != nil {
		return err
	}
	found := false
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != kind {
			continue
		}
		found = true
		if err := do(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if !found {
		return fmt.Errorf("%s: it has no PEM block %q", path, kind)
	}
	return nil
}

func (f *certFiles) readMap(path string) error {
	b, _, err := readFile(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		sum, err := hex.DecodeString(strings.ReplaceAll(words[0], ":", ""))
		if err != nil || len(sum) != sha256.Size || len(words) != 2 {
			return fmt.Errorf("%s:%d: a line is the SHA-256 fingerprint of a certificate, in hex, and its user", path, number)
		}
		f.users[[sha256.Size]byte(sum)] = words[1]
	}
	return lines.Err()
}

// user gives whom the certificate of a connection names, or why it does not count.
func (c *ClientCertificates) user(at Attempt) (string, error) {
	if at.TLS == nil || len(at.TLS.PeerCertificates) == 0 {
		return "", errors.New("the client has shown no certificate")
	}
	f, err := c.current()
	if err != nil {
		return "", err
	}
	cert := at.TLS.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, more := range at.TLS.PeerCertificates[1:] {
		between.AddCert(more)
	}
	now := c.now()
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: f.roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fmt.Errorf("certificate of %s: %w", cert.Subject, err)
	}
	if err := f.revoked(chains[0], now); err != nil {
		return "", err
	}
	switch c.opt.User {
	case "map":
		if name, ok := f.users[sha256.Sum256(cert.Raw)]; ok {
			return name, nil
		}
		return "", fmt.Errorf("%s has no line for the certificate of %s, fingerprint %X", c.opt.Map, cert.Subject, sha256.Sum256(cert.Raw))
	case "cn":
		if cert.Subject.CommonName != "" {
			return cert.Subject.CommonName, nil
		}
		return "", fmt.Errorf("the certificate of %s has no common name", cert.Subject)
	}
	if len(cert.EmailAddresses) == 1 {
		return cert.EmailAddresses[0], nil
	}
	return "", fmt.Errorf("the certificate of %s names %d mail addresses, and one is needed", cert.Subject, len(cert.EmailAddresses))
}

// revoked looks a chain up in the lists of its issuers.
func (f *certFiles) revoked(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain[:len(chain)-1] {
		for _, list := range f.lists {
			if !bytes.Equal(list.RawIssuer, cert.RawIssuer) || list.CheckSignatureFrom(chain[i+1]) != nil {
				continue
			}
			if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
				return fmt.Errorf("the revocation list of %s is out of date since %s", list.Issuer, list.NextUpdate.Format(time.RFC3339))
			}
			for _, e := range list.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
					return fmt.Errorf("the certificate of %s, serial %x, was revoked on %s", cert.Subject, cert.SerialNumber, e.RevocationTime.Format(time.RFC3339))
				}
			}
		}
	}
	return nil
}

// certified: the client has shown a certificate, whatever it is worth.
func (a *Auth) certified(at Attempt) bool {
	return a.opt.Certificates != nil && at.TLS != nil && len(at.TLS.PeerCertificates) > 0
}

// externalUsable: the client has shown a certificate that names somebody.
func (a *Auth) externalUsable(at Attempt) bool {
	if !a.certified(at) {
		return false
	}
	_, err := a.opt.Certificates.user(at)
	return err == nil
}

// external is RFC 4422 appendix A: the response is whom to act for, or empty.
type external struct {
	auth *Auth
	at   Attempt
	user User
}

func (e *external) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	if !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return nil, false, &Refusal{Err: ErrMalformed, Text: "EXTERNAL wants the identity to act for, in UTF-8, or nothing"}
	}
	name, cerr := e.auth.opt.Certificates.user(e.at)
	user, err := e.auth.attempt(ctx, name, e.at, "", func() (decision, error) {
		if cerr != nil {
			d := decision{login: name}
			d.deny("%v", cerr)
			return d, nil
		}
		return e.auth.vouched(ctx, name, e.at)
	})
	if err != nil {
		return nil, false, err
	}
	if err := e.auth.mayAct(user, name, string(response)); err != nil {
		return nil, false, err
	}
	e.user = user
	return nil, true, nil
}

func (e *external) User() User { return e.user }
