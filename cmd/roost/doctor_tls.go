package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// soon is how long before its end a certificate should have been renewed: certbot does
// it 30 days before.
const soon = 14 * 24 * time.Hour

// certificates looks at what clients are shown: by the server where it listens, else
// from the files.
func (d *doctor) certificates(ctx context.Context) {
	c := d.config
	var files []*x509.Certificate // as the server should show them
	var first []*x509.Certificate
	for i, p := range keyPairs(c) {
		chain := readChain(p.Cert)
		if chain == nil {
			continue // a mistake of the configuration, or not ours to read
		}
		files = append(files, chain[0])
		if i == 0 && c.TLS.Cert != "" {
			first = chain
		} else { // one for other names, which it says itself
			d.judge(p.Cert, "", chain)
		}
	}
	met := false
	for _, l := range c.Listen {
		addr, ok := reachable(l.Address)
		if !ok || l.Plaintext || !d.answers(l.Address) {
			continue
		}
		met = true
		chain, err := d.shown(ctx, addr, l.STARTTLS)
		if err != nil {
			d.add("tls-failed", finding{Where: l.Address, What: "a client that connects to " + addr + " is not served: " + err.Error(), Do: "the server's log says more (log.level = \"debug\")"})
			continue
		}
		d.judge(l.Address, c.Hostname, chain)
		if len(files) == 0 || slices.ContainsFunc(files, chain[0].Equal) {
			continue
		}
		f := finding{Where: l.Address, What: "the server shows a certificate that ends on " + chain[0].NotAfter.UTC().Format(time.DateOnly) + " and is in none of the files",
			Do: "where this does not help, its log says why it cannot read the new one"}
		if d.server != nil {
			f.Run = fmt.Sprintf("kill -HUP %d", d.server.PID)
		}
		d.add("certificate-stale", f)
	}
	if !met && first != nil {
		d.judge(c.TLS.Cert, c.Hostname, first)
	}
}

// readChain reads the certificates of a file, nil where it has none.
func readChain(file string) (chain []*x509.Certificate) {
	b, err := os.ReadFile(file)
	for err == nil {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			chain = append(chain, c)
		}
	}
	return chain
}

// reachable is the address at which this machine reaches a listener; false for a port
// of the kernel's choice.
func reachable(listen string) (string, bool) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", false
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
		if ip != nil && ip.To4() != nil {
			host = "127.0.0.1"
		}
	}
	return net.JoinHostPort(host, port), true
}

// answers reports whether somebody listens there who is not known to be another program.
func (d *doctor) answers(address string) bool {
	for _, f := range d.found {
		if f.Where == address && (f.Kind == "port-busy" || f.Kind == "port-silent") {
			return false
		}
	}
	return d.server != nil || !d.asked
}

// shown gives the certificates that a client of our name is shown, which has spoken
// IMAP as far as the greeting. Whether they are right is not looked at.
func (d *doctor) shown(ctx context.Context, addr string, startTLS bool) (chain []*x509.Certificate, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, bottomNet(err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	conf := &tls.Config{
		ServerName:         d.config.Hostname,
		InsecureSkipVerify: true, // #nosec G402 -- judge does it, and tells what is wrong
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}
	var client *imapclient.Client
	if startTLS {
		if client, err = imapclient.NewStartTLS(nc, &imapclient.Options{TLSConfig: conf}); err != nil {
			return nil, err
		}
	} else {
		client = imapclient.New(tls.Client(nc, conf), nil)
		if err := client.WaitGreeting(); err != nil {
			return nil, err
		}
	}
	client.Logout().Wait() // it was served; how it ends does not matter
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return chain, nil
}

func bottomNet(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// judge looks at certificates as a client does that wants name; "" for any that they say.
func (d *doctor) judge(where, name string, chain []*x509.Certificate) {
	leaf, now := chain[0], d.now()
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch {
	case now.After(leaf.NotAfter):
		d.add("certificate-expired", finding{Where: where, What: "the certificate ended on " + day(leaf.NotAfter), Do: "renew it, for instance with certbot renew; the clock of this machine says " + day(now)})
	case now.Before(leaf.NotBefore):
		d.add("certificate-expired", finding{Where: where, What: "the certificate begins on " + day(leaf.NotBefore), Do: "the clock of this machine says " + day(now) + ": is that right?"})
	case leaf.NotAfter.Sub(now) < soon:
		d.add("certificate-expires", finding{Where: where, What: "the certificate ends on " + day(leaf.NotAfter), Do: "find out why it was not renewed: certbot renew --dry-run"})
	}
	if name != "" && leaf.VerifyHostname(name) != nil {
		d.add("certificate-name", finding{Where: where, What: fmt.Sprintf("the certificate is for %s, and clients that use %s refuse it", namesOf(leaf), name),
			Do: "set hostname to a name of the certificate and give clients that name, or get a certificate for " + name})
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// Time is judged above, and would hide the rest.
	at := now
	if at.After(leaf.NotAfter) || at.Before(leaf.NotBefore) {
		at = leaf.NotBefore.Add(time.Second)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: d.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
	case errors.As(err, &unknown) && len(chain) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		d.add("certificate-chain", finding{Where: where, What: fmt.Sprintf("only the certificate itself is sent, without that of its issuer %q", leaf.Issuer.CommonName),
			Do: "tls.cert must be the file with the whole chain, certbot's fullchain.pem"})
	default:
		d.add("certificate-untrusted", finding{Where: where, What: "this machine does not trust it: " + strings.TrimPrefix(err.Error(), "x509: "), Do: "clients will ask their users, unless they know its issuer"})
	}
}

func namesOf(c *x509.Certificate) string {
	var names []string
	names = append(names, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name at all"
	case len(names) > 5:
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
