package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// KeyPair names the files of a certificate.
type KeyPair struct{ Cert, Key string }

// Certificates are the certificates that clients are shown. They are read again
// when their files change, wherever symbolic links lead, and connections that
// are up live on with the old ones. Safe for concurrent use.
type Certificates struct {
	log *slog.Logger
	now atomic.Pointer[certSet]

	issued atomic.Pointer[[][]byte] // EndPoints of what Issued gave

	mu  sync.Mutex // one reload at a time; guards opt
	opt CertOptions

	watcher *fsnotify.Watcher // nil: not watched
	wg      sync.WaitGroup
	loaded  func() // after each reload that the watcher brought about; for tests
}

// CertOptions say which certificates clients are shown, and what is asked of them.
type CertOptions struct {
	Pairs []KeyPair // the first is for clients that name no other's host
	Min   uint16    // tls.VersionTLS12 or later

	// Issued, when not nil, gives the certificates that come from elsewhere than files, for
	// the names that it knows, and one for clients that name none; nil for other names.
	Issued func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// ClientCAs, when not nil, gives the authorities whose certificates clients are asked
	// for. One is not needed, and not looked at here.
	ClientCAs func() *x509.CertPool
}

// certSet is one generation of certificates.
type certSet struct {
	raw   [][]byte // of the leaves
	ends  [][]byte // EndPoints
	min   uint16
	cas   *x509.CertPool // whose certificates clients are asked for; nil: they are not
	imap  *tls.Config    // for clients that ask for the protocol "imap"
	plain *tls.Config
}

// OpenCertificates reads the pairs and watches their files.
func OpenCertificates(opt CertOptions, log *slog.Logger) (*Certificates, error) {
	return openCertificates(opt, log, nil)
}

func openCertificates(opt CertOptions, log *slog.Logger, loaded func()) (*Certificates, error) {
	c := &Certificates{log: log, loaded: loaded}
	if _, err := c.Reload(opt); err != nil {
		return nil, err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("certificates are not watched, SIGHUP reads them again", "event", "tls_unwatched", "err", err)
		return c, nil
	}
	c.watcher = w
	c.watch()
	// A change between the reading and the watch would go unseen.
	if _, err := c.Reload(opt); err != nil {
		w.Close()
		return nil, err
	}
	// Ends when Close closes the watcher.
	c.wg.Go(c.follow)
	return c, nil
}

// Close ends the watch and waits for it.
func (c *Certificates) Close() error {
	if c.watcher == nil {
		return nil
	}
	err := c.watcher.Close()
	c.wg.Wait()
	return err
}

// Reload reads certificates now and puts them in force, all or none; changed says
// whether they differ from those before.
func (c *Certificates) Reload(opt CertOptions) (changed bool, err error) {
	if len(opt.Pairs) == 0 && opt.Issued == nil {
		return false, errors.New("there is no certificate: set tls.cert and tls.key, or tls.acme")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var certs []tls.Certificate
	var raw [][]byte
	var ends [][]byte
	for _, p := range opt.Pairs {
		cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return false, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
		}
		certs = append(certs, cert)
		raw = append(raw, slices.Concat(cert.Certificate...))
		if end := endPoint(cert.Leaf); end != nil {
			ends = append(ends, end)
		}
	}
	var cas *x509.CertPool
	if opt.ClientCAs != nil {
		cas = opt.ClientCAs()
	}
	old := c.now.Load()
	if old != nil && old.min == opt.Min && old.cas.Equal(cas) && slices.EqualFunc(old.raw, raw, slices.Equal) {
		c.opt = opt
		return false, nil
	}
	plain := &tls.Config{Certificates: certs, MinVersion: opt.Min}
	if cas != nil {
		plain.ClientAuth, plain.ClientCAs = tls.RequestClientCert, cas
	}
	if opt.Issued != nil {
		plain.GetCertificate = c.issue(opt.Issued, len(certs) == 0)
	}
	imap := plain.Clone()
	imap.NextProtos = []string{"imap"}
	c.now.Store(&certSet{raw: raw, ends: ends, min: opt.Min, cas: cas, imap: imap, plain: plain})
	c.opt = opt
	if c.watcher != nil {
		c.watchLocked()
	}
	return old != nil, nil
}

// Config is what TLS works with. It stays good: what is shown is looked up for
// each connection.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			// ALPN (RFC 7301) would end the handshake when a client offers protocols without
			// ours, as libraries made for the web do; they are served without an answer.
			set := c.now.Load()
			if slices.Contains(hello.SupportedProtos, "imap") {
				return set.imap, nil
			}
			return set.plain, nil
		},
	}
}

