package server

import (
	"context"
	"crypto/tls"
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

	mu    sync.Mutex // one reload at a time; guards pairs
	pairs []KeyPair

	watcher *fsnotify.Watcher // nil: not watched
	wg      sync.WaitGroup
	loaded  func() // after each reload that the watcher brought about; for tests
}

// certSet is one generation of certificates.
type certSet struct {
	raw   [][]byte // of the leaves
	min   uint16
	imap  *tls.Config // for clients that ask for the protocol "imap"
	plain *tls.Config
}

// OpenCertificates reads the pairs, of which the first is for clients that name
// no other's host, and watches their files. min is tls.VersionTLS12 or later.
func OpenCertificates(pairs []KeyPair, min uint16, log *slog.Logger) (*Certificates, error) {
	return openCertificates(pairs, min, log, nil)
}

func openCertificates(pairs []KeyPair, min uint16, log *slog.Logger, loaded func()) (*Certificates, error) {
	c := &Certificates{log: log, loaded: loaded}
	if _, err := c.Reload(pairs, min); err != nil {
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
	if _, err := c.Reload(pairs, min); err != nil {
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
func (c *Certificates) Reload(pairs []KeyPair, min uint16) (changed bool, err error) {
	if len(pairs) == 0 {
		return false, errors.New("there is no certificate: set tls.cert and tls.key")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var certs []tls.Certificate
	var raw [][]byte
	for _, p := range pairs {
		cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return false, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
		}
		certs = append(certs, cert)
		raw = append(raw, slices.Concat(cert.Certificate...))
	}
	old := c.now.Load()
	if old != nil && old.min == min && slices.EqualFunc(old.raw, raw, slices.Equal) {
		c.pairs = slices.Clone(pairs)
		return false, nil
	}
	plain := &tls.Config{Certificates: certs, MinVersion: min}
	imap := plain.Clone()
	imap.NextProtos = []string{"imap"}
	c.now.Store(&certSet{raw: raw, min: min, imap: imap, plain: plain})
	c.pairs = slices.Clone(pairs)
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
			if slices.Contains(hello.SupportedProtos, "imap") {
				return c.now.Load().imap, nil
			}
			return c.now.Load().plain, nil
		},
	}
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
	for _, p := range c.pairs {
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
			pairs, min := c.pairs, c.now.Load().min
			c.mu.Unlock()
			changed, err := c.Reload(pairs, min)
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