// issue is what TLS asks for a certificate before it looks at those of files. alone says
// that there are none.
func (c *Certificates) issue(issued func(*tls.ClientHelloInfo) (*tls.Certificate, error), alone bool) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "" && !alone {
			return nil, nil
		}
		cert, err := issued(hello)
		if cert == nil && err == nil && alone {
			// Whoever knows us by another name may see by which we go.
			nameless := *hello
			nameless.ServerName = ""
			cert, err = issued(&nameless)
		}
		if cert != nil && cert.Leaf != nil {
			c.noteIssued(endPoint(cert.Leaf))
		}
		return cert, err
	}
}

// maxIssued is how many certificates that came from elsewhere clients may bind to: each
// name's, and those before.
const maxIssued = 64

func (c *Certificates) noteIssued(end []byte) {
	for end != nil {
		old := c.issued.Load()
		var list [][]byte
		if old != nil {
			list = *old
		}
		if slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, end) }) {
			return
		}
		fresh := append(slices.Clone(list[max(0, len(list)-maxIssued+1):]), end)
		if c.issued.CompareAndSwap(old, &fresh) {
			return
		}
	}
}

// EndPoints gives the channel bindings that name a certificate in force, for
// auth.Attempt. Whichever of them a client was shown, nobody else has its key.
func (c *Certificates) EndPoints() [][]byte {
	ends := c.now.Load().ends
	if issued := c.issued.Load(); issued != nil {
		ends = slices.Concat(ends, *issued)
	}
	return ends
}

// endPoint is RFC 5929 section 4.1: the certificate's hash by the hash function of its
// signature, SHA-256 in place of weaker ones; nil where the signature has none.
func endPoint(leaf *x509.Certificate) []byte {
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		h := sha256.Sum256(leaf.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(leaf.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(leaf.Raw)
		return h[:]
	}
	return nil
}

func (c *Certificates) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchLocked()
}

// watchLocked watches each directory in which a change gives a file another
// content: its own, and those of the links on its path.
func (c *Certificates) watchLocked() {
	have := c.watcher.WatchList()
	for _, p := range c.opt.Pairs {
		for _, file := range []string{p.Cert, p.Key} {
			for _, dir := range dirsOf(file) {
				if slices.Contains(have, dir) {
					continue
				}
				if err := c.watcher.Add(dir); err != nil && !errors.Is(err, fsnotify.ErrClosed) {
					c.log.Warn("certificates are not watched, SIGHUP reads them again", "event", "tls_unwatched", "path", dir, "err", err)
				}
			}
		}
	}
}

// dirsOf lists the directories of a file, of every symbolic link on the way to
// it, and of what they lead to. certbot swaps links in the file's own directory,
// other tools a link to the directory.
func dirsOf(file string) (dirs []string) {
	for range 40 { // as many links as the kernel follows
		dirs = append(dirs, filepath.Dir(file))
		link := ""
		for p := file; p != filepath.Dir(p); p = filepath.Dir(p) {
			if info, err := os.Lstat(p); err == nil && info.Mode()&os.ModeSymlink != 0 {
				link = p // the topmost wins
			}
		}
		if link == "" {
			return dirs
		}
		dirs = append(dirs, filepath.Dir(link))
		target, err := os.Readlink(link)
		if err != nil {
			return dirs
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		file = filepath.Join(target, file[len(link):])
	}
	return dirs
}

// handshake makes a connection a TLS one within a time limit. It works on a
// goroutine of its own, for its deep stack would stay with a connection as long
// as that lives.
func handshake(ctx context.Context, nc net.Conn, config *tls.Config, limit time.Duration) (net.Conn, error) {
	if config == nil {
		return nil, errors.New("there is no certificate")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn := tls.Server(nc, config)
	done := make(chan error, 1)
	go func() { done <- conn.HandshakeContext(ctx) }() // ends with the handshake or ctx
	return conn, <-done
}

// settle is how long files must be quiet: certificate and key are written one
// after the other.
const settle = 200 * time.Millisecond

// follow reads the files again when something moved near them.
func (c *Certificates) follow() {
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case _, ok := <-c.watcher.Events:
			if !ok {
				quiet.Stop()
				return
			}
			quiet.Reset(settle)
		case _, ok := <-c.watcher.Errors: // events were lost
			if !ok {
				quiet.Stop()
				return
			}
			quiet.Reset(settle)
		case <-quiet.C:
			c.mu.Lock()
			opt := c.opt
			c.mu.Unlock()
			changed, err := c.Reload(opt)
			switch {
			case err != nil: // half of a change; the other half is an event too
				c.log.Warn("certificates stay as they were", "event", "tls_reload_failed", "err", err)
			case changed:
				c.log.Info("certificates were read again", "event", "tls_reload")
			}
			c.watch() // links may lead elsewhere now
			if c.loaded != nil {
				c.loaded()
			}
		}
	}
}
